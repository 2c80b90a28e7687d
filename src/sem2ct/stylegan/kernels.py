"""Triton kernels of `fused`; imported only where a GPU calls for them.

A program takes some pixels of one sample with all their channels, which lie side by side
in memory, computes in float32, and rounds once.  Sums over pixels are left as one partial
sum per program; sums over channels are whole within a program.
"""

import math
from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

# Values that one program holds of each image.
_VALUES = 4096


@triton.jit
def _forward(
    images,
    bias,
    factor,
    noise,
    result,
    pixels,
    channels,
    slope,
    clamp,
    HAS_FACTOR: tl.constexpr,  # noqa: N803
    HAS_NOISE: tl.constexpr,  # noqa: N803
    P: tl.constexpr,  # noqa: N803
    C: tl.constexpr,  # noqa: N803
):
    sample = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.arange(0, C)
    there, known = pixel < pixels, channel < channels
    place = sample * pixels + pixel
    at = place[:, None] * channels + channel[None, :]
    both = there[:, None] & known[None, :]
    value = tl.load(images + at, mask=both, other=0.0).to(tl.float32)
    if HAS_FACTOR:
        own = tl.load(factor + sample * channels + channel, mask=known, other=0.0)
        value = value * own[None, :].to(tl.float32)
    if HAS_NOISE:
        plane = tl.load(noise + place, mask=there, other=0.0)
        value = value + plane[:, None].to(tl.float32)
    value = value + tl.load(bias + channel, mask=known, other=0.0)[None, :].to(tl.float32)
    value = tl.where(value > 0, value, value * slope)
    value = tl.minimum(tl.maximum(value, -clamp), clamp)
    tl.store(result + at, value.to(result.dtype.element_ty), mask=both)


@triton.jit
def _backward(
    gradient,
    images,
    factor,
    result,
    to_images,
    to_bias,
    to_factor,
    to_noise,
    pixels,
    channels,
    slope,
    clamp,
    HAS_FACTOR: tl.constexpr,  # noqa: N803
    P: tl.constexpr,  # noqa: N803
    C: tl.constexpr,  # noqa: N803
):
    sample = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.arange(0, C)
    there, known = pixel < pixels, channel < channels
    place = sample * pixels + pixel
    at = place[:, None] * channels + channel[None, :]
    both = there[:, None] & known[None, :]
    inner = tl.load(gradient + at, mask=both, other=0.0).to(tl.float32)
    out = tl.load(result + at, mask=both, other=0.0).to(tl.float32)
    inner = tl.where(out > 0, inner, inner * slope)
    inner = tl.where(tl.abs(out) < clamp, inner, 0.0)
    tl.store(to_noise + place, tl.sum(inner, axis=1), mask=there)
    partial = (sample * tl.num_programs(0) + tl.program_id(0)) * channels + channel
    tl.store(to_bias + partial, tl.sum(inner, axis=0), mask=known)
    if HAS_FACTOR:
        value = tl.load(images + at, mask=both, other=0.0).to(tl.float32)
        tl.store(to_factor + partial, tl.sum(inner * value, axis=0), mask=known)
        own = tl.load(factor + sample * channels + channel, mask=known, other=0.0)
        inner = inner * own[None, :].to(tl.float32)
    tl.store(to_images + at, inner.to(to_images.dtype.element_ty), mask=both)


def forward(
    images: Tensor,
    bias: Tensor,
    factor: Tensor | None,
    noise: Tensor | None,
    slope: float,
    clamp: float,
) -> Tensor:
    """Leaky ReLU of images * factor + noise + bias, clamped.

    Args:
        images: (N, C, H, W), channels last in memory.
        bias: (C,).
        factor: (N, C), or None.
        noise: (N, 1, H, W), or None.
        slope: Of the leaky ReLU.
        clamp: Largest size of a value.

    Returns:
        As the images.
    """
    result = torch.empty_like(images)
    grid, sizes = _layout(images)
    _forward[grid](  # pyright: ignore[reportIndexIssue]
        images,
        bias.contiguous(),
        images if factor is None else factor.contiguous(),
        images if noise is None else noise.contiguous(),
        result,
        images.shape[2] * images.shape[3],
        images.shape[1],
        slope,
        min(clamp, torch.finfo(torch.float32).max),
        HAS_FACTOR=factor is not None,
        HAS_NOISE=noise is not None,
        **sizes,
    )
    return result


def backward(
    gradient: Tensor,
    images: Tensor,
    factor: Tensor | None,
    result: Tensor,
    slope: float,
    clamp: float,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """First derivative of `forward`.

    Args:
        gradient: (N, C, H, W), of the result, channels last in memory.
        images: What `forward` took.
        factor: What `forward` took.
        result: What `forward` gave.
        slope: Of the leaky ReLU.
        clamp: Largest size of a value.

    Returns:
        Gradients of images (N, C, H, W), bias (C,), factor (N, C) or None, and noise
        (N, 1, H, W), all but the first in float32.
    """
    count, channels, height, width = images.shape
    grid, sizes = _layout(images)
    to_images = torch.empty_like(images)
    partial = images.new_empty(2, count, grid[0], channels, dtype=torch.float32)
    to_noise = images.new_empty(count, 1, height, width, dtype=torch.float32)
    _backward[grid](  # pyright: ignore[reportIndexIssue]
        gradient,
        images,
        images if factor is None else factor.contiguous(),
        result,
        to_images,
        partial[0],
        partial[1],
        to_noise,
        height * width,
        channels,
        slope,
        min(clamp, torch.finfo(torch.float32).max),
        HAS_FACTOR=factor is not None,
        **sizes,
    )
    to_factor = None if factor is None else partial[1].sum(1)
    return to_images, partial[0].sum((0, 1)), to_factor, to_noise


def _layout(images: Tensor) -> tuple[tuple[int, int], dict[str, Any]]:
    """Programs along pixels and samples, and how much one of them takes."""
    count, channels, height, width = images.shape
    all_channels = triton.next_power_of_2(channels)
    pixels = max(1, _VALUES // all_channels)
    return (math.ceil(height * width / pixels), count), {"P": pixels, "C": all_channels}
