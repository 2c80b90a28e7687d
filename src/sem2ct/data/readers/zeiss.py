"""Zeiss (Xradia) .txm and .txrm: an OLE file with one stream per slice.

Written from descriptions of the format in public readers; there is no specification by
its maker.  A .txrm holds projections, not slices: it is refused, for it must be
reconstructed first.
"""

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.readers.stack import Stack, need, reading, spacing_um
from sem2ct.runtime.refusal import Refusal

_TYPES = {3: "<u1", 5: "<u2", 10: "<f4"}
_PER_FOLDER = 100


def open_stack(path: Path, *, what: str) -> Stack:
    """Opens a reconstructed volume (.txm); reads its description only.

    Args:
        path: The file.
        what: The file as the user wrote it.

    Returns:
        The stack.

    Raises:
        Refusal: If the file is no .txm or cut short, or slices are missing.
    """
    olefile = need("olefile", package="olefile", what=what)
    if path.suffix.lower() == ".txrm":
        raise Refusal(
            f"{what}: a .txrm holds projections, not slices; reconstruct it and name the .txm"
        )
    with reading(what, "Zeiss TXM file"):
        ole = olefile.OleFileIO(str(path))
        width, height = (_integer(ole, f"ImageInfo/Image{side}") for side in ("Width", "Height"))
        count = next(
            _integer(ole, f"ImageInfo/{name}")
            for name in ("NoOfImages", "ImagesTaken")
            if ole.exists(f"ImageInfo/{name}")
        )
        kind = _integer(ole, "ImageInfo/DataType")
        if kind not in _TYPES:
            raise Refusal(f"{what}: values of Zeiss type {kind} cannot be read; export it as TIFF")
        pixel = _number(ole, "ImageInfo/PixelSize") if ole.exists("ImageInfo/PixelSize") else None
    shape, stored = (count, height, width), np.dtype(_TYPES[kind])
    size = height * width * stored.itemsize
    _refuse_missing(ole, count, size, path, what)
    lock = threading.Lock()

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        with lock, reading(f"{what}, slice {z}", "Zeiss TXM file"):
            content = ole.openstream(_stream(z)).read(size)
            grey = np.frombuffer(content, dtype=stored).reshape(height, width)
        return np.array(grey[rows, columns], dtype=stored.newbyteorder("="))

    spacing = spacing_um([pixel], "um") if pixel is not None else None
    return Stack(shape, stored.newbyteorder("="), read, spacing)


def _stream(z: int) -> str:
    return f"ImageData{z // _PER_FOLDER + 1}/Image{z + 1}"


def _refuse_missing(ole: Any, count: int, size: int, path: Path, what: str) -> None:
    if count < 1 or size < 1 or count * size > path.stat().st_size:
        raise Refusal(
            f"{what}: it should hold {count} slices of {size} bytes each, but has"
            f" {path.stat().st_size} bytes; it was cut short: copy it again"
        )
    for z in range(count):
        with reading(what, "Zeiss TXM file"):
            held = ole.get_size(_stream(z)) if ole.exists(_stream(z)) else 0
        if held < size:
            raise Refusal(
                f"{what}: slice {z} has {held} of {size} bytes; the file was cut short, or packed:"
                " copy it again, or export it as TIFF"
            )


def _integer(ole: Any, name: str) -> int:
    return struct.unpack("<i", ole.openstream(name).read(4))[0]


def _number(ole: Any, name: str) -> float:
    return struct.unpack("<f", ole.openstream(name).read(4))[0]
