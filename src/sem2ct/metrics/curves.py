"""Distances between the mean curves of two sets, with the band of real against real.

A mean of tiles is a sum with weights, so all random halves and all draws of the
real frames are one matrix product each, however many tiles there are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import compare
from sem2ct.metrics.compare import Reference

Floats = NDArray[np.float64]

BAND_SPLITS = 20
"""Halves whose own frames' band is drawn; each asks for percentiles over frames."""


def frame_means(reference: Reference) -> Floats:
    """Mean curve of each frame.

    Args:
        reference: Values (n, ...): one curve, or several, per tile.

    Returns:
        (frames, ...) float64, in ascending order of the frames' numbers.
    """
    names, member = np.unique(reference.units, return_inverse=True)
    if len(names) == len(member):
        return np.asarray(reference.values, np.float64)[np.argsort(member)]
    rows = [reference.values[member == k].mean(axis=0, dtype=float) for k in range(len(names))]
    return np.stack(rows)


def frame_band(reference: Reference) -> tuple[Floats, Floats]:
    """Between which values the mean curves of the real frames lie.

    Args:
        reference: Values (n, ...): one curve, or several, per tile.

    Returns:
        (low, high), each (...): 5th and 95th percentile over frames, widened to the
        nearest frame; with up to 20 frames the lowest and highest.
    """
    return _band(frame_means(reference))


def _band(means: Floats) -> tuple[Floats, Floats]:
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


def compared(
    ours: NDArray[np.floating], reference: Reference, *, splits: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Largest difference between the mean curves, and how often ours leaves the band.

    Args:
        ours: (n, lags), one curve per tile, finite.
        reference: Values (m, lags), finite, and their frames.
        splits: Most random halves of the real frames.
        repeats: How often the real frames are drawn again.
        seed: Of the halves and the draws.

    Returns:
        distances {"largest_difference": value, interval, real_vs_real (NaN without
        halves)}, share_outside (share of lags outside the real frames' band) and
        share_outside_real_vs_real (95th percentile for one half in the band of the other).
    """
    rng = np.random.default_rng(seed)
    values = np.asarray(reference.values, np.float64)
    mean = np.asarray(ours, np.float64).mean(axis=0)
    drawn = compare.draws(reference.units, repeats=repeats, rng=rng)
    others = _weighted(drawn, values)
    ends = np.quantile(np.abs(mean - others).max(axis=1), (0.025, 0.975))
    both = compare.pairs(reference.units, splits=splits, most=len(ours), rng=rng)
    return {
        "distances": {
            "largest_difference": {
                "value": float(np.abs(mean - values.mean(axis=0)).max()),
                "interval": ends.tolist(),
                "real_vs_real": _between_halves(both, values),
            }
        },
        "share_outside": share_outside(mean, frame_band(reference)),
        "share_outside_real_vs_real": _outside_between_halves(both, reference),
    }


def _weighted(weights: NDArray, values: Floats) -> Floats:
    """Mean curves (k, lags) under weights (k, n)."""
    return weights @ values / weights.sum(axis=1, keepdims=True)


def _between_halves(both: list, values: Floats) -> float:
    if not both:
        return float("nan")
    one, other = (np.stack(masks).astype(float) for masks in zip(*both, strict=True))
    apart = np.abs(_weighted(one, values) - _weighted(other, values)).max(axis=1)
    return float(np.quantile(apart, compare.WIDEST))


def _outside_between_halves(both: list, reference: Reference) -> float:
    shares = []
    for one, other in both[:BAND_SPLITS]:
        band = frame_band(Reference(reference.values[other], reference.units[other]))
        shares.append(share_outside(reference.values[one].mean(axis=0, dtype=float), band))
    return float(np.quantile(shares, compare.WIDEST)) if shares else float("nan")
