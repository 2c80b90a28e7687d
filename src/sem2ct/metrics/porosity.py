"""Porosity, and how much it must scatter between windows of finite size."""

import math

import numpy as np
from numpy.typing import NDArray


def porosity(pores: NDArray[np.bool_]) -> float:
    """Share of the image, or volume, that is pore.

    Args:
        pores: Boolean, any shape, True in pore.

    Returns:
        Between 0 and 1.
    """
    return float(np.count_nonzero(pores)) / pores.size


def sampling_sd(phi: float, *, correlation_length_px: float, area_px: float) -> float:
    """Standard deviation of the porosity of one window cut from an endless medium.

    For a medium whose normalised two-point correlation is exp(-h / lambda) and a window
    much wider than lambda.  Two windows of one rock differ by this much for no reason.

    Args:
        phi: Porosity of the medium.
        correlation_length_px: lambda, in pixels.
        area_px: Area of the window in pixels.

    Returns:
        sqrt(phi (1 - phi) 2 pi lambda^2 / area).

    Source: Lu & Torquato 1990, J. Chem. Phys. 93, 3452, equation 17 with the above R.
    """
    return math.sqrt(phi * (1 - phi) * 2 * math.pi * correlation_length_px**2 / area_px)
