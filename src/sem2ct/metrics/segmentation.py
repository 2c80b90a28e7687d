"""Pore or grain: one grey threshold per rock, applied unchanged to every set compared.

The threshold comes from the pooled grey values of the real training images (Otsu,
the lowest of several Otsu thresholds, or a level that is given), or the pores are given
as a mask.  A threshold per tile would force two classes onto every tile: one without any
pore would be given a porosity near one half.  So it is refused.

Sources: Otsu 1979, IEEE Trans. Syst. Man Cybern. 9, 62-66; several classes: Liao, Chen,
Chung 2001, J. Inf. Sci. Eng. 17, 713.
"""

from collections.abc import Iterable, Sequence
from typing import SupportsInt

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

    Raises:
        ValueError: If an image is not uint8.
    """
    counts = np.zeros(LEVELS, np.int64)
    for tile in tiles:
        if tile.dtype != np.uint8:
            raise ValueError(f"grey levels are counted in uint8 images, but this is {tile.dtype}")
        pixels = np.ascontiguousarray(tile).reshape(-1)
        even = pixels.size // 2 * 2
        # Pairs of pixels read as one 16-bit number: half the counting, then two sums.
        pairs = np.bincount(pixels[:even].view(np.uint16), minlength=LEVELS**2)
        pairs = pairs.reshape(LEVELS, LEVELS)
        counts += pairs.sum(axis=0) + pairs.sum(axis=1)
        counts += np.bincount(pixels[even:], minlength=LEVELS)
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
    _refuse_few_levels(pooled, 2)
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


def _refuse_few_levels(pooled: NDArray[np.integer], classes: int) -> None:
    found = np.count_nonzero(pooled)
    if found < classes:
        levels = "one grey level only" if found == 1 else f"{found} grey levels only"
        raise Refusal(
            f"the reference images have {levels}, so no threshold separates pore from grain; look"
            " at the images, or set threshold="
        )


def multi_otsu(pooled: NDArray[np.integer], *, classes: int) -> tuple[int, ...]:
    """The thresholds that separate the grey levels into the most distinct classes.

    Args:
        pooled: (256,) pixels at each grey level, pooled over the reference images.
        classes: Two or more; pore, clay and grain are three.

    Returns:
        (classes - 1) ascending levels, each the lowest of its class; where an empty stretch
        of levels lies between two classes, its middle.  The first separates pore from all
        else: `grey < first`.

    Raises:
        Refusal: If there are fewer grey levels than classes.
    """
    if classes < 2:
        raise Refusal(f"classes={classes}, but a threshold needs two classes or more")
    _refuse_few_levels(pooled, classes)
    share = np.concatenate([[0], np.cumsum(pooled / pooled.sum())])
    moment = np.concatenate([[0], np.cumsum(pooled / pooled.sum() * np.arange(LEVELS))])
    held = share[None, :] - share[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (moment[None, :] - moment[:, None]) ** 2 / held
    gain[held <= 0] = -np.inf  # entry [a, b]: the class of the levels a to b - 1
    best, came_from = gain[0], []
    for _ in range(classes - 1):
        trial = best[:, None] + gain
        came_from.append(trial.argmax(axis=0))
        best = trial.max(axis=0)
    edges = [LEVELS]
    for origin in reversed(came_from):
        edges.insert(0, int(origin[edges[0]]))
    filled = np.flatnonzero(pooled)
    return tuple(
        (int(filled[filled < edge][-1]) + 1 + int(filled[filled >= edge][0])) // 2
        for edge in edges[:-1]
    )


def segment(grey: NDArray[np.uint8], *, threshold: SupportsInt) -> NDArray[np.bool_]:
    """Dark pixels are pore.

    Args:
        grey: Any shape, uint8.
        threshold: Grey level under which a pixel is pore: one for all images compared.

    Returns:
        Boolean, shape of `grey`, True in pore.

    Raises:
        Refusal: If a threshold per image is given.
    """
    return grey < one_threshold(threshold)


def one_threshold(threshold: SupportsInt | Sequence[int] | NDArray) -> int:
    """The threshold, if it is one.

    Args:
        threshold: A grey level.

    Returns:
        It, as a plain number.

    Raises:
        Refusal: If several are given, one per image say, or it is no grey level.
    """
    given = np.asarray(threshold)
    if given.ndim:
        raise Refusal(
            f"threshold={given.tolist()}: {given.size} thresholds, but all images that are"
            " compared need the same one (with a threshold of its own even an image without"
            " pores gets a porosity near one half); give one level, or take it from the pooled"
            " reference images"
        )
    if not 0 <= given <= LEVELS or given != int(given):
        raise Refusal(f"threshold={threshold}, but a grey level is a whole number from 0 to 256")
    return int(given)


def from_mask(
    mask: NDArray, *, shape: tuple[int, ...], pore_labels: Sequence[int] = (1,)
) -> NDArray[np.bool_]:
    """Pores that somebody else has marked.

    Args:
        mask: Boolean, True in pore, or whole numbers that name phases.
        shape: Of the image it belongs to.
        pore_labels: The numbers that are pore, when it is not boolean.

    Returns:
        Boolean, True in pore.

    Raises:
        Refusal: If the shapes differ, it is neither boolean nor whole numbers, or it holds
            none of the labels.
    """
    if mask.shape != shape:
        raise Refusal(
            f"the mask has shape {mask.shape}, but its image {shape}; give the mask of this image"
        )
    if mask.dtype == np.bool_:
        return mask
    if not np.issubdtype(mask.dtype, np.integer):
        raise Refusal(
            f"the mask is {mask.dtype}, but marks are boolean or whole numbers; convert it, saying"
            " which values are pore"
        )
    pores = np.isin(mask, list(pore_labels))
    if not pores.any():
        held = ", ".join(str(value) for value in np.unique(mask)[:8])
        raise Refusal(
            f"the mask holds no pore_labels={list(pore_labels)}, only {held}; name the number that"
            " is pore"
        )
    return pores


def sensitivity(pooled: NDArray[np.integer], *, threshold: int) -> tuple[float, float]:
    """Porosity with the threshold 10 grey levels lower, and 10 higher.

    Args:
        pooled: (256,) pixels at each grey level, of one image or of a set.
        threshold: Grey level under which a pixel is pore.

    Returns:
        The band's two ends; at an end of the scale the band is shorter.
    """
    ends = np.clip([threshold - BAND_LEVELS, threshold + BAND_LEVELS], 0, LEVELS)
    low, high = porosity_at(pooled, ends)
    return float(low), float(high)


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
