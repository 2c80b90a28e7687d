"""How pores hang together: Euler number, connected pores, pores that span the image.

Which neighbours touch is a choice, so it is always stated: 4 or 8 in an image, 6 or 26
in a volume.  When pores take the smaller number, grains take the larger, or a diagonal
line would neither part the grains nor join the pores.

Sources: Ohser & Muecklich, Statistical Analysis of Microstructures (2000), chapter 3;
Gray 1971, IEEE Trans. Computers C-20, 551.
"""

from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sem2ct.metrics.chords import AXES
from sem2ct.runtime.refusal import Refusal

Way = Literal["x", "y", "z", "any"]
FEW_NEIGHBOURS = {2: 4, 3: 6}
ALL_NEIGHBOURS = {2: 8, 3: 26}


def _is_full(pores: NDArray[np.bool_], connectivity: int) -> bool:
    """Whether pixels that share a corner only are neighbours."""
    few, full = FEW_NEIGHBOURS.get(pores.ndim), ALL_NEIGHBOURS.get(pores.ndim)
    if few is None or connectivity not in (few, full):
        allowed = f"{few} or {full}" if few else "4 or 8 (images), 6 or 26 (volumes)"
        raise Refusal(
            f"connectivity={connectivity} of an array of shape {pores.shape}: allowed is {allowed}"
        )
    return connectivity == full


def _euler(pores: NDArray[np.bool_], *, full: bool) -> float:
    """Alternating sum of cells over all windows of two pixels along each axis.

    A cell spans one or two pixels along each axis.  Where corners join, a face, edge or
    vertex between pixels is pore when any pixel around it is; where they part, only when all
    are.  A cell that several windows share counts in parts, half per axis it lies across.
    """
    found = 0.0
    for spans in product((False, True), repeat=pores.ndim):
        cells = pores
        for axis in np.flatnonzero(spans):
            before = np.take(cells, range(cells.shape[axis] - 1), axis)
            after = np.take(cells, range(1, cells.shape[axis]), axis)
            cells = before | after if full else before & after
        counts = cells
        for axis in range(pores.ndim - 1, -1, -1):
            ends = 0 if spans[axis] else np.take(counts, [0, -1], axis).sum(axis, dtype=float) / 2
            counts = counts.sum(axis, dtype=float) - ends
        sign = pores.ndim - sum(spans) if full else sum(spans)
        found += (-1) ** sign * float(counts)
    return found


def euler_number(pores: NDArray[np.bool_], *, connectivity: int) -> int:
    """Euler number of the pores as they lie in the frame, all outside taken for grain.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        connectivity: Neighbours of a pore pixel: 4 or 8, 6 or 26.

    Returns:
        Pores minus holes in them (images); pores minus tunnels plus cavities (volumes).

    Raises:
        Refusal: If the connectivity does not belong to the array.
    """
    full = _is_full(pores, connectivity)
    return round(_euler(np.pad(pores, 1), full=full))


def euler_density(
    pores: NDArray[np.bool_], *, connectivity: int, pixel_size_um: float = 1.0
) -> float:
    """Euler number of the medium per area, or volume, seen through a window.

    Only windows of neighbouring pixels that lie wholly in the image are looked at, so the
    frame is no boundary and cuts no pore in two: the estimate has no edge bias.  Gaps
    and necks under a pixel's width are lost, with every connectivity.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        connectivity: Neighbours of a pore pixel: 4 or 8, 6 or 26.
        pixel_size_um: Side of a pixel in micrometres; 1 gives the answer per pixel.

    Returns:
        In 1/um^2 (images) or 1/um^3 (volumes).

    Raises:
        Refusal: If the connectivity does not belong to the array.
    """
    full = _is_full(pores, connectivity)
    windows = np.prod([side - 1 for side in pores.shape])
    return float(_euler(pores, full=full) / windows / pixel_size_um**pores.ndim)


def labels(pores: NDArray[np.bool_], *, connectivity: int) -> NDArray[np.int32]:
    """Names the pores: neighbours that touch have one number.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        connectivity: Neighbours of a pore pixel: 4 or 8, 6 or 26.

    Returns:
        Shape of `pores`: 0 in grain, 1, 2, ... in the pores.

    Raises:
        Refusal: If the connectivity does not belong to the array.
    """
    reach = pores.ndim if _is_full(pores, connectivity) else 1
    touching = ndimage.generate_binary_structure(pores.ndim, reach)
    named = np.empty(pores.shape, np.int32)
    ndimage.label(pores, touching, output=named)
    return named


def largest_share(named: NDArray[np.int32]) -> float:
    """Share of the pore space that belongs to the largest pore.

    Args:
        named: From `labels`.

    Returns:
        In (0, 1]; NaN without pores.
    """
    sizes = np.bincount(named.ravel())[1:]
    return float(sizes.max() / sizes.sum()) if sizes.size else float("nan")


def spanning(named: NDArray[np.int32], *, along: Way) -> NDArray[np.bool_]:
    """Pores that reach from one side of the image, or volume, to the other.

    Args:
        named: From `labels`.
        along: The direction to cross, or "any" of them.

    Returns:
        Shape of `named`, True in these pores.
    """
    ways = [AXES[along]] if along != "any" else range(-named.ndim, 0)
    crossing = np.zeros(named.max() + 1, np.bool_)
    for axis in ways:
        first, last = (np.unique(np.take(named, side, axis)) for side in (0, -1))
        crossing[np.intersect1d(first, last)] = True
    crossing[0] = False
    return crossing[named]


def connected_fraction(pores: NDArray[np.bool_], *, connectivity: int, along: Way = "any") -> float:
    """Share of the pore space that can be crossed from side to side.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        connectivity: Neighbours of a pore pixel: 4 or 8, 6 or 26.
        along: The direction to cross, or "any" of them.

    Returns:
        In [0, 1]; NaN without pores.

    Raises:
        Refusal: If the connectivity does not belong to the array.
    """
    named = labels(pores, connectivity=connectivity)
    if not named.any():
        return float("nan")
    return np.count_nonzero(spanning(named, along=along)) / np.count_nonzero(named)
