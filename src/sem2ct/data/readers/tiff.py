"""TIFF files as stacks of grey slices, and what microscopes write into them.

Every page of the first page's shape and type is one slice; thumbnails, reduced pages and
what comes after the last slice are passed over.  A file that was cut short still opens in
most programs (the list of pages simply ends early), so each offset is held against the
file's size.

Pixel sizes come from FEI, Zeiss, ImageJ and OME metadata.  The baseline resolution
tags hold a screen's or printer's resolution (72 dpi) more often than a pixel size, so
they are believed only where they are finer than any printer.
"""

import contextlib
import io
import logging
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from sem2ct.data.intensity import collapse_channels
from sem2ct.data.readers.plain import mapped
from sem2ct.data.readers.stack import ReadWindow, Spacing, Stack, reading, unit_um
from sem2ct.runtime.refusal import Refusal

_FINEST_PRINT_UM = 5.0
_TAG_UNIT_UM = {2: 25400.0, 3: 10000.0}  # inch, centimetre
_MOST_PACKED = 10_000
_HARMLESS_BYTES = 2**28
_BEYOND_THE_END = re.compile(r"invalid (page|value) offset|corrupted")
_LEAST_PAGE_BYTES = 60  # a directory of five entries


def open_stack(source: Path | io.BytesIO, *, what: str) -> Stack:
    """Opens a TIFF, BigTIFF or ImageJ file; reads headers only.

    Args:
        source: The file, or its content.
        what: Its name as the user wrote it, for refusals.

    Returns:
        The stack.

    Raises:
        Refusal: If the file is no TIFF, or was cut short.
    """
    with reading(what, "TIFF file"), _complaints() as complaints:
        tif = tifffile.TiffFile(source)
        try:
            _refuse_cut_short(tif, what)
            stack = _stack(tif, source, what)
            if any(_BEYOND_THE_END.search(text) for text in complaints):
                raise Refusal(_cut_short(what))
            return stack
        finally:
            if isinstance(source, Path):
                tif.close()


def _stack(tif: tifffile.TiffFile, source: Path | io.BytesIO, what: str) -> Stack:
    first = tif.pages.first
    dtype = _refuse_unreadable(first, what)
    pages = _slices(tif, first, what)
    height, width = first.imagelength, first.imagewidth
    slices = tif.series[0].size // (height * width * first.samplesperpixel)
    offset = tif.series[0].dataoffset
    stated, bar_rows = _microscope(tif, height, width)
    plain = first.samplesperpixel == 1 and first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    if offset is not None and plain and slices >= len(pages) and isinstance(source, Path):
        stored = dtype.newbyteorder(tif.byteorder)
        shape = (slices, height, width)
        if offset + slices * height * width * dtype.itemsize > tif.filehandle.size:
            raise Refusal(_cut_short(what))
        window = mapped(source, shape=shape, stored=stored, offset=offset, what=what)
        return Stack(shape, dtype, window, stated, bar_rows)
    _refuse_bombs(pages, what)
    window = _pages(tif, pages, what)
    return Stack((len(pages), height, width), dtype, window, stated, bar_rows)


def _pages(tif: tifffile.TiffFile, pages: list[Any], what: str) -> ReadWindow:
    """Reads windows of pages that are packed, tiled or coloured."""
    lock = threading.Lock()

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        with lock, reading(what, "TIFF file"), _handle(tif), _complaints():
            page = pages[z].aspage()
            if _in_segments(page):
                return _segments(tif, page, rows, columns, what)
            return _grey(page, what)[rows, columns]

    return read


@contextlib.contextmanager
def _handle(tif: tifffile.TiffFile) -> Iterator[None]:
    """Opens the file for one reading, so that a folder of slices holds no thousand files."""
    of_file = not isinstance(tif.filehandle._fh, io.BytesIO)
    if of_file:
        tif.filehandle.open()
    try:
        yield
    finally:
        if of_file:
            tif.filehandle.close()


def _in_segments(page: tifffile.TiffPage) -> bool:
    """Whether parts of the page can be unpacked alone, and hold plain grey values."""
    plain = page.samplesperpixel == 1 and page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    several = len(page.dataoffsets) > 1 and page.imagedepth == 1
    return bool(plain and several and page.dtype is not None and page.dtype.kind != "b")


def _segments(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, rows: slice, columns: slice, what: str
) -> NDArray[Any]:
    """Unpacks only the tiles or strips that a window touches."""
    top, bottom, _ = rows.indices(page.imagelength)
    left, right, _ = columns.indices(page.imagewidth)
    if page.is_tiled:
        high, wide = page.tilelength, page.tilewidth
    else:
        high, wide = page.rowsperstrip, page.imagewidth
    across = -(-page.imagewidth // wide)
    assert page.dtype is not None
    window = np.zeros((bottom - top, right - left), page.dtype.newbyteorder("="))
    chosen = [
        row * across + column
        for row in range(top // high, -(-bottom // high))
        for column in range(left // wide, -(-right // wide))
    ]
    for index in chosen:
        try:
            tif.filehandle.seek(page.dataoffsets[index])
            content = tif.filehandle.read(page.databytecounts[index])
            piece, (*_, y, x, _), shape = page.decode(content, index)
        except Exception as error:  # decoders have an exception class each
            raise Refusal(_undecodable(page, error, what)) from error
        if piece is None:
            continue  # never written: nothing but zeros
        piece = piece.reshape(piece.shape[1:3])[: shape[1], : shape[2]]
        y0, x0 = max(y, top), max(x, left)
        y1, x1 = min(y + piece.shape[0], bottom), min(x + piece.shape[1], right)
        window[y0 - top : y1 - top, x0 - left : x1 - left] = piece[y0 - y : y1 - y, x0 - x : x1 - x]
    return window


def _undecodable(page: tifffile.TiffPage, error: Exception, what: str) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"{what}: page {page.index} cannot be decoded ({reason}); copy the file again"


def _refuse_bombs(pages: list[Any], what: str) -> None:
    for page in pages:
        whole = page.aspage()
        unpacked, packed = whole.nbytes, sum(whole.databytecounts)
        if unpacked > _HARMLESS_BYTES and unpacked > _MOST_PACKED * max(packed, 1):
            raise Refusal(
                f"{what}: page {whole.index} claims {unpacked} bytes of pixels, packed into"
                f" {packed}; it is damaged: copy it again"
            )


def _slices(tif: tifffile.TiffFile, first: tifffile.TiffPage, what: str) -> list[Any]:
    """The pages that are slices; one of another kind between them would shift those after it."""
    slices, other = [], None
    for page in tif.pages:
        whole = page.aspage()
        if _alike(whole, first):
            if other is not None:
                raise Refusal(
                    f"{what}: page {other.index} is {other.shape} of {other.dtype}, but those"
                    f" before and after it are {first.shape} of {first.dtype}; slices must be"
                    " alike: repair that page, or take it out"
                )
            slices.append(page)
        elif not whole.is_reduced:
            other = whole
    return slices


def _alike(page: tifffile.TiffPage, first: tifffile.TiffPage) -> bool:
    same = page.shape == first.shape and page.dtype == first.dtype
    return same and not page.is_reduced


def _refuse_unreadable(page: tifffile.TiffPage, what: str) -> np.dtype[Any]:
    if page.dtype is None or page.dtype.kind not in "buif":
        raise Refusal(f"{what}: pixels of type {page.dtype} cannot be read; save it as grey TIFF")
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return np.dtype(np.uint8)  # the colours are looked up
    return np.dtype(np.uint8) if page.dtype.kind == "b" else page.dtype.newbyteorder("=")


def _grey(page: tifffile.TiffPage, what: str) -> NDArray[Any]:
    try:
        image = page.asarray()
    except Exception as error:  # decoders have an exception class each
        raise Refusal(_undecodable(page, error, what)) from error
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        # The table is 16-bit, (3, entries); palettes of grey images were made from 8 bits.
        image = (np.moveaxis(page.colormap[:, image], 0, -1) >> 8).astype(np.uint8)
    elif page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and image.ndim == 3:
        image = np.moveaxis(image, 0, -1)
    if image.dtype == np.bool_:
        image = image.astype(np.uint8)
    grey = collapse_channels(image, what=what)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and grey.dtype.kind in "bu":
        grey = np.iinfo(grey.dtype).max - grey
    return grey


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collects what tifffile logs instead of raising, and keeps it off the screen."""
    messages: list[str] = []
    logger = logging.getLogger("tifffile")
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _cut_short(what: str) -> str:
    return f"{what}: the TIFF file ends before its last page; it was cut short: copy it again"


def _refuse_cut_short(tif: tifffile.TiffFile, what: str) -> None:
    size = tif.filehandle.size
    for number, page in enumerate(tif.pages):
        if number * _LEAST_PAGE_BYTES > size:
            raise Refusal(
                f"{what}: its list of pages runs in a circle; the file is damaged: copy it again"
            )
        parts = zip(page.dataoffsets, page.databytecounts, strict=False)
        if any(start + length > size for start, length in parts):
            raise Refusal(_cut_short(what))


def _microscope(tif: tifffile.TiffFile, height: int, width: int) -> tuple[Spacing | None, int]:
    """Pixel size along (z, y, x), and rows of data bar, where the instrument says."""
    if tif.fei_metadata:
        return _fei(tif.fei_metadata, height)
    if tif.sem_metadata:
        return _zeiss(tif.sem_metadata, height)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej(tif), 0
    if tif.ome_metadata:
        return _ome(tif.ome_metadata), 0
    return _baseline(tif.pages.first), 0


def _fei(metadata: dict[str, Any], height: int) -> tuple[Spacing | None, int]:
    scan, image = metadata.get("Scan", {}), metadata.get("Image", {})
    wide, high = scan.get("PixelWidth"), scan.get("PixelHeight")
    stated = isinstance(wide, float | int) and isinstance(high, float | int)
    size = (math.nan, high * 1e6, wide * 1e6) if stated else None
    rows = image.get("ResolutionY")
    return size, height - rows if isinstance(rows, int) and 0 < rows < height else 0


def _zeiss(metadata: dict[str, Any], height: int) -> tuple[Spacing | None, int]:
    size = None
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = metadata.get(key)
        if size is None and entry is not None and len(entry) == 3:
            per_um = unit_um(entry[2])
            if per_um is not None:
                size = (math.nan, float(entry[1]) * per_um, float(entry[1]) * per_um)
    entry = metadata.get("dp_image_store")
    rows = re.search(r"\d+\s*\*\s*(\d+)", str(entry[1])) if entry else None
    return size, max(0, height - int(rows[1])) if rows else 0


def _imagej(tif: tifffile.TiffFile) -> Spacing | None:
    metadata = tif.imagej_metadata or {}
    per_um = unit_um(metadata.get("unit", ""))
    x, y = (_tag(tif.pages.first, f"{axis}Resolution") for axis in "XY")
    if per_um is None or x is None:
        return None
    z = metadata.get("spacing")
    z = float(z) * per_um if isinstance(z, float | int) else math.nan
    return z, (y if y is not None else x) * per_um, x * per_um


def _tag(page: tifffile.TiffPage, name: str) -> float | None:
    """Size of a pixel in the unit of a resolution tag, which counts pixels per unit."""
    tag = page.tags.get(name)
    if tag is None or not tag.value[0]:
        return None
    return tag.value[1] / tag.value[0]


def _baseline(page: tifffile.TiffPage) -> Spacing | None:
    x, y = (_tag(page, f"{axis}Resolution") for axis in "XY")
    unit = page.tags.get("ResolutionUnit")
    if x is None or unit is None or int(unit.value) not in _TAG_UNIT_UM:
        return None
    x *= _TAG_UNIT_UM[int(unit.value)]
    y = x if y is None else y * _TAG_UNIT_UM[int(unit.value)]
    return (math.nan, y, x) if 0 < x < _FINEST_PRINT_UM else None


def _ome(xml: str) -> Spacing | None:
    x, y, z = (_ome_size(xml, axis) for axis in "XYZ")
    if x is None:
        return None
    return math.nan if z is None else z, x if y is None else y, x


def _ome_size(xml: str, axis: str) -> float | None:
    size = re.search(rf'PhysicalSize{axis}="([0-9.eE+-]+)"', xml)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', xml)
    per_um = unit_um(unit[1] if unit else "um")
    return float(size[1]) * per_um if size and per_um else None
