"""Patches that someone has cut already: images of the right size in a folder or an archive.

They are a scan whose slices are the patches.  There may be hundreds of thousands, so only
the first is opened to see what they are; each is checked when it is read.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import scans
from sem2ct.runtime.refusal import Refusal


def open_patches(ct: str, patch_px: int) -> scans.Scan:
    """Opens images as the slices of a scan, in the order in which they lie there.

    Args:
        ct: Folder, glob or archive.
        patch_px: Side that each must have.

    Returns:
        The scan, (n, patch_px, patch_px).

    Raises:
        Refusal: If nothing is there, or the first image has another size.
    """
    paths = scans.images(ct, setting="ct")
    first = scans.open(paths[0], setting="ct")
    _refuse_other(first, first, patch_px)

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        patch = scans.open(paths[z], setting="ct")
        _refuse_other(patch, first, patch_px)
        return patch.window(0, rows, columns)

    return scans.Scan(
        Path(ct),
        (len(paths), patch_px, patch_px),
        np.dtype(first.dtype),
        first.pixel_um,
        0,
        lambda z: read(z, slice(None), slice(None)),
        first.spacing_um,
        read,
    )


def _refuse_other(patch: scans.Scan, first: scans.Scan, patch_px: int) -> None:
    if patch.shape != (1, patch_px, patch_px) or patch.dtype != first.dtype:
        _, height, width = patch.shape
        raise Refusal(
            f"ct={patch.path}: {patch.shape[0]} slices of {height}x{width} {patch.dtype}, but with"
            f" ct_ready=true each image must be one patch of ct_patch_px={patch_px},"
            f" {first.dtype} as the first; correct ct_patch_px, or set ct_ready=false to cut them"
        )
