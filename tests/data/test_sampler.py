import numpy as np
import pytest

from sem2ct.data.sampler import order


@pytest.mark.parametrize("n", [1, 7, 64])
def test_every_pass_shows_each_image_once(n):
    shown = order(n, np.arange(5 * n), seed=3).reshape(5, n)
    np.testing.assert_array_equal(np.sort(shown, axis=1), np.tile(np.arange(n), (5, 1)))


def test_passes_and_seeds_are_shuffled_differently():
    passes = order(50, np.arange(150), seed=3).reshape(3, 50)
    assert len({tuple(one) for one in passes} | {tuple(order(50, np.arange(50), seed=4))}) == 4


def test_any_position_can_be_asked_for_directly():
    whole = order(13, np.arange(100), seed=8)
    scattered = np.array([[99, 0], [40, 26]])
    np.testing.assert_array_equal(order(13, scattered, seed=8), whole[scattered])


def test_ranks_share_what_one_process_would_show():
    whole = order(10, np.arange(24), seed=1)
    shares = [order(10, np.arange(rank, 24, 3), seed=1) for rank in range(3)]
    np.testing.assert_array_equal(np.stack(shares, axis=1).ravel(), whole)
