import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import measure

from sem2ct.metrics import connectivity
from sem2ct.runtime.refusal import Refusal


@pytest.mark.parametrize(("few", "pixels"), [(4, 1), (8, 2)])
def test_the_euler_number_of_an_image_is_that_of_scikit_image(few, pixels):
    for seed in range(6):
        pores = np.random.default_rng(seed).random((17, 23)) < 0.55
        expected = measure.euler_number(pores, pixels)
        assert connectivity.euler_number(pores, connectivity=few) == expected


@pytest.mark.parametrize(("few", "voxels"), [(6, 1), (26, 3)])
def test_the_euler_number_of_a_volume_is_that_of_scikit_image(few, voxels):
    for seed in range(4):
        pores = np.random.default_rng(seed).random((9, 11, 13)) < 0.4
        expected = measure.euler_number(pores, voxels)
        assert connectivity.euler_number(pores, connectivity=few) == expected


def test_a_ring_has_one_hole_and_two_corners_touch_only_for_eight_neighbours():
    ring = np.zeros((9, 10), bool)
    ring[2:7, 2:7] = True
    ring[4, 4] = False
    assert connectivity.euler_number(ring, connectivity=4) == 0
    corners = np.zeros((6, 7), bool)
    corners[2, 2] = corners[3, 3] = True
    assert connectivity.euler_number(corners, connectivity=4) == 2
    assert connectivity.euler_number(corners, connectivity=8) == 1


def test_the_frame_cuts_no_pore_off_in_the_density():
    # Discs on a grid, one per 16 x 16 pixels, cut by the frame on all sides.
    y, x = np.mgrid[0:161, 0:161] % 16 - 3
    pores = np.minimum(abs(y), 16 - abs(y)) ** 2 + np.minimum(abs(x), 16 - abs(x)) ** 2 < 20
    for neighbours in (4, 8):
        density = connectivity.euler_density(pores, connectivity=neighbours)
        assert density * 16**2 == pytest.approx(1, rel=1e-9)
    as_it_lies = connectivity.euler_number(pores, connectivity=8) / pores.size
    assert as_it_lies * 16**2 > 1.05
    half = np.zeros((30, 40), bool)
    half[:11] = True
    assert connectivity.euler_density(half, connectivity=4) == pytest.approx(0, abs=1e-12)


def test_the_density_of_boolean_discs_has_its_closed_form():
    # Miles 1976: density e^(-n) (1 - n) with n discs over each point on average.  Cusps
    # where discs cross are under a pixel wide, so a few per cent are lost.
    side, radius, density = 800, 16.0, 0.0004
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:side, 0:side]
    found = []
    for _ in range(6):
        discs = np.zeros((side, side), bool)
        for cy, cx in rng.uniform(-radius, side + radius, (rng.poisson(density * 832**2), 2)):
            box = np.s_[max(0, int(cy) - 17) : int(cy) + 18, max(0, int(cx) - 17) : int(cx) + 18]
            discs[box] |= (y[box] - cy) ** 2 + (x[box] - cx) ** 2 < radius**2
        found.append(connectivity.euler_density(discs, connectivity=4))
    over = density * np.pi * radius**2
    assert np.mean(found) == pytest.approx(density * np.exp(-over) * (1 - over), rel=0.1)


def test_the_density_counts_per_area_and_per_volume_in_micrometres():
    pores = gaussian_filter(np.random.default_rng(0).normal(size=(60, 70)), 2) > 0.05
    coarse = connectivity.euler_density(pores, connectivity=8, pixel_size_um=2)
    assert coarse == pytest.approx(connectivity.euler_density(pores, connectivity=8) / 4)
    volume = np.zeros((8, 9, 10), bool)
    volume[3, 4, 5] = True
    found = connectivity.euler_density(volume, connectivity=6, pixel_size_um=0.5)
    assert found == pytest.approx(1 / (7 * 8 * 9) * 8)


def test_labels_join_what_touches():
    pores = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    assert connectivity.labels(pores, connectivity=8).max() == 3
    assert connectivity.labels(pores, connectivity=4).max() == 4
    named = connectivity.labels(pores, connectivity=8)
    assert connectivity.largest_share(named) == 4 / 8
    assert connectivity.spanning(named, along="x").sum() == 4


def test_only_pores_that_cross_the_image_count_as_connected():
    pores = np.zeros((10, 20), bool)
    pores[3] = True
    pores[6:, 5] = True
    assert connectivity.connected_fraction(pores, connectivity=4, along="x") == 20 / 24
    assert connectivity.connected_fraction(pores, connectivity=4, along="y") == 0
    assert connectivity.connected_fraction(pores, connectivity=4) == 20 / 24
    pores[4:6, 5] = True
    assert connectivity.connected_fraction(pores, connectivity=4) == 1
    assert connectivity.connected_fraction(pores.T, connectivity=4, along="y") == 1


def test_a_volume_is_crossed_along_the_asked_axis_only():
    pores = np.zeros((5, 6, 7), bool)
    pores[:, 2, 3] = True
    shares = [connectivity.connected_fraction(pores, connectivity=6, along=way) for way in "zyx"]
    assert shares == [1, 0, 0]


def test_without_pores_there_is_nothing_to_connect():
    none = np.zeros((4, 5), bool)
    assert np.isnan(connectivity.connected_fraction(none, connectivity=8))
    assert np.isnan(connectivity.largest_share(connectivity.labels(none, connectivity=8)))
    assert connectivity.euler_density(none, connectivity=8) == 0


@pytest.mark.parametrize(("shape", "given"), [((4, 5), 6), ((4, 5, 6), 8), ((4,), 4)])
def test_a_connectivity_of_another_dimension_is_refused(shape, given):
    with pytest.raises(Refusal, match=rf"connectivity={given} .* allowed is"):
        connectivity.labels(np.zeros(shape, bool), connectivity=given)
