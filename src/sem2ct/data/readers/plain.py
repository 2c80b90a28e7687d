"""Voxels that lie one after another in a file, packed or not: RAW, and what is built on it.

Unpacked they are memory-mapped.  A packed stream can only be read from its start, but
whoever reads slices in ascending order reads it once; going back starts it again.
Nothing is unpacked to disk, and memory holds one slice.
"""

import bz2
import gzip
import io
import threading
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.readers.stack import ReadWindow, reading, refuse_impossible
from sem2ct.runtime.refusal import Refusal

Shape = tuple[int, int, int]
_OPENERS: dict[str, Callable[[Any], Any]] = {"gzip": gzip.open, "bzip2": bz2.open}


def mapped(
    path: Path, *, shape: Shape, stored: np.dtype[Any], offset: int, what: str
) -> ReadWindow:
    """Reads voxels that are not packed.

    Args:
        path: The file.
        shape: (z, y, x).
        stored: Type of the values, with their byte order.
        offset: Bytes before the first voxel.
        what: The file as the user wrote it.

    Returns:
        The reader of windows.

    Raises:
        Refusal: If the file ends before the last voxel.
    """
    _refuse_empty(shape, what)
    size, needed = path.stat().st_size, offset + prod(shape) * stored.itemsize
    if offset < 0 or size < needed:
        raise Refusal(
            f"{what}: the file has {size} bytes, but shape (z, y, x) {shape} of {stored.name} after"
            f" {offset} bytes needs {needed}; it was cut short: copy it again"
        )
    native = stored.newbyteorder("=")
    each = shape[1] * shape[2] * stored.itemsize

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        # Mapped anew for each slice: pages of a large file, once touched, would stay in memory.
        with reading(f"{what}, slice {z}", "file"):
            start = offset + (z % shape[0]) * each
            grey = np.memmap(path, dtype=stored, mode="r", offset=start, shape=shape[1:])
            return np.array(grey[rows, columns], dtype=native)

    return read


def packed(
    path: Path,
    *,
    shape: Shape,
    stored: np.dtype[Any],
    offset: int,
    packing: str,
    what: str,
    file_offset: int = 0,
) -> ReadWindow:
    """Reads voxels from a packed stream, slice by slice.

    Args:
        path: The file.
        shape: (z, y, x).
        stored: Type of the values, with their byte order.
        offset: Unpacked bytes before the first voxel.
        packing: gzip or bzip2.
        what: The file as the user wrote it.
        file_offset: Bytes of the file before the packed stream.

    Returns:
        The reader of windows; quick for ascending slices.

    Raises:
        Refusal: If the file cannot hold as much as its header says.
    """
    _refuse_empty(shape, what)
    needed = prod(shape) * stored.itemsize
    if packing == "gzip":
        refuse_impossible(needed, path.stat().st_size, what=what)
    stream = _Stream(path, packing, file_offset, offset, shape[1] * shape[2] * stored.itemsize)
    native = stored.newbyteorder("=")

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        with reading(what, f"{packing} stream"):
            grey = np.frombuffer(stream.slice_bytes(z % shape[0]), dtype=stored).reshape(shape[1:])
        return np.array(grey[rows, columns], dtype=native)

    return read


def _refuse_empty(shape: Shape, what: str) -> None:
    if min(shape) < 1:
        raise Refusal(f"{what}: shape (z, y, x) is {shape}, so there is nothing to read")


class _Behind(io.RawIOBase):
    """A file as if it began later."""

    def __init__(self, file: Any, start: int) -> None:
        self._file, self._start = file, start
        file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        place = self._start + offset if whence == 0 else offset
        return self._file.seek(place, whence) - self._start

    def close(self) -> None:
        self._file.close()
        super().close()


class _Stream:
    """A packed file that is read forward as long as possible."""

    def __init__(
        self, path: Path, packing: str, file_offset: int, offset: int, slice_bytes: int
    ) -> None:
        self._path, self._packing = path, packing
        self._file_offset, self._offset, self._bytes = file_offset, offset, slice_bytes
        self._lock = threading.Lock()
        self._file: Any = None
        self._latest: tuple[int, bytes] = (-1, b"")

    def slice_bytes(self, z: int) -> bytes:
        with self._lock:
            if self._latest[0] != z:
                self._latest = (-1, b"")
                self._latest = (z, self._read(z))
            return self._latest[1]

    def _read(self, z: int) -> bytes:
        if self._file is None:
            behind = _Behind(self._path.open("rb", buffering=0), self._file_offset)
            self._file = _OPENERS[self._packing](io.BufferedReader(behind))
        # Both kinds of file move forward by unpacking, and back by starting again.
        start = self._offset + z * self._bytes
        if self._file.seek(start) != start:
            raise EOFError("the stream ends too early")
        content = self._file.read(self._bytes)
        if len(content) < self._bytes:
            raise EOFError("the stream ends too early")
        return content
