"""What follows a convolution, in one pass: demodulation, noise, bias, leaky ReLU, clamp.

Each of these steps alone reads and writes the whole image, and on a GPU that traffic, not
the arithmetic, is what a layer costs.  `activate` is the plain formula and runs anywhere.
On a GPU with Triton the same formula is one kernel, and its first derivative another; the
derivative of a derivative, for the penalties, is the plain formula again.  The kernels are
used on a device only after they agreed with the plain formula there.
"""

import functools
import logging
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LOGGER = logging.getLogger(__name__)
SLOPE = 0.2


def activate(
    images: Tensor,
    bias: Tensor,
    *,
    factor: Tensor | None = None,
    noise: Tensor | None = None,
    clamp: float = math.inf,
) -> Tensor:
    """Leaky ReLU of images * factor + noise + bias, clamped; kernels where they serve.

    Args:
        images: (N, C, H, W); its memory may be used for the result.
        bias: (C,) float32.
        factor: (N, C) float32, or None for 1.
        noise: None for 0, or float32 that broadcasts to (N, 1, H, W).
        clamp: Largest size of a value.

    Returns:
        (N, C, H, W) in the type of the images.
    """
    if serves(images.device):
        return activate_fused(images, bias, factor=factor, noise=noise, clamp=clamp)
    return activate_plain(images, bias, factor=factor, noise=noise, clamp=clamp)


def activate_plain(
    images: Tensor,
    bias: Tensor,
    *,
    factor: Tensor | None = None,
    noise: Tensor | None = None,
    clamp: float = math.inf,
) -> Tensor:
    """`activate` in torch's own operations."""
    kind = images.dtype
    column = bias.to(kind)[:, None, None]
    if factor is None:
        result = images + column
    else:
        result = torch.addcmul(column, images, factor.to(kind)[:, :, None, None])
    if noise is not None:
        # The sum above is ours alone, so noise may be added in place.
        result += noise.to(kind)
    result = functional.leaky_relu(result, SLOPE, inplace=True)
    return result if clamp == math.inf else result.clamp(-clamp, clamp)


def activate_fused(
    images: Tensor,
    bias: Tensor,
    *,
    factor: Tensor | None = None,
    noise: Tensor | None = None,
    clamp: float = math.inf,
) -> Tensor:
    """`activate` in the kernels; differentiable any number of times."""
    if noise is not None:
        noise = noise.expand(len(images), 1, *images.shape[2:])
    images = images.contiguous(memory_format=torch.channels_last)
    return _Activation.apply(images, bias, factor, noise, clamp)  # type: ignore[return-value]


@functools.cache
def serves(device: torch.device) -> bool:
    """Whether the kernels run on a device and agree with the plain formula there."""
    if device.type != "cuda":
        return False
    try:
        worst = _disagreement(device)
    except Exception as error:
        # Whatever a compiler or driver says: the plain formula is as good, only slower.
        LOGGER.warning("fused kernels are left out on %s: %s", device, error)
        return False
    if not worst < 1e-4:
        LOGGER.warning("fused kernels are left out on %s: they are off by %.1e", device, worst)
    return worst < 1e-4


def _disagreement(device: torch.device) -> float:
    """Largest difference of values and gradients between kernels and plain formula."""
    stream = torch.Generator().manual_seed(0)
    shapes = ((3, 20, 7, 5), (20,), (3, 20), (3, 1, 7, 5))
    results = []
    values = [torch.randn(shape, generator=stream).to(device) for shape in shapes]
    with torch.enable_grad():
        for function in (activate_plain, activate_fused):
            leaves = [value.clone().requires_grad_() for value in values]
            images, bias, factor, noise = leaves
            out = function(images, bias, factor=factor, noise=noise, clamp=1.5)
            slopes = torch.autograd.grad(out.sin().sum(), leaves)
            results.append([out.detach(), *slopes])
    pairs = zip(*results, strict=True)
    return max((one - two).abs().max().item() for one, two in pairs)


class _Activation(torch.autograd.Function):
    """The formula with channels last; kernels for the value and its first derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        bias: Tensor,
        factor: Tensor | None,
        noise: Tensor | None,
        clamp: float,
    ) -> Tensor:
        from sem2ct.stylegan import kernels

        result = kernels.forward(images, bias, factor, noise, SLOPE, clamp)
        ctx.save_for_backward(images, factor, result)
        ctx.clamp = clamp
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = gradients
        images, factor, result = ctx.saved_tensors
        if torch.is_grad_enabled():
            slopes = _plain_gradients(gradient, images, factor, result.detach(), ctx.clamp)
        else:
            from sem2ct.stylegan import kernels

            gradient = gradient.contiguous(memory_format=torch.channels_last)
            slopes = kernels.backward(gradient, images, factor, result, SLOPE, ctx.clamp)
        wanted = zip(slopes, ctx.needs_input_grad[:4], strict=True)
        return *(slope if wants else None for slope, wants in wanted), None


def _plain_gradients(
    gradient: Tensor, images: Tensor, factor: Tensor | None, result: Tensor, clamp: float
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Of images, bias, factor and noise, linear in `gradient`; differentiable."""
    switch = torch.where(result > 0, 1.0, SLOPE).masked_fill(result.abs() >= clamp, 0.0)
    inner = gradient * switch.to(gradient.dtype)
    wide = inner.float()
    to_bias, to_noise = wide.sum((0, 2, 3)), wide.sum(1, keepdim=True)
    if factor is None:
        return inner, to_bias, None, to_noise
    to_images = inner * factor.to(inner.dtype)[:, :, None, None]
    return to_images, to_bias, (wide * images.float()).sum((2, 3)), to_noise
