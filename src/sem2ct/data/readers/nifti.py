"""NIfTI: .nii and .nii.gz, whose first axis runs fastest.

The header is read by nibabel, the voxels by windows.  Values are scaled by slope and
intercept where the header has them.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.readers import hdf5, plain
from sem2ct.data.readers.stack import Spacing, Stack, need, reading, spacing_um
from sem2ct.runtime.refusal import Refusal

_UNITS = {"meter": "m", "mm": "mm", "micron": "um"}


def open_stack(path: Path, *, what: str) -> Stack:
    """Opens a NIfTI file; reads its header only.

    Args:
        path: The file, .nii or .nii.gz.
        what: The file as the user wrote it.

    Returns:
        The stack; float32 where the header scales the values.

    Raises:
        Refusal: If the file is no NIfTI or cut short.
    """
    nibabel = need("nibabel", package="nibabel", what=what)
    with reading(what, "NIfTI file"), _silenced(logging.getLogger("nibabel.global")):
        image: Any = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image | nibabel.Nifti2Image):
            raise Refusal(f"{what}: not a NIfTI file; copy it again, or convert it")
        header: Any = image.header
        stored = np.dtype(header.get_data_dtype()).newbyteorder(header.endianness)
        sides = [int(side) for side in header.get_data_shape()][::-1]
        shape = hdf5.as_zyx([sides[axis] for axis in hdf5.volume_axes(sides, what=what)])
        # Opening empties these fields of the header; the proxy of the voxels keeps them.
        proxy: Any = image.dataobj
        offset, slope, intercept = int(proxy.offset), float(proxy.slope), float(proxy.inter)
        spacing = _spacing(header)
    place: dict[str, Any] = {"shape": shape, "stored": stored, "offset": offset, "what": what}
    if path.suffix.lower() == ".gz":
        window = plain.packed(path, packing="gzip", **place)
    else:
        window = plain.mapped(path, **place)
    if (slope, intercept) == (1, 0):
        return Stack(shape, stored.newbyteorder("="), window, spacing)
    scale, shift = np.float32(slope), np.float32(intercept)

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        return window(z, rows, columns).astype(np.float32) * scale + shift

    return Stack(shape, np.dtype(np.float32), read, spacing)


@contextlib.contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """Keeps off the screen how a library mends a header: what it mends wrong is refused."""
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _spacing(header: Any) -> Spacing | None:
    zooms = [float(size) for size in header.get_zooms()[:3]]
    if len(zooms) < 3:
        return None
    return spacing_um(zooms[::-1], _UNITS.get(header.get_xyzt_units()[0], "unknown"))
