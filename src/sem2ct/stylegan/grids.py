"""Grids of tiles in which style and noise change one at a time, as stores and as pictures.

A grid is a store with a shard per row, which tells of each tile its style and its noise, or
its path and its step; `evaluate` says from it how much of a number each of them decides.
"""

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.mosaic import mosaic
from sem2ct.data.set_sources import GRIDS
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime import device, distributed
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator

DRAWN = {
    grid.__name__: grid for grid in (sample.fixed_style, sample.fixed_noise, sample.interpolate)
}
MOST_ROWS, MOST_COLUMNS = 6, 8
"""Of the picture; the store holds all."""


def fill(
    writer: StoreWriter,
    generator: Generator,
    *,
    mode: str,
    rows: int,
    n: int,
    seed: int,
    psi: float,
    precision: str,
) -> None:
    """Writes this process's missing rows.

    Args:
        writer: Of a store with `n` tiles per shard.
        generator: On the device that shall draw.
        mode: fixed_style, fixed_noise or interpolate.
        rows: Of the grid.
        n: Tiles per row.
        seed: Of the run.
        psi: Truncation.
        precision: Arithmetic of the generator.
    """
    along, across = GRIDS[mode]
    draw = DRAWN[mode](generator, seed=seed, rows=rows, n=n, psi=psi)
    for k in range(distributed.rank(), rows, distributed.world_size()):
        if writer.has(k):
            continue
        with device.autocast(precision, generator.mapping.w_avg.device, mixed="float16"):
            tiles = draw(k)
        writer.write_shard(k, tiles, {along: np.full(n, k), across: np.arange(n)})


def picture(store: Store, *, rows: int, n: int) -> NDArray[np.uint8]:
    """The upper left corner of a grid, to be looked at.

    Args:
        store: A grid.
        rows: Of the grid.
        n: Tiles per row.

    Returns:
        uint8 picture of at most 6 x 8 tiles.
    """
    columns = min(n, MOST_COLUMNS)
    numbers = np.arange(rows * n).reshape(rows, n)[:MOST_ROWS, :columns]
    return mosaic(store.tiles[numbers.ravel()], columns=columns)
