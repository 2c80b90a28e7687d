"""Zarr: an OME-Zarr image (0.4 or 0.5) at full resolution, or a plain array.

Chunks reach over many slices, and each would be unpacked once per slice; so the layer of
chunks that the latest slice lies in is kept, if it is not too large.
"""

import threading
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from sem2ct.data.readers import hdf5
from sem2ct.data.readers.stack import Spacing, Stack, reading, spacing_um
from sem2ct.runtime.refusal import Refusal

_LAYER_BYTES = 2**28
_LARGEST_CHUNK_BYTES = 2**31


def open_stack(path: Path, *, dataset: str, what: str, setting: str) -> Stack:
    """Opens a Zarr folder; reads its metadata only.

    Args:
        path: The folder.
        dataset: Path of the array inside, or "only" (then the first level of an OME-Zarr).
        what: The folder as the user wrote it.
        setting: Name of the setting that holds the path.

    Returns:
        The stack.

    Raises:
        Refusal: If the folder is no Zarr or damaged, or it is not clear which array is
            the scan.
    """
    with reading(what, "Zarr folder"):
        opened = zarr.open(path, mode="r")
        array, spacing = _array(opened, dataset, what, setting)
        kept = hdf5.volume_axes(array.shape, what=what)
        dtype = np.dtype(array.dtype).newbyteorder("=")
        if prod(array.chunks) * dtype.itemsize > _LARGEST_CHUNK_BYTES:
            raise Refusal(f"{what}: chunks of {array.chunks} do not fit into memory; rechunk it")
    if spacing is not None and len(spacing) == array.ndim:
        found = _in_um([spacing[axis] for axis in kept])
    else:
        found = hdf5.attribute_spacing(array.attrs.asdict())
    shape = hdf5.as_zyx([array.shape[axis] for axis in kept])
    layers = _Layers(array, kept, shape, dtype)

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        with reading(f"{what}, slice {z}", "Zarr folder"):
            return layers.window(z, rows, columns)

    return Stack(shape, dtype, read, found)


def _array(
    opened: Any, dataset: str, what: str, setting: str
) -> tuple[zarr.Array, list[tuple[float, object]] | None]:
    """The array, and per axis its scale and unit where OME metadata say so."""
    if isinstance(opened, zarr.Array):
        return opened, None
    attributes = opened.attrs.asdict()
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if dataset == "only" and multiscales:
        level = multiscales[0]["datasets"][0]
        return opened[level["path"]], _scales(multiscales[0], level)
    found = dict(opened.members(max_depth=8))
    shapes = {name: item.shape for name, item in found.items() if isinstance(item, zarr.Array)}
    return found[hdf5.choose(shapes, dataset, what=what, setting=setting)], None


def _scales(
    multiscale: Mapping[str, Any], level: Mapping[str, Any]
) -> list[tuple[float, object]] | None:
    total = np.ones(len(multiscale["axes"]))
    for holder in (multiscale, level):
        for step in holder.get("coordinateTransformations", []):
            if step.get("type") == "scale":
                total *= np.array(step["scale"], dtype=np.float64)
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in multiscale["axes"]]
    return list(zip(total.tolist(), units, strict=True))


def _in_um(scales: list[tuple[float, object]]) -> Spacing | None:
    sizes = [spacing_um([size], unit) for size, unit in scales]
    if any(size is None for size in sizes[-2:]):
        return None
    z, y, x = [float("nan")] * (3 - len(sizes)) + [s[0] if s else float("nan") for s in sizes]
    return z, y, x


class _Layers:
    """Windows of an array, from the latest layer of chunks where that can be kept."""

    def __init__(
        self, array: zarr.Array, kept: list[int], shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> None:
        self._array, self._kept, self._dtype = array, kept, dtype
        self._depth = array.chunks[kept[0]] if len(kept) == 3 else 1
        layer = self._depth * shape[1] * shape[2] * dtype.itemsize
        self._keep = len(kept) == 3 and self._depth > 1 and layer <= _LAYER_BYTES
        self._latest: tuple[int, NDArray[Any]] | None = None
        self._lock = threading.Lock()

    def window(self, z: int, rows: slice, columns: slice) -> NDArray[Any]:
        if not self._keep:
            parts = (z, rows, columns)[3 - len(self._kept) :]
            return np.array(self._read(parts), dtype=self._dtype)
        number = z // self._depth
        with self._lock:
            if self._latest is None or self._latest[0] != number:
                self._latest = None
                start = number * self._depth
                whole = self._read((slice(start, start + self._depth), slice(None), slice(None)))
                self._latest = number, whole
            return np.array(self._latest[1][z % self._depth, rows, columns], dtype=self._dtype)

    def _read(self, parts: tuple[int | slice, ...]) -> NDArray[Any]:
        index: list[int | slice] = [0] * self._array.ndim
        for axis, part in zip(self._kept, parts, strict=True):
            index[axis] = part
        return np.asarray(self._array[tuple(index)])
