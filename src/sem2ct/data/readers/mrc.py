"""MRC (also .rec, .map, .st): a header of 1024 bytes, an extended one, and plain voxels.

The header is read by mrcfile; sizes in it are in angstrom.

Format: Cheng et al. 2015, J. Struct. Biol. 192, 146.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sem2ct.data.readers import plain
from sem2ct.data.readers.stack import Spacing, Stack, need, reading
from sem2ct.runtime.refusal import Refusal

_HEADER_BYTES = 1024
_ANGSTROM_UM = 1e-4
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def open_stack(path: Path, *, what: str) -> Stack:
    """Opens an MRC file; reads its header only.

    Args:
        path: The file.
        what: The file as the user wrote it.

    Returns:
        The stack.

    Raises:
        Refusal: If the file is no MRC or cut short, or its values are not real numbers.
    """
    mrcfile = need("mrcfile", package="mrcfile", what=what)
    size = path.stat().st_size
    with reading(what, "MRC file"):
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
        _refuse_long_header(head, size, what)
        with mrcfile.open(path, mode="r", header_only=True) as mrc:
            header: Any = mrc.header
            mode, order = int(header.mode), header.mode.dtype.byteorder
            shape = (int(header.nz), int(header.ny), int(header.nx))
            offset = _HEADER_BYTES + int(header.nsymbt)
            voxel = mrc.voxel_size
            spacing = _spacing(float(voxel.z), float(voxel.y), float(voxel.x))
        if mode not in _MODES:
            raise Refusal(
                f"{what}: MRC mode {mode} holds no grey values; save it as mode 1, 2 or 6"
            )
        stored = np.dtype(_MODES[mode]).newbyteorder(order)
    window = plain.mapped(path, shape=shape, stored=stored, offset=offset, what=what)
    return Stack(shape, stored.newbyteorder("="), window, spacing)


def _refuse_long_header(head: bytes, size: int, what: str) -> None:
    """The extended header is read whole, so its stated length must be possible."""
    if len(head) < _HEADER_BYTES or head[208:211] not in (b"MAP", b"MA\0"):
        raise Refusal(f"{what}: not an MRC file; copy it again, or convert it")
    order = "big" if head[212:214] == b"\x11\x11" else "little"
    extended = int.from_bytes(head[92:96], order, signed=True)
    if not 0 <= extended <= size - _HEADER_BYTES:
        raise Refusal(
            f"{what}: its extended header of {extended} bytes is not there; copy it again"
        )


def _spacing(z: float, y: float, x: float) -> Spacing | None:
    if not all((z, y, x)):
        return None  # MRC writes 0 for "not known"
    return z * _ANGSTROM_UM, y * _ANGSTROM_UM, x * _ANGSTROM_UM
