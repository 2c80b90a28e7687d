"""NetCDF: one file, or a folder of blocks along z as the ANU's scanners write them.

The classic format (NetCDF-3) is a header and plain big-endian arrays, so it is mapped,
not loaded; NetCDF-4 is HDF5.  ANU files name the voxels `tomo` and state
`voxel_size_xyz` with `voxel_unit`; a large volume is a folder of files
block00000000.nc, block00000001.nc, ... that follow one another along z.

Format: "NetCDF Classic Format Specification", Unidata.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.readers import hdf5, plain
from sem2ct.data.readers.stack import Spacing, Stack, reading
from sem2ct.runtime.refusal import Refusal

_TYPES = {1: "i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}
_TYPES |= {7: "u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_MOST_ENTRIES = 10_000
_PREFERRED = "tomo"


@dataclass
class _Variable:
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    begin: int
    attributes: dict[str, Any]


@dataclass
class _Header:
    variables: dict[str, _Variable] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def open_stack(path: Path, *, dataset: str, what: str, setting: str) -> Stack:
    """Opens a NetCDF file of either kind; reads its header only.

    Args:
        path: The file.
        dataset: Name of the variable, or "only" (then `tomo` if there is one).
        what: The file as the user wrote it.
        setting: Name of the setting that holds the path.

    Returns:
        The stack.

    Raises:
        Refusal: If the file is no NetCDF or cut short, or it is not clear which variable
            is the scan.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"\x89HDF":
        return hdf5.open_stack(path, dataset=dataset, what=what, setting=setting)
    if magic[:3] != b"CDF" or magic[3:] not in (b"\x01", b"\x02", b"\x05"):
        raise Refusal(f"{what}: not a NetCDF file; copy it again, or convert it")
    with reading(what, "NetCDF file"):
        header = _Parser(path).header()
    found = {name: variable.shape for name, variable in header.variables.items()}
    if dataset == "only" and _PREFERRED in found:
        dataset = _PREFERRED
    variable = header.variables[hdf5.choose(found, dataset, what=what, setting=setting)]
    sides = [variable.shape[axis] for axis in hdf5.volume_axes(variable.shape, what=what)]
    shape, stored = hdf5.as_zyx(sides), variable.stored
    window = plain.mapped(path, shape=shape, stored=stored, offset=variable.begin, what=what)
    return Stack(shape, stored.newbyteorder("="), window, _spacing(variable, header))


def _spacing(variable: _Variable, header: _Header) -> Spacing | None:
    own = hdf5.attribute_spacing(variable.attributes)
    return own or hdf5.attribute_spacing(header.attributes)


def open_blocks(files: list[Path], *, dataset: str, what: str, setting: str) -> Stack:
    """Opens files that follow one another along z as one stack.

    Args:
        files: In order.
        dataset: As for `open_stack`.
        what: The folder as the user wrote it.
        setting: Name of the setting that holds the path.

    Returns:
        The stack.

    Raises:
        Refusal: As `open_stack`; or if the blocks' slices differ.
    """
    blocks = [
        open_stack(file, dataset=dataset, what=f"{setting}={file}", setting=setting)
        for file in files
    ]
    first = blocks[0]
    for file, block in zip(files, blocks, strict=True):
        if (block.shape[1:], block.dtype) != (first.shape[1:], first.dtype):
            raise Refusal(
                f"{what}: {file.name} has slices of {block.shape[1:]} {block.dtype}, but"
                f" {files[0].name} of {first.shape[1:]} {first.dtype}; all blocks of a scan must"
                " be alike"
            )
    ends = np.cumsum([block.shape[0] for block in blocks])

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        k = int(np.searchsorted(ends, z, side="right"))
        return blocks[k].read_window(z - (int(ends[k - 1]) if k else 0), rows, columns)

    shape = (int(ends[-1]), *first.shape[1:])
    return Stack(shape, first.dtype, read, first.spacing_um)


class _Parser:
    """Reads the header of a classic file, number by number."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def header(self) -> _Header:
        with self._path.open("rb") as self._file:
            version = self._file.read(4)[3]
            self._count_format = ">q" if version == 5 else ">i"
            self._begin_format = ">i" if version == 1 else ">q"
            self._number(self._count_format)  # records
            sides = [side for _, side in self._list(_DIMENSION, self._dimension)]
            header = _Header(attributes=dict(self._list(_ATTRIBUTE, self._attribute)))
            self._sides = sides
            header.variables = dict(self._list(_VARIABLE, self._variable))
            header.variables = {
                name: variable
                for name, variable in header.variables.items()
                if variable.shape and variable.stored.kind in "uif"
            }
            return header

    def _list(self, tag: int, entry: Any) -> list[Any]:
        found, count = self._number(">i"), self._number(self._count_format)
        if found not in (0, tag) or not 0 <= count <= _MOST_ENTRIES or (not found and count):
            raise ValueError("its header is not in order")
        return [entry() for _ in range(count)]

    def _dimension(self) -> tuple[str, int]:
        return self._name(), self._number(self._count_format)

    def _attribute(self) -> tuple[str, Any]:
        name, kind, count = self._name(), self._number(">i"), self._number(self._count_format)
        stored = np.dtype(_TYPES[kind])
        content = self._bytes(count * stored.itemsize)
        if stored.kind == "S":
            return name, content.decode("utf-8", "replace")
        return name, np.frombuffer(content, dtype=stored)

    def _variable(self) -> tuple[str, _Variable]:
        name = self._name()
        rank = self._number(self._count_format)
        if not 0 <= rank <= len(self._sides):
            raise ValueError("its header is not in order")
        numbers = [self._number(self._count_format) for _ in range(rank)]
        if any(not 0 <= number < len(self._sides) for number in numbers):
            raise ValueError("its header is not in order")
        shape = tuple(self._sides[number] for number in numbers)
        attributes = dict(self._list(_ATTRIBUTE, self._attribute))
        kind = self._number(">i")
        self._number(self._count_format)  # padded size, which overflows for large variables
        begin = self._number(self._begin_format)
        return name, _Variable(shape, np.dtype(_TYPES[kind]), begin, attributes)

    def _name(self) -> str:
        return self._bytes(self._number(self._count_format)).decode("utf-8", "replace")

    def _bytes(self, count: int) -> bytes:
        if not 0 <= count <= self._path.stat().st_size:
            raise ValueError("its header is not in order")
        content = self._file.read(count + -count % 4)
        if len(content) < count:
            raise EOFError("it ends inside its header")
        return content[:count]

    def _number(self, form: str) -> int:
        content = self._file.read(struct.calcsize(form))
        return struct.unpack(form, content)[0]
