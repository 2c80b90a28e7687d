import math

import numpy as np
import pytest
from scipy import stats

from sem2ct.metrics import compare


def reference(frames: int, per_frame: int, *, seed: int, between: float) -> compare.Reference:
    """Values that scatter between frames by `between` and within frames by 1."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, between, (frames, 1)) + rng.normal(0, 1, (frames, per_frame))
    return compare.Reference(values.ravel(), np.repeat(np.arange(frames), per_frame))


def test_a_summary_leaves_undefined_tiles_out_and_counts_them():
    facts = compare.summary(np.array([1.0, 2.0, np.nan, 6.0]))
    assert (facts["n"], facts["undefined"]) == (3, 1)
    assert facts["mean"] == 3
    assert facts["sd"] == pytest.approx(math.sqrt(7))
    assert facts["p50"] == 2
    assert math.isnan(compare.summary(np.array([np.nan]))["mean"])
    assert math.isnan(compare.summary(np.array([4.0]))["sd"])


def test_a_shift_is_the_difference_of_means_and_the_wasserstein_distance():
    real = np.array([1.0, 2.0, 4.0, 9.0])
    found = compare.distances(real - 0.75, real)
    assert found["mean_difference"] == pytest.approx(-0.75)
    assert found["wasserstein"] == pytest.approx(0.75)
    sd = real.std(ddof=1)
    assert found["mean_difference_sd"] == pytest.approx(-0.75 / sd)
    assert found["wasserstein_sd"] == pytest.approx(0.75 / sd)


def test_the_largest_difference_of_distributions_is_scipys_statistic():
    rng = np.random.default_rng(4)
    ours, real = rng.normal(0.4, 2, 37), rng.normal(0, 1, 61)
    expected = stats.ks_2samp(ours, real).statistic
    assert compare.distances(ours, real)["ks"] == pytest.approx(expected)
    assert compare.distances(np.array([1.0, 1.0]), np.array([1.0, 3.0]))["ks"] == 0.5


def test_the_wasserstein_distance_is_scipys_also_with_ties():
    rng = np.random.default_rng(14)
    ours, real = rng.integers(0, 9, 40).astype(float), rng.integers(2, 15, 23).astype(float)
    expected = stats.wasserstein_distance(ours, real)
    assert compare.distances(ours, real)["wasserstein"] == pytest.approx(expected)


def test_the_energy_distance_is_that_of_its_definition():
    rng = np.random.default_rng(5)
    ours, real = rng.normal(1, 1, 20), rng.normal(0, 2, 33)
    across = np.abs(ours[:, None] - real).mean()
    within = np.abs(ours[:, None] - ours).mean() + np.abs(real[:, None] - real).mean()
    found = compare.distances(ours, real)["energy"]
    assert found == pytest.approx(math.sqrt(2 * across - within))


def test_a_reference_without_spread_gives_no_distance_over_its_sd():
    found = compare.distances(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert found["wasserstein"] == pytest.approx(1.5)
    assert math.isnan(found["wasserstein_sd"])
    assert all(map(math.isnan, compare.distances(np.array([np.nan]), np.array([3.0])).values()))


def test_halves_never_cut_a_frame():
    units = np.array([5, 5, 9, 9, 9, 2, 7, 7])
    rng = np.random.default_rng(0)
    masks = compare.halves(units, splits=50, rng=rng)
    assert len(masks) == 6  # ways to choose 2 of 4
    assert len({tuple(mask) for mask in masks}) == 6
    for mask in masks:
        assert len(np.unique(units[mask])) == 2
        assert not set(units[mask]) & set(units[~mask])
    assert compare.halves(np.zeros(4, int), splits=5, rng=rng) == []
    assert len(compare.halves(np.arange(40), splits=7, rng=rng)) == 7


def test_tiles_of_one_frame_are_resampled_one_by_one():
    assert compare.Reference(np.zeros(3), np.array([4, 4, 4])).units.tolist() == [0, 1, 2]
    assert compare.Reference(np.zeros(3), np.array([4, 1, 4])).units.tolist() == [4, 1, 4]


def test_frames_that_differ_widen_the_real_vs_real_band():
    # The sd of a mean over 5 frames is about between / sqrt(5); of 100 single tiles, 0.1.
    rng = np.random.default_rng(1)
    real = reference(10, 20, seed=3, between=2.0)
    loose = compare.Reference(real.values, np.arange(200))
    by_frame = compare.real_vs_real(real, compare.distances, splits=100, most=1000, rng=rng)
    by_tile = compare.real_vs_real(loose, compare.distances, splits=100, most=1000, rng=rng)
    assert by_frame["mean_difference"] > 3 * by_tile["mean_difference"]


def test_the_interval_of_a_mean_difference_is_as_wide_as_its_frames_scatter():
    rng = np.random.default_rng(1)
    real = reference(40, 10, seed=6, between=2.0)
    ends = compare.interval(np.zeros(50), real, compare.distances, repeats=400, rng=rng)
    low, high = ends["mean_difference"]
    means = real.values.reshape(40, 10).mean(axis=1)
    assert high - low == pytest.approx(2 * 1.96 * means.std() / math.sqrt(40), rel=0.15)
    assert low < -means.mean() < high


def test_the_verdict_on_the_same_population_is_inside_and_on_a_shifted_one_outside():
    rng = np.random.default_rng(2)
    real = reference(12, 20, seed=7, between=0.5)
    bands = compare.real_vs_real(real, compare.distances, splits=100, most=1000, rng=rng)
    same = reference(12, 20, seed=8, between=0.5).values
    for shift, verdict in ((0.0, "inside the real-vs-real band"), (3.0, "outside by a factor of")):
        found = compare.distances(same + shift, real.values)
        said = compare.verdict(found["wasserstein"], bands["wasserstein"])
        assert said.startswith(verdict)


def test_a_verdict_says_by_which_factor():
    assert compare.verdict(-0.6, 0.2) == "outside by a factor of 3"
    for value, said in ((1.001, "just over 1"), (1.04, "1.04"), (1.31, "1.3"), (142.0, "142")):
        assert compare.verdict(value, 1.0) == f"outside by a factor of {said}"
    assert compare.verdict(-0.2, 0.2) == "inside the real-vs-real band"
    assert compare.verdict(0.2, None) == compare.verdict(math.nan, 1) == "no band to judge by"
    assert compare.verdict(0.2, 0.0).startswith("outside by 0.2")


def test_a_verdict_without_a_band_is_neither_good_nor_bad():
    assert compare.judged(0.1, 0.2)["inside"] is True
    assert compare.judged(0.3, 0.2)["inside"] is False
    assert compare.judged(0.3, math.nan)["inside"] is None


def test_tiles_that_are_alike_in_a_frame_count_as_one():
    rng = np.random.default_rng(11)
    frames = np.repeat(np.arange(9), 7)
    same = np.repeat(rng.normal(size=9), 7)
    # All variance lies between the frames: 9 values, of which s^2 loses the factor (n-1)/n.
    expected = 9 * (8 / 9) * 63 / 62
    assert compare.effective_n(same, frames) == pytest.approx(expected)


def test_tiles_that_ignore_their_frame_count_fully_on_average():
    rng = np.random.default_rng(12)
    frames = np.repeat(np.arange(40), 25)
    found = [compare.effective_n(rng.normal(size=1000), frames) for _ in range(30)]
    assert max(found) == 1000
    assert np.mean(found) > 850


def test_the_design_effect_is_kishs_for_frames_of_equal_size():
    # Intraclass correlation 1/2, 20 tiles per frame: 1 + 19 / 2.
    rng = np.random.default_rng(13)
    frames = np.repeat(np.arange(400), 20)
    values = rng.normal(size=(400, 1)) + rng.normal(size=(400, 20))
    found = compare.effective_n(values.ravel(), frames)
    assert 8000 / found == pytest.approx(1 + 19 / 2, rel=0.1)


def test_one_frame_has_no_effective_number():
    assert math.isnan(compare.effective_n(np.array([1.0, 2.0]), np.array([3, 3])))
    assert math.isnan(compare.effective_n(np.array([2.0, 2.0]), np.array([3, 4])))


def test_coverage_tells_what_ours_adds_from_what_it_lacks():
    real = np.linspace(0, 1, 1001)
    found = compare.coverage(np.linspace(0.4, 0.6, 101), real)
    assert found["ours"] == 1
    assert found["reference"] == pytest.approx(0.18, abs=0.002)  # 0.9 of a fifth
    wide = compare.coverage(np.linspace(-1, 2, 3001), real)
    assert wide["ours"] == pytest.approx(0.9 / 3, abs=0.002)
    assert wide["reference"] == 1
    equal = compare.coverage(real, real)
    assert equal["ours"] == equal["reference"] == pytest.approx(0.9, abs=0.002)


def test_frames_are_drawn_whole_and_as_many_as_there_are():
    units = np.array([4, 4, 1, 7, 7, 7])
    drawn = compare.draws(units, repeats=300, rng=np.random.default_rng(0))
    assert drawn.shape == (300, 6)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 3] == drawn[:, 5]).all()
    assert (drawn[:, 0] + drawn[:, 2] + drawn[:, 3] == 3).all()
    assert drawn[:, 2].mean() == pytest.approx(1, abs=0.15)


def test_one_half_is_thinned_to_the_size_of_the_compared_set():
    units = np.repeat(np.arange(6), 10)
    rng = np.random.default_rng(0)
    for one, other in compare.pairs(units, splits=9, most=4, rng=rng):
        assert (one.sum(), other.sum()) == (4, 30)
        assert not (one & other).any()
    one, other = compare.pairs(units, splits=1, most=60, rng=rng)[0]
    assert (one.sum(), other.sum()) == (30, 30)
    # Four tiles scatter more than thirty do, so they are forgiven more.
    real = compare.Reference(rng.normal(size=60), units)
    bands = [
        compare.real_vs_real(real, compare.distances, splits=99, most=most, rng=rng)["ks"]
        for most in (4, 60)
    ]
    assert bands[0] > 1.5 * bands[1]
