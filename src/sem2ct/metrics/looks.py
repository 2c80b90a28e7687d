"""What is seen by looking at tiles one by one: sharpness, copies, repetitions.

These need the greys, not the pores, and copies need the whole real images.  Of many tiles
only some, evenly spread, are held against one another: their pairs grow with the square.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import memorisation
from sem2ct.metrics.memorisation import Gallery, Match
from sem2ct.runtime import distributed

Read = Callable[[int], NDArray[np.uint8]]
COMPARED = 1000
"""Most tiles of a set that are held against one another."""


def grey_slope(grey: NDArray[np.uint8]) -> float:
    """How smooth an image is at the scale of its pixels.

    With D(k) the mean squared difference of the greys of pixels k apart along rows and
    columns: log2(D(2) / D(1)).  It hardly varies from place to place of a rock imaged in
    one way, so it sees blur and another pixel size that the pores do not show.

    Args:
        grey: (H, W), both at least 3.

    Returns:
        0 for noise without neighbours, 1 for independent sharp edges, 2 for a smooth
        image; NaN for one grey level.

    Source: the slope of the variogram, Cressie, Statistics for Spatial Data (1993), 2.4.
    """
    one, two = (_squares(grey[k:], grey[:-k]) + _squares(grey[:, k:], grey[:, :-k]) for k in (1, 2))
    return float(np.log2(two / one)) if one > 0 and two > 0 else float("nan")


def _squares(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean squared difference."""
    apart = _apart(one, other).astype(np.float32).ravel()
    return float(apart @ apart) / apart.size


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Difference, whatever its sign."""
    return np.maximum(one, other) - np.minimum(one, other)


def seam(grey: NDArray[np.uint8]) -> float:
    """How far the strongest straight line of a tile stands out: tiles that were put together.

    Between two neighbouring columns the greys differ by so much on average; a seam is where
    they differ by far more than between most columns.  The same for rows.

    Args:
        grey: (H, W), both at least 3.

    Returns:
        log2 of the largest mean difference over the median one, along the direction where
        that is larger; NaN where most neighbours are equal.
    """
    ratios = []
    for axis in (0, 1):
        one, other = (np.delete(grey, end, axis=axis) for end in (0, -1))
        means = _apart(one, other).mean(axis=1 - axis, dtype=np.float32)
        middle = float(np.median(means))
        ratios.append(float(means.max()) / middle if middle > 0 else float("nan"))
    return float(np.log2(max(ratios)))


@dataclass(frozen=True)
class Looked:
    """The m tiles of a set that were looked at."""

    tiles: NDArray[np.int64]
    """(m,) their numbers in the set."""
    frames: NDArray[np.integer]
    """(m,) the image each comes from."""
    slopes: NDArray[np.float64]
    """(m,) `grey_slope`."""
    seams: NDArray[np.float64]
    """(m,) `seam`."""
    coarse: list[Match]
    """m places among the real images, found at the reduced scale."""
    compared: NDArray[np.int64]
    """(k,) which of the m are kept reduced, to be held against one another; evenly spread."""
    reduced: NDArray[np.float32]
    """(k, px, px) these."""

    def alike(self, most: int) -> NDArray[np.float64]:
        """Similarity of tiles to one another, `memorisation.resemblance`.

        Args:
            most: Most tiles, evenly spread over those kept.

        Returns:
            (most,), belonging to the frames `self.frames[self.compared]` thinned alike.
        """
        some = evenly(len(self.compared), most)
        return memorisation.resemblance(self.reduced[some], self.frames[self.compared[some]])


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Numbers from 0 to count - 1, all or so many, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def look(
    read: Read,
    frames: NDArray[np.integer],
    *,
    most: int,
    factor: int,
    gallery: Gallery,
    held_out: bool,
    workers: int,
    on_tile: Callable[[], object],
) -> Looked:
    """Reads tiles once, and looks them up in the reduced real images; each rank its share.

    Args:
        read: Gives the tile of a number, from any thread.
        frames: (n,) the image each tile of the set comes from.
        most: Most tiles, evenly spread.
        factor: `memorisation.reduction`.
        gallery: The real images, reduced.
        held_out: Whether the tiles are real: each then is not compared with its own frame.
        workers: Threads.
        on_tile: Called after each tile of this rank.

    Returns:
        What was seen, the same on all ranks.
    """
    chosen = evenly(len(frames), most)
    compared = evenly(len(chosen), COMPARED)
    kept = set(compared.tolist())

    def one(k: int) -> tuple[tuple[float, float], Match, NDArray[np.float32] | None]:
        grey = read(int(chosen[k]))
        small = memorisation.reduced(grey, factor)
        without = int(frames[chosen[k]]) if held_out else -1
        match = gallery.best(small, without=without)
        return (grey_slope(grey), seam(grey)), match, small if k in kept else None

    seen = []
    with ThreadPoolExecutor(workers) as pool:
        for of_tile in pool.map(one, distributed.mine(len(chosen))):
            seen.append(of_tile)
            on_tile()
    shares = distributed.gathered(seen)
    every = [shares[k % len(shares)][k // len(shares)] for k in range(len(chosen))]
    slopes, seams = np.array([numbers for numbers, _, _ in every]).T
    small = np.stack([image for _, _, image in every if image is not None])
    coarse = [match for _, match, _ in every]
    return Looked(chosen, frames[chosen], slopes, seams, coarse, compared, small)


def search(looked: Looked, *, read: Read, read_image: Read, factor: int) -> list[Match]:
    """Finds the places of promising tiles to the pixel; each rank those of some images.

    Args:
        looked: The tiles, and where they lie on the reduced grid.
        read: Gives the tile of a number.
        read_image: Gives a whole real image.
        factor: `memorisation.reduction`.

    Returns:
        One match per tile, in pixels, the same on all ranks.
    """
    found = [memorisation.in_pixels(match, factor=factor) for match in looked.coarse]
    promising: dict[int, list[int]] = {}  # by image, so that each is read once
    for k, match in enumerate(looked.coarse):
        if match.similarity >= memorisation.PROMISING:
            promising.setdefault(match.image, []).append(k)
    refined: dict[int, Match] = {}
    for number in [*promising][distributed.rank() :: distributed.world_size()]:
        image = read_image(number)
        for k in promising[number]:
            tile, coarse = read(int(looked.tiles[k])), looked.coarse[k]
            refined[k] = memorisation.refined(tile, image, coarse, factor=factor)
    for share in distributed.gathered(refined):
        for k, match in share.items():
            found[k] = match
    return found


def pair(
    looked: Looked, matches: list[Match], *, read: Read, read_image: Read
) -> dict[str, NDArray[np.uint8]]:
    """The most similar pair, to be looked at.

    Args:
        looked: The tiles.
        matches: Answer of `search`.
        read: Gives the tile of a number.
        read_image: Gives a whole real image.

    Returns:
        "ours" and "reference", both (tile_px, tile_px), the latter turned as it resembles
        ours; nothing when no tile resembles anything.
    """
    best = most_similar(matches)
    if best < 0:
        return {}
    ours, match = read(int(looked.tiles[best])), matches[best]
    place = read_image(match.image)[match.y :, match.x :][: ours.shape[0], : ours.shape[1]]
    return {"ours": ours, "reference": memorisation.turned_back(place, match.orientation)}


def most_similar(matches: list[Match]) -> int:
    """Number of the best match, -1 when there is none."""
    values = np.array([match.similarity for match in matches])
    return int(np.nanargmax(values)) if np.isfinite(values).any() else -1
