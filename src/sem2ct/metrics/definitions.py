"""What each number means and which unit it carries: printed wherever it is printed."""

from numpy.typing import NDArray

COMPARED = ("porosity", "specific_surface", "correlation_length")
DIMENSIONS = {
    "porosity": 0,
    "porosity_darker": 0,
    "porosity_brighter": 0,
    "specific_surface": -1,
    "correlation_length": 1,
    "correlation_length_x": 1,
    "correlation_length_y": 1,
    "one_over_e_length": 1,
    "slope_length": 1,
    "rms_misfit": 0,
    "fit_lags": 0,
    "faces_x": 0,
    "faces_y": 0,
}
"""Power of the length unit each scalar carries."""
DEFINITIONS = {
    "pore": "a pixel darker than the threshold; one threshold for all sets",
    "porosity": "share of pixels that are pore",
    "porosity_darker": "porosity with the threshold 10 grey levels lower",
    "porosity_brighter": "porosity with the threshold 10 grey levels higher",
    "specific_surface": "unlike neighbours along x over H (W - 1), plus along y over (H - 1) W,"
    " over the pixel size: surface per volume of an isotropic medium; the tile's frame is no"
    " boundary",
    "faces_x": "unlike neighbours along x",
    "faces_y": "unlike neighbours along y",
    "s2": "chance that two points a lag apart both lie in pore: exact pair counts, nothing wraps"
    " around; radial: mean over the lags with round(r) equal, at their mean r",
    "r": "(S2 - phi^2) / (phi - phi^2) with the tile's own porosity phi; undefined for phi 0 or 1",
    "correlation_length": "lambda of exp(-h / lambda) fitted to the radial R by unweighted"
    " nonlinear least squares, from h = 0 until R first falls under 0.05, at most 256 px",
    "correlation_length_x": "the same for R along x",
    "correlation_length_y": "the same for R along y",
    "one_over_e_length": "where the radial R first crosses 1/e",
    "slope_length": "where the line through the radial R at its first two lags meets 0",
    "rms_misfit": "root mean square of R minus the fitted exponential over the lags of the fit",
    "fit_lags": "number of lags in the fit",
    "pooled": "the same fit to R of all tiles together, with the porosity of all tiles",
    "expected_sd": "sampling sd of the porosity of one tile of an endless medium with R ="
    " exp(-h / lambda): sqrt(phi (1 - phi) 2 pi lambda^2 / area)",
    "mean_difference_sd": "mean minus mean of the reference, over the sd of the reference",
    "wasserstein_sd": "Wasserstein-1 distance over the sd of the reference",
    "ks": "largest difference of the cumulative distributions; without p-value, because tiles of"
    " one image are not independent",
    "energy": "energy distance sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)",
    "interval": "2.5th to 97.5th percentile when the reference's source images are drawn again"
    " with replacement",
    "real_vs_real": "95th percentile of the same distance between random halves of the"
    " reference's source images",
    "verdict": "by the Wasserstein-1 distance for scalars and the largest difference of mean S2 for"
    " curves: inside when not above the real-vs-real band",
    "share_outside": "share of lags at which the mean S2 lies outside the mean S2 of the"
    " reference's source images (5th to 95th percentile; lowest to highest up to 20 images)",
    "agreement": "share of voxels in the field of view that are pore, or grain, in both",
    "chance": "agreement of two unrelated images of these porosities",
    "overlap": "voxels that are pore in both over voxels that are pore in either",
}


def unit_of(name: str, pixel_um: float | None) -> str:
    """Unit of a scalar: "", "um", "1/um", or with px when no pixel size is stated."""
    length = "px" if pixel_um is None else "um"
    return {0: "", 1: length, -1: f"1/{length}"}[DIMENSIONS[name]]


def in_units(scalars: dict[str, NDArray], pixel_um: float | None) -> dict[str, NDArray]:
    """Turns pixels into micrometres, where a pixel size is stated.

    Args:
        scalars: Per-tile values in pixels.
        pixel_um: Side of a pixel, or None.

    Returns:
        The same names, in the units of `unit_of`.
    """
    size = pixel_um or 1.0
    return {name: values * size ** DIMENSIONS[name] for name, values in scalars.items()}
