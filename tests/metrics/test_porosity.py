import numpy as np
import pytest

from sem2ct.metrics import porosity


def test_porosity_is_the_share_of_true_pixels():
    pores = np.zeros((5, 8), bool)
    pores[1, 2:5] = True
    assert porosity.porosity(pores) == 3 / 40
    assert porosity.porosity(np.ones((2, 3, 4), bool)) == 1


def test_windows_of_a_line_mosaic_scatter_as_predicted():
    # Cells of a Poisson line process with lambda = pi / (2 intensity), cut into windows.
    rng = np.random.default_rng(2)
    intensity, side, radius = 0.4, 100, 71
    y, x = np.mgrid[0:side, 0:side] - 49.5
    found = []
    for _ in range(120):
        cell = np.zeros((side, side), np.uint64)
        for _ in range(rng.poisson(2 * radius * intensity)):
            angle, distance = rng.uniform(0, np.pi), rng.uniform(-radius, radius)
            above = x * np.cos(angle) + y * np.sin(angle) > distance
            cell = cell * np.uint64(6364136223846793005) + above.astype(np.uint64) + np.uint64(1)
        names, cell = np.unique(cell, return_inverse=True)
        found.append(porosity.porosity((rng.random(len(names)) < 0.3)[cell]))
    length = np.pi / (2 * intensity)
    expected = porosity.sampling_sd(0.3, correlation_length_px=length, area_px=side**2)
    assert np.std(found) == pytest.approx(expected, rel=0.2)
