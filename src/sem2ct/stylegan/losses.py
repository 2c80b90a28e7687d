"""What the two networks of a StyleGAN2 minimise, each number per image.

The adversarial loss is the non-saturating logistic one.  Two penalties are added
now and then: R1 keeps the discriminator flat around real images, the path length
keeps equal steps in W equally large in the image.

Source: Karras et al. 2020, arXiv:1912.04958 (sections 3.2 and B).
"""

import torch
from torch import Tensor
from torch.nn import functional


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss of the generator: softplus(-D(fake)).

    Args:
        fake_logits: (N,), the discriminator's answer to generated images.

    Returns:
        (N,) float32.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, section 3.
    """
    return functional.softplus(-fake_logits.float())


def discriminator_loss_real(real_logits: Tensor) -> Tensor:
    """Half of the discriminator's logistic loss: softplus(-D(real)), (N,) float32."""
    return functional.softplus(-real_logits.float())


def discriminator_loss_fake(fake_logits: Tensor) -> Tensor:
    """The other half: softplus(D(fake)), (N,) float32."""
    return functional.softplus(fake_logits.float())


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss of the discriminator: softplus(-D(real)) + softplus(D(fake)).

    Args:
        real_logits: (N,), the answer to real images.
        fake_logits: (N,), the answer to generated images.

    Returns:
        (N,) float32.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, equation 1.
    """
    return discriminator_loss_real(real_logits) + discriminator_loss_fake(fake_logits)


def gradient_penalty(real_images: Tensor, real_logits: Tensor) -> Tensor:
    """R1: squared gradient norm of the discriminator at the real images.

    Args:
        real_images: (N, 1, H, W), with `requires_grad` set before the
            discriminator saw them.
        real_logits: (N,), the discriminator's answer to `real_images`.

    Returns:
        (N,), not yet multiplied by gamma / 2.

    Raises:
        ValueError: If `real_images` does not require gradients.

    Source: Mescheder et al. 2018, arXiv:1801.04406, equation 9.
    """
    if not real_images.requires_grad:
        raise ValueError("real_images must require gradients before the discriminator sees them")
    (slope,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return slope.float().square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """How far an image moves per step in W: |J^T y| for a random image y.

    Args:
        images: (N, 1, H, W), generated from `ws`.
        ws: (N, layers, w_dim), requiring gradients.
        noise: (N, 1, H, W), y: independent standard normal numbers.

    Returns:
        (N,): root over w_dim of the squares, averaged over the layers; y is scaled
        by 1 / sqrt(H W), so that the length does not depend on the resolution.

    Source: Karras et al. 2020, arXiv:1912.04958, equation 4 and section B.
    """
    height, width = images.shape[2:]
    along = (images.float() * noise).sum() / (height * width) ** 0.5
    (slope,) = torch.autograd.grad(along, ws, create_graph=True)
    return slope.float().square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(
    images: Tensor, ws: Tensor, mean: Tensor, noise: Tensor, *, decay: float = 0.01
) -> tuple[Tensor, Tensor]:
    """Squared deviation of the path lengths from their moving average.

    Args:
        images: (N, 1, H, W), generated from `ws`.
        ws: (N, layers, w_dim), requiring gradients.
        mean: 0-d, the moving average so far.
        noise: (N, 1, H, W), independent standard normal numbers.
        decay: Weight of this batch in the moving average.

    Returns:
        The penalty (N,), not yet multiplied by its weight, and the new moving
        average (0-d, detached).  The penalty is taken from the new average and its
        gradient passes through it, as published.

    Source: Karras et al. 2020, arXiv:1912.04958, equation 4.
    """
    lengths = path_lengths(images, ws, noise)
    new_mean = mean.lerp(lengths.mean(), decay)
    return (lengths - new_mean).square(), new_mean.detach()
