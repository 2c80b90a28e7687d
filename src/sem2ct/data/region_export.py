"""A box of a written volume for other programs: ParaView, solvers, Fiji.

The box is copied slab by slab, so it may exceed memory.  All formats hold the same
bytes, x fastest, then y, then z; they differ in what stands around them.

Sources: VTK file formats, https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html;
NRRD, https://teem.sourceforge.net/nrrd/format.html.
"""

import json
import logging
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from sem2ct.data import ome_tiff
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import free_space, refusing, writing

LOGGER = logging.getLogger(__name__)
Kind = Literal["vti", "nrrd", "raw", "tiff"]
Span = tuple[int, int]
Box = tuple[Span, Span, Span]
Triple = tuple[float, float, float]
MICROMETRE = "micrometer"
_SUFFIXES = {"vti": ".vti", "nrrd": ".nrrd", "raw": ".raw", "tiff": ome_tiff.SUFFIX}


@dataclass(frozen=True)
class Region:
    """Voxels that are read slab by slab, and where they lie."""

    shape: tuple[int, int, int]
    """(z, y, x)."""
    voxel: Triple
    """Size of a voxel (z, y, x): micrometres, or relative where that is not known."""
    origin: Triple
    """Where the centre of the first voxel lies, in the same unit."""
    unit_um: bool
    """Whether the size of a voxel is known."""
    slabs: Callable[[], Iterator[NDArray[np.uint8]]]
    """The voxels as uint8 (some z, y, x), from the first slice to the last."""

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels."""
        return math.prod(self.shape)


def open_region(volume: Path, box: Box | Literal["all"], *, setting: str) -> Region:
    """Opens a box of an OME-Zarr volume; reads no voxel yet.

    Args:
        volume: Folder of the volume.
        box: [first, last) along z, y and x in voxels of the full resolution, or "all".
        setting: Name of the setting that holds the box, for a refusal.

    Returns:
        The region; its slabs are as thick as the shards, so that each is unpacked once.

    Raises:
        Refusal: If the box leaves the volume or is empty.
    """
    group = zarr.open_group(volume, mode="r")
    facts: Any = group.attrs.asdict()
    multiscale = facts.get("ome", facts)["multiscales"][0]
    level = multiscale["datasets"][0]
    array: Any = group[level["path"]]
    changes = {change["type"]: change for change in level["coordinateTransformations"]}
    voxel = changes["scale"]["scale"]
    spans = _within(box, array.shape, setting)
    (first, last), (y0, y1), (x0, x1) = spans
    centre = changes.get("translation", {"translation": [0.0, 0.0, 0.0]})["translation"]
    # Also of the shards of a volume that has only chunks.
    depth = (array.shards or array.chunks)[0]

    def slabs() -> Iterator[NDArray[np.uint8]]:
        # Cut where the shards end; a box may begin inside one.
        edges = [first, *range((first // depth + 1) * depth, last, depth), last]
        for top, bottom in pairwise(edges):
            yield np.asarray(array[top:bottom, y0:y1, x0:x1])

    z, y, x = (o + v * span[0] for o, v, span in zip(centre, voxel, spans, strict=True))
    return Region(
        shape=(last - first, y1 - y0, x1 - x0),
        voxel=(voxel[0], voxel[1], voxel[2]),
        origin=(z, y, x),
        unit_um=multiscale["axes"][-1].get("unit") == MICROMETRE,
        slabs=slabs,
    )


def export_region(
    volume: Path,
    target: Path,
    *,
    kind: Kind,
    box: Box | Literal["all"] = "all",
    setting: str = "export_range",
) -> Path:
    """Writes a box of an OME-Zarr volume as one file for another program.

    Args:
        volume: Folder of the volume.
        target: Where the file shall lie, without ending; the box is added to its name.
        kind: vti: VTK image data, for ParaView.  nrrd: with attached header, for 3D Slicer.
            raw: bytes alone and, beside them, JSON that says what they are.  tiff: stack of
            pages as OME-TIFF, for Fiji; BigTIFF above 4 GB.
        box: [first, last) along z, y and x in voxels of the full resolution, or "all".
        setting: Name of the setting that holds the box, for a refusal.

    Returns:
        The file; it appears whole or not at all, and one that lies there already is kept.

    Raises:
        Refusal: If the box leaves the volume, or the disk has no room.
    """
    region = open_region(volume, box, setting=setting)
    path = target.with_name(target.name + _named(box) + _SUFFIXES[kind])
    if path.exists():
        return path
    free_space(path.parent, region.nbytes, f"export of {path.name}")
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[kind](path, region)
    return path


def export_asked(volume: Path, *, kind: Kind | Literal["none"], box: Box | Literal["all"]) -> None:
    """Exports what the settings ask for into the folder export beside a volume, and says where.

    Args:
        volume: Folder of the volume.
        kind: As for `export_region`; "none": nothing.
        box: As for `export_region`.

    Raises:
        Refusal: As `export_region`.
    """
    if kind == "none":
        return
    target = volume.parent / "export" / volume.name.split(".")[0]
    LOGGER.info("%s", export_region(volume, target, kind=kind, box=box))


def write_raw(path: Path, slabs: Iterable[NDArray[np.uint8]], facts: dict[str, Any]) -> Path:
    """Writes bytes without a header, and what they mean beside them.

    Args:
        path: Ends in .raw; the JSON gets the same name with .json.
        slabs: uint8 (some z, y, x), from the first slice to the last.
        facts: Plain values; the meaning of the bytes.

    Returns:
        The JSON file; it is written last.

    Raises:
        Refusal: If the files cannot be written.
    """
    with writing(path) as unfinished, unfinished.open("wb") as file:
        _copy(slabs, file)
    beside = path.with_suffix(".json")
    order = {"dtype": "uint8", "order": "x fastest, then y, then z; no header"}
    with writing(beside) as unfinished:
        unfinished.write_text(json.dumps(order | facts, indent=2) + "\n", encoding="utf-8")
    return beside


def sides(shape: Sequence[int]) -> dict[str, int]:
    """A shape (z, y, x) in the words of most solvers: nx, ny, nz."""
    return {f"n{axis}": side for axis, side in zip("zyx", shape, strict=True)}


def _write_raw(path: Path, region: Region) -> None:
    size = [round(side, 9) for side in region.voxel]
    place: dict[str, Any] = {f"voxel_{axis}": side for axis, side in zip("zyx", size, strict=True)}
    place |= {f"origin_{axis}": o for axis, o in zip("zyx", region.origin, strict=True)}
    place |= {"unit": "um" if region.unit_um else "unstated"}
    write_raw(path, region.slabs(), {**sides(region.shape), **place})


def _write_nrrd(path: Path, region: Region) -> None:
    (dz, dy, dx), (z, y, x) = region.voxel, region.origin
    lines = [
        "NRRD0005",
        "type: uint8",
        "dimension: 3",
        "space dimension: 3",
        "sizes: {} {} {}".format(*reversed(region.shape)),
        f"space directions: ({dx!r},0,0) (0,{dy!r},0) (0,0,{dz!r})",
        f"space origin: ({x!r},{y!r},{z!r})",
        "kinds: domain domain domain",
        "encoding: raw",
    ]
    if region.unit_um:
        lines.insert(7, 'space units: "um" "um" "um"')
    with writing(path) as unfinished, unfinished.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        _copy(region.slabs(), file)


def _write_vti(path: Path, region: Region) -> None:
    extent = " ".join(f"0 {side - 1}" for side in reversed(region.shape))
    spacing = " ".join(map(repr, reversed(region.voxel)))
    origin = " ".join(map(repr, reversed(region.origin)))
    head = (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian"'
        ' header_type="UInt64">\n'
        f'<ImageData WholeExtent="{extent}" Origin="{origin}" Spacing="{spacing}">\n'
        f'<Piece Extent="{extent}"><PointData Scalars="grey">\n'
        '<DataArray type="UInt8" Name="grey" format="appended" offset="0"/>\n'
        "</PointData></Piece>\n</ImageData>\n"
        '<AppendedData encoding="raw">\n_'
    )
    with writing(path) as unfinished, unfinished.open("wb") as file:
        file.write(head.encode() + struct.pack("<Q", region.nbytes))
        _copy(region.slabs(), file)
        file.write(b"\n</AppendedData>\n</VTKFile>\n")


def _write_tiff(path: Path, region: Region) -> None:
    ome_tiff.write_stack(
        path,
        (page for slab in region.slabs() for page in slab),
        shape=region.shape,
        voxel_um=region.voxel if region.unit_um else None,
    )


_WRITERS = {"vti": _write_vti, "nrrd": _write_nrrd, "raw": _write_raw, "tiff": _write_tiff}


def _copy(slabs: Iterable[NDArray[np.uint8]], file: BinaryIO) -> None:
    for slab in slabs:
        file.write(np.ascontiguousarray(slab).data)


def _within(box: Box | Literal["all"], shape: tuple[int, ...], setting: str) -> list[Span]:
    if box == "all":
        return [(0, side) for side in shape]
    for (first, last), side, axis in zip(box, shape, "zyx", strict=True):
        if not 0 <= first < last <= side:
            raise Refusal(
                f"{setting}: {axis} from {first} to {last}, but the translated volume has {axis}"
                f" from 0 to {side}, in its own voxels; write [first,last) within them, or all"
            )
    return list(box)


def _named(box: Box | Literal["all"]) -> str:
    if box == "all":
        return ""
    return "_" + "_".join(f"{a}{f}-{b}" for a, (f, b) in zip("zyx", box, strict=True))
