"""Local thickness: at each pore pixel, the largest disc (or ball) in the pore that covers it.

The distance of a pore pixel to the nearest grain pixel is the radius of the largest
disc around it; drawing all discs leaves at each pixel the largest.  Small discs are all
drawn, but for those that lie in a neighbour's.  Of large ones most lie within half a
pixel in one that is drawn already and are left out; the drawn ones grow by half of that,
which leaves the mean within 1 % of drawing all.

The frame is not grain: a disc at the frame is as large as the grain inside the image
allows, so a pore that the frame cuts counts as if it went on; within one radius of the
frame the thickness is an upper estimate.

Source: Hildebrand & Rueegsegger 1997, J. Microscopy 185, 67.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMALL_PX = 5.0
"""Up to this radius every disc is drawn: there a quarter of a pixel would be felt."""
TOLERANCE_PX = 0.5
CANDIDATES_AT_ONCE, DISCS_AT_ONCE = 256, 4096


def local_thickness(pores: NDArray[np.bool_], *, pixel_size_um: float = 1.0) -> NDArray[np.float64]:
    """Diameter of the largest disc in the pore that covers each pixel.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        pixel_size_um: Side of a pixel in micrometres; 1 gives the answer in pixels.

    Returns:
        Shape of `pores`, in um: 2 d - 1 pixels, d from centre to the nearest grain pixel's
        centre (a slit of odd width w gives w); 0 in grain, NaN everywhere without grain.
    """
    if pores.all():
        return np.full(pores.shape, np.nan)
    distance = np.asarray(ndimage.distance_transform_edt(pores), np.float64)
    largest = distance.copy()
    _draw_small(largest, distance)
    _draw_large(largest, distance)
    return np.where(pores, 2 * largest - 1, 0) * pixel_size_um


def _own_disc(distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels whose disc does not lie in the disc of a pixel next to them."""
    around = np.pad(distance, 1)
    inside = np.zeros(distance.shape, np.bool_)
    for step in product((-1, 0, 1), repeat=distance.ndim):
        if any(step):
            place = tuple(
                slice(1 + by, 1 + by + n) for by, n in zip(step, distance.shape, strict=True)
            )
            inside |= around[place] >= distance + np.linalg.norm(step) - 1e-9
    return (distance > 0) & ~inside


def _draw_small(largest: NDArray[np.float64], distance: NDArray[np.float64]) -> None:
    """Draws all discs up to SMALL_PX, larger over smaller."""
    reach = int(SMALL_PX)
    canvas = np.pad(largest, reach)
    flat = canvas.reshape(-1)
    centres = np.argwhere(_own_disc(distance) & (distance > 1) & (distance <= SMALL_PX))
    radii = distance[tuple(centres.T)]
    places = np.ravel_multi_index(tuple((centres + reach).T), canvas.shape)
    steps = np.argwhere(np.ones((2 * reach + 1,) * distance.ndim)) - reach
    offsets = steps @ (np.array(canvas.strides) // canvas.itemsize)
    far = np.sqrt((steps**2).sum(axis=1))
    for radius in np.unique(radii):
        disc, here = offsets[far < radius - 1e-9], places[radii == radius]
        for start in range(0, len(here), DISCS_AT_ONCE):
            flat[here[start : start + DISCS_AT_ONCE, None] + disc] = radius
    largest[...] = canvas[(slice(reach, -reach),) * distance.ndim]


def _draw_large(largest: NDArray[np.float64], distance: NDArray[np.float64]) -> None:
    """Draws the larger discs, largest first, but those that lie in one drawn before."""
    centres = np.argwhere(distance > SMALL_PX)
    radii = distance[tuple(centres.T)]
    order = np.argsort(-radii, kind="stable")
    centres, radii = centres[order], radii[order]
    depth = np.full(distance.shape, -np.inf)  # how deep a pixel lies in the discs drawn
    for start in range(0, len(centres), CANDIDATES_AT_ONCE):
        some = centres[start : start + CANDIDATES_AT_ONCE]
        open_ones = radii[start : start + len(some)] > depth[tuple(some.T)] + TOLERANCE_PX
        for index in np.flatnonzero(open_ones) + start:
            centre, radius = centres[index], radii[index]
            if radius > depth[tuple(centre)] + TOLERANCE_PX:
                _draw_disc(largest, depth, centre, radius)


def _draw_disc(
    largest: NDArray[np.float64],
    depth: NDArray[np.float64],
    centre: NDArray[np.int64],
    radius: float,
) -> None:
    reach = int(np.ceil(radius))
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, largest.shape)
    box = tuple(map(slice, low, high))
    steps = np.ix_(*map(np.arange, low - centre, high - centre))
    far = np.sqrt(sum(step**2 for step in steps))
    covered = far < radius + TOLERANCE_PX / 2
    np.maximum(largest[box], radius, out=largest[box], where=covered)
    np.maximum(depth[box], radius - far, out=depth[box])


def mean_thickness(pores: NDArray[np.bool_], *, pixel_size_um: float = 1.0) -> float:
    """Mean of the local thickness over the pore pixels.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        pixel_size_um: Side of a pixel in micrometres; 1 gives the answer in pixels.

    Returns:
        In um; NaN without pore or without grain.
    """
    if not pores.any():
        return float("nan")
    return float(local_thickness(pores, pixel_size_um=pixel_size_um)[pores].mean())
