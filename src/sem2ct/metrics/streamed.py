"""Porosity, two-point correlation and chords of a volume that is seen slice by slice.

Nothing of the volume is kept but what later slices are compared with: the last
`reach_px` slices, one bit per voxel, and how long the pore has been that ends in each
voxel of the last one.  All counts are exact integers, equal to those of the whole volume
at once.  What lies outside the field of view is neither pore nor grain: it is in no pair,
and a chord that ends there has no length.

Sources: as for `correlation` and `chords`.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import correlation
from sem2ct.runtime.run_folder import writing

DIRECTIONS = ("x", "y", "z")
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


class PoreStream:
    """Counts what is asked of a volume while its slices come by, from the first to the last.

    Args:
        shape: (z, y, x) of the volume.
        reach_px: Longest lag; along an axis that is shorter, its length less 1.
    """

    def __init__(self, shape: tuple[int, int, int], *, reach_px: int) -> None:
        """Has seen nothing yet."""
        depth, *plane = shape
        self.shape = shape
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
        self._run = np.full(plane if depth > 1 else (0, 0), -1, np.int32)
        self._known = np.zeros(plane, np.bool_), np.zeros(lags, np.int64)

    def add(self, pores: NDArray[np.bool_], inside: NDArray[np.bool_]) -> None:
        """Takes note of the next slice.

        Args:
            pores: (y, x) boolean, True in pore.
            inside: (y, x) boolean, True in the field of view.
        """
        pores = pores & inside
        self._add_profiles(pores, inside)
        self._counts["hits"] += pair_hits(pores, self._reach)
        self._counts["pairs"] += self._pairs(inside)
        self._add_depth_pairs(pores, inside)
        states = np.where(inside, pores.view(np.uint8), np.uint8(_OUTSIDE))
        self._add_chords("x", chord_counts(states))
        self._add_chords("y", chord_counts(states.T))
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

    Args:
        greys_of: Greys of a slab, given its first slice and how many.
        inside_of: Field of view (y, x) of a slice.
        shape: (z, y, x).
        slab: Slices per slab.
        threshold: Grey level under which a voxel is pore.
        reach_px: As for `PoreStream`.
        bin_px: As for `facts`.
        kept_in: As for `measure`.

    Returns:
        As from `facts`.
    """
    stream = PoreStream(shape, reach_px=reach_px)

    def pores_of(first: int, count: int) -> Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        for i, grey in enumerate(greys_of(first, count)):
            yield grey < threshold, inside_of(first + i)

    slabs = [(first, min(slab, shape[0] - first)) for first in range(0, shape[0], slab)]
    measure(stream, slabs, pores_of, kept_in=kept_in)
    kept_in.unlink(missing_ok=True)
    return facts(stream, bin_px=bin_px)


def measure(
    stream: PoreStream,
    slabs: Iterable[tuple[int, int]],
    pores_of: Callable[[int, int], Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]],
    *,
    kept_in: Path,
) -> None:
    """Shows a stream a volume slab by slab, going on where an earlier process stopped.

    Args:
        stream: Has seen nothing yet; on return everything.
        slabs: First slice of each slab, and how many it has, in order.
        pores_of: Pores and field of view of the slices of a slab, given these two numbers.
        kept_in: File for the state after each slab; removed by whoever writes the result.
    """
    if kept_in.is_file():
        with np.load(kept_in) as kept:
            stream.restore({name: kept[name] for name in kept.files})
    for first, count in slabs:
        if first + count <= stream.seen:
            continue
        for pores, inside in pores_of(first, count):
            stream.add(pores, inside)
        with writing(kept_in) as unfinished, unfinished.open("wb") as out:
            np.savez(out, **stream.state())  # pyright: ignore[reportArgumentType]


def facts(stream: PoreStream, *, bin_px: int) -> dict[str, Any]:
    """What the counts say.

    Args:
        stream: Has seen the whole volume.
        bin_px: Voxels that share an entry of the porosity along an axis.

    Returns:
        Plain values: porosity; for x, y and z S2, its integers, the correlation length of the
        named definitions, chords and the porosity along the axis; S2 over all directions of
        the slices; and lengths along z over the mean of x and y.
    """
    counts = stream.counts()
    phi = _share(int(counts["pore_z"].sum()), int(counts["inside_z"].sum()))
    reach = counts["hits"].shape[0] - 1
    along = {
        "x": (counts["hits"][0, reach:], counts["pairs"][0, reach:]),
        "y": (counts["hits"][:, reach], counts["pairs"][:, reach]),
        "z": (counts["z_hits"], counts["z_pairs"]),
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        radial = correlation.radial(counts["hits"] / counts["pairs"])
    told = {name: _axis(counts, name, *along[name], phi, bin_px) for name in DIRECTIONS}
    return {
        "porosity": phi,
        "voxels": int(counts["inside_z"].sum()),
        **told,
        "radial": {
            "lags_px": correlation.radial_lags(reach).tolist(),
            "s2": radial.tolist(),
            **_length(correlation.radial_lags(reach), radial, phi),
        },
        "z_over_xy": _ratios(told),
    }


def _axis(
    counts: dict[str, NDArray[np.int64]],
    name: str,
    hits: NDArray[np.int64],
    pairs: NDArray[np.int64],
    phi: float,
    bin_px: int,
) -> dict[str, Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        s2 = hits / pairs
    chords = counts[f"chords_{name}"]
    lengths = np.arange(len(chords))
    starts = np.arange(0, len(counts[f"pore_{name}"]), bin_px)
    pore, inside = (
        np.add.reduceat(counts[f"{what}_{name}"], starts) for what in ("pore", "inside")
    )
    return {
        "s2": s2.tolist(),
        "hits": hits.tolist(),
        "pairs": pairs.tolist(),
        **_length(np.arange(len(s2), dtype=np.float64), s2, phi),
        "chords": chords.tolist(),
        "mean_chord_px": _share(int(chords @ lengths), int(chords.sum())),
        "porosity": [_share(*both) for both in zip(pore.tolist(), inside.tolist(), strict=True)],
    }


def _length(
    lags_px: NDArray[np.float64], s2: NDArray[np.float64], phi: float
) -> dict[str, dict[str, Any]]:
    fit = correlation.fit_correlation_length(lags_px, correlation.normalised(s2, phi))
    return {"correlation_length": asdict(fit)}


def _ratios(told: dict[str, dict[str, Any]]) -> dict[str, float]:
    """1 where the volume is alike along all axes; NaN where one of them says nothing."""
    lengths = {name: told[name]["correlation_length"]["one_over_e_px"] for name in DIRECTIONS}
    chords = {name: told[name]["mean_chord_px"] for name in DIRECTIONS}
    return {
        what: 2 * of["z"] / (of["x"] + of["y"])
        for what, of in (("one_over_e_length", lengths), ("mean_chord", chords))
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def line(told: dict[str, Any]) -> str:
    """One line for the log.

    Args:
        told: As from `facts`.
    """
    lengths = ", ".join(
        f"{name} {told[name]['correlation_length']['one_over_e_px']:.1f}" for name in DIRECTIONS
    )
    ratios = told["z_over_xy"]
    return (
        f"porosity {told['porosity']:.4f} | 1/e length {lengths} px (z over x and y:"
        f" {ratios['one_over_e_length']:.3f}) | mean chord z over x and y:"
        f" {ratios['mean_chord']:.3f}"
    )
