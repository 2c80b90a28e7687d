"""OME-TIFF: a slice with its coarser levels, or a stack of slices, with voxel sizes.

Both are written piece by piece, so they may exceed memory.  A slice is cut into tiles,
packed with zstd and the horizontal predictor, and its coarser levels lie in sub-images,
so that a viewer opens it at once; a stack is plain pages, which any program reads.

Source: OME-TIFF, https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html.
"""

import math
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from sem2ct.runtime.run_folder import writing

SUFFIX = ".ome.tif"
TILE_PX = 512
# A classic TIFF counts its bytes with 32 bits; the rest is left to what is not pixels.
CLASSIC_BYTES = 2**32 - 2**25


def write_slice(path: Path, levels: Sequence[Any], *, pixel_um: float | None) -> None:
    """Writes one slice as a tiled pyramid; it appears whole or not at all.

    Args:
        path: The file.
        levels: uint8 (1, H, W) each, arrays or what is read by windows: the full resolution,
            then the coarser ones.
        pixel_um: Side of a pixel of the full resolution in micrometres; None if not stated.

    Raises:
        Refusal: If the disk is full or the folder cannot be written.
    """
    sizes = {} if pixel_um is None else dict.fromkeys("YX", pixel_um)
    nbytes = sum(math.prod(level.shape) for level in levels)
    packed: dict[str, Any] = {
        "tile": (TILE_PX, TILE_PX),
        "compression": "zstd",
        "compressionargs": {"level": 1},
        "predictor": True,
    }
    with writing(path) as unfinished, _writer(unfinished, nbytes) as writer:
        for k, level in enumerate(levels):
            whole = {"subifds": len(levels) - 1, "metadata": _described("YX", path, sizes)}
            part = {"subfiletype": 1, "metadata": None}
            writer.write(
                _tiles(level),
                shape=level.shape[1:],
                dtype=np.uint8,
                photometric="minisblack",
                **packed,
                **_resolution(pixel_um, 2**k),
                **(part if k else whole),
            )


def write_stack(
    path: Path,
    pages: Iterable[NDArray[np.uint8]],
    *,
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float] | None,
) -> None:
    """Writes slices as pages; the file appears whole or not at all.

    Args:
        path: The file.
        pages: (H, W) uint8 each.
        shape: (z, y, x): how many, and their sides.
        voxel_um: Size of a voxel (z, y, x) in micrometres; None if not stated.

    Raises:
        Refusal: If the disk is full or the folder cannot be written.
    """
    sizes = {} if voxel_um is None else dict(zip("ZYX", voxel_um, strict=True))
    with writing(path) as unfinished, _writer(unfinished, math.prod(shape)) as writer:
        writer.write(
            iter(pages),
            shape=shape,
            dtype=np.uint8,
            photometric="minisblack",
            metadata=_described("ZYX", path, sizes),
            **_resolution(voxel_um[2] if voxel_um else None, 1),
        )


def _writer(path: Path, nbytes: int) -> tifffile.TiffWriter:
    return tifffile.TiffWriter(path, bigtiff=nbytes > CLASSIC_BYTES, ome=True)


def _tiles(level: Any) -> Iterator[NDArray[np.uint8]]:
    """Tiles row by row; of what is read by windows a band of tiles at a time."""
    _, height, width = level.shape
    for y in range(0, height, TILE_PX):
        band = np.asarray(level[0, y : y + TILE_PX])
        below = TILE_PX - len(band)
        for x in range(0, width, TILE_PX):
            tile = band[:, x : x + TILE_PX]
            yield np.pad(tile, ((0, below), (0, TILE_PX - tile.shape[1])), mode="edge")


def _described(axes: str, path: Path, sizes: dict[str, float]) -> dict[str, Any]:
    # The file's own number is drawn from its name, so that the same run gives the same bytes.
    facts: dict[str, Any] = {"axes": axes, "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, path.name))}
    for axis, size in sizes.items():
        facts |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    return facts


def _resolution(pixel_um: float | None, factor: int) -> dict[str, Any]:
    if pixel_um is None:
        return {}
    per_cm = 1e4 / (pixel_um * factor)
    return {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
