import threading

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sem2ct.metrics import correlation, measure, segmentation, surface


def texture(seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(48, 60)), 2)
    return np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)


def test_a_tile_yields_what_the_single_measures_say():
    grey = texture(1)
    found = measure.tile(grey, threshold=120, reach_px=15)
    pores = grey < 120
    assert found.scalars["porosity"] == pores.mean()
    assert found.scalars["porosity_darker"] == pytest.approx((grey < 110).mean())
    assert found.scalars["porosity_brighter"] == pytest.approx((grey < 130).mean())
    assert (found.scalars["faces_x"], found.scalars["faces_y"]) == surface.faces(pores)
    s2 = correlation.two_point(pores, 15)
    np.testing.assert_array_equal(found.s2[1], correlation.along_x(s2))
    np.testing.assert_array_equal(found.s2[2], correlation.along_y(s2))
    r = correlation.normalised(correlation.radial(s2), float(pores.mean()))
    fit = correlation.fit_correlation_length(correlation.radial_lags(15), r)
    assert found.scalars["correlation_length"] == fit.length_px
    np.testing.assert_array_equal(found.grey, np.bincount(grey.ravel(), minlength=256))


def test_lengths_along_x_belong_to_x():
    stretched = np.repeat(texture(2), 3, axis=1)
    scalars = measure.tile(stretched, threshold=120, reach_px=30).scalars
    assert scalars["correlation_length_x"] > 2 * scalars["correlation_length_y"]


def test_a_threshold_near_the_end_of_the_scale_has_a_shorter_band():
    scalars = measure.tile(texture(3), threshold=4, reach_px=5).scalars
    assert scalars["porosity_darker"] == 0


def test_a_set_keeps_the_order_of_its_tiles_whatever_thread_is_first():
    first_may_go = threading.Event()

    def read(index: int) -> np.ndarray:
        if index == 0:
            assert first_may_go.wait(10)
        if index == 3:
            first_may_go.set()
        return texture(index)

    done = []
    found = measure.tiles(
        read, 5, threshold=120, reach_px=6, workers=2, on_tile=lambda: done.append(1)
    )
    expected = [(texture(index) < 120).mean() for index in range(5)]
    assert found.scalars["porosity"].tolist() == expected
    assert found.s2.shape == found.r.shape == (5, 3, 7)
    assert len(done) == 5
    assert found.grey.sum() == 5 * 48 * 60


def test_a_tile_without_pores_is_measured_without_a_warning():
    grey = np.full((20, 20), 200, np.uint8)
    found = measure.tile(grey, threshold=100, reach_px=5)
    assert found.scalars["porosity"] == 0
    assert np.isnan(found.scalars["correlation_length"])
    assert np.isnan(found.r).all()
    assert segmentation.segment(grey, threshold=100).sum() == 0
