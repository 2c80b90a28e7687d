"""Distances between two sets of tiles, and how far apart two real halves are.

Tiles cut from one image are not independent, so a test that counts tiles cries
wolf.  What is independent is the image (`frame`).  Hence no p-values: each distance
stands beside the same distance between random halves of the real frames, and its
interval comes from drawing the real frames again with replacement.

Sources: Wasserstein-1 and energy distance as in scipy.stats; Efron & Tibshirani, An
Introduction to the Bootstrap (1993), chapter 8 (resampling whole clusters).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Distances = dict[str, float]
Measure = Callable[[NDArray, NDArray], Distances]

WIDEST = 0.95
"""Share of the real-vs-real distances that make the band."""
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


def ks_distance(ours: Floats, reference: Floats) -> float:
    """Largest difference between two cumulative distributions (Kolmogorov-Smirnov D).

    Args:
        ours: (n,) finite values.
        reference: (m,) finite values.

    Returns:
        Between 0 and 1.  It comes without a p-value: tiles are not independent.
    """
    both = np.sort(np.concatenate([ours, reference]))
    one = np.searchsorted(np.sort(ours), both, side="right") / len(ours)
    other = np.searchsorted(np.sort(reference), both, side="right") / len(reference)
    return float(np.abs(one - other).max())


def distances(ours: Floats, reference: Floats) -> Distances:
    """How far one sample lies from another, in five ways.

    Args:
        ours: (n,) values; NaN is left out.
        reference: (m,) values; NaN is left out.

    Returns:
        mean_difference (ours minus reference), wasserstein, both also over the sd of the
        reference (`*_sd`), ks (D), energy (scipy's, in units^1/2).  NaN where a sample is empty,
        or the reference has no spread.
    """
    ours, reference = ours[np.isfinite(ours)], reference[np.isfinite(reference)]
    if not len(ours) or not len(reference):
        return dict.fromkeys(MEASURES, float("nan"))
    sd = float(reference.std(ddof=1)) if len(reference) > 1 else 0.0
    scale = 1 / sd if sd > 0 else float("nan")
    difference = float(ours.mean() - reference.mean())
    wasserstein = float(stats.wasserstein_distance(ours, reference))
    return {
        "mean_difference": difference,
        "mean_difference_sd": difference * scale,
        "wasserstein": wasserstein,
        "wasserstein_sd": wasserstein * scale,
        "ks": ks_distance(ours, reference),
        "energy": float(stats.energy_distance(ours, reference)),
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


def real_vs_real(
    reference: Reference,
    measure: Measure,
    *,
    splits: int,
    rng: np.random.Generator,
) -> Distances:
    """The distance that two halves of the real frames have for no reason.

    Args:
        reference: Real values and their frames.
        measure: `distances` or `curve_distances`.
        splits: Most random splits.
        rng: Source of the random splits.

    Returns:
        For each distance the 95th percentile of its absolute value over the splits; empty
        when there are too few tiles to split.
    """
    rows = []
    for half in halves(reference.units, splits=splits, rng=rng):
        row = measure(reference.values[half], reference.values[~half])
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
        measure: `distances` or `curve_distances`.
        repeats: How often the real frames are drawn again with replacement.
        rng: Source of the draws.

    Returns:
        For each distance its 2.5th and 97.5th percentile.
    """
    units = reference.units
    members = [np.flatnonzero(units == name) for name in np.unique(units)]
    rows = []
    for _ in range(repeats):
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        rows.append(measure(ours, reference.values[drawn]))
    return _percentiles(rows, 0.025, 0.975)


def frame_band(reference: Reference) -> tuple[Floats, Floats]:
    """Between which values the mean curves of the real frames lie.

    Args:
        reference: Values (n, lags): one curve per tile.

    Returns:
        (low, high), each (lags,): 5th and 95th percentile over frames, widened to the
        nearest frame; with up to 20 frames the lowest and highest.
    """
    units = reference.units
    means = np.stack([reference.values[units == name].mean(axis=0) for name in np.unique(units)])
    low = np.percentile(means, 5, axis=0, method="lower")
    return low, np.percentile(means, 95, axis=0, method="higher")


def share_outside(curve: Floats, band: tuple[Floats, Floats]) -> float:
    """Share of the lags at which a curve lies outside a band.

    Args:
        curve: (lags,).
        band: (low, high), each (lags,).

    Returns:
        Between 0 and 1.
    """
    slack = 1e-12  # a curve that is the edge of the band is inside
    return float(np.mean((curve < band[0] - slack) | (curve > band[1] + slack)))


def curve_distances(ours: Floats, reference: Floats) -> Distances:
    """Largest difference between the mean curves of two sets.

    Args:
        ours: (n, lags), one curve per tile.
        reference: (m, lags).

    Returns:
        {"largest_difference": max over lags of |mean of ours - mean of reference|}.
    """
    difference = ours.mean(axis=0) - reference.mean(axis=0)
    return {"largest_difference": float(np.abs(difference).max())}


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
    if band == 0:
        return f"outside by {abs(value):.3g} (the real halves do not differ)"
    return f"outside by a factor of {abs(value) / band:.2g}"
