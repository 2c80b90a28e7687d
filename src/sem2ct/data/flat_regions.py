"""Regions of a SEM image that show nothing: charging, mount, missing data.

There the detector was saturated or saw nothing, and whole blocks of pixels have one grey
value; a rock, even a dark pore or a bright grain, has noise.  Tiles that are mostly such
blocks would teach a generator to draw them.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.tiling import mapped_anew
from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)
_BLOCK_PX = 8
_BLOCKS_PER_MAPPING = 64


def flat_blocks(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Finds the blocks of 8 x 8 pixels that have one grey value.

    Args:
        grey: (H, W); what is left over at the right and the bottom is not looked at.

    Returns:
        (H // 8, W // 8), True where flat.
    """
    height, width = (side // _BLOCK_PX for side in grey.shape)
    flat = np.empty((height, width), dtype=np.bool_)
    mapped = grey
    for row in range(height):  # a band at a time: the image may be larger than memory
        if row % _BLOCKS_PER_MAPPING == 0:
            # As a plain array: a mapped one costs several times as much for each band.
            mapped = np.asarray(mapped_anew(grey))
        band = mapped[row * _BLOCK_PX : (row + 1) * _BLOCK_PX, : width * _BLOCK_PX]
        # Hardly ever are two whole rows of a block alike by chance; then look no further.
        alike = (band[0] == band[_BLOCK_PX // 2]).reshape(width, _BLOCK_PX).all(axis=1)
        if alike.any():
            blocks = band.reshape(_BLOCK_PX, width, _BLOCK_PX)[:, alike]
            alike[alike] = blocks.max(axis=(0, 2)) == blocks.min(axis=(0, 2))
        flat[row] = alike
    return flat


def leave_out(
    frames: Sequence[NDArray[np.uint8]],
    places: Mapping[str, NDArray[Any]],
    *,
    tile_px: int,
    most: float,
    names: Sequence[str],
) -> tuple[dict[str, NDArray[Any]], list[dict[str, float]]]:
    """Leaves out tiles that are mostly flat, and says how much of each image is covered.

    Args:
        frames: (H, W) uint8 each.
        places: Columns source, y, x (and any others) of the tiles; source counts in `frames`.
        tile_px: Side of a tile.
        most: Tiles with a larger share of flat blocks are left out; 1 keeps all.
        names: Of the frames, for the log.

    Returns:
        The places that are left, and for each frame its flat_share, its tiles, the
        left_out ones, and coverage: the share of its pixels that lie in a tile.

    Raises:
        Refusal: If no tile is left.
    """
    keep = np.ones(len(places["source"]), dtype=np.bool_)
    covered = []
    for k, (frame, name) in enumerate(zip(frames, names, strict=True)):
        rows = np.flatnonzero(places["source"] == k)
        flat = flat_blocks(frame)
        keep[rows] = _shares(flat, places["y"][rows], places["x"][rows], tile_px) <= most
        kept = rows[keep[rows]]
        found = {
            "flat_share": round(float(flat.mean()), 4) if flat.size else 0.0,
            "tiles": len(kept),
            "left_out": len(rows) - len(kept),
            "coverage": round(_coverage(frame.shape, places, kept, tile_px), 4),
        }
        covered.append(found)
        if found["left_out"]:
            said = " | ".join(f"{key} {value:g}" for key, value in found.items())
            LOGGER.warning("%s: tiles left out because they are mostly flat | %s", name, said)
    if len(keep) and not keep.any():
        raise Refusal(
            f"sem_flat_share={most:g}: all {len(keep)} tiles are flatter than that; look at the"
            " images, or raise sem_flat_share"
        )
    shares = [found["coverage"] for found in covered]
    LOGGER.info(
        "%d images | share covered by tiles %.2f to %.2f | tiles left out as flat %d",
        len(shares),
        min(shares),
        max(shares),
        len(keep) - np.count_nonzero(keep),
    )
    return {name: column[keep] for name, column in places.items()}, covered


def _shares(
    flat: NDArray[np.bool_], y: NDArray[Any], x: NDArray[Any], tile_px: int
) -> NDArray[np.float64]:
    """Share of flat blocks in each tile; of blocks cut by its edge, those it begins in."""
    total = np.zeros((flat.shape[0] + 1, flat.shape[1] + 1), dtype=np.int64)
    flat.cumsum(axis=0, dtype=np.int64).cumsum(axis=1, out=total[1:, 1:])
    top, left = y // _BLOCK_PX, x // _BLOCK_PX
    bottom = np.minimum((y + tile_px) // _BLOCK_PX, flat.shape[0])
    right = np.minimum((x + tile_px) // _BLOCK_PX, flat.shape[1])
    inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return inside / np.maximum((bottom - top) * (right - left), 1)


def _coverage(
    shape: tuple[int, ...], places: Mapping[str, NDArray[Any]], rows: NDArray[Any], tile_px: int
) -> float:
    """Share of pixels in any tile: tiles of one image stand on a grid of rows and columns."""
    height, width = shape
    covered = 0
    by_row: dict[int, list[int]] = {}
    for row in rows:
        by_row.setdefault(int(places["y"][row]), []).append(int(places["x"][row]))
    edges = sorted({0, height} | {y + k for y in by_row for k in (0, tile_px)})
    for top, bottom in pairwise(edges):
        inside = np.zeros(width, dtype=np.bool_)
        for y, columns in by_row.items():
            if y <= top < y + tile_px:
                for x in columns:
                    inside[x : x + tile_px] = True
        covered += (bottom - top) * int(inside.sum())
    return covered / (height * width)
