import numpy as np
import pytest

from sem2ct.metrics import chords


def runs_one_by_one(line: list[bool]) -> list[tuple[int, bool]]:
    """Length of each run of True, and whether it keeps off both ends."""
    found, start = [], None
    for place, value in enumerate([*line, False]):
        if value and start is None:
            start = place
        if not value and start is not None:
            found.append((place - start, start > 0 and place < len(line)))
            start = None
    return found


@pytest.mark.parametrize("along", ["x", "y"])
def test_runs_are_those_found_by_walking_along_each_line(along):
    pores = np.random.default_rng(4).random((9, 13)) < 0.6
    lines = pores if along == "x" else pores.T
    expected = [run for line in lines for run in runs_one_by_one(line.tolist())]
    found = chords.runs(pores, along=along)
    assert found.lengths.tolist() == [length for length, _ in expected]
    assert found.interior.tolist() == [interior for _, interior in expected]


def test_runs_along_z_walk_through_the_slices():
    pores = np.zeros((5, 2, 3), bool)
    pores[1:4, 1, 2] = True
    pores[3:, 0, 1] = True
    found = chords.runs(pores, along="z")
    assert found.lengths.tolist() == [2, 3]
    assert found.interior.tolist() == [False, True]


def test_only_runs_that_keep_off_the_frame_are_chords():
    line = np.array([[1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1]], bool)
    assert chords.chord_lengths(line, along="x").tolist() == [3, 1]
    assert chords.chord_lengths(~line, along="x").tolist() == [1, 2, 1]
    assert chords.mean_chord(line, along="x", pixel_size_um=0.5) == 1.0


def test_a_phase_without_interior_runs_has_no_mean_chord():
    assert np.isnan(chords.mean_chord(np.ones((4, 6), bool), along="x"))
    assert np.isnan(chords.mean_chord(np.zeros((4, 6), bool), along="y"))
    assert np.isnan(chords.chord_density(np.array([], int), longest_px=3)).all()


def test_the_density_is_the_share_of_chords_of_each_length():
    density = chords.chord_density(np.array([1, 1, 3, 1, 9]), longest_px=4)
    np.testing.assert_allclose(density, [0, 0.6, 0, 0.2, 0])


def test_independent_pixels_have_geometric_chords():
    # A run of pore ends at each pixel with chance 1 - phi, whatever came before.
    phi = 0.7
    pores = np.random.default_rng(6).random((400, 900)) < phi
    lengths = chords.chord_lengths(pores, along="x")
    density = chords.chord_density(lengths, longest_px=8)
    expected = (1 - phi) * phi ** np.arange(8)
    np.testing.assert_allclose(density[1:], expected, atol=0.01)
    assert lengths.mean() == pytest.approx(1 / (1 - phi), rel=0.02)
