"""The pretended instruments against plain arithmetic."""

import numpy as np
import pytest

from sem2ct.data import toy_scans


def test_the_area_mean_is_the_mean_of_blocks():
    volume = np.random.default_rng(0).random((6, 9, 12)).astype(np.float32)
    expected = volume.reshape(2, 3, 3, 3, 4, 3).mean((1, 3, 5))
    assert toy_scans.area_mean(volume, 3) == pytest.approx(expected, rel=1e-6)
    assert np.array_equal(toy_scans.area_mean(volume, 1), volume)


def test_a_ct_keeps_the_mean_attenuation_and_is_constant_outside_its_field():
    half_voxels = np.full((8, 80, 120), 0.25, np.float32)
    ct = toy_scans.micro_ct(half_voxels, draw=np.random.default_rng(1))
    assert ct.shape == (4, 40, 60)
    outside = ct == toy_scans.CT_BACKGROUND
    y, x = np.mgrid[:40, :60]
    assert np.array_equal(outside[0], (y - 19.5) ** 2 + (x - 29.5) ** 2 > (0.48 * 40) ** 2)
    # Air is 9000 and the densest mineral 41000, so a quarter is 17000.
    assert ct[~outside].mean() == pytest.approx(17000, abs=100)
    assert ct[~outside].std() == pytest.approx(900, rel=0.05)


def test_a_sem_image_keeps_its_greys_up_to_shading_and_noise():
    grey = np.full((200, 300), 140, np.uint8)
    grey[:, 150:] = 40
    image = toy_scans.sem_image(grey, draw=np.random.default_rng(2)).astype(float)
    assert image[:, :148].mean() == pytest.approx(140, abs=5)
    assert image[:, 152:].mean() == pytest.approx(40, abs=3)
    assert image[:40, :40].std() == pytest.approx(6, rel=0.1)


def test_a_data_bar_is_black_with_white_marks():
    bar = toy_scans.data_bar(512)
    assert bar.shape == (48, 512)
    assert set(np.unique(bar)) == {0, 255}
    assert 0.02 < (bar == 255).mean() < 0.3
