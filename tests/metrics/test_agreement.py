import numpy as np
import pytest

from sem2ct.metrics import agreement


def test_agreement_counts_inside_the_field_only():
    pores = np.array([[1, 1, 0, 0, 1]], bool)
    truth = np.array([[1, 0, 0, 1, 0]], bool)
    inside = np.array([[1, 1, 1, 1, 0]], bool)
    found = agreement.agreement(pores, truth, inside)
    assert found["porosity"] == 0.5
    assert found["truth_porosity"] == 0.5
    assert found["agreement"] == 0.5
    assert found["overlap"] == pytest.approx(1 / 3)


def test_unrelated_images_agree_by_chance():
    rng = np.random.default_rng(3)
    pores, truth = rng.random((300, 300)) < 0.2, rng.random((300, 300)) < 0.4
    found = agreement.agreement(pores, truth, np.ones((300, 300), bool))
    assert found["chance"] == pytest.approx(0.2 * 0.4 + 0.8 * 0.6, abs=0.01)
    assert found["agreement"] == pytest.approx(found["chance"], abs=0.01)


def test_two_images_without_pores_have_no_overlap_to_speak_of():
    none = np.zeros((3, 4), bool)
    assert np.isnan(agreement.agreement(none, none, ~none)["overlap"])


def test_slices_outside_the_field_are_passed_over():
    dark, bright = np.full((2, 3), 10, np.uint8), np.full((2, 3), 200, np.uint8)
    all_pore, everywhere = np.ones((2, 3), bool), np.ones((2, 3), bool)
    slices = [
        (0, bright, all_pore, ~everywhere),
        (4, dark, all_pore, everywhere),
        (8, bright, all_pore, everywhere),
    ]
    found = agreement.against_truth(slices, threshold=100)
    assert [row["slice"] for row in found["slices"]] == [4, 8]
    assert found["porosity"] == 0.5
    assert found["agreement"] == 0.5
