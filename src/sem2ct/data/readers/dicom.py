"""DICOM: a series of files with a slice each, or one file with many frames.

Slices are ordered by their place along the normal of the image plane, never by file
name.  Grey values are as stored: rescaling to Hounsfield units is one straight line for
the whole series, and the grey window takes care of it.

Source: DICOM PS3.3, C.7.6.2 (image plane) and C.7.6.3 (image pixel).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.readers.stack import Spacing, Stack, need, reading, refuse_impossible
from sem2ct.runtime.refusal import Refusal

_IRREGULAR = 0.1


@dataclass(frozen=True)
class _Slice:
    path: Path
    place: float
    series: str
    rows: int
    columns: int
    stored: np.dtype[Any]
    rescale: tuple[float, float]
    inverted: bool
    frames: int
    spacing_mm: tuple[float, float] | None
    thickness_mm: float | None


def is_dicom(path: Path) -> bool:
    """Says whether a file has DICOM's mark behind its preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def open_stack(files: Sequence[Path], *, what: str, setting: str) -> Stack:
    """Opens the files of one series; reads their headers only.

    Args:
        files: One or more, in any order.
        what: The file or folder as the user wrote it.
        setting: Name of the setting that holds it.

    Returns:
        The stack.

    Raises:
        Refusal: If a file is damaged, they are of several series, they differ in shape or
            type, or slices are missing.
    """
    pydicom = need("pydicom", package="pydicom", what=what)
    slices = []
    for path in files:
        with reading(f"{setting}={path}", "DICOM file"):
            slices.append(_described(pydicom, path, f"{setting}={path}"))
    slices.sort(key=lambda one: one.place)
    _refuse_mixed(slices, what, setting)
    first = slices[0]
    many = first.frames > 1
    depth = first.frames if many else len(slices)

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        one, index = (first, z) if many else (slices[z], 0)
        with reading(f"{setting}={one.path}", "DICOM file"):
            grey = pydicom.pixels.pixel_array(one.path, index=index)[rows, columns]
            if grey.ndim != 2:
                raise ValueError("colour")
        if one.inverted:
            grey = np.iinfo(grey.dtype).max - grey
        return np.array(grey, dtype=first.stored)

    shape = (depth, first.rows, first.columns)
    return Stack(shape, first.stored, read, _spacing(slices))


def _described(pydicom: Any, path: Path, what: str) -> _Slice:
    if not is_dicom(path):
        raise Refusal(f"{what}: not a DICOM file; copy it again, or convert it")
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise Refusal(f"{what}: a colour image; only grey slices can be read")
    bits = int(header.BitsAllocated)
    if bits not in (8, 16, 32):
        raise Refusal(f"{what}: {bits} bits per pixel; 8, 16 or 32 can be read")
    stored = np.dtype(f"{'i' if int(header.PixelRepresentation) else 'u'}{bits // 8}")
    frames = int(header.get("NumberOfFrames", 1) or 1)
    rows, columns = int(header.Rows), int(header.Columns)
    refuse_impossible(frames * rows * columns * bits // 8, path.stat().st_size, what=what)
    spacing = header.get("PixelSpacing")
    return _Slice(
        path=path,
        place=_place(header),
        series=str(header.get("SeriesInstanceUID", "")),
        rows=rows,
        columns=columns,
        stored=stored,
        rescale=(float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))),
        inverted=str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1",
        frames=frames,
        spacing_mm=(float(spacing[0]), float(spacing[1])) if spacing else None,
        thickness_mm=float(header.SliceThickness) if header.get("SliceThickness") else None,
    )


def _place(header: Any) -> float:
    """Millimetres along the normal of the plane; else the number of the instance."""
    position, orientation = (
        header.get("ImagePositionPatient"),
        header.get("ImageOrientationPatient"),
    )
    if position is None or orientation is None:
        return float(header.get("InstanceNumber", 0) or 0)
    row, column = np.array(orientation, dtype=np.float64).reshape(2, 3)
    return float(np.cross(row, column) @ np.array(position, dtype=np.float64))


def _refuse_mixed(slices: list[_Slice], what: str, setting: str) -> None:
    first = slices[0]
    series = {one.series for one in slices}
    if len(series) > 1:
        raise Refusal(
            f"{what}: slices of {len(series)} series lie there together; put each series into a"
            f" folder of its own and name one with {setting}="
        )
    for one in slices:
        if one.frames > 1 and len(slices) > 1:
            raise Refusal(f"{what}: {one.path.name} holds {one.frames} frames; name that one file")
        alike = (one.rows, one.columns, one.stored, one.inverted, one.rescale)
        if alike != (first.rows, first.columns, first.stored, first.inverted, first.rescale):
            raise Refusal(
                f"{what}: {one.path.name} is {one.rows}x{one.columns} {one.stored} with rescale"
                f" {one.rescale}, but {first.path.name} is {first.rows}x{first.columns}"
                f" {first.stored} with {first.rescale}; all slices of a stack must be alike"
            )
    _refuse_gaps(slices, what)


def _refuse_gaps(slices: list[_Slice], what: str) -> None:
    if len(slices) < 3:
        return
    steps = np.diff([one.place for one in slices])
    usual = float(np.median(steps))
    if usual <= 0:
        raise Refusal(f"{what}: several slices claim the same place; remove the double ones")
    odd = np.flatnonzero(np.abs(steps / usual - 1) > _IRREGULAR)
    if len(odd):
        k = int(odd[0])
        raise Refusal(
            f"{what}: between {slices[k].path.name} and {slices[k + 1].path.name} lie"
            f" {steps[k]:g}, elsewhere {usual:g}: {round(steps[k] / usual) - 1} slices are missing"
            f" ({len(odd)} such gaps); copy them too"
        )


def _spacing(slices: list[_Slice]) -> Spacing | None:
    first = slices[0]
    if first.spacing_mm is None:
        return None
    y, x = first.spacing_mm
    z = abs(slices[1].place - first.place) if len(slices) > 1 else first.thickness_mm
    return (z or float("nan")) * 1e3, y * 1e3, x * 1e3
