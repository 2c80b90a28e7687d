"""Specific surface: how much boundary between pore and grain there is.

Unlike neighbours are counted along x and y.  A staircase is longer than the curve
it follows by 4 / pi on average over directions, and that is exactly the factor
from boundary length per area to surface per volume of an isotropic medium; so
the count needs no correction.  The frame of the image is not a boundary.

Source: Underwood, Quantitative Stereology (1970), S_V = 2 P_L.
"""

import math

import numpy as np
from numpy.typing import NDArray


def faces(pores: NDArray[np.bool_]) -> tuple[int, int]:
    """Counts neighbours of which one is pore and the other grain.

    Args:
        pores: (H, W) boolean, True in pore.

    Returns:
        (n_x, n_y): unlike pairs of neighbours along x, and along y.
    """
    n_x = np.count_nonzero(pores[:, 1:] != pores[:, :-1])
    n_y = np.count_nonzero(pores[1:] != pores[:-1])
    return int(n_x), int(n_y)


def specific_surface(pores: NDArray[np.bool_], *, pixel_size_um: float) -> float:
    """Surface of an isotropic medium per volume, from a section through it.

    Args:
        pores: (H, W) boolean, True in pore, at least 2 x 2.
        pixel_size_um: Side of a pixel in micrometres; 1 gives the answer per pixel.

    Returns:
        n_x / (H (W - 1)) + n_y / ((H - 1) W), over the pixel size: 1/um.

    Raises:
        ValueError: If the image is less than two pixels wide or high.
    """
    height, width = pores.shape
    if height < 2 or width < 2:
        raise ValueError(f"a surface needs neighbours, but the image has shape {pores.shape}")
    n_x, n_y = faces(pores)
    per_px = n_x / (height * (width - 1)) + n_y / ((height - 1) * width)
    return per_px / pixel_size_um


def boundary_length(specific_surface_per_um: float) -> float:
    """Length of the boundary per area of section, L_A.

    Args:
        specific_surface_per_um: s_V of `specific_surface`, in 1/um.

    Returns:
        pi / 4 times s_V, in 1/um.
    """
    return math.pi / 4 * specific_surface_per_um
