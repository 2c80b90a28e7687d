import numpy as np
import pytest
from scipy.linalg import sqrtm

from sem2ct.metrics.fid import fid


def plainly(ours, real):
    """The published formula, with the matrix square root."""
    covariances = [np.cov(of, rowvar=False) for of in (ours, real)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    apart = ours.mean(axis=0) - real.mean(axis=0)
    return apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root)


def test_fid_is_that_of_the_formula_when_there_are_many_images():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    ours, real = rng.normal(size=(70, 6)) @ mix + 0.4, rng.normal(size=(90, 6))
    assert fid(ours, real) == pytest.approx(plainly(ours, real), rel=1e-9)


def test_fid_is_that_of_the_formula_when_there_are_fewer_images_than_features():
    rng = np.random.default_rng(1)
    ours, real = rng.normal(size=(5, 12)), rng.normal(0.2, 1.3, size=(40, 12))
    # The formula needs a regular product; a tiny spread in all directions makes it one.
    ridge = 1e-9 * np.eye(12)
    covariances = [np.cov(of, rowvar=False) + ridge for of in (ours, real)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    apart = ours.mean(axis=0) - real.mean(axis=0)
    expected = apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert fid(ours, real) == pytest.approx(expected, rel=1e-3)
    assert fid(real, ours) == pytest.approx(fid(ours, real))


def test_shifted_points_are_as_far_apart_as_their_means():
    points = np.random.default_rng(2).normal(size=(30, 4))
    assert fid(points + np.array([3.0, 0, 0, 0]), points) == pytest.approx(9)
    assert fid(points, points) == pytest.approx(0, abs=1e-9)


def test_few_images_of_one_population_are_far_apart():
    rng = np.random.default_rng(3)
    few = fid(rng.normal(size=(40, 64)), rng.normal(size=(40, 64)))
    many = fid(rng.normal(size=(2000, 64)), rng.normal(size=(2000, 64)))
    assert few > 20 * many
