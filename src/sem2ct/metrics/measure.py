"""All numbers of one tile, and of a set of tiles on several threads or processes.

Cheap numbers are taken of every tile, dear ones of a sample.  One tile per task stays in
the processor's cache, and nothing is computed with more than one thread, so tasks do not
disturb one another and the numbers do not depend on who measured which tile.
"""

import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import (
    chords,
    chunks,
    connectivity,
    correlation,
    descriptors,
    lineal_path,
    permeability,
    pore_size,
    porosity,
    segmentation,
    surface,
)
from sem2ct.metrics.chunks import Arrays, Chunks, Journal

DIRECTIONS = ("radial", "x", "y")
SAMPLE = 64
"""Tiles measured dearly, if not said otherwise."""
AHEAD = 4  # tasks waiting per worker
TILES_SENT = 8  # by a process at once: sending one costs as much as sending eight
SAMPLED: dict[str, tuple[int, str]] = {
    "chord_pore_x": (1, "mean length of the runs of pore along x that do not touch the frame"),
    "chord_pore_y": (1, "mean length of the runs of pore along y that do not touch the frame"),
    "chord_grain_x": (1, "mean length of the runs of grain along x that do not touch the frame"),
    "chord_grain_y": (1, "mean length of the runs of grain along y that do not touch the frame"),
    "euler_number": (
        -2,
        "pores minus holes in them, per area, pixels that share a corner being"
        " neighbours; the frame is no boundary",
    ),
    "largest_pore": (0, "share of the pore pixels that belong to the largest pore (8 neighbours)"),
    "percolating_pores": (
        0,
        "share of the pore pixels in pores that cross the tile along x or y (8 neighbours)",
    ),
    "pore_diameter": (
        1,
        "mean over the pore pixels of the diameter of the largest disc in the pore"
        " that covers them",
    ),
    "kozeny_carman": (2, "phi^3 / (5 s_V^2): a proxy of the permeability, not a permeability"),
}
"""Numbers of the sampled tiles: power of the length unit each carries, and what it is."""
Read = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Reopen:
    """A set that every process opens for itself.

    Processes are spawned, so a script of one's own needs `if __name__ == "__main__":`.
    """

    opener: Callable[[], Read]
    """Can be pickled; called once in each process, gives the reader used there."""


@dataclass(frozen=True)
class TileNumbers:
    """What one tile yields; lengths in pixels, curves at lags 0 to reach."""

    scalars: dict[str, float]
    s2: NDArray[np.float64]
    """(3, reach + 1): radial, along x, along y."""
    r: NDArray[np.float64]
    """(3, reach + 1): R of the same, with the tile's own porosity."""
    grey: NDArray[np.int64]
    """(256,) grey histogram."""
    descriptors: NDArray[np.float64]
    """(38,) in the order of `descriptors.NAMES`."""
    sampled: dict[str, float]
    """The dear numbers, in the order of `SAMPLED`; empty when they were not asked for."""
    lineal_path: NDArray[np.float64]
    """(2, reach + 1) along x and y; (0, reach + 1) when not asked for."""


@dataclass(frozen=True)
class SetNumbers:
    """What a set of n tiles yields, in the order of the tiles; m of them were sampled."""

    scalars: dict[str, NDArray[np.float64]]
    """(n,) each."""
    s2: NDArray[np.float32]
    """(n, 3, reach + 1); with a journal a read-only map of a file."""
    r: NDArray[np.float32]
    """(n, 3, reach + 1); likewise."""
    grey: NDArray[np.int64]
    """(256,) pooled grey histogram."""
    mean_s2: NDArray[np.float64]
    """(3, reach + 1) over all tiles."""
    mean_r: NDArray[np.float64]
    """(3, reach + 1) over the tiles where R is defined; NaN when there is none."""
    descriptors: NDArray[np.float32]
    """(n, 38), columns `descriptors.NAMES`; NaN where a number is undefined."""
    sampled: dict[str, NDArray[np.float64]]
    """(m,) each, in the order of `SAMPLED`; NaN where undefined."""
    sampled_tiles: NDArray[np.int64]
    """(m,) their indices: 0, k, 2 k, ..."""
    lineal_path: NDArray[np.float64]
    """(m, 2, reach + 1) along x and y."""


def _lengths(r: NDArray[np.float64]) -> dict[str, float]:
    """Correlation lengths of the three curves, and what belongs to the radial fit."""
    axes = np.arange(r.shape[1], dtype=np.float64)
    found = {}
    for direction, curve in zip(DIRECTIONS, r, strict=True):
        lags = correlation.radial_lags(len(curve) - 1) if direction == "radial" else axes
        fit = correlation.fit_correlation_length(lags, curve)
        suffix = "" if direction == "radial" else f"_{direction}"
        found[f"correlation_length{suffix}"] = fit.length_px
        if direction == "radial":
            found["one_over_e_length"] = fit.one_over_e_px
            found["slope_length"] = fit.slope_px
            found["rms_misfit"] = fit.rms_misfit
            found["fit_lags"] = float(fit.lags)
    return found


def dear_numbers(pores: NDArray[np.bool_]) -> dict[str, float]:
    """The numbers that take long: some hundred times as long as all others together.

    Args:
        pores: (H, W) boolean, True in pore.

    Returns:
        In the order of `SAMPLED`, lengths in pixels; NaN where undefined.
    """
    named = connectivity.labels(pores, connectivity=8)
    phi, surface_per_px = porosity.porosity(pores), surface.specific_surface(pores, pixel_size_um=1)
    crossing = np.count_nonzero(connectivity.spanning(named, along="any"))
    return {
        "chord_pore_x": chords.mean_chord(pores, along="x"),
        "chord_pore_y": chords.mean_chord(pores, along="y"),
        "chord_grain_x": chords.mean_chord(~pores, along="x"),
        "chord_grain_y": chords.mean_chord(~pores, along="y"),
        "euler_number": connectivity.euler_density(pores, connectivity=8),
        "largest_pore": connectivity.largest_share(named),
        "percolating_pores": crossing / (phi * pores.size) if phi else float("nan"),
        "pore_diameter": pore_size.mean_thickness(pores),
        "kozeny_carman": permeability.kozeny_carman(phi, surface_per_px),
    }


def tile(
    grey: NDArray[np.uint8], *, threshold: int, reach_px: int, dearly: bool = False
) -> TileNumbers:
    """Measures one tile.

    Args:
        grey: (H, W) uint8.
        threshold: Grey level under which a pixel is pore.
        reach_px: Longest lag of the correlation.
        dearly: Also what takes long.

    Returns:
        Its numbers; R and the correlation lengths are NaN when the tile is all pore or all
        grain.
    """
    pores = segmentation.segment(grey, threshold=threshold)
    levels = segmentation.histogram([grey])
    phi = porosity.porosity(pores)
    phi_low, phi_high = segmentation.sensitivity(levels, threshold=threshold)
    n_x, n_y = surface.faces(pores)
    s2_map = correlation.two_point(pores, reach_px)
    s2 = np.stack(
        [correlation.radial(s2_map), correlation.along_x(s2_map), correlation.along_y(s2_map)]
    )
    r = correlation.normalised(s2, phi)
    scalars = {
        "porosity": phi,
        "porosity_darker": phi_low,
        "porosity_brighter": phi_high,
        "faces_x": float(n_x),
        "faces_y": float(n_y),
        "specific_surface": surface.per_pixel((n_x, n_y), pores.shape),
        **_lengths(r),
    }
    shared = ("porosity", "specific_surface", "correlation_length")
    described = descriptors.describe(
        grey, levels, r_x=r[1], r_y=r[2], **{name: scalars[name] for name in shared}
    )
    sampled = dear_numbers(pores) if dearly else {}
    ways = ("x", "y") if dearly else ()
    straight = [lineal_path.lineal_path(pores, reach_px, along=way) for way in ways]
    path = np.reshape(straight, (len(ways), reach_px + 1))
    return TileNumbers(scalars, s2, r, levels, described, sampled, path)


@dataclass(frozen=True)
class _Question:
    """What is asked about each tile."""

    threshold: int
    reach_px: int
    every: int
    """Each so many tiles one is measured dearly."""

    def answer(self, read: Read, indices: Sequence[int]) -> list[TileNumbers]:
        how = {"threshold": self.threshold, "reach_px": self.reach_px}
        return [tile(read(k), **how, dearly=k % self.every == 0) for k in indices]


def _gather(rows: Sequence[TileNumbers], span: range, *, question: _Question) -> Arrays:
    """Arrays of a chunk's tiles, and the sums that need full precision."""
    s2, r = np.stack([row.s2 for row in rows]), np.stack([row.r for row in rows])
    defined = np.isfinite(r).all(axis=(1, 2))
    dear = [row for row in rows if row.sampled]
    empty = np.empty((0, 2, question.reach_px + 1))
    return {
        "s2": s2.astype(np.float32),
        "r": r.astype(np.float32),
        "sum_s2": s2.sum(axis=0),
        "sum_r": r[defined].sum(axis=0),
        "defined": np.array([np.count_nonzero(defined)]),
        "grey": np.sum([row.grey for row in rows], axis=0),
        "descriptors": np.stack([row.descriptors for row in rows]).astype(np.float32),
        "lineal_path": np.concatenate([empty, *(row.lineal_path[None] for row in dear)]),
        "sampled_tiles": np.array([i for i in span if i % question.every == 0], np.int64),
        **{f"sampled/{key}": np.array([row.sampled[key] for row in dear]) for key in SAMPLED},
        **{
            f"scalars/{key}": np.array([row.scalars[key] for row in rows])
            for key in rows[0].scalars
        },
    }


def _join(found: Chunks, count: int) -> SetNumbers:
    defined = found.summed("defined")[0]
    unknown = np.full_like(found.summed("sum_r"), np.nan)
    return SetNumbers(
        scalars={name: found.joined(f"scalars/{name}") for name in found.names("scalars/")},
        s2=found.curves("s2"),
        r=found.curves("r"),
        grey=found.summed("grey"),
        mean_s2=found.summed("sum_s2") / count,
        mean_r=found.summed("sum_r") / defined if defined else unknown,
        descriptors=found.joined("descriptors"),
        sampled={name: found.joined(f"sampled/{name}") for name in SAMPLED},
        sampled_tiles=found.joined("sampled_tiles"),
        lineal_path=found.joined("lineal_path"),
    )


@lru_cache(maxsize=1)
def _opened(pickled: bytes) -> Read:
    """The set, opened once in each process."""
    return pickle.loads(pickled).opener()


def _answer_reopened(
    question: _Question, pickled: bytes, indices: Sequence[int]
) -> list[TileNumbers]:
    return question.answer(_opened(pickled), indices)


def _in_order(
    read: Read | Reopen, workers: int, question: _Question, indices: Iterable[int]
) -> Iterator[TileNumbers]:
    """Numbers of the tiles in their order; few wait, so memory stays flat."""
    waiting: deque[Future[list[TileNumbers]]] = deque()
    if isinstance(read, Reopen):
        fresh = multiprocessing.get_context("spawn")  # a forked torch may wait for ever
        pool = ProcessPoolExecutor(workers, mp_context=fresh)
        some, at_once = partial(_answer_reopened, question, pickle.dumps(read)), TILES_SENT
    else:
        pool, some, at_once = ThreadPoolExecutor(workers), partial(question.answer, read), 1
    rest = iter(indices)
    with pool:
        while asked := list(islice(rest, at_once)):
            waiting.append(pool.submit(some, asked))
            if len(waiting) > AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def tiles(
    read: Read | Reopen,
    count: int,
    *,
    threshold: int,
    reach_px: int,
    workers: int,
    on_tile: Callable[[], object],
    sample: int = SAMPLE,
    journal: Journal | Literal["none"] = "none",
) -> SetNumbers:
    """Measures tiles 0 to count - 1.

    Args:
        read: Gives the tile of an index, from several threads; or `Reopen`, and then processes
            measure, each reading for itself: better for many large tiles.
        count: Number of tiles, at least 1.
        threshold: Grey level under which a pixel is pore, the same for all.
        reach_px: Longest lag of the correlation.
        workers: Threads, or processes.
        on_tile: Called after each tile, in their order.
        sample: Tiles measured dearly, at most: each k-th, k = count / sample rounded up.
        journal: Where finished chunks of tiles are kept for a repeat, or none.

    Returns:
        The numbers in the order of the tiles, the same whoever measured them.

    Raises:
        Refusal: If several thresholds are given, or the tiles do not support the reach.
    """
    level = segmentation.one_threshold(threshold)
    question = _Question(level, reach_px, max(1, -(-count // sample)))
    folder = None
    if journal != "none":
        folder = chunks.folder_for(journal, count=count, **asdict(question))
    found = Chunks(count, folder)
    gather = partial(_gather, question=question)
    chunks.fill(found, partial(_in_order, read, workers, question), gather, on_tile)
    return _join(found, count)
