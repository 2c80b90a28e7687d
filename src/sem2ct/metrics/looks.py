"""What is seen by looking at tiles one by one: sharpness, copies, repetitions.

These need the greys, not the pores, and copies need the whole real images; so they
are asked of a sample of tiles, evenly spread.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import memorisation
from sem2ct.metrics.memorisation import Gallery, Match

Read = Callable[[int], NDArray[np.uint8]]


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
    image = grey.astype(np.float32)
    one, two = (
        float(np.mean((image[k:] - image[:-k]) ** 2) + np.mean((image[:, k:] - image[:, :-k]) ** 2))
        for k in (1, 2)
    )
    return float(np.log2(two / one)) if one > 0 and two > 0 else float("nan")


@dataclass(frozen=True)
class Looked:
    """The m tiles of a set that were looked at."""

    tiles: NDArray[np.int64]
    """(m,) their numbers in the set."""
    frames: NDArray[np.integer]
    """(m,) the image each comes from."""
    slopes: NDArray[np.float64]
    """(m,) `grey_slope`."""
    reduced: NDArray[np.float32]
    """(m, px, px) the tiles, reduced."""


def look(
    read: Read,
    frames: NDArray[np.integer],
    *,
    most: int,
    factor: int,
    workers: int,
    on_tile: Callable[[], object],
) -> Looked:
    """Reads a sample of tiles once.

    Args:
        read: Gives the tile of a number, from any thread.
        frames: (n,) the image each tile of the set comes from.
        most: Most tiles, evenly spread.
        factor: `memorisation.reduction`.
        workers: Threads.
        on_tile: Called after each tile.

    Returns:
        What was seen.
    """
    chosen = np.linspace(0, len(frames) - 1, min(most, len(frames))).astype(int)

    def one(number: int) -> tuple[float, NDArray[np.float32]]:
        grey = read(number)
        return grey_slope(grey), memorisation.reduced(grey, factor)

    slopes, small = [], []
    with ThreadPoolExecutor(workers) as pool:
        for slope, image in pool.map(one, chosen.tolist()):
            slopes.append(slope)
            small.append(image)
            on_tile()
    return Looked(chosen, frames[chosen], np.array(slopes), np.stack(small))


def search(
    looked: Looked,
    gallery: Gallery,
    *,
    read: Read,
    read_image: Read,
    factor: int,
    held_out: bool,
    workers: int,
    on_tile: Callable[[], object],
) -> list[Match]:
    """Looks tiles up in the whole real images.

    Args:
        looked: The tiles.
        gallery: The real images, reduced.
        read: Gives the tile of a number.
        read_image: Gives a whole real image.
        factor: `memorisation.reduction`.
        held_out: Whether the tiles are real: each then is not compared with its own frame.
        workers: Threads.
        on_tile: Called after each tile.

    Returns:
        One match per tile, in pixels.
    """
    nowhere = np.full(len(looked.tiles), -1)
    coarse = memorisation.look_up(
        looked.reduced,
        gallery,
        without=looked.frames if held_out else nowhere,
        workers=workers,
        on_tile=on_tile,
    )
    found = list(coarse)
    opened, image = -1, np.zeros((0, 0), np.uint8)
    # Image by image, so that each is read once.
    for k in sorted(range(len(coarse)), key=lambda k: coarse[k].image):
        match = coarse[k]
        if match.similarity >= memorisation.PROMISING and match.image != opened:
            opened, image = match.image, read_image(match.image)
        tile = read(int(looked.tiles[k]))
        found[k] = memorisation.refined(tile, image, match, factor=factor)
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
