"""TIFF files as stacks of grey slices, and what microscopes write into them.

Every page of the first page's shape and type is one slice; thumbnails and reduced
pages are passed over.  A file that was cut short still opens in most programs (the
list of pages simply ends early), so each offset is held against the file's size.

Pixel sizes come from FEI, Zeiss, ImageJ and OME metadata.  The baseline resolution
tags hold a screen's or printer's resolution (72 dpi) more often than a pixel size, so
they are believed only where they are finer than any printer.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from sem2ct.data.intensity import collapse_channels
from sem2ct.runtime.refusal import Refusal

_FINEST_PRINT_UM = 5.0
_TAG_UNIT_UM = {2: 25400.0, 3: 10000.0}  # inch, centimetre
_PER_UM = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0}
_PER_UM |= {"\\u00B5m": 1.0, "microns": 1.0, "nm": 1e-3, "cm": 1e4}


@dataclass(frozen=True)
class Stack:
    """An opened TIFF: what its header says, and how to read one slice."""

    shape: tuple[int, int, int]
    """(z, y, x)."""
    dtype: np.dtype[Any]
    """Type of the grey values."""
    pixel_um: float | None
    """Pixel size the microscope stated, in micrometres."""
    data_bar_rows: int
    """Rows under the image that the microscope says are its data bar."""
    slice_at: Callable[[int], NDArray[Any]]
    """Reads the whole slice z, (H, W)."""


def open_stack(path: Path, *, what: str) -> Stack:
    """Opens a TIFF, BigTIFF or ImageJ file; reads headers only.

    Args:
        path: The file.
        what: Its name as the user wrote it, for refusals.

    Returns:
        The stack.

    Raises:
        Refusal: If the file is no TIFF, or was cut short.
    """
    try:
        with _complaints() as complaints, tifffile.TiffFile(path) as tif:
            stack = _stack(tif, path, what)
            _refuse_cut_short(tif, complaints, what)
            return stack
    except (tifffile.TiffFileError, IndexError) as error:
        raise Refusal(
            f"{what}: not a whole TIFF file ({error}); copy it again, or convert it"
        ) from error


def _stack(tif: tifffile.TiffFile, path: Path, what: str) -> Stack:
    first = tif.pages.first
    dtype = _refuse_unreadable(first, what)
    pages = [page for page in tif.pages if _alike(page.aspage(), first)]
    height, width = first.imagelength, first.imagewidth
    slices = tif.series[0].size // (height * width * first.samplesperpixel)
    offset = tif.series[0].dataoffset
    pixel_um, bar_rows = _microscope(tif, height, width)
    plain = first.samplesperpixel == 1 and first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    if offset is not None and plain and slices >= len(pages):
        stored = dtype.newbyteorder(tif.byteorder)
        shape = (slices, height, width)
        if offset + slices * height * width * dtype.itemsize > tif.filehandle.size:
            raise Refusal(_cut_short(what))
        volume = np.memmap(path, dtype=stored, mode="r", offset=offset, shape=shape)
        return Stack(shape, dtype, pixel_um, bar_rows, lambda z: volume[z].astype(dtype))
    lock = threading.Lock()

    def slice_at(z: int) -> NDArray[Any]:
        with lock:
            handle = tif.filehandle
            handle.open()
            try:
                return _grey(pages[z].aspage(), what)
            finally:
                handle.close()

    return Stack((len(pages), height, width), dtype, pixel_um, bar_rows, slice_at)


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
        raise Refusal(f"{what}: page {page.index} cannot be decoded ({error})") from error
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


def _refuse_cut_short(tif: tifffile.TiffFile, complaints: list[str], what: str) -> None:
    size = tif.filehandle.size
    beyond = any(
        start + length > size
        for page in tif.pages
        for start, length in zip(page.dataoffsets, page.databytecounts, strict=False)
    )
    told = any(re.search(r"invalid (page|value) offset|corrupted", text) for text in complaints)
    if beyond or told:
        raise Refusal(_cut_short(what))


def _microscope(tif: tifffile.TiffFile, height: int, width: int) -> tuple[float | None, int]:
    """Pixel size in micrometres, and rows of data bar, where the instrument says."""
    if tif.fei_metadata:
        return _fei(tif.fei_metadata, height)
    if tif.sem_metadata:
        return _zeiss(tif.sem_metadata, height)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej(tif), 0
    if tif.ome_metadata:
        return _ome(tif.ome_metadata), 0
    return _baseline(tif.pages.first), 0


def _fei(metadata: dict[str, Any], height: int) -> tuple[float | None, int]:
    scan, image = metadata.get("Scan", {}), metadata.get("Image", {})
    wide, high = scan.get("PixelWidth"), scan.get("PixelHeight")
    size = wide * 1e6 if wide and high and abs(wide / high - 1) < 0.01 else None
    rows = image.get("ResolutionY")
    return size, height - rows if rows and rows < height else 0


def _zeiss(metadata: dict[str, Any], height: int) -> tuple[float | None, int]:
    size = None
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = metadata.get(key)
        if size is None and entry is not None and len(entry) == 3 and entry[2] in _PER_UM:
            size = float(entry[1]) * _PER_UM[entry[2]]
    entry = metadata.get("dp_image_store")
    rows = re.search(r"\d+\s*\*\s*(\d+)", str(entry[1])) if entry else None
    return size, max(0, height - int(rows[1])) if rows else 0


def _imagej(tif: tifffile.TiffFile) -> float | None:
    per_um = _PER_UM.get(str((tif.imagej_metadata or {}).get("unit", "")))
    tag = tif.pages.first.tags.get("XResolution")
    if per_um is None or tag is None or not tag.value[0]:
        return None
    return tag.value[1] / tag.value[0] * per_um


def _baseline(page: tifffile.TiffPage) -> float | None:
    tag, unit = page.tags.get("XResolution"), page.tags.get("ResolutionUnit")
    if tag is None or unit is None or not tag.value[0] or int(unit.value) not in _TAG_UNIT_UM:
        return None
    size = _TAG_UNIT_UM[int(unit.value)] * tag.value[1] / tag.value[0]
    return size if size < _FINEST_PRINT_UM else None


def _ome(xml: str) -> float | None:
    size = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', xml)
    unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', xml)
    per_um = _PER_UM.get(unit[1] if unit else "um")
    return float(size[1]) * per_um if size and per_um else None
