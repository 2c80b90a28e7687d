"""Specific surface: how much boundary between pore and grain there is.

Unlike neighbours are counted along x and y.  A staircase is longer than the curve
it follows by 4 / pi on average over directions, and that is exactly the factor
from boundary length per area to surface per volume of an isotropic medium; so
the count needs no correction.  In a volume the staircase is larger by 3 / 2, which is
taken out.  The frame of the image is not a boundary.

Source: Underwood, Quantitative Stereology (1970), S_V = 2 P_L.
"""

import math

import numpy as np
from numpy.typing import NDArray


def faces(pores: NDArray[np.bool_]) -> tuple[int, ...]:
    """Counts neighbours of which one is pore and the other grain.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.

    Returns:
        (n_x, n_y), of a volume (n_x, n_y, n_z): unlike pairs of neighbours along each axis.
    """
    lines = (np.moveaxis(pores, axis, 0) for axis in reversed(range(pores.ndim)))
    return tuple(int(np.count_nonzero(line[1:] != line[:-1])) for line in lines)


def specific_surface(pores: NDArray[np.bool_], *, pixel_size_um: float) -> float:
    """Surface of an isotropic medium per volume, from a section through it or from a piece.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore, two or more along each axis.
        pixel_size_um: Side of a pixel in micrometres; 1 gives the answer per pixel.

    Returns:
        Of an image n_x / (H (W - 1)) + n_y / ((H - 1) W), of a volume 2/3 of all faces over
        D H W; over the pixel size: 1/um.

    Raises:
        ValueError: If it is less than two pixels wide, high or deep.
    """
    if min(pores.shape) < 2:
        raise ValueError(f"a surface needs neighbours, but the image has shape {pores.shape}")
    if pores.ndim == 3:
        return 2 / 3 * sum(faces(pores)) / pores.size / pixel_size_um
    return per_pixel(faces(pores), pores.shape) / pixel_size_um


def per_pixel(unlike: tuple[int, ...], shape: tuple[int, ...]) -> float:
    """Specific surface of an image whose faces are counted already.

    Args:
        unlike: (n_x, n_y) of `faces`.
        shape: (H, W) of the image, two or more each.

    Returns:
        n_x / (H (W - 1)) + n_y / ((H - 1) W), in 1/px.
    """
    (n_x, n_y), (height, width) = unlike, shape
    return n_x / (height * (width - 1)) + n_y / ((height - 1) * width)


def boundary_length(specific_surface_per_um: float) -> float:
    """Length of the boundary per area of section, L_A.

    Args:
        specific_surface_per_um: s_V of `specific_surface`, in 1/um.

    Returns:
        pi / 4 times s_V, in 1/um.
    """
    return math.pi / 4 * specific_surface_per_um
