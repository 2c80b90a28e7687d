"""Kernel inception distance: an unbiased distance of two sets of features.

Its expectation does not depend on the number of images, so a few hundred real tiles
can be compared; the Frechet distance of as few is mostly bias.

Source: Binkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401, section 4.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SUBSETS, SUBSET = 50, 500
DEGREE = 3


def kernel(one: Floats, other: Floats) -> Floats:
    """Polynomial kernel (x . y / d + 1)^3.

    Args:
        one: (n, d) features.
        other: (m, d) features.

    Returns:
        (n, m).
    """
    return (one @ other.T / one.shape[1] + 1) ** DEGREE


def kid(ours: Floats, reference: Floats) -> float:
    """Unbiased squared maximum mean discrepancy with the polynomial kernel.

    Args:
        ours: (n, d) features, n at least 2.
        reference: (m, d) features, m at least 2.

    Returns:
        0 on average for equal populations; chance may give less.
    """
    ours, reference = ours.astype(float), reference.astype(float)
    within = [_without_self(kernel(some, some)) for some in (ours, reference)]
    return float(within[0] + within[1] - 2 * kernel(ours, reference).mean())


def _without_self(values: Floats) -> float:
    n = len(values)
    return float((values.sum() - np.trace(values)) / (n * (n - 1)))


def kid_of_subsets(
    ours: Floats, reference: Floats, *, rng: np.random.Generator
) -> tuple[float, float]:
    """KID as it is published: mean and standard deviation over random subsets.

    Args:
        ours: (n, d) features.
        reference: (m, d) features.
        rng: Source of the subsets.

    Returns:
        Mean and standard deviation over 50 subsets of 500, or half of the smaller set.
    """
    size = max(min(SUBSET, len(ours) // 2, len(reference) // 2), 2)
    values = []
    for _ in range(SUBSETS):
        some = (rng.choice(len(of), size, replace=False) for of in (ours, reference))
        a, b = some
        values.append(kid(ours[a], reference[b]))
    return float(np.mean(values)), float(np.std(values, ddof=1))
