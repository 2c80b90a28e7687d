import numpy as np
import pytest
from skimage.filters import threshold_otsu

from sem2ct.metrics import segmentation
from sem2ct.runtime.refusal import Refusal


def two_classes(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dark, bright = rng.normal(60, 15, 3000), rng.normal(170, 25, 9000)
    return np.clip(np.concatenate([dark, bright]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_otsu_separates_where_scikit_image_does(seed):
    grey = two_classes(seed)
    threshold = segmentation.otsu(segmentation.histogram([grey]))
    assert threshold == threshold_otsu(grey) + 1  # there, up to and with the level is dark


def test_between_two_single_levels_the_threshold_is_the_middle():
    pooled = np.zeros(256, int)
    pooled[40], pooled[201] = 7, 2
    assert segmentation.otsu(pooled) == 121


def test_images_of_one_grey_level_have_no_threshold():
    with pytest.raises(Refusal, match="one grey level only"):
        segmentation.otsu(segmentation.histogram([np.full((4, 5), 17, np.uint8)]))


def test_the_histogram_pools_images_of_any_shape():
    tiles = [np.array([[0, 255, 7]], np.uint8), np.array([7, 7], np.uint8)]
    counts = segmentation.histogram(tiles)
    assert {level: int(n) for level, n in enumerate(counts) if n} == {0: 1, 7: 3, 255: 1}


def test_a_pixel_at_the_threshold_is_grain():
    grey = np.array([[99, 100, 101]], np.uint8)
    assert segmentation.segment(grey, threshold=100).tolist() == [[True, False, False]]


def test_porosity_for_any_threshold_is_that_of_segmenting_with_it():
    grey = two_classes(9)
    thresholds = np.array([0, 1, 60, 110, 255, 256])
    expected = [np.mean(grey.astype(int) < threshold) for threshold in thresholds]
    found = segmentation.porosity_at(segmentation.histogram([grey]), thresholds)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_rule_behind_a_threshold_is_stated():
    assert segmentation.facts(90, "otsu", "real")["rule"].endswith("of real")
    assert segmentation.facts(90, 90, "real") == {"level": 90, "rule": "given", "band_levels": 10}
