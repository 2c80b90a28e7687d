import numpy as np
import pytest

from sem2ct.metrics import kid


def test_kid_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    ours, real = rng.normal(size=(5, 7)), rng.normal(0.3, 1, size=(6, 7))

    def k(x, y):
        return (x @ y / 7 + 1) ** 3

    a = np.mean([k(x, y) for i, x in enumerate(ours) for j, y in enumerate(ours) if i != j])
    b = np.mean([k(x, y) for i, x in enumerate(real) for j, y in enumerate(real) if i != j])
    across = np.mean([k(x, y) for x in ours for y in real])
    assert kid.kid(ours, real) == pytest.approx(a + b - 2 * across)


def test_kid_of_equal_populations_is_zero_on_average_however_few_the_images():
    rng = np.random.default_rng(1)
    found = [kid.kid(rng.normal(size=(8, 5)), rng.normal(size=(11, 5))) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20


def test_subsets_agree_with_the_whole():
    rng = np.random.default_rng(2)
    ours, real = rng.normal(0.5, 1, (120, 4)), rng.normal(size=(100, 4))
    mean, sd = kid.kid_of_subsets(ours, real, rng=rng)
    assert mean == pytest.approx(kid.kid(ours, real), abs=4 * sd / np.sqrt(50) + 0.1 * sd)
    assert 0 < sd < mean
