from itertools import combinations

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


def test_pairs_of_pixels_are_counted_like_single_ones_whatever_the_size_and_layout():
    grey = np.random.default_rng(2).integers(0, 256, (13, 17)).astype(np.uint8)
    for tile in (grey, grey.T, grey[1:, 2:], grey[::2]):
        expected = np.bincount(tile.ravel(), minlength=256)
        np.testing.assert_array_equal(segmentation.histogram([tile]), expected)


def spread_between(pooled: np.ndarray, thresholds: tuple[int, ...]) -> float:
    """Variance between the classes that thresholds make, by its definition."""
    grey, mean = np.arange(256), np.average(np.arange(256), weights=pooled)
    total = 0.0
    for low, high in zip((0, *thresholds), (*thresholds, 256), strict=True):
        held = pooled[low:high].sum()
        if held:
            total += held * (np.average(grey[low:high], weights=pooled[low:high]) - mean) ** 2
    return total


def test_several_thresholds_separate_the_classes_best_of_all_that_could_be_chosen():
    rng = np.random.default_rng(3)
    grey = np.concatenate([rng.normal(m, 4, n) for m, n in ((10, 300), (25, 500), (44, 900))])
    pooled = np.bincount(np.clip(grey, 0, 60).astype(np.uint8), minlength=256)
    best = max(combinations(range(1, 61), 2), key=lambda pair: spread_between(pooled, pair))
    found = segmentation.multi_otsu(pooled, classes=3)
    assert found == best
    assert spread_between(pooled, found) == pytest.approx(spread_between(pooled, best))


def test_two_classes_are_those_of_otsu():
    for seed in range(4):
        pooled = segmentation.histogram([two_classes(seed)])
        assert segmentation.multi_otsu(pooled, classes=2) == (segmentation.otsu(pooled),)
    gap = np.zeros(256, int)
    gap[[40, 201, 203]] = 7, 2, 1
    assert segmentation.multi_otsu(gap, classes=2) == (121,)
    assert segmentation.multi_otsu(gap, classes=3) == (121, 202)


def test_more_classes_than_grey_levels_are_refused():
    pooled = np.bincount([3, 9], minlength=256)
    with pytest.raises(Refusal, match="2 grey levels only"):
        segmentation.multi_otsu(pooled, classes=3)
    with pytest.raises(Refusal, match="classes=1"):
        segmentation.multi_otsu(pooled, classes=1)


@pytest.mark.parametrize("threshold", [[90, 110], np.array([90]), np.full((2, 3), 7)])
def test_a_threshold_per_tile_is_refused(threshold):
    with pytest.raises(Refusal, match="all images that are compared need the same one"):
        segmentation.segment(np.zeros((2, 3), np.uint8), threshold=threshold)


@pytest.mark.parametrize("threshold", [-1, 257, 90.5])
def test_a_threshold_off_the_scale_or_between_levels_is_refused(threshold):
    with pytest.raises(Refusal, match=r"whole number from 0 to 256"):
        segmentation.one_threshold(threshold)
    assert segmentation.one_threshold(np.uint8(90)) == 90


def test_the_band_is_the_porosity_ten_levels_both_ways():
    grey = two_classes(1)
    band = segmentation.sensitivity(segmentation.histogram([grey]), threshold=110)
    assert band == pytest.approx((np.mean(grey < 100), np.mean(grey < 120)))
    ends = segmentation.sensitivity(segmentation.histogram([grey]), threshold=250)
    assert ends[1] == 1


def test_a_mask_names_its_pores():
    marks = np.array([[0, 1, 2], [2, 2, 1]])
    found = segmentation.from_mask(marks, shape=(2, 3), pore_labels=(2,))
    assert found.tolist() == [[False, False, True], [True, True, False]]
    pores = marks == 1
    np.testing.assert_array_equal(segmentation.from_mask(pores, shape=(2, 3)), pores)


def test_a_mask_that_does_not_fit_is_refused_by_what_is_wrong_with_it():
    marks = np.array([[0, 2, 2]])
    with pytest.raises(Refusal, match=r"shape \(1, 3\), but its image \(3, 1\)"):
        segmentation.from_mask(marks, shape=(3, 1))
    with pytest.raises(Refusal, match=r"no pore_labels=\[1\], only 0, 2"):
        segmentation.from_mask(marks, shape=(1, 3))
    with pytest.raises(Refusal, match="float64"):
        segmentation.from_mask(marks.astype(float), shape=(1, 3))


def test_only_eight_bit_greys_are_counted():
    with pytest.raises(ValueError, match="but this is uint16"):
        segmentation.histogram([np.zeros((2, 3), np.uint16)])
