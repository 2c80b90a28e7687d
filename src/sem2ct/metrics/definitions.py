"""What each number means and which unit it carries: printed wherever it is printed."""

from numpy.typing import NDArray

from sem2ct.metrics.measure import SAMPLED

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
LOOKED: dict[str, tuple[int, str]] = {
    "grey_slope": (
        0,
        "log2 of the mean squared grey difference at 2 px over that at 1 px: 0 for pixel noise, 2"
        " for a smooth image; sees blur and another pixel size",
    ),
    "seam": (
        0,
        "log2 of the largest over the median mean grey difference between neighbouring columns, or"
        " rows: sees straight lines where pieces were put together",
    ),
}
"""Numbers of the tiles that were looked at: power of the length unit, and what each is."""
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
    "effective_n": "tiles that would know the mean as well if they were independent: s^2 / v with v"
    " = F / (F - 1) times the sum over the F source images of (sum of value - mean)^2, over n^2",
    "coverage": "share of one set's tiles within the 5th to 95th percentile of the other's (0.9 is"
    " perfect); jointly, share of tiles with a tile of the other set no further than their fifth"
    " neighbour in their own",
    "joint": "energy distance of all descriptors, each as its rank among the reference's tiles"
    " (undefined ranks lowest), pairs of a tile with itself left out",
    "joint_whitened": "the same after the ranks' normal scores were made uncorrelated with equal"
    " spread by the reference: sees small changes of how descriptors hang together",
    "correlations": "largest difference of Spearman's correlations between the main descriptors",
    "similarity": "highest normalised cross-correlation of a tile with any place of any of the"
    " reference's source images in 8 orientations, at 1/8 scale (less for small tiles)",
    "copies": "tiles whose similarity is 0.93 or more, and more than half-way from the highest of"
    " any held-out real tile to 1",
    "diversity": "similarity of each tile with the most similar tile of another image of its own"
    " set, laid exactly over one another in 8 orientations",
    "kid": "unbiased squared maximum mean discrepancy of network features with the cubic kernel",
    "fid": "squared Frechet distance of network features; far from 0 for few images, so it means"
    " nothing but beside its real-vs-real value",
    "share_outside": "share of lags at which the mean S2 lies outside the mean S2 of the"
    " reference's source images (5th to 95th percentile; lowest to highest up to 20 images)",
    "agreement": "share of voxels in the field of view that are pore, or grain, in both",
    "chance": "agreement of two unrelated images of these porosities",
    "overlap": "voxels that are pore in both over voxels that are pore in either",
    **{name: words for name, (_, words) in (SAMPLED | LOOKED).items()},
}


def power_of(name: str) -> int:
    """Power of the length unit that a number carries."""
    return DIMENSIONS[name] if name in DIMENSIONS else (SAMPLED | LOOKED)[name][0]


def unit_of(name: str, pixel_um: float | None) -> str:
    """Unit of a number: "", "um", "1/um^2", or with px when no pixel size is stated."""
    length = "px" if pixel_um is None else "um"
    power = power_of(name)
    raised = length if abs(power) == 1 else f"{length}^{abs(power)}"
    return "" if power == 0 else raised if power > 0 else f"1/{raised}"


def in_units(scalars: dict[str, NDArray], pixel_um: float | None) -> dict[str, NDArray]:
    """Turns pixels into micrometres, where a pixel size is stated.

    Args:
        scalars: Per-tile values in pixels, by name.
        pixel_um: Side of a pixel, or None.

    Returns:
        The same names, in the units of `unit_of`.
    """
    size = pixel_um or 1.0
    return {name: values * size ** power_of(name) for name, values in scalars.items()}
