import numpy as np
import pytest

from sem2ct.metrics import compare, curves
from sem2ct.metrics.compare import Reference


def bundle(frames: int, per_frame: int, *, seed: int, shift: float = 0.0) -> Reference:
    """Curves over 6 lags that scatter between frames by 1 and within frames by 0.5."""
    rng = np.random.default_rng(seed)
    level = rng.normal(shift, 1, (frames, 1, 1))
    values = level + rng.normal(0, 0.5, (frames, per_frame, 6))
    return Reference(values.reshape(-1, 6), np.repeat(np.arange(frames), per_frame))


def test_the_band_of_few_frames_reaches_from_the_lowest_to_the_highest():
    values = np.array([[1.0, 5], [3, 5], [10, 0], [10, 0], [4, 4]])
    low, high = curves.frame_band(Reference(values, np.array([0, 0, 1, 1, 2])))
    assert low.tolist() == [2, 0]
    assert high.tolist() == [10, 5]
    assert curves.share_outside(np.array([10.0, 5.1]), (low, high)) == 0.5


def test_tiles_without_frames_are_their_own():
    values = np.array([[1.0, 5], [3, 5], [2, 0]])
    means = curves.frame_means(Reference(values, np.array([0, 0, 0])))
    np.testing.assert_array_equal(means, values)


def test_curves_are_compared_by_their_means():
    ours = np.array([[1.0, 4], [3, 4]])
    real = Reference(np.array([[2.0, 1], [2, 2], [2, 3]]), np.array([0, 1, 2]))
    found = curves.compared(ours, real, splits=9, repeats=9, seed=0)
    assert found["distances"]["largest_difference"]["value"] == 2
    assert found["share_outside"] == 0.5


def test_the_band_and_the_interval_are_those_of_the_plain_formulas():
    real, ours = bundle(12, 5, seed=1), bundle(9, 5, seed=2, shift=0.7).values
    found = curves.compared(ours, real, splits=50, repeats=60, seed=3)
    rng = np.random.default_rng(3)
    drawn = compare.draws(real.units, repeats=60, rng=rng)
    mean = ours.mean(axis=0)
    apart = [
        np.abs(mean - np.repeat(real.values, counts, axis=0).mean(axis=0)).max() for counts in drawn
    ]
    both = compare.pairs(real.units, splits=50, most=len(ours), rng=rng)
    between = [
        np.abs(real.values[a].mean(axis=0) - real.values[b].mean(axis=0)).max() for a, b in both
    ]
    row = found["distances"]["largest_difference"]
    assert row["interval"] == pytest.approx(np.quantile(apart, (0.025, 0.975)))
    assert row["real_vs_real"] == pytest.approx(np.quantile(between, 0.95))


def test_a_shifted_bundle_leaves_the_band_and_a_like_one_does_not():
    real = bundle(12, 5, seed=1)
    same, other = bundle(12, 5, seed=2), bundle(12, 5, seed=3, shift=6)
    how = {"splits": 40, "repeats": 20, "seed": 0}
    assert curves.compared(same.values, real, **how)["share_outside"] == 0
    found = curves.compared(other.values, real, **how)
    assert found["share_outside"] == 1
    assert 0 < found["share_outside_real_vs_real"] < 1


def test_a_single_frame_of_one_tile_has_no_band():
    real = Reference(np.array([[1.0, 2]]), np.array([0]))
    found = curves.compared(np.array([[1.0, 4]]), real, splits=5, repeats=5, seed=0)
    assert np.isnan(found["distances"]["largest_difference"]["real_vs_real"])
    assert np.isnan(found["share_outside_real_vs_real"])
