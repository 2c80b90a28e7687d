"""NRRD: a text header, and voxels behind it or in a file beside it.

The header is read by pynrrd, the voxels by windows (pynrrd itself loads them all).
Axes stand in the header fastest first, x, y, z.

Format: teem.sourceforge.net/nrrd/format.html.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sem2ct.data.readers import hdf5, plain
from sem2ct.data.readers.stack import (
    Spacing,
    Stack,
    need,
    reading,
    unit_um,
    warn_of_byte_order,
)
from sem2ct.runtime.refusal import Refusal

_PACKINGS = {"gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_LARGEST_HEADER = 2**20


def open_stack(path: Path, *, what: str) -> Stack:
    """Opens a .nrrd or .nhdr file; reads its header only.

    Args:
        path: The file.
        what: The file as the user wrote it.

    Returns:
        The stack.

    Raises:
        Refusal: If the file is no NRRD or cut short, its encoding cannot be read by
            windows, or its voxels lie in several files.
    """
    nrrd = need("nrrd", package="pynrrd", what=what)
    with reading(what, "NRRD file"):
        _refuse_endless_header(path, what)
        with path.open("rb") as file:
            header = nrrd.read_header(file)
            offset = file.tell()
        stored = _stored(header)
        sides = [int(side) for side in header["sizes"]][::-1]
        shape = hdf5.as_zyx([sides[axis] for axis in hdf5.volume_axes(sides, what=what)])
        spacing = _spacing(header)
        skip = int(header.get("byte skip", header.get("byteskip", 0)))
        lines = int(header.get("line skip", header.get("lineskip", 0)))
        voxels = _voxel_file(path, header, what)
        encoding = str(header["encoding"]).lower()
    if voxels != path:
        offset = 0
    place: dict[str, Any] = {"shape": shape, "stored": stored, "what": what}
    if lines or (skip < 0 and encoding != "raw"):
        raise Refusal(f"{what}: 'line skip' in a NRRD header cannot be read; save it as raw NRRD")
    if encoding == "raw":
        if skip == -1:
            offset = voxels.stat().st_size - math.prod(shape) * stored.itemsize
        window = plain.mapped(voxels, offset=offset + max(skip, 0), **place)
    elif encoding in _PACKINGS:
        packing = _PACKINGS[encoding]
        window = plain.packed(voxels, offset=skip, file_offset=offset, packing=packing, **place)
    else:
        raise Refusal(
            f"{what}: NRRD encoding '{encoding}' cannot be read; save it as raw, gzip or bzip2"
        )
    stack = Stack(shape, stored.newbyteorder("="), window, spacing)
    if encoding == "raw" and min(shape) > 0:
        other = "big" if stored == stored.newbyteorder("<") else "little"
        change = f"write 'endian: {other}' into its header"
        warn_of_byte_order(stack, what=what, change=change)
    return stack


def _refuse_endless_header(path: Path, what: str) -> None:
    with path.open("rb") as file:
        head = file.read(_LARGEST_HEADER)
    if head[:7] != b"NRRD000" or (len(head) == _LARGEST_HEADER and b"\n\n" not in head):
        raise Refusal(f"{what}: not a NRRD file; copy it again, or convert it")


def _stored(header: Mapping[str, Any]) -> np.dtype[Any]:
    names = {"uchar": "u1", "unsigned char": "u1", "uint8": "u1", "uint8_t": "u1"}
    names |= {"signed char": "i1", "int8": "i1", "int8_t": "i1"}
    names |= {"short": "i2", "short int": "i2", "signed short": "i2", "int16": "i2"}
    names |= {"int16_t": "i2", "ushort": "u2", "unsigned short": "u2", "uint16": "u2"}
    names |= {"uint16_t": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"}
    names |= {"float": "f4", "double": "f8"}
    order = ">" if str(header.get("endian", "little")).lower() == "big" else "<"
    return np.dtype(order + names[str(header["type"]).lower()])


def _voxel_file(path: Path, header: Mapping[str, Any], what: str) -> Path:
    """The header may name another file; it is looked for beside the header only."""
    named = header.get("data file", header.get("datafile"))
    if named is None:
        return path
    name = str(named)
    if "%" in name or name.split()[0] == "LIST" or not isinstance(named, str):
        raise Refusal(f"{what}: its voxels lie in several files; save it as one")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Refusal(f"{what}: its data file '{name}' must lie beside it; move it there")
    voxels = path.parent / name
    if not voxels.is_file():
        raise Refusal(f"{what}: its data file '{name}' is not there; copy it too")
    return voxels


def _spacing(header: Mapping[str, Any]) -> Spacing | None:
    units = header.get("space units") or header.get("units")
    directions = header.get("space directions")
    if directions is not None:
        sizes = np.linalg.norm(np.asarray(directions, dtype=np.float64), axis=1)
    elif "spacings" in header:
        sizes = np.asarray(header["spacings"], dtype=np.float64)
    else:
        return None
    if units is None or len(sizes) != 3:
        return None
    per_um = unit_um(str(np.ravel(units)[0]).strip('"'))
    if per_um is None:
        return None
    x, y, z = (float(size) * per_um for size in sizes)
    return z, y, x
