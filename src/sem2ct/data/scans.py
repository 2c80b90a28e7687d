"""What the microscopes gave: one way to open it, whatever the file.

A scan is a stack of grey slices (z, y, x); a single image has one slice.  Nothing
here reads a whole volume: a slice is read when it is asked for.
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from sem2ct.data import tiff
from sem2ct.data.intensity import collapse_channels
from sem2ct.runtime.refusal import Refusal

_TIFF = (".tif", ".tiff", ".btf", ".tf8")
_PNG = (".png",)
_RAW = (".raw", ".bin", ".vol", ".img", ".dat")
_IMAGES = _TIFF + _PNG
_SAME_SIZE = 0.01


@dataclass(frozen=True)
class Scan:
    """An opened scan; its slices are read on demand."""

    path: Path
    """The file, folder or glob."""
    shape: tuple[int, int, int]
    """(z, y, x)."""
    dtype: np.dtype[Any]
    """Type of the grey values."""
    pixel_um: float | None
    """Pixel size the file states, in micrometres."""
    data_bar_rows: int
    """Rows at the bottom that the file says are a data bar."""
    slice_at: Callable[[int], NDArray[Any]] = field(repr=False)
    """Reads the whole slice z, (H, W)."""

    def read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        """Reads a box.

        Args:
            z: Slices.
            y: Rows.
            x: Columns.

        Returns:
            (z, y, x), grey values as they are in the file.
        """
        chosen = range(*z.indices(self.shape[0]))
        assert chosen, "no slices"
        return np.stack([self.slice_at(number)[y, x] for number in chosen])


def find(patterns: str | Sequence[str], *, setting: str) -> list[Path]:
    """Finds image files.

    Args:
        patterns: Files, folders (all TIFF and PNG files in them) or globs.
        setting: Name of the setting they come from, for a refusal.

    Returns:
        The files, without repetition; within a pattern in natural order (2 before 10).

    Raises:
        Refusal: If a file is missing, or a folder or glob holds no image.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found |= dict.fromkeys(_find_one(pattern, f"{setting}={pattern}"))
    if not found:
        raise Refusal(f"{setting} is an empty list; name at least one file, folder or glob")
    return list(found)


def _find_one(pattern: str, what: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside, where = list(path.iterdir()), "folder"
    elif any(sign in pattern for sign in "*?["):
        anchor = Path(path.anchor or ".")
        relative = path.relative_to(path.anchor) if path.anchor else path
        inside, where = list(anchor.glob(str(relative))), "glob"
    else:
        raise Refusal(f"{what}: no such file or folder; write a file, a folder or a glob")
    images = [file for file in inside if file.suffix.lower() in _IMAGES and file.is_file()]
    images = [file for file in images if not file.name.startswith(".")]
    if not images:
        raise Refusal(
            f"{what}: the {where} holds no image; looked for {', '.join(_IMAGES)}"
            f" among {len(inside)} files"
        )
    return sorted(images, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


def open_scan(
    path: str | Path,
    *,
    raw_shape: Sequence[int] | str | None = None,
    raw_dtype: str | None = None,
    raw_byte_order: str = "little",
    raw_header_bytes: int = 0,
    setting: str = "ct",
) -> Scan:
    """Opens a scan: TIFF stack, PNG, folder or glob of slices, or RAW.

    Args:
        path: A file, folder or glob.
        raw_shape: (z, y, x) of a RAW file; None or "none" for any other.
        raw_dtype: Type of its grey values; None or "none" for any other.
        raw_byte_order: little or big.
        raw_header_bytes: Bytes before its first grey value.
        setting: Name of the setting that holds the path, for a refusal.

    Returns:
        The scan; headers were read, no pixels.

    Raises:
        Refusal: If the file is missing, cut short or of an unknown kind, a RAW file's
            size does not match, or slices differ in shape or type.
    """
    raw = raw_shape not in (None, "none")
    if Path(path).suffix.lower() in _RAW or raw:
        _refuse_half_stated_raw(path, raw, raw_dtype, setting)
        assert raw_shape is not None
        assert not isinstance(raw_shape, str)
        dtype = np.dtype(raw_dtype).newbyteorder("<" if raw_byte_order == "little" else ">")
        return _open_raw(Path(path), tuple(raw_shape), dtype, raw_header_bytes, setting)
    files = find(str(path), setting=setting)
    if len(files) == 1:
        return _open_file(files[0], f"{setting}={files[0]}")
    return _open_slices(Path(path), files, setting)


def pixel_um(scans: Sequence[Scan], given: float | str, *, setting: str) -> float | None:
    """Settles the pixel size of scans that are used together.

    Args:
        scans: The scans, one or more.
        given: Micrometres, "metadata" (what the files state), or "unstated".
        setting: Name of the setting it was given as.

    Returns:
        Micrometres, or None for "unstated".

    Raises:
        Refusal: With "metadata", if a file states no size or two differ by over 1 %.
    """
    if not isinstance(given, str):
        return float(given)
    if given == "unstated":
        return None
    for scan in scans:
        if scan.pixel_um is None:
            raise Refusal(
                f"{setting}=metadata, but {scan.path} states no pixel size; set"
                f" {setting}=<micrometres> or {setting}=unstated"
            )
    sizes = {scan.path: scan.pixel_um for scan in scans if scan.pixel_um is not None}
    (first, size), *others = sizes.items()
    for path, other in others:
        if abs(other / size - 1) > _SAME_SIZE:
            raise Refusal(
                f"{setting}=metadata, but {path} states {other:g} um and {first} {size:g} um;"
                " images of different magnification cannot be mixed"
            )
    return size


def refuse_unmatched(sem_um: float | None, ct_um: float | None, *, scale: int) -> None:
    """Refuses pixel sizes whose ratio is not the scale.

    Args:
        sem_um: SEM pixel after reduction in micrometres, or None if not stated.
        ct_um: Micro-CT voxel in micrometres, or None if not stated.
        scale: SEM pixels per micro-CT pixel.

    Raises:
        Refusal: If both are known and the ratio is off by more than 1 %.
    """
    if sem_um is None or ct_um is None:
        return
    ratio = ct_um / sem_um
    if abs(ratio / scale - 1) > _SAME_SIZE:
        raise Refusal(
            f"scale={scale}, but a micro-CT voxel of {ct_um:g} um is {ratio:.4g} SEM pixels of"
            f" {sem_um:g} um (after sem_reduce); change scale or sem_reduce so that they agree"
            " within 1 %"
        )


def _open_file(path: Path, what: str) -> Scan:
    suffix = path.suffix.lower()
    if suffix in _PNG:
        return _open_png(path, what)
    if suffix not in _TIFF:
        known = ", ".join(_IMAGES + _RAW)
        raise Refusal(f"{what}: files of kind '{suffix}' cannot be read; allowed are {known}")
    stack = tiff.open_stack(path, what=what)
    return Scan(path, stack.shape, stack.dtype, stack.pixel_um, stack.data_bar_rows, stack.slice_at)


def _open_png(path: Path, what: str) -> Scan:
    with path.open("rb") as file:
        head = file.read(26)
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n":
        raise Refusal(f"{what}: not a PNG file; copy it again, or convert it")
    width, height, bits = struct.unpack(">IIB", head[16:25])

    def slice_at(z: int) -> NDArray[Any]:
        assert z == 0
        try:
            image = imagecodecs.png_decode(path.read_bytes())
        except Exception as error:  # the decoder's own exception class
            raise Refusal(
                f"{what}: the PNG file cannot be decoded ({error}); it was cut short or damaged:"
                " copy it again"
            ) from error
        return collapse_channels(image, what=what)

    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    return Scan(path, (1, height, width), dtype, None, 0, slice_at)


def _open_slices(path: Path, files: list[Path], setting: str) -> Scan:
    first = _open_file(files[0], f"{setting}={files[0]}")
    for file in files:
        other = _open_file(file, f"{setting}={file}")
        if other.shape[0] != 1:
            raise Refusal(
                f"{setting}={path}: {file.name} holds {other.shape[0]} slices, but in a folder of"
                " slices each file must hold one; name the one file that holds the stack"
            )
        if (other.shape, other.dtype) != (first.shape, first.dtype):
            raise Refusal(
                f"{setting}={path}: {file.name} is {_size(other)}, but {files[0].name} is"
                f" {_size(first)}; all slices of a stack must be alike"
            )

    @cache
    def opened(z: int) -> Scan:
        return _open_file(files[z], f"{setting}={files[z]}")

    shape = (len(files), *first.shape[1:])
    return Scan(path, shape, first.dtype, first.pixel_um, 0, lambda z: opened(z).slice_at(0))


def _size(scan: Scan) -> str:
    return f"{scan.shape[1]}x{scan.shape[2]} {scan.dtype}"


def _refuse_half_stated_raw(
    path: str | Path, raw: bool, raw_dtype: str | None, setting: str
) -> None:
    what = f"{setting}={path}"
    if Path(path).suffix.lower() in _IMAGES or Path(path).is_dir():
        raise Refusal(f"{what} is no RAW file; set {setting}_raw_shape=none")
    if not raw:
        raise Refusal(
            f"{what} is a RAW file, which does not say its shape; set {setting}_raw_shape=[z,y,x]"
            f" and {setting}_raw_dtype="
        )
    if raw_dtype in (None, "none"):
        raise Refusal(
            f"{what}: {setting}_raw_shape is set but {setting}_raw_dtype is not; set it to uint8,"
            " uint16, int16 or float32"
        )


def _open_raw(
    path: Path, shape: tuple[int, ...], stored: np.dtype[Any], header_bytes: int, setting: str
) -> Scan:
    what = f"{setting}={path}"
    if not path.is_file():
        raise Refusal(f"{what}: no such file")
    assert len(shape) == 3
    needed = header_bytes + prod(shape) * stored.itemsize
    size = path.stat().st_size
    if size != needed:
        raise Refusal(
            f"{what}: the file has {size} bytes, but {setting}_raw_header_bytes={header_bytes} and"
            f" {setting}_raw_shape={list(shape)} of {stored.name} make {needed}; correct the shape,"
            " the type or the header"
        )
    volume = np.memmap(path, dtype=stored, mode="r", offset=header_bytes, shape=shape)
    native = stored.newbyteorder("=")
    z, y, x = shape
    return Scan(path, (z, y, x), native, None, 0, lambda k: volume[k].astype(native))
