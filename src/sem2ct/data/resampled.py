"""A scan on another grid: voxels of the size that the SEM images ask for.

The translator climbs by a power of two, but micro-CT and SEM pixels rarely differ by
one (6.4, 26.9 / 4.2).  So the CT is resampled once, by a factor near 1, to voxels that
are 2, 4, 8, 16 or 32 SEM pixels wide.  It happens as windows are read: nothing is
stored, and a window is the same whether it is read alone or within the whole.

Cubic convolution, separable; where voxels become larger the kernel is widened by as
much, so that nothing finer than the new grid is folded into it.  The edges of the scan
are mirrored, and both grids begin at the same corner.

Source: Keys 1981, doi:10.1109/TASSP.1981.1163711, equation 15 (a = -1/2).
"""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.scans import Scan

SCALES = (2, 4, 8, 16, 32)


def nearest_scale(ratio: float) -> int:
    """The supported scale that a ratio of pixel sizes is nearest to, as a factor.

    Args:
        ratio: CT voxel size over SEM pixel size.

    Returns:
        2, 4, 8, 16 or 32.
    """
    return min(SCALES, key=lambda scale: abs(math.log(scale / ratio)))


def resampled(scan: Scan, *, from_um: float, to_um: float) -> Scan:
    """The same scan with voxels of another size.

    Args:
        scan: What is read; a single slice is resampled within its plane only.
        from_um: Size of its voxels.
        to_um: Size that they shall have, in the same unit.

    Returns:
        A scan of the type of the first, whole numbers rounded; `pixel_um` is `to_um`.  What
        lies beyond the last whole voxel is left out.
    """
    step = to_um / from_um
    z, y, x = (_Axis(length, step) for length in scan.shape)
    planes = _Axis(1, 1.0) if scan.shape[0] == 1 else z

    def window(number: int, rows: slice, columns: slice) -> NDArray[Any]:
        wanted_y, wanted_x = range(len(y))[rows], range(len(x))[columns]
        first, along_y = y.taken(wanted_y)
        left, along_x = x.taken(wanted_x)
        inside_y = slice(first, first + along_y.shape[1])
        inside_x = slice(left, left + along_x.shape[1])
        above, along_z = planes.taken(range(number, number + 1))
        total = np.zeros((len(wanted_y), len(wanted_x)))
        for step_z, weight in enumerate(along_z[0]):
            if weight:
                read = scan.window(above + step_z, inside_y, inside_x).astype(np.float64)
                total += weight * (along_y @ read @ along_x.T)
        return _as(scan.dtype, total)

    whole = lru_cache(maxsize=2)(lambda number: window(number, slice(None), slice(None)))
    return replace(
        scan,
        shape=(len(planes), len(y), len(x)),
        pixel_um=to_um,
        step=step,
        spacing_um=None,
        slice_at=whole,
        read_window=window,
    )


def resampled_mask(mask: Scan, *, step: float) -> Scan:
    """A mask on the grid of a resampled scan.

    Args:
        mask: Not 0 inside.
        step: Voxels of the resampled scan over those of the mask.

    Returns:
        uint8: 255 where more than half is inside, else 0.
    """

    def marked(z: int) -> NDArray[Any]:
        return (mask.slice_at(z) != 0) * np.uint8(255)

    whole = replace(mask, dtype=np.dtype(np.uint8), slice_at=marked, read_window=None)
    smooth = resampled(whole, from_um=1.0, to_um=step)
    return replace(
        smooth,
        slice_at=lambda z: (smooth.slice_at(z) > 127) * np.uint8(255),
        read_window=lambda z, y, x: (smooth.window(z, y, x) > 127) * np.uint8(255),
    )


class _Axis:
    """The new grid along one axis: which samples it takes, and with which weights."""

    def __init__(self, length: int, step: float) -> None:
        self._length, self._step = length, step
        self._count = max(1, math.floor(length / step * (1 + 1e-12)))

    def __len__(self) -> int:
        return self._count

    def taken(self, wanted: range) -> tuple[int, NDArray[np.float64]]:
        """First sample, and weights (wanted, samples) of it and those after it."""
        widened = max(1.0, self._step)
        centre = (np.array(wanted)[:, None] + 0.5) * self._step - 0.5
        # Every new sample is summed over the same offsets, whatever is read beside it.
        reach = math.ceil(2 * widened)
        near = np.floor(centre).astype(int) + np.arange(1 - reach, reach + 1)
        weights = _cubic((near - centre) / widened)
        weights /= weights.sum(1, keepdims=True)
        near = _mirrored(near, self._length)
        first = int(near.min())
        matrix = np.zeros((len(wanted), int(near.max()) - first + 1))
        np.add.at(matrix, (np.arange(len(wanted))[:, None], near - first), weights)
        return first, matrix


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -1/2."""
    t = np.abs(distance)
    inner = (1.5 * t - 2.5) * t * t + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, inner, np.where(t < 2, outer, 0.0))


def _mirrored(index: NDArray[np.int_], length: int) -> NDArray[np.int_]:
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _as(dtype: np.dtype[Any], values: NDArray[np.float64]) -> NDArray[Any]:
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)
