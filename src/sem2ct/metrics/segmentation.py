"""Pore or grain: one grey threshold per rock, applied unchanged to every set compared.

The threshold comes from the pooled grey values of the real images.  A threshold
per tile would force two classes onto every tile: one without any pore would be
given a porosity near one half.

Source: Otsu 1979, IEEE Trans. Syst. Man Cybern. 9, 62-66.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.refusal import Refusal

LEVELS = 256
BAND_LEVELS = 10
"""How far the threshold is moved both ways to show what depends on it."""


def histogram(tiles: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Counts the grey levels of many 8-bit images.

    Args:
        tiles: Images of any shape, uint8.

    Returns:
        (256,) int64, pixels at each grey level.
    """
    counts = np.zeros(LEVELS, np.int64)
    for tile in tiles:
        counts += np.bincount(tile.ravel(), minlength=LEVELS)
    return counts


def otsu(pooled: NDArray[np.integer]) -> int:
    """The threshold that separates the grey levels into the two most distinct classes.

    Args:
        pooled: (256,) pixels at each grey level, pooled over the reference images.

    Returns:
        The lowest level that is grain, 1 to 255: `grey < threshold` is pore.  Where an
        empty stretch of levels lies between the classes, its middle.

    Raises:
        Refusal: If all pixels have one grey level.
    """
    if np.count_nonzero(pooled) < 2:
        raise Refusal(
            "the reference images have one grey level only, so no threshold separates pore from"
            " grain; look at the images, or set threshold="
        )
    levels = np.arange(LEVELS, dtype=np.float64)
    share = pooled / pooled.sum()
    below = np.cumsum(share)[:-1]
    moment = np.cumsum(share * levels)[:-1]
    mean = float(share @ levels)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean * below - moment) ** 2 / (below * (1 - below))
    between = np.nan_to_num(between, nan=0.0, posinf=0.0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return (int(best[0]) + int(best[-1])) // 2 + 1


def segment(grey: NDArray[np.uint8], *, threshold: int) -> NDArray[np.bool_]:
    """Dark pixels are pore.

    Args:
        grey: Any shape, uint8.
        threshold: Grey level under which a pixel is pore.

    Returns:
        Boolean, shape of `grey`, True in pore.
    """
    return grey < threshold


def facts(level: int, asked: int | str, reference: str) -> dict[str, int | str]:
    """What a report must say about a threshold.

    Args:
        level: The threshold.
        asked: The setting: "otsu" or the level itself.
        reference: Name of the set it came from.

    Returns:
        level, rule, band_levels.
    """
    rule = f"Otsu's rule on the pooled tiles of {reference}" if asked == "otsu" else "given"
    return {"level": level, "rule": rule, "band_levels": BAND_LEVELS}


def porosity_at(pooled: NDArray[np.integer], thresholds: NDArray[np.integer]) -> NDArray:
    """Porosity of a whole set for any threshold, from its grey histogram alone.

    Args:
        pooled: (256,) pixels at each grey level.
        thresholds: (n,) grey levels under which a pixel is pore, 0 to 256.

    Returns:
        (n,) float64 in [0, 1].
    """
    below = np.concatenate([[0], np.cumsum(pooled)])
    return below[np.asarray(thresholds)] / below[-1]
