"""Porosity, two-point correlation and chords of a volume that is seen slice by slice.

Nothing of the volume is kept but what later slices are compared with: the last
`reach_px` slices, one bit per voxel, and how long the pore has been that ends in each
voxel of the last one.  All counts are exact integers, equal to those of the whole volume
at once.  What lies outside the field of view is neither pore nor grain: it is in no pair,
and a chord that ends there has no length.

Several processes share the work slab by slab: what lies within slices each counts by itself,
what reaches from one slice to the next the first one counts from the bits of all.

Sources: as for `correlation` and `chords`.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import correlation, volume_facts
from sem2ct.metrics.volume_facts import DIRECTIONS
from sem2ct.runtime import distributed
from sem2ct.runtime.run_folder import writing

Images = Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]

_BAND_PIXELS = 2**22  # a transform of this many pixels takes 100 MB
_GRAIN, _PORE, _OUTSIDE = 0, 1, 2


def pair_hits(pores: NDArray[np.bool_], reach_px: int) -> NDArray[np.int64]:
    """The hits of `correlation.pair_counts`, in bands of rows: an image may be large.

    Bands overlap by the reach, so a pair within it lies in one band at least; those that lie
    in the overlap of two are taken away once.

    Args:
        pores: (H, W) boolean, True in pore.
        reach_px: Longest lag along an axis, less than H and W.

    Returns:
        (reach + 1, 2 reach + 1) int64.

    Raises:
        Refusal: If the image does not support the reach.
    """
    shared = reach_px + 1
    rows = max(3 * shared, _BAND_PIXELS // pores.shape[1])
    hits = correlation.pair_counts(pores[: rows + shared], reach_px)[0]
    for y in range(rows, pores.shape[0] - shared, rows):
        hits += correlation.pair_counts(pores[y : y + rows + shared], reach_px)[0]
        hits -= correlation.pair_counts(pores[y : y + shared], reach_px)[0]
    return hits


def chord_counts(states: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Counts the stretches of pore along the rows of an image that have grain at both ends.

    Args:
        states: (lines, length), 0 in grain, 1 in pore, 2 outside.

    Returns:
        (longest + 1,) int64, entry k for chords of k pixels.
    """
    lines, length = states.shape
    found = np.zeros(length + 1, np.int64)
    step = max(1, _BAND_PIXELS // length)
    for first in range(0, lines, step):
        band = states[first : first + step]
        flat = np.pad(band, ((0, 0), (1, 1)), constant_values=_OUTSIDE).reshape(-1)
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        held = flat[edges]
        chord = (held[:-2] == _GRAIN) & (held[1:-1] == _PORE) & (held[2:] == _GRAIN)
        found += np.bincount(np.diff(edges)[1:][chord], minlength=length + 1)
    longest = np.flatnonzero(found)[-1] if found.any() else 1
    return found[: longest + 1]


@dataclass(frozen=True)
class Slab:
    """What one process tells another of a slab."""

    counts: dict[str, NDArray[np.int64]]
    """What lies within its slices."""
    bits: list[NDArray[np.uint8]]
    """Pores and field of view of each slice, (2, bytes)."""


class PoreStream:
    """Counts what is asked of a volume while its slices come by, from the first to the last.

    Args:
        shape: (z, y, x) of the volume.
        reach_px: Longest lag; along an axis that is shorter, its length less 1.
    """

    def __init__(self, shape: tuple[int, int, int], *, reach_px: int) -> None:
        """Has seen nothing yet."""
        depth, *plane = shape
        self.shape, self.reach_px = shape, reach_px
        self.seen = 0
        self._reach = min(reach_px, min(plane) - 1)
        self._depth_reach = min(reach_px, depth - 1)
        lags = (self._reach + 1, 2 * self._reach + 1)
        self._counts: dict[str, NDArray[np.int64]] = {
            **{name: np.zeros(lags, np.int64) for name in ("hits", "pairs")},
            **{f"z_{n}": np.zeros(self._depth_reach + 1, np.int64) for n in ("hits", "pairs")},
            **{f"chords_{name}": np.zeros(2, np.int64) for name in DIRECTIONS},
            **{
                f"{what}_{name}": np.zeros(length, np.int64)
                for what in ("pore", "inside")
                for name, length in zip(DIRECTIONS, reversed(shape), strict=True)
            },
        }
        self._before: list[NDArray[np.uint8]] = []
        self._run = np.zeros((0, 0), np.int32)
        self._known = np.zeros(plane, np.bool_), np.zeros(lags, np.int64)

    def add(self, pores: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        """Takes note of the next slice.

        Args:
            pores: (y, x) boolean, True in pore.
            inside: (y, x) boolean, True in the field of view.
        """
        pores = pores & inside
        self._add_in_plane(pores, inside)
        self._add_depth(pores, inside)

    def count(self, first: int, images: Images) -> Slab:
        """Counts what lies within the slices of a slab, from nothing, for another stream.

        Args:
            first: First slice.
            images: Pores and field of view of its slices.
        """
        self._counts = {name: np.zeros_like(values) for name, values in self._counts.items()}
        bits = []
        for self.seen, (pores, inside) in enumerate(images, start=first):
            pores = pores & inside
            self._add_in_plane(pores, inside)
            bits.append(np.packbits(np.stack([pores, inside]).reshape(2, -1), axis=1))
        return Slab(self.counts(), bits)

    def take(self, slab: Slab) -> None:
        """Takes note of the next slab, that another stream has counted."""
        for name, values in slab.counts.items():
            if name.startswith("chords"):
                self._add_chords(name.removeprefix("chords_"), values)
            else:
                self._counts[name] += values
        plane = self.shape[1] * self.shape[2]
        for bits in slab.bits:
            both = np.unpackbits(bits, axis=1, count=plane).view(np.bool_)
            self._add_depth(*both.reshape(2, *self.shape[1:]))

    def _add_in_plane(self, pores: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        self._add_profiles(pores, inside)
        self._counts["hits"] += pair_hits(pores, self._reach)
        self._counts["pairs"] += self._pairs(inside)
        states = np.where(inside, pores.view(np.uint8), np.uint8(_OUTSIDE))
        self._add_chords("x", chord_counts(states))
        self._add_chords("y", chord_counts(states.T))

    def _add_depth(self, pores: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        self._add_depth_pairs(pores, inside)
        if self.shape[0] > 1:
            self._add_depth_chords(pores, inside)
        self.seen += 1

    def state(self) -> dict[str, NDArray[Any]]:
        """All that is needed to go on elsewhere."""
        before = np.stack(self._before) if self._before else np.zeros((0, 2, 0), np.uint8)
        return {**self._counts, "seen": np.array(self.seen), "before": before, "run": self._run}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from what `state` has given."""
        self._counts = {name: state[name].copy() for name in self._counts}
        self.seen, self._run = int(state["seen"]), state["run"].copy()
        self._before = list(state["before"])

    def counts(self) -> dict[str, NDArray[np.int64]]:
        """The integers so far: hits and pairs of the plane and along z, chords, profiles."""
        return {name: values.copy() for name, values in self._counts.items()}

    def _add_profiles(self, pores: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        for what, image in (("pore", pores), ("inside", inside)):
            self._counts[f"{what}_x"] += np.count_nonzero(image, axis=0)
            self._counts[f"{what}_y"] += np.count_nonzero(image, axis=1)
            self._counts[f"{what}_z"][self.seen] += np.count_nonzero(image)

    def _pairs(self, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Pairs inside; a field of view seldom differs from that of the slice before."""
        if not np.array_equal(self._known[0], inside):
            self._known = inside.copy(), pair_hits(inside, self._reach)
        return self._known[1]

    def _add_depth_pairs(self, pores: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        """Eight voxels at once: a slice is compared with those before it bit by bit."""
        bits = np.stack([np.packbits(pores), np.packbits(inside)])
        bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))
        for lag, other in enumerate([bits, *reversed(self._before)]):
            both = np.bitwise_count((bits & other).view(np.uint64)).sum(axis=1, dtype=np.int64)
            self._counts["z_hits"][lag] += both[0]
            self._counts["z_pairs"][lag] += both[1]
        self._before = [*self._before, bits][-self._depth_reach :] if self._depth_reach else []

    def _add_depth_chords(self, pores: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        """`_run`: pore voxels since the last grain, -1 where something unknown came before."""
        if self._run.shape != pores.shape:
            self._run = np.full(pores.shape, -1, np.int32)
        grain = inside & ~pores
        ended = self._run[grain]
        self._add_chords("z", np.bincount(ended[ended > 0], minlength=2))
        self._run += pores & (self._run >= 0)
        self._run[grain] = 0
        self._run[~inside] = -1

    def _add_chords(self, direction: str, found: NDArray[np.int64]) -> None:
        known = self._counts[f"chords_{direction}"]
        if len(found) > len(known):
            known, found = found.astype(np.int64), known
        known[: len(found)] += found
        self._counts[f"chords_{direction}"] = known


Greys = Callable[[int, int], NDArray[np.uint8]]


def of_greys(
    greys_of: Greys,
    inside_of: Callable[[int], NDArray[np.bool_]],
    *,
    shape: tuple[int, int, int],
    slab: int,
    threshold: int,
    reach_px: int,
    bin_px: int,
    kept_in: Path,
) -> dict[str, Any]:
    """Counts a volume of grey levels slab by slab; stopped, it goes on with the next one.

    Every process calls it, and makes every N-th slab.

    Args:
        greys_of: Greys of a slab, given its first slice and how many.
        inside_of: Field of view (y, x) of a slice.
        shape: (z, y, x).
        slab: Slices per slab.
        threshold: Grey level under which a voxel is pore.
        reach_px: As for `PoreStream`.
        bin_px: As for `volume_facts.facts`.
        kept_in: As for `measure`.

    Returns:
        As from `volume_facts.facts` on the first process, nothing on the others.
    """
    stream = PoreStream(shape, reach_px=reach_px)

    def pores_of(first: int, count: int) -> Images:
        for i, grey in enumerate(greys_of(first, count)):
            yield grey < threshold, inside_of(first + i)

    slabs = [(first, min(slab, shape[0] - first)) for first in range(0, shape[0], slab)]
    measure(stream, slabs, pores_of, kept_in=kept_in)
    if not distributed.is_main():
        return {}
    kept_in.unlink(missing_ok=True)
    return volume_facts.facts(stream.counts(), bin_px=bin_px)


def measure(
    stream: PoreStream,
    slabs: Iterable[tuple[int, int]],
    pores_of: Callable[[int, int], Images],
    *,
    kept_in: Path,
) -> None:
    """Shows a stream a volume slab by slab, going on where an earlier process stopped.

    Args:
        stream: Has seen nothing yet; on return everything, on the first of several processes.
        slabs: First slice of each slab, and how many it has, in order.
        pores_of: Pores and field of view of the slices of a slab, given these two numbers.
        kept_in: File for the state after each slab; removed by whoever writes the result.
    """

    def goes_on() -> dict[str, int]:
        if kept_in.is_file():
            with np.load(kept_in) as kept:
                stream.restore({name: kept[name] for name in kept.files})
        return {"seen": stream.seen}

    seen, ranks = distributed.from_main(goes_on)["seen"], distributed.world_size()
    counter = PoreStream(stream.shape, reach_px=stream.reach_px)
    left = [(first, count) for first, count in slabs if first + count > seen]
    for k in range(0, len(left), ranks):
        mine = left[k:][distributed.rank() : distributed.rank() + 1]
        counted = [counter.count(slab[0], pores_of(*slab)) for slab in mine]
        for slab in itertools.chain(*distributed.gathered(counted)):
            if distributed.is_main():
                stream.take(slab)
        if distributed.is_main():
            with writing(kept_in) as unfinished, unfinished.open("wb") as out:
                np.savez(out, **stream.state())  # pyright: ignore[reportArgumentType]
