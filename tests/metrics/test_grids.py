import numpy as np
import pytest

from sem2ct.metrics import grids
from sem2ct.metrics.grids import Grid
from sem2ct.runtime.refusal import Refusal


def test_three_known_effects_have_the_mean_squares_of_the_textbook():
    style, noise = np.array([0.0, 1.0, 5.0]), np.array([-2.0, 2.0, 0.0])
    rest = np.array([[1.0, -1.0, 0.0], [-2.0, 2.0, 0.0], [1.0, -1.0, 0.0]])  # no mean either way
    cells = 10 + style[:, None] + noise[None, :] + rest
    # Sums of squares by hand: rows 3 (4 + 1 + 9), columns 3 (4 + 4 + 0), rest 12.
    square_style, square_noise, square_rest = 42 / 2, 24 / 2, 12 / 4
    expected = np.array([(square_style - square_rest) / 3, (square_noise - square_rest) / 3, 3])
    np.testing.assert_allclose(grids.variances(cells), expected)
    found = grids.shares(cells)
    shares = [found[f"share_{part}"] for part in grids.PARTS]
    np.testing.assert_allclose(shares, expected / 12)
    assert found["styles"] == 3
    # By the variance of one row and of one column at a time.
    rows = [np.var(row, ddof=1) for row in cells]
    columns = [np.var(column, ddof=1) for column in cells.T]
    assert found["sd_within_style"] == pytest.approx(np.sqrt(np.mean(rows)))
    assert found["sd_within_noise"] == pytest.approx(np.sqrt(np.mean(columns)))


def test_drawn_effects_are_found_again_within_the_stated_error():
    rng = np.random.default_rng(7)
    found = []
    for _ in range(40):
        cells = 3 * rng.normal(size=(40, 1)) + 2 * rng.normal(size=(1, 30))
        found.append(grids.shares(cells + rng.normal(size=(40, 30))))
    shares = np.array([[one[f"share_{part}"] for part in grids.PARTS] for one in found])
    np.testing.assert_allclose(shares.mean(axis=0), [9 / 14, 4 / 14, 1 / 14], atol=0.03)
    errors = np.mean([one["share_style_error"] for one in found])
    assert 0.7 * shares[:, 0].std() < errors < 1.4 * shares[:, 0].std()


def test_the_error_leaves_out_each_style_and_each_noise_once():
    rng = np.random.default_rng(3)
    cells = rng.normal(size=(6, 1)) + 2 * rng.normal(size=(1, 5)) + rng.normal(size=(6, 5))
    variance = 0.0
    for axis, count in ((0, 6), (1, 5)):
        kept = [np.delete(cells, k, axis) for k in range(count)]
        parts = [np.maximum(grids.variances(some), 0) for some in kept]
        shares = [part[0] / part.sum() for part in parts]
        mean = sum(shares) / count
        variance += (count - 1) / count * sum((share - mean) ** 2 for share in shares)
    assert grids.shares(cells)["share_style_error"] == pytest.approx(variance**0.5)


def test_a_negative_variance_counts_as_nothing():
    cells = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    assert (grids.variances(cells)[:2] < 0).all()
    found = grids.shares(cells)
    assert (found["share_style"], found["share_noise"], found["share_rest"]) == (0, 0, 1)


def test_styles_without_a_value_are_left_out_and_two_decide_nothing():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(6, 4))
    holed = np.insert(cells, 2, [1.0, np.nan, 2.0, 3.0], axis=0)
    assert grids.shares(holed) == grids.shares(cells)
    few = grids.shares(cells[:2])
    assert few["styles"] == 2
    assert np.isnan(few["share_style"])
    assert np.isnan(grids.shares(np.ones((4, 3)))["share_style"])


def test_a_jump_is_told_from_a_walk():
    walk = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    jump = np.array([[5.0, 5.0, 5.0, 3.0, 3.0]])
    back = np.array([[0.0, 2.0, 1.0, 3.0, 4.0]])
    assert grids.paths(walk) == {
        "paths": 1, "even_step": 0.25, "change": 4, "largest_step": 0.25, "detour": 1,
    }  # fmt: skip
    assert grids.paths(jump)["largest_step"] == 1
    assert grids.paths(jump)["change"] == 2
    assert grids.paths(back)["largest_step"] == 0.5
    assert grids.paths(back)["detour"] == 1.5
    both = grids.paths(np.concatenate([walk, walk, jump, np.full((1, 5), np.nan)]))
    assert (both["paths"], both["largest_step"]) == (3, 0.25)
    still = grids.paths(np.ones((2, 5)))
    assert still["change"] == 0
    assert np.isnan(still["largest_step"])


def test_tiles_are_laid_out_in_any_order_and_share_cells():
    outer, inner = np.array([7, 3, 7, 3, 3, 7, 7]), np.array([0, 0, 1, 1, 4, 4, 4])
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
    cells = Grid("fixed_style", outer, inner).cells(values)
    np.testing.assert_array_equal(cells, [[2, 4, 5], [1, 3, 7]])


def test_a_grid_with_holes_is_refused():
    grid = Grid("fixed_noise", np.array([0, 0, 1]), np.array([0, 1, 0]))
    with pytest.raises(Refusal, match=r"2 x 2 tiles .fixed_noise.*only 3.*most_tiles to 4"):
        grid.cells(np.ones(3))


def test_a_grid_states_its_quantities_with_their_units():
    outer, inner = np.divmod(np.arange(12), 3)
    scalars = {name: np.random.default_rng(1).normal(size=12) for name in grids.QUANTITIES}
    units = dict.fromkeys(grids.QUANTITIES, "um")
    found = grids.described(Grid("fixed_style", outer, inner), scalars, units)
    assert (found["mode"], found["outer"], found["inner"]) == ("fixed_style", 4, 3)
    expected = grids.shares(scalars["porosity"].reshape(4, 3))
    assert found["quantities"]["porosity"] == {"unit": "um"} | expected
    walked = grids.described(Grid("interpolate", outer, inner), scalars, units)
    assert walked["quantities"]["correlation_length"]["paths"] == 4
