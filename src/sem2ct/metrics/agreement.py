"""A translated slice held against the truth, voxel by voxel: a check, never a training signal."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics.segmentation import segment


def agreement(
    pores: NDArray[np.bool_], truth: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> dict[str, float]:
    """Compares predicted with true pores inside the field of view.

    Args:
        pores: Predicted, True in pore.
        truth: Of the same place and shape.
        inside: Where to compare, same shape, at least one pixel.

    Returns:
        porosity, truth_porosity, agreement (share of equal pixels), chance (the agreement
        of two unrelated images of these porosities), overlap (pixels that are pore in both
        over pixels that are pore in either; NaN when there are none).
    """
    ours, true = pores[inside], truth[inside]
    phi, true_phi = float(ours.mean()), float(true.mean())
    either = int(np.count_nonzero(ours | true))
    both = int(np.count_nonzero(ours & true))
    return {
        "porosity": phi,
        "truth_porosity": true_phi,
        "agreement": float(np.mean(ours == true)),
        "chance": phi * true_phi + (1 - phi) * (1 - true_phi),
        "overlap": both / either if either else float("nan"),
    }


def against_truth(
    slices: Iterable[tuple[int, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]],
    *,
    threshold: int,
) -> dict[str, Any]:
    """Compares slice after slice of a translated volume with the truth.

    Args:
        slices: Number of the slice, its greys, its true pores, and where to compare.
        threshold: Grey level under which a pixel is pore.

    Returns:
        The numbers of `agreement`, as means over the slices, and under "slices" one by one.
    """
    rows = [
        {"slice": k, **agreement(segment(grey, threshold=threshold), truth, inside)}
        for k, grey, truth, inside in slices
        if inside.any()
    ]
    names = [name for name in rows[0] if name != "slice"]
    means = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return {**means, "slices": rows}
