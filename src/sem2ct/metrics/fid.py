"""Frechet inception distance, printed only beside its value for real against real.

Between two samples of one population it is far from 0 when there are fewer images
than features; what it says of a generator is the excess over that.

Source: Heusel et al. 2017, arXiv:1706.08500, equation 6.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fid(ours: Floats, reference: Floats) -> float:
    """Squared Frechet distance of two Gaussians with the samples' means and covariances.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).  With C = A^T A, A the centred features over
    sqrt(n - 1), the trace of the root is the sum of the singular values of A1 A2^T: an
    (n, m) matrix, which also holds when there are fewer images than features.

    Args:
        ours: (n, d) features, n at least 2.
        reference: (m, d) features, m at least 2.

    Returns:
        At least 0, up to rounding.
    """
    ours, reference = ours.astype(float), reference.astype(float)
    apart = ours.mean(axis=0) - reference.mean(axis=0)
    roots = [_compact(_centred(some)) for some in (ours, reference)]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(float((root**2).sum()) for root in roots)
    return float(apart @ apart + spread - 2 * shared)


def _centred(features: Floats) -> Floats:
    return (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)


def _compact(root: Floats) -> Floats:
    """A matrix with the same A^T A and no more rows than columns."""
    if root.shape[0] <= root.shape[1]:
        return root
    return np.asarray(np.linalg.qr(root, mode="r"), np.float64)
