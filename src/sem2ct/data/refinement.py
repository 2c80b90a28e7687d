"""Slices of a scan as the translator sees them, and slices made between them.

A translated slice has voxels `scale` times smaller than the scan's, so for cubes
`scale` slices are interpolated per slice of the scan.  Interpolation is cubic
convolution from the four slices around, mirrored at the ends of the scan; at any
time no more than those four are in memory.

Source: Keys 1981, doi:10.1109/TASSP.1981.1163711, equation 15 (a = -1/2).
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.intensity import Window, field_of_view, refuse_not_finite
from sem2ct.data.scans import Scan


def cubic_weights(offset: float) -> NDArray[np.float32]:
    """Weights of the samples at -1, 0, 1, 2 for a point between 0 and 1.

    Args:
        offset: Where the point lies, 0 <= offset < 1.

    Returns:
        float32 (4,), their sum is 1.
    """
    t = offset
    weights = [
        ((-t + 2) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((-3 * t + 4) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    ]
    return np.array(weights, np.float32)


class RefinedSlices:
    """The slices [first, last) of a scan, each as one output slice or as `scale` of them.

    Args:
        scan: The scan; read slice by slice.
        first: First slice of the scan.
        last: Slice after the last one.
        scale: Output slices per slice of the scan.
        refine: Whether they are made; otherwise each slice gives one.
        window: Raw greys that become 0 and 255.
    """

    def __init__(
        self, scan: Scan, *, first: int, last: int, scale: int, refine: bool, window: Window
    ) -> None:
        """Opens nothing yet."""
        self.scan, self.first, self.last, self.window = scan, first, last, window
        self.scale, self.refine = scale, refine
        self._raw = lru_cache(maxsize=4)(self._read)
        self._field = lru_cache(maxsize=1)(self._find_field)

    def __len__(self) -> int:
        """Number of output slices."""
        return (self.last - self.first) * (self.scale if self.refine else 1)

    def source(self, i: int) -> int:
        """Slice of the scan that output slice `i` lies in."""
        return self.first + (i // self.scale if self.refine else i)

    def number(self, i: int) -> int:
        """Number of output slice `i` on the fine grid, from the beginning of the scan."""
        if self.refine:
            return self.first * self.scale + i
        return (self.first + i) * self.scale + self.scale // 2

    def grey(self, i: int) -> NDArray[np.uint8]:
        """Output slice `i` before translation: the whole (H, W), greys of the window.

        Raises:
            Refusal: If the scan holds NaN or infinite values there.
        """
        z = self.source(i)
        if not self.refine or self.scale == 1:
            return self.window.to_uint8(self._raw(z))
        # Centre of the fine slice in slices of the scan, both counted from their centres.
        position = (self.number(i) + 0.5) / self.scale - 0.5
        below = int(np.floor(position))
        weights = cubic_weights(position - below)
        total = np.zeros(self.scan.shape[1:], np.float32)
        for step, weight in zip(range(-1, 3), weights, strict=True):
            total += weight * self._raw(self._mirrored(below + step)).astype(np.float32)
        return self.window.to_uint8(total)

    def field(self, i: int) -> NDArray[np.bool_]:
        """Field of view (H, W) of output slice `i`: that of its slice of the scan."""
        return self._field(self.source(i))

    def _mirrored(self, z: int) -> int:
        depth = self.scan.shape[0]
        z %= 2 * depth
        return min(z, 2 * depth - 1 - z)

    def _read(self, z: int) -> NDArray[Any]:
        grey = self.scan.read(slice(z, z + 1), slice(None), slice(None))[0]
        refuse_not_finite(grey, what=f"ct={self.scan.path}, slice {z}")
        return grey

    def _find_field(self, z: int) -> NDArray[np.bool_]:
        return field_of_view(self._raw(z))
