import numpy as np
import pytest
from scipy import stats

from sem2ct.metrics import joint
from sem2ct.metrics.compare import Reference

NAMES = ("a", "b", "c", "d")


def hanging_together(count: int, *, seed: int, gap: float = 0.0) -> np.ndarray:
    """Three columns that share almost all of their spread, one without relation.

    `gap` moves the third against the first by so many of its own small standard deviations.
    """
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(count, 1)), rng.normal(size=(count, 4))
    values = np.concatenate([common + 0.1 * own[:, :3], own[:, 3:]], axis=1)
    values[:, 2] += 0.1 * gap
    return values


def compared(ours, real, frames, **changes):
    how = {"names": NAMES, "splits": 60, "repeats": 30, "seed": 0} | changes
    return joint.compared(ours, Reference(real, frames), **how)


def test_ranks_are_shares_of_the_real_tiles_and_undefined_ones_come_first():
    real = np.array([[1.0], [2], [2], [np.nan], [9]])
    found = joint.ranks(real, np.array([[np.nan], [1.0], [2], [3], [99], [-5]]))
    np.testing.assert_allclose(found[:, 0], [0.1, 0.3, 0.6, 0.8, 1, 0.2])


def test_real_ranks_are_whitened_to_uncorrelated_equal_spread():
    real = joint.ranks(*[hanging_together(800, seed=1)] * 2)
    found = joint.whitened(real, real)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(found.T), np.eye(4), atol=1e-6)


def test_the_energy_distance_is_that_of_its_definition_without_pairs_of_oneself():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(9, 3))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    one = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0]])
    other = np.array([[0, 0, 0, 1, 2, 0, 1, 1, 0]])
    a, b = [0, 1, 2], [3, 4, 4, 6, 7]
    across = np.mean([apart[i, j] for i in a for j in b])
    within_a = np.mean([apart[i, j] for i in a for j in a if i != j])
    pairs = [(i, j) for i in b for j in b if i != j]
    within_b = np.mean([apart[i, j] for i, j in pairs])
    expected = 2 * across - within_a - within_b
    assert joint.energy(apart, one, other)[0] == pytest.approx(expected)


def test_equal_populations_are_at_distance_zero_on_average():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(200):
        points = rng.normal(size=(18, 2))
        apart = np.linalg.norm(points[:, None] - points[None], axis=2)
        one = np.zeros((1, 18))
        one[0, :6] = 1
        found.append(joint.energy(apart, one, 1 - one)[0])
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200)


def test_one_population_is_inside_the_band_and_a_shifted_one_is_not():
    real, frames = hanging_together(120, seed=4), np.arange(120) // 4
    same = compared(hanging_together(120, seed=5), real, frames).facts["distances"]
    for name in ("energy", "energy_whitened"):
        assert same[name]["value"] < same[name]["real_vs_real"]
    other = compared(hanging_together(120, seed=5) + 0.8, real, frames)
    row = other.facts["distances"]["energy"]
    assert row["value"] > 2 * row["real_vs_real"]
    assert row["interval"][0] < row["value"] < row["interval"][1]
    assert len(other.splits) == 60
    assert other.facts["shifts"][0]["shift"] > 0.2


def test_only_whitening_sees_a_column_that_leaves_the_company_of_the_others():
    real, frames = hanging_together(200, seed=6), np.arange(200) // 4
    found = compared(hanging_together(200, seed=7, gap=2.0), real, frames).facts["distances"]
    assert found["energy"]["value"] < found["energy"]["real_vs_real"]
    assert found["energy_whitened"]["value"] > 3 * found["energy_whitened"]["real_vs_real"]


def test_coverage_falls_when_a_set_shows_half_of_the_other():
    real, frames = hanging_together(160, seed=8), np.arange(160) // 4
    some = hanging_together(600, seed=9)
    half = some[some[:, 0] > 0][:160]
    near = compared(half, real, frames).facts["coverage"]
    low, high = near["ours"]["real_vs_real"]
    assert 0.8 < low <= high <= 1
    assert near["reference"]["value"] < low
    assert near["ours"]["value"] > near["reference"]["value"] + 0.1


def test_rank_correlations_are_scipys():
    values = hanging_together(50, seed=10)
    expected = stats.spearmanr(values).statistic
    np.testing.assert_allclose(joint.rank_correlations(values), expected, atol=1e-12)
    holes = values.copy()
    holes[::3, 1] = np.nan
    whole = np.isfinite(holes).all(axis=1)
    expected = stats.spearmanr(values[whole]).statistic
    np.testing.assert_allclose(joint.rank_correlations(holes), expected, atol=1e-12)
    assert np.isnan(joint.rank_correlations(values[:2])).all()


def test_the_distance_of_correlations_is_their_largest_difference():
    ours, real = hanging_together(80, seed=11), hanging_together(90, seed=12)
    ours[:, 2] = -ours[:, 2]
    found = joint.correlation_distance(ours, real)["correlations"]
    apart = stats.spearmanr(ours).statistic - stats.spearmanr(real).statistic
    assert found == pytest.approx(np.abs(apart).max())
    assert found > 1.8
    constant = {"correlations": pytest.approx(0.0)}
    assert joint.correlation_distance(real, real) == constant
    assert np.isnan(joint.correlation_distance(ours[:2], real)["correlations"])


def test_descriptors_that_are_undefined_everywhere_do_no_harm():
    real, frames = hanging_together(40, seed=13), np.arange(40)
    real[:, 3] = np.nan
    ours = hanging_together(30, seed=14)
    ours[:, 3] = np.nan
    facts = compared(ours, real, frames).facts
    assert all(np.isfinite(row["value"]) for row in facts["distances"].values())
    assert {row["name"] for row in facts["shifts"]} == set(NAMES)
    assert (facts["tiles"], facts["reference_tiles"], facts["descriptors"]) == (30, 40, 4)


def test_a_reference_of_two_tiles_is_compared():
    ours = hanging_together(3, seed=15)
    facts = compared(ours, hanging_together(2, seed=16), np.array([0, 1])).facts
    assert np.isfinite(facts["distances"]["energy"]["value"])
