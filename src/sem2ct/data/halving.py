"""Coarser levels of a volume: sums over pairs in whole numbers, and their means.

Sums are kept from level to level, so that a level is the mean of the voxels of the full
resolution, rounded once.  They are made slice by slice, which stays in the cache: several
times as fast as means of the whole volume, and without its memory.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.unsignedinteger[Any]]


def pair_sums(volume: Sums, *, axes: Collection[int]) -> Sums:
    """Adds pairs along some axes; an odd last slice, row or column counts twice.

    Args:
        volume: (z, y, x): grey levels as uint8, or what this function gave.
        axes: Along which, of 0, 1 and 2.

    Returns:
        Those sides halved and rounded up; each number stands for twice as many voxels per axis.
    """
    wide = np.uint16 if volume.dtype == np.uint8 else np.uint32
    shape = [-(-side // 2) if axis in axes else side for axis, side in enumerate(volume.shape)]
    sums = np.empty(shape, wide)
    for k in range(shape[0]):
        if 0 in axes:
            above, below = volume[2 * k], volume[min(2 * k + 1, len(volume) - 1)]
            plane = np.add(above, below, dtype=wide)
        else:
            plane = volume[k].astype(wide)
        for axis in (1, 2):
            if axis in axes:
                plane = _pairs(plane, axis - 1)
        sums[k] = plane
    return sums


def means(sums: Sums, *, count: int) -> NDArray[np.uint8]:
    """Divides sums by the voxels they stand for and rounds to the nearest, ties to even.

    Args:
        sums: (z, y, x), as of `pair_sums`.
        count: Voxels in each, a power of two.

    Returns:
        The same shape.
    """
    grey = np.empty(sums.shape, np.uint8)
    for k, plane in enumerate(sums):
        scaled = plane.astype(np.float32)  # exact for the sums of up to 2^16 voxels
        scaled *= np.float32(1 / count)
        grey[k] = np.rint(scaled, out=scaled)
    return grey


def _pairs(plane: NDArray, axis: int) -> NDArray:
    rows = np.moveaxis(plane, axis, 0)
    odd = rows[1::2]
    sums = rows[0::2].copy(order="K")
    sums[: len(odd)] += odd
    sums[len(odd) :] *= 2
    return np.moveaxis(sums, 0, axis)
