import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from sem2ct.metrics import pore_size


def all_discs_drawn(pores: np.ndarray) -> np.ndarray:
    """Local thickness by drawing the disc of every pore pixel."""
    places = np.indices(pores.shape)
    squared = np.rint(distance_transform_edt(pores) ** 2)
    largest = np.zeros(pores.shape)
    for centre in np.argwhere(pores):
        away = sum((along - at) ** 2 for along, at in zip(places, centre, strict=True))
        radius2 = squared[tuple(centre)]
        largest = np.where(away < radius2, np.maximum(largest, np.sqrt(radius2)), largest)
    return np.where(pores, 2 * largest - 1, 0)


def texture(shape: tuple[int, ...], scale: float, *, share: float, seed: int) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), scale)
    return field < np.quantile(field, share)


@pytest.mark.parametrize("shape", [(50, 61), (14, 17, 20)])
def test_small_pores_are_exactly_as_thick_as_all_their_discs(shape):
    pores = texture(shape, 1.2, share=0.4, seed=3)
    assert distance_transform_edt(pores).max() <= pore_size.SMALL_PX
    np.testing.assert_allclose(pore_size.local_thickness(pores), all_discs_drawn(pores), rtol=1e-9)


@pytest.mark.parametrize("scale", [4, 9])
def test_large_pores_are_as_thick_as_all_their_discs_to_one_percent_in_the_mean(scale):
    pores = texture((110, 120), scale, share=0.55, seed=7)
    assert distance_transform_edt(pores).max() > 2 * pore_size.SMALL_PX
    exact = all_discs_drawn(pores)[pores]
    found = pore_size.local_thickness(pores)[pores]
    assert found.mean() == pytest.approx(exact.mean(), rel=0.01)
    assert np.mean(abs(found - exact) > 1) < 0.1


@pytest.mark.parametrize("width", [1, 5, 9, 23])
def test_a_slit_is_as_thick_as_it_is_wide(width):
    pores = np.zeros((60, 80), bool)
    pores[20 : 20 + width] = True
    assert set(np.unique(pore_size.local_thickness(pores))) == {0, width}
    assert pore_size.mean_thickness(pores, pixel_size_um=0.5) == width / 2


def test_a_wide_pore_is_wide_up_to_its_neck():
    pores = np.zeros((41, 80), bool)
    pores[18:21, 30:] = True
    y, x = np.mgrid[0:41, 0:80]
    pores |= (y - 19) ** 2 + (x - 19) ** 2 < 12**2
    thickness = pore_size.local_thickness(pores)
    assert thickness[19, 19] == pytest.approx(23, abs=1.5)
    assert thickness[19, 25] == thickness[19, 19]
    assert thickness[19, 60] == 3


def test_the_frame_is_not_grain():
    pores = np.ones((40, 50), bool)
    pores[:10] = False
    # Only the grain above is near: the disc around the lowest row reaches up to it.
    assert pore_size.local_thickness(pores).max() >= 2 * 30 - 1


def test_without_grain_or_without_pore_there_is_no_thickness():
    assert np.isnan(pore_size.local_thickness(np.ones((5, 6), bool))).all()
    assert np.isnan(pore_size.mean_thickness(np.ones((5, 6), bool)))
    assert np.isnan(pore_size.mean_thickness(np.zeros((5, 6), bool)))


def test_a_ball_is_as_thick_as_its_diameter():
    z, y, x = np.mgrid[0:35, 0:36, 0:37] - 17
    pores = z**2 + y**2 + x**2 < 12.2**2
    assert pore_size.mean_thickness(pores) == pytest.approx(24, rel=0.08)
