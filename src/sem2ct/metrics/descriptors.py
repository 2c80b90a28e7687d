"""Thirty-eight numbers of a tile that together tell textures apart.

Compared jointly (energy distance of their ranks), they see what no single number does.
Porosity, specific surface, the logarithm of the correlation length, R along x and y at
fourteen lags each, and seven numbers of the grey values themselves, which no threshold has
touched.

The lags grow geometrically from 1 px to the reach: reach^(k / 13), k = 0 to 13, R between
whole lags being interpolated linearly.  So every scale has its say, and a reach too short
for fourteen whole numbers still has fourteen lags.
"""

import numpy as np
from numpy.typing import NDArray

LAGS = 14
ROWS_IN_16_BITS = 257  # of 255 at most: 65535
NAMES = (
    "porosity",
    "specific_surface",
    "log_correlation_length",
    *(f"r_x_{k}" for k in range(LAGS)),
    *(f"r_y_{k}" for k in range(LAGS)),
    "grey_mean",
    "grey_sd",
    "grey_skewness",
    "grey_p5",
    "grey_p50",
    "grey_p95",
    "grey_mean_gradient",
)
"""In the order of the columns; lengths in pixels, greys in grey levels."""


def lags(reach_px: int) -> NDArray[np.float64]:
    """The fourteen lags at which R enters.

    Args:
        reach_px: Longest lag.

    Returns:
        (14,) pixels, from 1 to the reach.
    """
    return np.asarray(reach_px ** (np.arange(LAGS) / (LAGS - 1)), np.float64)


def grey_numbers(levels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Moments and percentiles of the greys, from their histogram alone.

    Args:
        levels: (256,) pixels at each grey level.

    Returns:
        Mean, standard deviation, skewness (NaN when all are equal), and the levels that 5, 50
        and 95 % of the pixels do not exceed.
    """
    share = levels / levels.sum()
    grey = np.arange(len(levels), dtype=np.float64)
    mean = np.sum(share * grey)
    sd = np.sqrt(np.sum(share * (grey - mean) ** 2))
    skewness = np.sum(share * (grey - mean) ** 3) / sd**3 if sd > 0 else np.nan
    enough = np.array([0.05, 0.5, 0.95]) * levels.sum()
    return np.array([mean, sd, skewness, *np.searchsorted(np.cumsum(levels), enough)])


def mean_gradient(grey: NDArray[np.uint8]) -> float:
    """Mean difference of neighbouring pixels, whatever its sign: how sharp the image is.

    Args:
        grey: (H, W) uint8.

    Returns:
        Grey levels per pixel, the mean over the two axes.
    """
    total, means = _sum(grey), []
    for one, other, first, last in (
        (grey[:, 1:], grey[:, :-1], grey[:, :1], grey[:, -1:]),
        (grey[1:], grey[:-1], grey[:1], grey[-1:]),
    ):
        # |a - b| = 2 max(a, b) - a - b, and each pixel but those of two edges is a and b once.
        apart = 2 * _sum(np.maximum(one, other)) - 2 * total + _sum(first) + _sum(last)
        means.append(apart / one.size)
    return sum(means) / 2


def _sum(grey: NDArray[np.uint8]) -> int:
    """Sum, down the columns of so few rows that 16 bits hold it: 64 bits take six times as long."""
    strips = (grey[y : y + ROWS_IN_16_BITS] for y in range(0, len(grey), ROWS_IN_16_BITS))
    return sum(int(strip.sum(axis=0, dtype=np.uint16).sum(dtype=np.uint64)) for strip in strips)


def describe(
    grey: NDArray[np.uint8],
    levels: NDArray[np.integer],
    *,
    porosity: float,
    specific_surface: float,
    correlation_length: float,
    r_x: NDArray[np.float64],
    r_y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The numbers of one tile, from what was measured of it already.

    Args:
        grey: (H, W) uint8.
        levels: (256,) its histogram.
        porosity: Share of pore.
        specific_surface: Per pixel.
        correlation_length: In pixels; NaN when undefined.
        r_x: (reach + 1,) R along x.
        r_y: (reach + 1,) R along y.

    Returns:
        (38,) in the order of `NAMES`; NaN where a number is undefined.
    """
    whole, at = np.arange(len(r_x)), lags(len(r_x) - 1)
    return np.concatenate(
        [
            [porosity, specific_surface, np.log(correlation_length)],
            np.interp(at, whole, r_x),
            np.interp(at, whole, r_y),
            grey_numbers(levels),
            [mean_gradient(grey)],
        ]
    )
