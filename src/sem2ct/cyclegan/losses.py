"""What the translators are asked to reach, as plain functions of tensors.

Every loss is a mean over the samples of a batch, so equal parts of a batch, in
rounds or on ranks, average to the loss of the whole.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sem2ct.runtime.distributed import mean_over_ranks

LEAST_VARIANCE = 1e-3
"""A tile flatter than 4 grey levels is no reason for a large gradient."""


def least_squares(logits: Sequence[Tensor], target: float) -> Tensor:
    """Mean squared distance of the logits from a target, each scale counting the same.

    Args:
        logits: One tensor (N, ...) per scale.
        target: 1 for real, 0 for fake.

    Returns:
        Scalar.

    Source: Mao et al. 2017, arXiv:1611.04076, equation 9 with a = 0, b = c = 1.
    """
    return torch.stack([(scale - target).square().mean() for scale in logits]).mean()


def discriminator_loss(real_logits: Sequence[Tensor], fake_logits: Sequence[Tensor]) -> Tensor:
    """Half the distance of real from 1 plus half that of fake from 0; scalar."""
    return 0.5 * (least_squares(real_logits, 1.0) + least_squares(fake_logits, 0.0))


def cycle_loss(images: Tensor, cycled: Tensor) -> Tensor:
    """Mean absolute difference of images and what comes back; scalar.

    Source: Zhu et al. 2017, arXiv:1703.10593, equation 2.
    """
    return (cycled - images).abs().mean()


def consistency_loss(predicted_ct: Tensor, real_ct: Tensor, noise_floor: Tensor) -> Tensor:
    """How far the CT that a tile would give lies from the CT, beyond the CT's noise.

    Args:
        predicted_ct: (N, 1, h, w), the degraded tile.
        real_ct: (N, 1, h, w).
        noise_floor: Scalar; a smaller difference costs nothing.

    Returns:
        Scalar: mean of max(|difference| - noise_floor, 0).
    """
    return torch.relu((predicted_ct - real_ct).abs() - noise_floor).mean()


def raster_loss(fake_sem: Tensor, scale: int) -> Tensor:
    """How much of a translation is one pattern that repeats in every CT pixel.

    Real tiles know nothing of the CT's grid, so what their CT pixels have in common is a flat
    grey.  A translator is led astray: one dot per CT pixel, as a newspaper prints grey, meets
    the mean grey that the CT asks for, and is sharp.  The patterns of the upper and of the
    lower half of a tile are multiplied with one another, so a picture without a raster is
    hardly pressed to be flat; to have opposite patterns earns nothing.

    Args:
        fake_sem: (N, 1, H, W).
        scale: SEM pixels per CT pixel; H at least twice that.

    Returns:
        Scalar: that part of each tile's variance, averaged over tiles; next to 0 without
        such a pattern, 1 where there is nothing else.
    """
    cells = per_ct_pixel(fake_sem.float(), scale)
    half = cells.shape[1] // 2
    upper, lower = (rows.mean((1, 3)) for rows in (cells[:, :half], cells[:, half:]))
    shared = (upper - upper.mean((1, 2), keepdim=True)) * lower
    variance = cells.detach().var((1, 2, 3, 4), correction=0).clamp(min=LEAST_VARIANCE)
    return (torch.relu(shared.mean((1, 2))) / variance).mean()


def per_ct_pixel(sem: Tensor, scale: int) -> Tensor:
    """Cuts (N, 1, H, W) at the CT's grid: a view (N, H / scale, scale, W / scale, scale)."""
    count, _, height, width = sem.shape
    return sem.reshape(count, height // scale, scale, width // scale, scale)


def grey_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation over all pixels of a batch, over all ranks.

    Args:
        first: Any shape, the same number of values on every rank.
        second: The same shape.

    Returns:
        Scalar in [-1, 1], the same on every rank; 0 where one of the two is constant.
    """
    x, y = first.detach().double(), second.detach().double()
    moments = torch.stack([x.mean(), y.mean(), (x * x).mean(), (y * y).mean(), (x * y).mean()])
    mean_x, mean_y, square_x, square_y, product = mean_over_ranks(moments).unbind()
    variances = (square_x - mean_x**2) * (square_y - mean_y**2)
    known = variances > 1e-18
    correlation = (product - mean_x * mean_y) / torch.where(known, variances, 1.0).sqrt()
    return torch.where(known, correlation, 0.0).clamp(-1, 1).float()
