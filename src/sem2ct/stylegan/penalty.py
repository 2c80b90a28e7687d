"""R1 with the discriminator's gradient written out as forward code.

Up to its last block the discriminator is piecewise linear, so the gradient at the image is
a chain of adjoint convolutions, switched by the signs of the activations.  Written out, the
penalty needs one ordinary backward; autograd's own second derivative also carries a zero for
every activation.  What is not linear, the minibatch deviation and the dense layers at 4x4,
is left to autograd, and through it the penalty still reaches every bias.

Source: Mescheder et al. 2018, arXiv:1801.04406, equation 9.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from sem2ct.stylegan.discriminator import Discriminator, DiscriminatorBlock


def gradient_penalty_of(
    discriminator: Discriminator, images: Tensor, change: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """R1: squared gradient norm of the logits at the images before they were changed.

    The same number, with the same gradients, as `losses.gradient_penalty`.

    Args:
        discriminator: Whose logits; its parameters get gradients.
        images: (N, channels, R, R).
        change: What happens to the images before the discriminator sees them.

    Returns:
        Penalty (N,) float32, not yet multiplied by gamma / 2, and logits (N,).
    """
    images = images.detach().requires_grad_(change is not None)
    changed = images if change is None else change(images)
    seen = changed.detach()
    first = discriminator.from_image(seen).contiguous(memory_format=torch.channels_last)
    blocks = cast(list[DiscriminatorBlock], list(discriminator.blocks))
    features, results = first, []
    for block in blocks:
        features, inner = block.traced(features)
        results.append(inner)
    logits = discriminator.judge(features)
    (slope,) = torch.autograd.grad(logits.sum(), features, create_graph=True)
    for block, inner in zip(reversed(blocks), reversed(results), strict=True):
        slope = block.adjoint(slope, inner)
    slope = discriminator.from_image.adjoint(slope, first.detach()).float()
    if change is not None:
        (slope,) = torch.autograd.grad(changed, images, slope, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)), logits
