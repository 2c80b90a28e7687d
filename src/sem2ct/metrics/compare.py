"""Distances between two sets of tiles, and how far apart two real halves are.

Tiles cut from one image are not independent, so a test that counts tiles cries
wolf.  What is independent is the image (`frame`).  Hence no p-values: each distance
stands beside the same distance between random halves of the real frames, and its
interval comes from drawing the real frames again with replacement.

Sources: Wasserstein-1 and energy distance with scipy.stats' conventions; Efron & Tibshirani, An
Introduction to the Bootstrap (1993), chapter 8 (resampling whole clusters); Kish,
Survey Sampling (1965), chapters 5 and 8 (variance of a mean over clusters, design effect).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Distances = dict[str, float]
Measure = Callable[[NDArray, NDArray], Distances]

WIDEST = 0.95
"""Share of the real-vs-real distances that make the band."""
INNER = (5, 95)
"""Percentiles between which a set is said to cover."""
MEASURES = (
    "mean_difference",
    "mean_difference_sd",
    "wasserstein",
    "wasserstein_sd",
    "ks",
    "energy",
)


@dataclass(frozen=True)
class Reference:
    """The real values, in the frames they come from."""

    values: NDArray
    """(n, ...) one value or curve per tile."""
    frames: NDArray[np.integer]
    """(n,) which source image each tile comes from."""

    @property
    def units(self) -> NDArray[np.integer]:
        """(n,) what is resampled: the frame, or the tile when there is only one frame."""
        one = len(np.unique(self.frames)) < 2
        return np.arange(len(self.frames)) if one else self.frames


def summary(values: Floats) -> dict[str, float | int]:
    """Number, mean, standard deviation and percentiles of one quantity.

    Args:
        values: (n,) one value per tile; NaN marks a tile where it is undefined.

    Returns:
        n (defined), undefined, mean, sd (NaN for fewer than two), p5, p50, p95.
    """
    defined = values[np.isfinite(values)]
    facts: dict[str, float | int] = {"n": len(defined), "undefined": len(values) - len(defined)}
    facts["mean"] = float(defined.mean()) if len(defined) else float("nan")
    facts["sd"] = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
    for percentile in (5, 50, 95):
        value = np.percentile(defined, percentile) if len(defined) else np.nan
        facts[f"p{percentile}"] = float(value)
    return facts


def effective_n(values: Floats, frames: NDArray[np.integer]) -> float:
    """How many independent tiles would know the mean as well as these tiles do.

    With F frames, x the mean of all n tiles and s their sd, the variance of x is

        v = F / (F - 1) * sum over frames of (sum over its tiles of (value - x))^2 / n^2

    and the effective number is s^2 / v, at most n; n over it is the design effect.

    Args:
        values: (n,) one value per tile; NaN is left out.
        frames: (n,) the image each tile comes from.

    Returns:
        From about F (tiles of one frame are alike) to n (frames do not matter); NaN for
        fewer than two frames, or without spread.
    """
    kept = np.isfinite(values)
    values, frames = values[kept], frames[kept]
    names, member = np.unique(frames, return_inverse=True)
    if len(names) < 2 or np.ptp(values) == 0:
        return float("nan")
    sums = np.bincount(member, weights=values - values.mean())
    variance = len(names) / (len(names) - 1) * float(sums @ sums) / len(values) ** 2
    spread = float(values.var(ddof=1))
    return min(float(len(values)), spread / variance) if variance > 0 else float(len(values))


def coverage(ours: Floats, reference: Floats) -> Distances:
    """Share of each set that lies where nine tenths of the other lie.

    Args:
        ours: (n,) values; NaN is left out.
        reference: (m,) values; NaN is left out.

    Returns:
        "ours": share of ours within the 5th to 95th percentile of the reference (too few:
        ours holds what the reference does not); "reference": the other way round (too
        few: ours lacks what the reference holds).  Equal populations give 0.9.
    """
    ours, reference = ours[np.isfinite(ours)], reference[np.isfinite(reference)]
    if not len(ours) or not len(reference):
        return {"ours": float("nan"), "reference": float("nan")}
    return {"ours": _within(ours, reference), "reference": _within(reference, ours)}


def _within(values: Floats, other: Floats) -> float:
    low, high = np.percentile(other, INNER)
    return float(np.mean((values >= low) & (values <= high)))


def distances(ours: Floats, reference: Floats) -> Distances:
    """How far one sample lies from another, in five ways.

    With F and G their cumulative distributions: Wasserstein-1 is the integral of |F - G|,
    the energy distance the root of twice that of (F - G)^2, KS the largest |F - G|.

    Args:
        ours: (n,) values; NaN is left out.
        reference: (m,) values; NaN is left out.

    Returns:
        mean_difference (ours minus reference), wasserstein, both also over the sd of the
        reference (`*_sd`), ks (D, without p-value: tiles are not independent), energy (in
        units^1/2).  NaN where a sample is empty, or the reference has no spread.
    """
    ours, reference = ours[np.isfinite(ours)], reference[np.isfinite(reference)]
    if not len(ours) or not len(reference):
        return dict.fromkeys(MEASURES, float("nan"))
    sd = float(reference.std(ddof=1)) if len(reference) > 1 else 0.0
    scale = 1 / sd if sd > 0 else float("nan")
    difference = float(ours.mean() - reference.mean())
    both = np.sort(np.concatenate([ours, reference]))
    apart = np.searchsorted(np.sort(ours), both, side="right") / len(ours)
    apart -= np.searchsorted(np.sort(reference), both, side="right") / len(reference)
    steps = np.diff(both)
    wasserstein = float(np.abs(apart[:-1]) @ steps)
    return {
        "mean_difference": difference,
        "mean_difference_sd": difference * scale,
        "wasserstein": wasserstein,
        "wasserstein_sd": wasserstein * scale,
        "ks": float(np.abs(apart).max()),
        "energy": float(np.sqrt(2 * apart[:-1] ** 2 @ steps)),
    }


def halves(units: NDArray[np.integer], *, splits: int, rng: np.random.Generator) -> list[NDArray]:
    """Splits the real frames into two halves, in many ways.

    Args:
        units: (n,) the frame of each tile.
        splits: Most splits; all there are, when they are fewer.
        rng: Source of the random splits.

    Returns:
        Boolean masks (n,), True for the first half.  An odd number of frames leaves the
        second half one frame larger.
    """
    names = np.unique(units)
    size = len(names) // 2
    if size == 0:
        return []
    if len(names) <= 10:
        chosen = [np.array(some) for some in combinations(range(len(names)), size)]
        chosen = [chosen[i] for i in rng.permutation(len(chosen))[:splits]]
    else:
        chosen = [rng.permutation(len(names))[:size] for _ in range(splits)]
    return [np.isin(units, names[some]) for some in chosen]


def pairs(
    units: NDArray[np.integer], *, splits: int, most: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Halves of the real frames, the first with no more tiles than the compared set has.

    A small set scatters more than half of a large one; so does the thinned half.

    Args:
        units: (n,) the frame of each tile.
        splits: Most splits.
        most: Tiles of the compared set.
        rng: Source of the splits and of the thinning.

    Returns:
        Boolean masks (n,) of the two halves.
    """
    found = []
    for half in halves(units, splits=splits, rng=rng):
        first = half
        if np.count_nonzero(half) > most:
            first = np.zeros_like(half)
            first[rng.choice(np.flatnonzero(half), size=most, replace=False)] = True
        found.append((first, ~half))
    return found


def draws(units: NDArray[np.integer], *, repeats: int, rng: np.random.Generator) -> NDArray:
    """Draws the real frames again with replacement, as many as there are.

    Args:
        units: (n,) the frame of each tile.
        repeats: How often.
        rng: Source of the draws.

    Returns:
        (repeats, n) int64: how often each tile was drawn; alike for the tiles of a frame.
    """
    names, member = np.unique(units, return_inverse=True)
    picked = rng.integers(len(names), size=(repeats, len(names)))
    counts = np.zeros((repeats, len(names)), np.int64)
    np.add.at(counts, (np.arange(repeats)[:, None], picked), 1)
    return counts[:, member]


def _percentiles(rows: list[Distances], low: float, high: float) -> dict[str, tuple[float, float]]:
    """Pointwise percentiles of each distance; one-sided `low` = 0 gives the smallest."""
    result = {}
    for name in rows[0] if rows else ():
        column = np.array([row[name] for row in rows])
        column = column[np.isfinite(column)]
        ends = (float("nan"), float("nan"))
        if len(column):
            ends = (float(np.quantile(column, low)), float(np.quantile(column, high)))
        result[name] = ends
    return result


def real_vs_real_range(
    reference: Reference, measure: Measure, *, splits: int, most: int, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Where a figure that is no distance lies for two halves of the real frames.

    Args:
        reference: Real values and their frames.
        measure: `coverage`, say.
        splits: Most random splits.
        most: Tiles of the compared set.
        rng: Source of the random splits.

    Returns:
        For each figure its 5th and 95th percentile over the splits.
    """
    values = reference.values
    both = pairs(reference.units, splits=splits, most=most, rng=rng)
    return _percentiles([measure(values[a], values[b]) for a, b in both], 1 - WIDEST, WIDEST)


def real_vs_real(
    reference: Reference,
    measure: Measure,
    *,
    splits: int,
    most: int,
    rng: np.random.Generator,
) -> Distances:
    """The distance that two halves of the real frames have for no reason.

    Args:
        reference: Real values and their frames.
        measure: `distances`, say.
        splits: Most random splits.
        most: Tiles of the compared set; neither must one half have more.
        rng: Source of the random splits.

    Returns:
        For each distance the 95th percentile of its absolute value over the splits; empty
        when there are too few tiles to split.
    """
    rows = []
    for one, other in pairs(reference.units, splits=splits, most=most, rng=rng):
        row = measure(reference.values[one], reference.values[other])
        rows.append({name: abs(value) for name, value in row.items()})
    return {name: ends[1] for name, ends in _percentiles(rows, 0, WIDEST).items()}


def interval(
    ours: NDArray,
    reference: Reference,
    measure: Measure,
    *,
    repeats: int,
    rng: np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """Where a distance would lie had other frames of the same rock been imaged.

    Args:
        ours: (n, ...) values of the compared set.
        reference: Real values and their frames.
        measure: `distances`, say.
        repeats: How often the real frames are drawn again with replacement.
        rng: Source of the draws.

    Returns:
        For each distance its 2.5th and 97.5th percentile.
    """
    rows = [
        measure(ours, np.repeat(reference.values, drawn, axis=0))
        for drawn in draws(reference.units, repeats=repeats, rng=rng)
    ]
    return _percentiles(rows, 0.025, 0.975)


def verdict(value: float, band: float | None) -> str:
    """One line on a distance and the real-vs-real band.

    Args:
        value: The distance, of either sign.
        band: 95th percentile of the same distance between random halves of the real
            frames; None or NaN when there was nothing to split.

    Returns:
        "inside the real-vs-real band", "outside by a factor of ..." or "no band".
    """
    if band is None or not np.isfinite(band) or not np.isfinite(value):
        return "no band to judge by"
    if abs(value) <= band:
        return "inside the real-vs-real band"
    if band <= 0:
        return f"outside by {abs(value):.3g} (the real halves do not differ)"
    return f"outside by a factor of {_factor(abs(value) / band)}"


def _factor(factor: float) -> str:
    """Two digits, but 1.04 and not 1, and 140 and not 1.4e+02."""
    if factor < 1.095:
        return f"{factor:.3g}" if factor >= 1.005 else "just over 1"
    return f"{factor:.0f}" if factor >= 9.95 else f"{factor:.2g}"


def judged(value: float, band: float | None) -> dict[str, str | bool | None]:
    """A verdict, and whether it is good news.

    Args:
        value: As for `verdict`.
        band: As for `verdict`.

    Returns:
        verdict, and inside: True, False, or None without a band.
    """
    said = verdict(value, band)
    inside = None if said.startswith("no band") else said.startswith("inside")
    return {"verdict": said, "inside": inside}
