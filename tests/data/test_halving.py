"""Sums over pairs and their means, against blocks averaged in one step."""

import numpy as np
import pytest

from sem2ct.data.halving import means, pair_sums

DRAW = np.random.default_rng(5)


def test_pairs_are_added_and_odd_ends_count_twice():
    data = np.array([[[1, 3, 7], [5, 7, 8], [9, 10, 11]]], np.uint8)
    # Along y and x: 1 + 3 + 5 + 7, twice 7 + 8, twice 9 + 10, four times 11.
    assert pair_sums(data, axes=(1, 2)).tolist() == [[[16, 30], [38, 44]]]
    # Along z as well the one slice counts twice.
    assert pair_sums(data, axes=(0, 1, 2)).tolist() == [[[32, 60], [76, 88]]]


def test_sums_of_the_brightest_voxels_do_not_overflow():
    sums = np.full((16, 16, 16), 255, np.uint8)
    for level in range(1, 5):
        sums = pair_sums(sums, axes=(0, 1, 2))
        assert (sums == 255 * 8**level).all()
        assert (means(sums, count=8**level) == 255).all()


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2), (0, 2)])
def test_three_levels_are_the_mean_of_whole_blocks_rounded_once(axes):
    data = DRAW.integers(0, 256, (16, 24, 32), dtype=np.uint8)
    sums = data
    for _ in range(3):
        sums = pair_sums(sums, axes=axes)
    side = [8 if axis in axes else 1 for axis in range(3)]
    z, y, x = (n // s for n, s in zip(data.shape, side, strict=True))
    blocks = data.reshape(z, side[0], y, side[1], x, side[2]).astype(np.float64)
    expected = np.rint(blocks.mean((1, 3, 5)))
    np.testing.assert_array_equal(means(sums, count=8 ** len(axes)), expected)


def test_ties_go_to_even_so_that_a_pyramid_grows_no_brighter():
    assert means(np.array([[[1, 3, 5, 7]]], np.uint16), count=2).tolist() == [[[0, 2, 2, 4]]]
