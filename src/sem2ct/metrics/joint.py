"""Distances between two sets in all descriptors at once.

Each descriptor becomes its rank among the real tiles, so that no unit and no tail
outweighs another; a descriptor that is undefined has the lowest rank.  The energy
distance of the ranks sees a shift that many descriptors share.  Descriptors hang
together, though (a porous tile is a dark tile), and a small departure from the way
they hang together can hide in their common spread.  So a second distance is taken
after the ranks' normal scores were made uncorrelated with equal spread (whitened)
by the real tiles: it sees blur, a pixel more of pore, and the like.

Sources: Szekely & Rizzo 2013, J. Stat. Plan. Inference 143, 1249-1272 (energy
distance); Naeem et al. 2020, arXiv:2002.09797 (nearest-neighbour coverage).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import ndtri
from scipy.stats import rankdata

from sem2ct.metrics import compare
from sem2ct.metrics.compare import Reference

Floats = NDArray[np.float64]

MOST_TILES = 1000
"""Tiles of each set, evenly spread: all pairs of them are looked at."""
NEIGHBOURS = 5
COVERAGE_SPLITS = 20
LEAST_SPREAD = 0.01
"""Least variance, of 1 per descriptor on average, a whitened direction is divided by."""


def ranks(reference: Floats, values: Floats) -> Floats:
    """Share of the real tiles that lie lower, column by column.

    Args:
        reference: (m, d) descriptors of the real tiles.
        values: (n, d) descriptors to be ranked; NaN counts as lower than any number.

    Returns:
        (n, d) in [0, 1]; equal values get the middle of theirs.
    """
    found = np.empty(values.shape)
    for k in range(values.shape[1]):
        ordered = np.sort(_nan_lowest(reference[:, k]))
        column = _nan_lowest(values[:, k])
        below = np.searchsorted(ordered, column, "left")
        found[:, k] = (below + np.searchsorted(ordered, column, "right")) / 2 / len(ordered)
    return found


def _nan_lowest(column: Floats) -> Floats:
    return np.where(np.isnan(column), -np.inf, column)


def whitened(reference: Floats, values: Floats) -> Floats:
    """Normal scores of ranks, rotated and scaled so that the real ones are uncorrelated.

    Args:
        reference: (m, d) ranks of the real tiles, m at least 2.
        values: (n, d) ranks to be whitened in the same way.

    Returns:
        (n, d); for the real ranks themselves mean 0, covariance 1 (less where the real tiles
        have next to no spread).
    """
    real = _scores(reference, len(reference))
    spread, directions = np.linalg.eigh(np.cov(real.T).reshape(real.shape[1], real.shape[1]))
    turned = directions / np.sqrt(np.maximum(spread, LEAST_SPREAD))
    return (_scores(values, len(reference)) - real.mean(axis=0)) @ turned


def _scores(rank: Floats, count: int) -> Floats:
    """Normal scores; ranks beyond the real ones stop half a tile short of 0 and 1."""
    return np.asarray(ndtri(np.clip(rank, 0.5 / count, 1 - 0.5 / count)), np.float64)


def energy(apart: Floats, one: NDArray, other: NDArray) -> Floats:
    """Energy distances 2 E|X - Y| - E|X - X'| - E|Y - Y'| of weighted samples.

    Pairs of a tile with itself are left out, so equal populations give 0 on average,
    and chance may give less.

    Args:
        apart: (n, n) distances between all tiles.
        one: (k, n) how often each tile belongs to the first sample.
        other: (k, n) the same for the second.

    Returns:
        (k,).
    """
    one, other = one.astype(float), other.astype(float)
    from_one, from_other = one @ apart, other @ apart
    across = (from_one * other).sum(axis=1) / (one.sum(axis=1) * other.sum(axis=1))
    return 2 * across - _within(from_one, one) - _within(from_other, other)


def _within(reached: Floats, weights: Floats) -> Floats:
    """Mean distance of a sample's pairs; 0 for a sample that is one tile drawn again."""
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    return np.asarray((reached * weights).sum(axis=1) / np.maximum(pairs, 1), np.float64)


def neighbour_coverage(apart: Floats, own: Floats) -> float:
    """Share of tiles that have a tile of the other set about as near as their own.

    Args:
        apart: (n, m) distances from the tiles to those of the other set.
        own: (n, n) distances among the tiles.

    Returns:
        Share whose nearest other tile is no further than their fifth neighbour in their own
        set; two sets of one population and size give about 0.97.
    """
    k = min(NEIGHBOURS, len(own) - 1)
    reach = np.partition(own, k, axis=1)[:, k]  # entry 0 is the tile itself
    return float(np.mean(apart.min(axis=1) <= reach))


def rank_correlations(columns: Floats) -> Floats:
    """Spearman's correlation of each pair of columns.

    Args:
        columns: (n, k); rows with NaN are left out.

    Returns:
        (k, k), NaN where fewer than three rows are whole or a column has no spread.
    """
    whole = columns[np.isfinite(columns).all(axis=1)]
    if len(whole) < 3:
        return np.full((columns.shape[1],) * 2, np.nan)
    ranked = rankdata(whole, axis=0)
    centred = ranked - ranked.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return centred.T @ centred / np.outer(length, length)


def correlation_distance(ours: Floats, reference: Floats) -> compare.Distances:
    """Largest difference between the rank correlations of two sets.

    Args:
        ours: (n, k) main numbers.
        reference: (m, k).

    Returns:
        {"correlations": largest absolute difference over all pairs of columns}, NaN when no
        pair is defined in both.
    """
    apart = np.abs(rank_correlations(ours) - rank_correlations(reference))
    finite = apart[np.isfinite(apart)]
    return {"correlations": float(finite.max()) if len(finite) else float("nan")}


@dataclass(frozen=True)
class Joint:
    """What the descriptors say together."""

    facts: dict[str, Any]
    """Plain values: tiles, reference_tiles, descriptors, distances, coverage, shifts."""
    splits: Floats
    """(k,) energy distances of the ranks between random halves of the real frames."""


def compared(
    ours: NDArray[np.floating],
    reference: Reference,
    *,
    names: tuple[str, ...],
    splits: int,
    repeats: int,
    seed: int,
) -> Joint:
    """Compares two sets in all their descriptors.

    Args:
        ours: (n, d) descriptors, n at least 2; NaN where undefined.
        reference: Values (m, d) and their frames, m at least 2.
        names: Of the d descriptors.
        splits: Most random halves of the real frames.
        repeats: How often the real frames are drawn again.
        seed: Of halves and draws.

    Returns:
        The facts, distances as energy (of ranks) and energy_whitened.
    """
    mine = np.linspace(0, len(ours) - 1, min(len(ours), MOST_TILES)).astype(int)
    theirs = reference.values
    chosen = np.linspace(0, len(theirs) - 1, min(len(theirs), MOST_TILES)).astype(int)
    real, units = theirs[chosen].astype(float), reference.units[chosen]
    # Fewer frames than tiles may be left of many; then tiles are resampled as before.
    units = Reference(real, units).units
    mine_ranked, real_ranked = ranks(real, ours[mine].astype(float)), ranks(real, real)
    apart = _all_pairs(real_ranked, mine_ranked)
    energy_of_ranks, between = _judged(apart, units, splits, repeats, seed)
    near = _coverage(apart, units, seed)
    apart = _all_pairs(whitened(real_ranked, real_ranked), whitened(real_ranked, mine_ranked))
    distances = {
        "energy": energy_of_ranks,
        "energy_whitened": _judged(apart, units, splits, repeats, seed)[0],
    }
    shift = mine_ranked.mean(axis=0) - 0.5
    facts = {
        "tiles": len(mine),
        "reference_tiles": len(real),
        "descriptors": len(names),
        "distances": distances,
        "coverage": near,
        "shifts": [
            {"name": names[k], "shift": float(shift[k])} for k in np.argsort(-np.abs(shift))
        ],
    }
    return Joint(facts, between)


def _all_pairs(real: Floats, ours: Floats) -> Floats:
    both = np.concatenate([real, ours])
    return np.asarray(cdist(both, both), np.float64)


def _judged(
    apart: Floats, units: NDArray, splits: int, repeats: int, seed: int
) -> tuple[dict[str, Any], Floats]:
    """Value, interval and band of the energy distance; the first tiles are the real ones."""
    rng = np.random.default_rng(seed)
    real, every = len(units), len(apart)
    us = np.zeros((1, every))
    us[0, real:] = 1
    them = np.zeros((1, every))
    them[0, :real] = 1
    value = float(energy(apart, us, them)[0])
    drawn = compare.draws(units, repeats=repeats, rng=rng)
    others = energy(apart, np.repeat(us, repeats, axis=0), _wide(drawn, every))
    both = compare.pairs(units, splits=splits, most=every - real, rng=rng)
    between = np.zeros(0)
    if both:
        one, other = (_wide(np.stack(masks), every) for masks in zip(*both, strict=True))
        between = energy(apart, one, other)
    band = float(np.quantile(between, compare.WIDEST)) if both else float("nan")
    interval = np.quantile(others, (0.025, 0.975)).tolist()
    return {"value": value, "interval": interval, "real_vs_real": band}, between


def _wide(weights: NDArray, every: int) -> Floats:
    """Weights of the real tiles, with zeros for the others behind them."""
    return np.pad(weights.astype(float), ((0, 0), (0, every - weights.shape[1])))


def _coverage(apart: Floats, units: NDArray, seed: int) -> dict[str, Any]:
    """Nearest-neighbour coverage both ways, and that of one half of the frames by the other."""
    rng = np.random.default_rng(seed)
    real, every = len(units), len(apart)
    size = min(real, every - real)
    ours = np.sort(rng.choice(np.arange(real, every), size, replace=False))
    theirs = np.sort(rng.choice(real, size, replace=False))
    shares = []
    for one, other in compare.pairs(units, splits=COVERAGE_SPLITS, most=size, rng=rng):
        a, b = np.flatnonzero(one), np.flatnonzero(other)
        shares.append(neighbour_coverage(apart[np.ix_(a, b)], apart[np.ix_(a, a)]))
    ends = [float("nan")] * 2
    if shares:
        ends = np.quantile(shares, (1 - compare.WIDEST, compare.WIDEST)).tolist()
    across = apart[np.ix_(ours, theirs)]
    return {
        "ours": {
            "value": neighbour_coverage(across, apart[np.ix_(ours, ours)]),
            "real_vs_real": ends,
        },
        "reference": {
            "value": neighbour_coverage(across.T, apart[np.ix_(theirs, theirs)]),
            "real_vs_real": ends,
        },
    }
