"""Where squares lie in a scan: SEM tiles, micro-CT patches, and tiles of a translation.

Three different questions.  SEM tiles stand on a regular grid and overlap.  Micro-CT
patches stand anywhere inside the field of view and never overlap.  The tiles of a
translation cover a slice exactly once with their cores, and read a halo around it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import numpy_generator

Box = tuple[int, int, int, int]
_LARGE_BYTES = 2**27


class Mask(Protocol):
    """A boolean volume (z, y, x), asked for one slice at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""
        ...

    def __getitem__(self, z: int, /) -> NDArray[np.bool_]:
        """(y, x), True where patches may lie."""
        ...


def grid(shape: tuple[int, int], *, tile_px: int, stride_px: int) -> NDArray[np.int64]:
    """Lays tiles on a regular grid from the top left corner, wholly inside an image.

    Args:
        shape: (H, W) of the image.
        tile_px: Side of a tile.
        stride_px: Step from one tile to the next, along both axes.

    Returns:
        (n, 2) int64: y, x of each tile's top left pixel, row by row; n is 0 if the image
        is smaller than a tile.
    """
    y, x = (np.arange(0, side - tile_px + 1, stride_px, dtype=np.int64) for side in shape)
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def capacity(mask: Mask, *, patch_px: int) -> int:
    """Counts how many patches `scatter` can place.

    Args:
        mask: (Z, Y, X), True inside.
        patch_px: Side of a patch.

    Returns:
        The largest `n` that `scatter` does not refuse.
    """
    return int(_counts(mask, patch_px).max(axis=1).sum())


def scatter(mask: Mask, *, patch_px: int, n: int, seed: int) -> NDArray[np.int64]:
    """Places patches at random inside a mask; no voxel belongs to two of them.

    Within a slice patches stand in rows, each filled with as many as fit, of which `n`
    are chosen.  Random are the share of each slice, the rows' common offset, the gaps in
    each row, and the choice.

    Args:
        mask: (Z, Y, X), True inside.
        patch_px: Side of a patch; patches are one slice thick.
        n: Number of patches.
        seed: Start of the random stream.

    Returns:
        (n, 3) int64: z, y, x of each patch's top left voxel, sorted.

    Raises:
        Refusal: If no patch fits, or fewer than `n`; then with the largest possible `n`.
    """
    counts = _counts(mask, patch_px)
    room = counts.max(axis=1)
    most = int(room.sum())
    if most == 0:
        raise Refusal(
            f"ct_patch_px={patch_px}: no patch of {patch_px}x{patch_px} lies inside the mask in any"
            f" of {len(counts)} slices of {mask.shape[1]}x{mask.shape[2]}; look at ct_mask, or"
            " lower ct_patch_px"
        )
    if n > most:
        raise Refusal(
            f"ct_patches={n} patches of {patch_px}x{patch_px} do not fit into the mask without"
            f" overlap; the largest possible is ct_patches={most}"
        )
    wanted = numpy_generator(seed, "slices").multivariate_hypergeometric(room, n)
    places, before, fits = [], None, np.zeros((0, 0), dtype=np.bool_)
    for z in np.flatnonzero(wanted).tolist():
        inside = mask[z]
        if before is None or not np.array_equal(inside, before):
            before, fits = inside, _fits(inside, patch_px)
        places.append(_place(fits, int(wanted[z]), counts[z], patch_px, z, seed))
    return np.concatenate(places)


def _place(
    fits: NDArray[np.bool_],
    n: int,
    counts: NDArray[np.int64],
    px: int,
    z: int,
    seed: int,
) -> NDArray[np.int64]:
    draw = numpy_generator(seed, "places", z)
    offset = int(draw.choice(np.flatnonzero(counts >= n)))
    spots = [
        (z, y, x)
        for y in range(offset, len(fits), px)
        for x in _row(np.flatnonzero(fits[y]), px, draw)
    ]
    chosen = draw.choice(len(spots), size=n, replace=False)
    return np.array(spots, dtype=np.int64)[np.sort(chosen)]


def _row(x: NDArray[np.int64], px: int, draw: np.random.Generator) -> list[int]:
    """As many places as fit in one row, at random among all ways to have that many.

    The packing from the left says how far left the i-th patch can stand, the packing from
    the right how far right; anywhere between and clear of the one before, the rest fits.
    """
    if draw.integers(2):  # drawn from the other end, so that neither side is favoured
        return [-spot - px for spot in _row_from_left(-x[::-1] - px, px, draw)][::-1]
    return _row_from_left(x, px, draw)


def _row_from_left(x: NDArray[np.int64], px: int, draw: np.random.Generator) -> list[int]:
    last = [-spot for spot in _packed(-x[::-1], px)][::-1]
    spots: list[int] = []
    for right in last:
        left = spots[-1] + px if spots else x[0]
        spots.append(int(draw.choice(x[(x >= left) & (x <= right)])))
    return spots


def _packed(x: NDArray[np.int64], px: int) -> list[int]:
    """Of ascending places, the most that keep a distance of px, as far left as possible."""
    spots: list[int] = []
    place = 0
    while place < len(x):
        spots.append(int(x[place]))
        place = int(np.searchsorted(x, spots[-1] + px))
    return spots


def _counts(mask: Mask, px: int) -> NDArray[np.int64]:
    """(Z, px): patches that fit into each slice for each offset of the rows."""
    counts = np.zeros((mask.shape[0], px), dtype=np.int64)
    before: NDArray[Any] | None = None
    for z in range(mask.shape[0]):
        inside = mask[z]
        if before is not None and np.array_equal(inside, before):
            counts[z] = counts[z - 1]
            continue
        before = inside
        per_row = _row_counts(_fits(inside, px), px)
        counts[z] = [per_row[offset::px].sum() for offset in range(px)]
    return counts


def _fits(inside: NDArray[np.bool_], px: int) -> NDArray[np.bool_]:
    """(H - px + 1, W - px + 1): True where a patch whose corner is here is wholly inside."""
    height, width = inside.shape
    if height < px or width < px:
        return np.zeros((0, 0), dtype=np.bool_)
    total = np.zeros((height + 1, width + 1), dtype=np.int64)
    inside.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, out=total[1:, 1:])
    area = total[px:, px:] - total[:-px, px:] - total[px:, :-px] + total[:-px, :-px]
    return area == px * px


def _row_counts(fits: NDArray[np.bool_], px: int) -> NDArray[np.int64]:
    """For each row, the most patches that stand in it without overlap: packed from the left."""
    height, width = fits.shape
    if height == 0:
        return np.zeros(0, dtype=np.int64)
    # following[y, x] is the first place at or after x; `width` and beyond stand for none.
    following = np.full((height, width + px), width, dtype=np.int64)
    following[:, :width] = np.where(fits, np.arange(width), width)
    following = np.minimum.accumulate(following[:, ::-1], axis=1)[:, ::-1]
    rows, place = np.arange(height), following[:, 0]
    counts = np.zeros(height, dtype=np.int64)
    while np.any(place < width):
        counts += place < width
        place = following[rows, np.minimum(place + px, width)]
    return counts


@dataclass(frozen=True)
class Tile:
    """A piece of a slice being translated."""

    core: Box
    """y0, y1, x0, x1 of the part to keep."""
    read: Box
    """y0, y1, x0, x1 of the part to read: the core and its halo, within the slice."""

    @property
    def kept(self) -> Box:
        """y0, y1, x0, x1 of the core, counted from the corner of what was read."""
        y0, y1, x0, x1 = self.core
        top, _, left, _ = self.read
        return y0 - top, y1 - top, x0 - left, x1 - left


def plan(shape: tuple[int, int], *, core_px: int, halo_px: int) -> list[Tile]:
    """Cuts a slice into tiles whose cores cover it exactly once.

    Args:
        shape: (H, W) of the slice.
        core_px: Side of a core; smaller at the right and the bottom edge.
        halo_px: Context read around the core, as far as the slice reaches.

    Returns:
        The tiles, row by row.
    """
    height, width = shape
    tiles = []
    for y0 in range(0, height, core_px):
        for x0 in range(0, width, core_px):
            y1, x1 = min(y0 + core_px, height), min(x0 + core_px, width)
            top, left = max(y0 - halo_px, 0), max(x0 - halo_px, 0)
            bottom, right = min(y1 + halo_px, height), min(x1 + halo_px, width)
            tiles.append(Tile(core=(y0, y1, x0, x1), read=(top, bottom, left, right)))
    return tiles


class Cut:
    """Tiles of a shard, cut one at a time: a thousand of 1024 px would be a gigabyte."""

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        frames: Sequence[NDArray[np.uint8]],
        places: Mapping[str, NDArray[Any]],
        tile_px: int,
    ) -> None:
        """Notes what to cut; reads nothing yet.

        Args:
            frames: (H, W) uint8 each.
            places: Columns source (counts in `frames`), y and x of the tiles.
            tile_px: Side of a tile.
        """
        self._frames, self._places = frames, places
        self.shape = (len(places["source"]), tile_px, tile_px)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Cuts one tile after the other, (tile_px, tile_px)."""
        px = self.shape[1]
        columns = (self._places[name] for name in ("source", "y", "x"))
        for source, y, x in zip(*columns, strict=True):
            yield np.array(mapped_anew(self._frames[source])[y : y + px, x : x + px])


def mapped_anew(array: NDArray[Any]) -> NDArray[Any]:
    """Gives a memory-mapped array a mapping of its own.

    Pages of a file that were touched stay in the memory of a process as long as the mapping
    does; a mapping used for one window lets go of them.

    Args:
        array: Memory-mapped whole; a small one, or any other, is returned as it is.

    Returns:
        The same values.
    """
    if isinstance(array, np.memmap) and array.filename and array.nbytes > _LARGE_BYTES:
        place = {"offset": array.offset, "shape": array.shape}
        return np.memmap(array.filename, dtype=array.dtype, mode="r", **place)
    return array
