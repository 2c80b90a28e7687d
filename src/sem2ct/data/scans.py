"""What the microscopes gave: one way to open it, whatever the file.

A scan is a stack of grey slices (z, y, x); a single image has one slice.  Nothing here
reads a whole volume: a window of a slice is read when it is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import sequence
from sem2ct.data.readers import (
    archive,
    dicom,
    hdf5,
    mrc,
    netcdf,
    nifti,
    nrrd,
    picture,
    plain,
    tiff,
    zarr_group,
    zeiss,
)
from sem2ct.data.readers.stack import (
    ReadWindow,
    Spacing,
    Stack,
    checked,
    warn_of_byte_order,
)
from sem2ct.runtime.refusal import Refusal

_RAW = (".raw", ".bin", ".vol", ".img", ".dat")
_DATASETS = {
    (".h5", ".hdf5", ".hdf", ".he5", ".nxs", ".nx"): hdf5.open_stack,
    (".nc", ".nc4", ".cdf"): netcdf.open_stack,
    (".zarr",): zarr_group.open_stack,
}
_PLAIN = {
    (".nrrd", ".nhdr"): nrrd.open_stack,
    (".nii", ".nii.gz"): nifti.open_stack,
    (".mrc", ".mrcs", ".map", ".rec", ".st"): mrc.open_stack,
    (".txm", ".txrm"): zeiss.open_stack,
    picture.TIFF_SUFFIXES: tiff.open_stack,
}
_DICOM = (".dcm", ".dicom", ".ima")
_BLOCKS = (".nc", ".nc4")


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
    spacing_um: Spacing | None = None
    """Distance of voxels along (z, y, x) as stated, NaN where not, in micrometres."""
    read_window: ReadWindow | None = field(default=None, repr=False)
    """Reads rows and columns of a slice without the rest of it, where the file can."""
    whole_only: bool = False
    """Any window costs as much time and memory as the whole slice."""
    step: float = 1.0
    """Its voxels over those of the file; not 1 if it was resampled."""

    def window(self, z: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Reads a part of a slice; no more than it, where the file allows.

        Args:
            z: The slice.
            rows: Without a step.
            columns: Without a step.

        Returns:
            (rows, columns), grey values as they are in the file.
        """
        if self.read_window is None:
            return self.slice_at(z)[rows, columns]
        return self.read_window(z, rows, columns)

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
        return np.stack([self.window(number, y, x) for number in chosen])


def find(patterns: str | Sequence[str], *, setting: str) -> list[Path]:
    """Finds the files of scans.

    Args:
        patterns: Files, folders (all pictures in them; else all blocks or DICOM slices;
            of a Zarr folder every file) or globs.
        setting: Name of the setting they come from, for a refusal.

    Returns:
        The files, without repetition; within a pattern in natural order (2 before 10).

    Raises:
        Refusal: If a file is missing, or a folder or glob holds no scan.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found |= dict.fromkeys(_find_one(pattern, f"{setting}={pattern}"))
    if not found:
        raise Refusal(f"{setting} is an empty list; name at least one file, folder or glob")
    return list(found)


def images(patterns: str | Sequence[str], *, setting: str) -> list[Path]:
    """Finds single images, also those inside archives.

    Args:
        patterns: As for `find`.
        setting: Name of the setting they come from, for a refusal.

    Returns:
        What `open` takes, one path per image; in an archive they are named as if
        the archive were a folder, in the order they lie there.

    Raises:
        Refusal: As `find`; or if an archive is damaged or dangerous.
    """
    found: list[Path] = []
    for path in find(patterns, setting=setting):
        if archive.is_archive(path):
            members = archive.opened(path, what=f"{setting}={path}").members
            found += [path / name for name in members]
        else:
            found.append(path)
    return found


def _find_one(pattern: str, what: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        if path.suffix.lower() == ".zarr":
            return sorted(file for file in path.rglob("*") if file.is_file())
        inside, where = list(path.iterdir()), "folder"
    elif any(sign in pattern for sign in "*?["):
        anchor = Path(path.anchor or ".")
        relative = path.relative_to(path.anchor) if path.anchor else path
        inside, where = list(anchor.glob(str(relative))), "glob"
    else:
        raise Refusal(f"{what}: no such file or folder; write a file, a folder or a glob")
    inside = [file for file in inside if file.is_file() and not file.name.startswith(".")]
    for chosen in (picture.SUFFIXES, _BLOCKS, _DICOM):
        files = [file for file in inside if file.suffix.lower() in chosen]
        if files:
            return sorted(files, key=_natural)
    series = [file for file in inside if not file.suffix and dicom.is_dicom(file)]
    if not series:
        raise Refusal(
            f"{what}: the {where} holds no image; looked for {', '.join(picture.SUFFIXES)},"
            f" NetCDF blocks and DICOM slices among {len(inside)} files"
        )
    return sorted(series, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    return sequence.natural(str(path))


def open(
    path: str | Path,
    *,
    raw_shape: Sequence[int] | str | None = None,
    raw_dtype: str | None = None,
    raw_byte_order: str = "little",
    raw_header_bytes: int = 0,
    dataset: str = "only",
    setting: str = "ct",
) -> Scan:
    """Opens a scan of any kind that can be read.

    Args:
        path: A file, folder, glob, archive, or a picture inside an archive.
        raw_shape: (z, y, x) of a RAW file; None or "none" for any other.
        raw_dtype: Type of its grey values; None or "none" for any other.
        raw_byte_order: little or big.
        raw_header_bytes: Bytes before its first grey value.
        dataset: Which dataset of an HDF5, NetCDF or Zarr file is the scan; "only" takes
            the only one that can be.
        setting: Name of the setting that holds the path, for a refusal.

    Returns:
        The scan; headers were read, of pixels no more than one window.

    Raises:
        Refusal: If the file is missing, cut short or of an unknown kind, its reader is not
            installed, a RAW file's size does not match, or slices differ or are missing.
    """
    raw = raw_shape not in (None, "none")
    path = Path(path).expanduser()
    what = f"{setting}={path}"
    if path.suffix.lower() in _RAW or raw:
        _refuse_half_stated_raw(path, raw, raw_dtype, setting)
        assert raw_shape is not None
        assert not isinstance(raw_shape, str)
        dtype = np.dtype(raw_dtype).newbyteorder("<" if raw_byte_order == "little" else ">")
        return _scan(
            path, _open_raw(path, tuple(raw_shape), dtype, raw_header_bytes, setting), what
        )
    holder = _holder(path)
    if holder is not None and holder != path:
        held = archive.opened(holder, what=f"{setting}={holder}")
        name = path.relative_to(holder).as_posix()
        return _scan(path, held.open_stack(name, what=what), what)
    if path.suffix.lower() == ".zarr" and path.is_dir():
        stack = zarr_group.open_stack(path, dataset=dataset, what=what, setting=setting)
        return _scan(path, stack, what)
    files = images(str(path), setting=setting) if holder else find(str(path), setting=setting)
    return _scan(path if len(files) > 1 else files[0], _open(path, files, dataset, setting), what)


def _holder(path: Path) -> Path | None:
    """The archive that a path is, or that it points into."""
    places = [place for place in (path, *path.parents) if archive.is_archive(place)]
    return next((place for place in places if place.is_file()), None)


def _scan(path: Path, stack: Stack, what: str) -> Scan:
    checked(stack, what=what)
    size = stack.spacing_um[2] if stack.spacing_um else None
    return Scan(
        path,
        stack.shape,
        stack.dtype,
        size,
        stack.data_bar_rows,
        stack.slice_at,
        stack.spacing_um,
        stack.read_window,
        stack.whole_only,
    )


def _open(path: Path, files: list[Path], dataset: str, setting: str) -> Stack:
    what = f"{setting}={path}"
    if files[0].suffix.lower() in _DICOM or (
        not files[0].suffix and files[0].is_file() and dicom.is_dicom(files[0])
    ):
        return dicom.open_stack(files, what=what, setting=setting)
    if len(files) == 1:
        return _open_file(files[0], dataset, setting)
    if files[0].suffix.lower() in _BLOCKS:
        _refuse_gaps(files, what)
        return netcdf.open_blocks(files, dataset=dataset, what=what, setting=setting)
    return _open_slices(sorted(files, key=_natural), what, setting)


def _open_file(path: Path, dataset: str, setting: str) -> Stack:
    what, name = f"{setting}={path}", path.name.lower()
    holder = _holder(path)
    if holder is not None:
        held = archive.opened(holder, what=f"{setting}={holder}")
        return held.open_stack(path.relative_to(holder).as_posix(), what=what)
    if name.endswith(picture.PNG_SUFFIXES):
        return picture.open_png(picture.Content.of_file(path), what=what)
    for endings, open_plain in _PLAIN.items():
        if name.endswith(endings):
            return open_plain(path, what=what)
    for endings, open_dataset in _DATASETS.items():
        if name.endswith(endings):
            return open_dataset(path, dataset=dataset, what=what, setting=setting)
    raise Refusal(
        f"{what}: files of kind '{path.suffix.lower()}' cannot be read; allowed are"
        f" {', '.join(readable())}"
    )


def readable() -> list[str]:
    """The endings of all files that can be read."""
    listed = [*picture.SUFFIXES, *_RAW, *_DICOM, *archive.ENDINGS]
    for table in (_PLAIN, _DATASETS):
        listed += [ending for endings in table for ending in endings if ending not in listed]
    return listed


def _open_slices(files: list[Path], what: str, setting: str) -> Stack:
    _refuse_gaps(files, what)
    first = _open_file(files[0], "only", setting)
    for file in files:
        other = _open_file(file, "only", setting)
        if other.shape[0] != 1:
            raise Refusal(
                f"{what}: {file.name} holds {other.shape[0]} slices, but in a folder of"
                " slices each file must hold one; name the one file that holds the stack"
            )
        if (other.shape, other.dtype) != (first.shape, first.dtype):
            raise Refusal(
                f"{what}: {file.name} is {_size(other)}, but {files[0].name} is {_size(first)};"
                " all slices of a stack must be alike"
            )

    @cache
    def opened(z: int) -> Stack:
        return _open_file(files[z], "only", setting)

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        return opened(z).read_window(0, rows, columns)

    shape = (len(files), *first.shape[1:])
    return Stack(shape, first.dtype, read, first.spacing_um)


def _size(stack: Stack) -> str:
    return f"{stack.shape[1]}x{stack.shape[2]} {stack.dtype}"


def _refuse_gaps(files: list[Path], what: str) -> None:
    lost = sequence.missing([file.name for file in files])
    if lost:
        named = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise Refusal(
            f"{what}: slices are missing between {files[0].name} and {files[-1].name}: {named};"
            " copy them too, or number the files without gaps if nothing is missing"
        )


def _refuse_half_stated_raw(path: Path, raw: bool, raw_dtype: str | None, setting: str) -> None:
    what = f"{setting}={path}"
    if path.suffix.lower() in picture.SUFFIXES or path.is_dir():
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
) -> Stack:
    what = f"{setting}={path}"
    if not path.is_file():
        raise Refusal(f"{what}: no such file")
    z, y, x = shape
    needed = header_bytes + z * y * x * stored.itemsize
    size = path.stat().st_size
    if size != needed:
        raise Refusal(
            f"{what}: the file has {size} bytes, but {setting}_raw_header_bytes={header_bytes} and"
            f" {setting}_raw_shape={list(shape)} of {stored.name} make {needed}; correct the shape,"
            " the type or the header"
        )
    window = plain.mapped(path, shape=(z, y, x), stored=stored, offset=header_bytes, what=what)
    stack = Stack((z, y, x), stored.newbyteorder("="), window)
    other = "big" if stored == stored.newbyteorder("<") else "little"
    warn_of_byte_order(stack, what=what, change=f"set {setting}_raw_byte_order={other}")
    return stack
