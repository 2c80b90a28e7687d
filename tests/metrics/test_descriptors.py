import numpy as np
import pytest
from scipy import stats

from sem2ct.metrics import descriptors


def test_there_are_thirty_eight_names_and_no_two_alike():
    assert len(descriptors.NAMES) == len(set(descriptors.NAMES)) == 38


@pytest.mark.parametrize("reach", [5, 32, 256])
def test_lags_grow_by_one_factor_from_one_pixel_to_the_reach(reach):
    lags = descriptors.lags(reach)
    assert (len(lags), lags[0]) == (14, 1)
    assert lags[-1] == pytest.approx(reach)
    np.testing.assert_allclose(lags[1:] / lags[:-1], reach ** (1 / 13))


def test_grey_numbers_are_those_of_the_pixels_themselves():
    grey = np.random.default_rng(0).gamma(4, 18, 3001).clip(0, 255).astype(np.uint8)
    found = descriptors.grey_numbers(np.bincount(grey, minlength=256))
    expected = [grey.mean(), grey.std(), stats.skew(grey)]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-9)
    ranks = np.percentile(grey, (5, 50, 95), method="inverted_cdf")
    np.testing.assert_array_equal(found[3:], ranks)


def test_the_gradient_of_a_ramp_is_its_slope_over_the_two_axes():
    y, x = np.mgrid[0:20, 0:30]
    assert descriptors.mean_gradient((3 * x + 5 * y).astype(np.uint8)) == (3 + 5) / 2
    falling = (250 - 3 * x - 5 * y).astype(np.uint8)
    assert descriptors.mean_gradient(falling) == (3 + 5) / 2


@pytest.mark.parametrize("height", [257, 258, 700])
def test_the_gradient_of_a_tall_image_of_bright_pixels_is_exact(height):
    grey = np.full((height, 4), 255, np.uint8)
    grey[::5] = 254
    apart = np.abs(np.diff(grey.astype(int), axis=0))
    assert descriptors.mean_gradient(grey) == apart.mean() / 2


def test_each_number_stands_under_its_name():
    grey = np.random.default_rng(1).integers(0, 200, (30, 40)).astype(np.uint8)
    levels = np.bincount(grey.ravel(), minlength=256)
    r_x, r_y = np.exp(-np.arange(21) / 4), np.exp(-np.arange(21) / 9)
    found = descriptors.describe(
        grey,
        levels,
        porosity=0.31,
        specific_surface=0.07,
        correlation_length=6.5,
        r_x=r_x,
        r_y=r_y,
    )
    named = dict(zip(descriptors.NAMES, found, strict=True))
    assert (named["porosity"], named["specific_surface"]) == (0.31, 0.07)
    assert named["log_correlation_length"] == pytest.approx(np.log(6.5))
    assert (named["r_x_0"], named["r_y_0"]) == pytest.approx((r_x[1], r_y[1]))
    assert (named["r_x_13"], named["r_y_13"]) == pytest.approx((r_x[20], r_y[20]))
    lag = 20 ** (5 / 13)  # 3.17
    between = r_x[3] + (lag - 3) * (r_x[4] - r_x[3])
    assert named["r_x_5"] == pytest.approx(between)
    assert named["grey_mean"] == pytest.approx(grey.mean())
    assert named["grey_mean_gradient"] == descriptors.mean_gradient(grey)


def test_what_is_undefined_is_nan_and_warns_nobody():
    levels = np.bincount([7] * 12, minlength=256)
    assert np.isnan(descriptors.grey_numbers(levels)[2])
    nothing = np.full(6, np.nan)
    found = descriptors.describe(
        np.full((3, 4), 7, np.uint8),
        levels,
        porosity=1.0,
        specific_surface=0.0,
        correlation_length=np.nan,
        r_x=nothing,
        r_y=nothing,
    )
    assert np.isnan(found).sum() == 1 + 28 + 1
