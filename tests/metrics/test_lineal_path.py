import numpy as np
import pytest

from sem2ct.metrics import lineal_path
from sem2ct.runtime.refusal import Refusal


@pytest.mark.parametrize("along", ["x", "y"])
def test_segments_are_those_counted_one_by_one(along):
    pores = np.random.default_rng(2).random((11, 17)) < 0.75
    lines = pores if along == "x" else pores.T
    width = lines.shape[1]
    hits, segments = lineal_path.segment_counts(pores, 8, along=along)
    for z in range(9):
        places = [line[start : start + z + 1] for line in lines for start in range(width - z)]
        assert segments[z] == len(places)
        assert hits[z] == sum(part.all() for part in places)


def test_the_longest_segment_is_the_whole_line():
    pores = np.ones((3, 7), bool)
    pores[1, 4] = False
    found = lineal_path.lineal_path(pores, 6, along="x")
    assert found[6] == pytest.approx(2 / 3)
    assert found[0] == pores.mean()


def test_an_image_of_one_phase_has_a_constant_path():
    np.testing.assert_array_equal(lineal_path.lineal_path(np.ones((6, 9), bool), 5, along="y"), 1)
    np.testing.assert_array_equal(lineal_path.lineal_path(np.zeros((6, 9), bool), 5, along="y"), 0)


def test_a_volume_has_a_path_along_z():
    pores = np.zeros((6, 3, 4), bool)
    pores[1:4, 2, 3] = True
    hits, segments = lineal_path.segment_counts(pores, 3, along="z")
    assert hits.tolist() == [3, 2, 1, 0]
    assert segments.tolist() == [72, 60, 48, 36]


def test_between_boolean_discs_the_path_is_the_chance_to_meet_none():
    # A segment of length z meets a disc whose centre lies in a stadium of area
    # pi r^2 + 2 r z; centres are a Poisson process.
    side, radius, density, reach = 500, 7.0, 0.0025, 40
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:side, 0:side]
    found = []
    for _ in range(4):
        grain = np.zeros((side, side), bool)
        for cy, cx in rng.uniform(-radius, side + radius, (rng.poisson(density * 514**2), 2)):
            box = np.s_[max(0, int(cy) - 8) : int(cy) + 9, max(0, int(cx) - 8) : int(cx) + 9]
            grain[box] |= (y[box] - cy) ** 2 + (x[box] - cx) ** 2 < radius**2
        found += [lineal_path.lineal_path(~grain, reach, along=way) for way in ("x", "y")]
    z = np.arange(reach + 1)
    expected = np.exp(-density * (np.pi * radius**2 + 2 * radius * z))
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.02)


def test_a_reach_longer_than_the_line_is_refused_with_the_longest_allowed():
    with pytest.raises(Refusal, match=r"reach_px=9, .*\(9, 30\) supports lags along y from 0 to 8"):
        lineal_path.lineal_path(np.zeros((9, 30), bool), 9, along="y")
