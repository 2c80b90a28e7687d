"""Lineal path: the chance that a straight segment lies wholly in pore.

Two-point correlation asks whether both ends lie in pore, this whether everything
between them does; so it falls faster the less straight the pores are.  Segments that
fit into the image are all counted, those at the frame too: nothing is cut off.

Source: Lu & Torquato 1992, Phys. Rev. A 45, 922; Torquato 2002, section 2.4.
"""

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics.chords import AXES, Direction, runs
from sem2ct.runtime.refusal import Refusal


def segment_counts(
    pores: NDArray[np.bool_], reach_px: int, *, along: Direction
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts the segments in pore and all segments, for each length.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        reach_px: Longest lag z; a segment of lag z covers z + 1 pixels.
        along: Direction of the segments.

    Returns:
        (hits, segments), each (reach + 1,) int64.

    Raises:
        Refusal: If the image does not support the reach.
    """
    width = pores.shape[AXES[along]]
    if not 0 <= reach_px < width:
        raise Refusal(
            f"reach_px={reach_px}, but an image of shape {pores.shape} supports lags along {along}"
            f" from 0 to {width - 1}; lower reach_px or use larger tiles"
        )
    # A run of n pixels holds n - z segments of lag z: two sums from the far end.
    by_length = np.bincount(runs(pores, along=along).lengths, minlength=width + 1)
    longer = np.cumsum(by_length[::-1])[::-1]
    hits = np.cumsum(longer[::-1])[::-1][1 : reach_px + 2]
    return hits, pores.size // width * (width - np.arange(reach_px + 1))


def lineal_path(
    pores: NDArray[np.bool_], reach_px: int, *, along: Direction
) -> NDArray[np.float64]:
    """L(z): share of the segments of each length that lie wholly in pore.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        reach_px: Longest lag.
        along: Direction of the segments.

    Returns:
        (reach + 1,) at the lags 0, 1, ..., reach pixels; entry 0 is the porosity.

    Raises:
        Refusal: If the image does not support the reach.
    """
    hits, segments = segment_counts(pores, reach_px, along=along)
    return hits / segments
