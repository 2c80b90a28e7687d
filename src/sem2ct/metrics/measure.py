"""All numbers of one tile, and of a set of tiles on several threads.

The Fourier transforms release the interpreter lock, so threads do what processes
would without copying tiles; one tile per task stays in the processor's cache.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import correlation, porosity, segmentation, surface

DIRECTIONS = ("radial", "x", "y")


@dataclass(frozen=True)
class TileNumbers:
    """What one tile yields; lengths in pixels, curves at lags 0 to reach."""

    scalars: dict[str, float]
    s2: NDArray[np.float64]
    """(3, reach + 1): radial, along x, along y."""
    r: NDArray[np.float64]
    """(3, reach + 1): R of the same, with the tile's own porosity."""
    grey: NDArray[np.int64]
    """(256,) grey histogram."""


@dataclass(frozen=True)
class SetNumbers:
    """What a set of n tiles yields, in the order of the tiles."""

    scalars: dict[str, NDArray[np.float64]]
    """(n,) each."""
    s2: NDArray[np.float64]
    """(n, 3, reach + 1)."""
    r: NDArray[np.float64]
    """(n, 3, reach + 1)."""
    grey: NDArray[np.int64]
    """(256,) pooled grey histogram."""


def tile(grey: NDArray[np.uint8], *, threshold: int, reach_px: int) -> TileNumbers:
    """Measures one tile.

    Args:
        grey: (H, W) uint8.
        threshold: Grey level under which a pixel is pore.
        reach_px: Longest lag of the correlation.

    Returns:
        Its numbers; R and the correlation lengths are NaN when the tile is all pore or all
        grain.
    """
    pores = segmentation.segment(grey, threshold=threshold)
    levels = segmentation.histogram([grey])
    phi = porosity.porosity(pores)
    band = segmentation.BAND_LEVELS
    ends = np.clip([threshold - band, threshold + band], 0, segmentation.LEVELS)
    phi_low, phi_high = segmentation.porosity_at(levels, ends)
    n_x, n_y = surface.faces(pores)
    s2_map = correlation.two_point(pores, reach_px)
    s2 = np.stack(
        [correlation.radial(s2_map), correlation.along_x(s2_map), correlation.along_y(s2_map)]
    )
    r = correlation.normalised(s2, phi)
    scalars = {
        "porosity": phi,
        "porosity_darker": float(phi_low),
        "porosity_brighter": float(phi_high),
        "faces_x": float(n_x),
        "faces_y": float(n_y),
        "specific_surface": surface.specific_surface(pores, pixel_size_um=1),
    }
    axes = np.arange(reach_px + 1, dtype=np.float64)
    for direction, curve in zip(DIRECTIONS, r, strict=True):
        lags = correlation.radial_lags(reach_px) if direction == "radial" else axes
        fit = correlation.fit_correlation_length(lags, curve)
        suffix = "" if direction == "radial" else f"_{direction}"
        scalars[f"correlation_length{suffix}"] = fit.length_px
        if direction == "radial":
            scalars["one_over_e_length"] = fit.one_over_e_px
            scalars["slope_length"] = fit.slope_px
            scalars["rms_misfit"] = fit.rms_misfit
            scalars["fit_lags"] = float(fit.lags)
    return TileNumbers(scalars, s2, r, levels)


def tiles(
    read: Callable[[int], NDArray[np.uint8]],
    count: int,
    *,
    threshold: int,
    reach_px: int,
    workers: int,
    on_tile: Callable[[], object],
) -> SetNumbers:
    """Measures tiles 0 to count - 1 on several threads.

    Args:
        read: Gives the tile of an index; must be safe to call from several threads.
        count: Number of tiles, at least 1.
        threshold: Grey level under which a pixel is pore.
        reach_px: Longest lag of the correlation.
        workers: Threads.
        on_tile: Called after each tile.

    Returns:
        The numbers in the order of the tiles.
    """

    def one(index: int) -> TileNumbers:
        return tile(read(index), threshold=threshold, reach_px=reach_px)

    rows = []
    with ThreadPoolExecutor(workers) as pool:
        for row in pool.map(one, range(count)):
            rows.append(row)
            on_tile()
    return SetNumbers(
        {name: np.array([row.scalars[name] for row in rows]) for name in rows[0].scalars},
        np.stack([row.s2 for row in rows]),
        np.stack([row.r for row in rows]),
        np.sum([row.grey for row in rows], axis=0),
    )
