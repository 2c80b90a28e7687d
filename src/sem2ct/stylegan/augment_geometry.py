"""Scaling, turning and shifting images without aliasing, twice differentiable.

The image is doubled in size with a wavelet low-pass, sampled bilinearly there, and
halved with the same filter; the filter is orthonormal, so an image that is not
moved comes back as it was.  Outside its frame the image is mirrored, the edge
pixels not repeated.

Both filterings are written as products with a small dense matrix over blocks of
an axis: an order of magnitude more arithmetic than a convolution, and yet three to
ten times as fast on a CPU, because convolution libraries are slow on one channel.

Source: Karras et al. 2020, arXiv:2006.06676, appendix B.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Least asymmetric Daubechies wavelet with six vanishing moments, scaling filter.
# Source: Daubechies, Ten Lectures on Wavelets (1992), table 6.3.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_TAPS = len(SYM6)
_EDGE_PX = _TAPS // 4  # how far the result is sampled beyond its frame, for the halving
_BLOCK = 64
_BILINEAR, _ZEROS = 0, 0  # grid_sampler's numbers for its two modes


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Moves each image by its own affine transform.

    Args:
        images: (N, 1, H, H) float32 or float64; the result has the same type.
        inverse: (N, 3, 3), best on the host: from a pixel of the result to the pixel it
            comes from, in pixels, from the centre of the image, x before y.

    Returns:
        (N, 1, H, H); grey 0 where the source lies more than H - 1 pixels outside
        the frame.  Differentiable in the images any number of times.

    Source: Karras et al. 2020, arXiv:2006.06676, appendix B.
    """
    side = images.shape[-1]
    inverse = inverse.detach().double().cpu()
    margin = _margin(inverse, side)
    inner = 2 * (side + 2 * margin)
    outer = 2 * (side + 2 * _EDGE_PX)
    doubled = _doubled(_doubled(images, margin, -1), margin, -2)
    theta = _between_grids(inverse, inner, outer)
    grid = _grid(theta.to(images.dtype).to(images.device, non_blocking=True), outer)
    sampled: Any = _Sampling.apply(doubled, grid)
    return _halved(_halved(sampled, side, -1), side, -2)


class _Sampling(torch.autograd.Function):
    """The linear map x -> bilinear samples of x; its backward is its adjoint.

    torch has the second derivative of `grid_sample` only since lately, and R1 is
    computed through it.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return functional.grid_sample(images, grid, mode="bilinear", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, None]:  # type: ignore[override]
        (grid,) = ctx.saved_tensors
        return _Scattering.apply(*gradients, grid, ctx.shape), None


class _Scattering(torch.autograd.Function):
    """The adjoint of `_Sampling`, whose adjoint is that again."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        # The images' values do not matter to the gradient towards them, their shape does.
        like = gradient.new_zeros(1).expand(shape)
        of_images, _ = torch.ops.aten.grid_sampler_2d_backward(
            gradient, like, grid, _BILINEAR, _ZEROS, False, [True, False]
        )
        return of_images

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, None, None]:  # type: ignore[override]
        (grid,) = ctx.saved_tensors
        return _Sampling.apply(*gradients, grid), None, None


def _margin(inverse: Tensor, side: int) -> int:
    """Pixels needed around the frame: the same few numbers over and over, so shapes repeat."""
    reach = (side - 1) / 2 + _EDGE_PX
    signs = torch.tensor([[-1, -1, 1, 1], [-1, 1, -1, 1]], dtype=torch.float64)
    corners = torch.cat([signs * reach, torch.ones(1, 4, dtype=torch.float64)])
    farthest = (inverse @ corners)[:, :2].abs().max().item()
    needed = farthest - (side - 1) / 2 + 1
    bucket = max(side // 8, 4)
    return min(max(math.ceil(needed / bucket), 1) * bucket, side - 1)


def _between_grids(inverse: Tensor, inner: int, outer: int) -> Tensor:
    """The same transform between the coordinates of `grid_sample`, (N, 2, 3)."""
    # Sample q of the outer grid lies at (q - outer / 2 + 1) / 2 pixels from the centre,
    # and coordinate X of that grid is (2 q + 1) / outer - 1; the inner grid likewise.
    target = torch.tensor([[outer / 4, 0, 0.25], [0, outer / 4, 0.25], [0, 0, 1]])
    source = torch.tensor([[4.0, 0, -1], [0, 4.0, -1]]) / inner
    return source.double() @ inverse @ target.double()


def _grid(theta: Tensor, outer: int) -> Tensor:
    """`affine_grid` as one sum over the broadcast axes, four times as fast: (N, o, o, 2)."""
    along = (torch.arange(outer, device=theta.device, dtype=theta.dtype) * 2 + 1 - outer) / outer
    columns = along[:, None] * theta[:, None, :, 0]
    rows = along[:, None] * theta[:, None, :, 1] + theta[:, None, :, 2]
    return rows[:, :, None] + columns[:, None]


def _doubled(images: Tensor, margin: int, axis: int) -> Tensor:
    """W -> 2 (W + 2 margin): mirrors and doubles along an axis, -1 or -2."""
    width = images.shape[axis]
    index, inside, kernel = _doubling(width, margin, images.device, images.dtype)
    mirrored = images.index_select(axis, index)
    if margin == width - 1:
        # The farthest that can be mirrored: here the transform may look beyond it.
        mirrored = mirrored * (inside if axis == -1 else inside[:, None])
    return _in_blocks(mirrored, kernel, axis).narrow(axis, 0, 2 * (width + 2 * margin))


def _halved(samples: Tensor, width: int, axis: int) -> Tensor:
    """2 (W + 2 edge) -> W: filters and halves along an axis, -1 or -2."""
    index, kernel = _halving(width, samples.device, samples.dtype)
    return _in_blocks(samples.index_select(axis, index), kernel, axis).narrow(axis, 0, width)


def _in_blocks(values: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Multiplies every block of an axis by the matrix; each axis from its own side, for speed."""
    blocks = values.unflatten(axis, (-1, kernel.shape[0]))
    if axis == -1:
        return (blocks @ kernel).flatten(-2)
    return (kernel.mT @ blocks).flatten(-3, -2)


@lru_cache(maxsize=64)
def _doubling(
    width: int, margin: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels go into each block, which lie within the margin, and the block's matrix.

    Doubled sample t is sum_k 2 h[t - 2 k + 5] x[k], with h of sum 1.
    """
    block = min(_BLOCK, width)
    reach = _TAPS // 2
    count = -(-(width + 2 * margin) // block)
    first = torch.arange(count)[:, None] * block - margin - reach // 2
    pixel = (first + torch.arange(block + reach)).flatten()
    inside = (pixel >= -margin) & (pixel < width + margin)
    turned = pixel.remainder(2 * (width - 1))
    mirrored = torch.minimum(turned, 2 * (width - 1) - turned)
    k = torch.arange(block + reach)[:, None] - reach // 2
    tap = torch.arange(2 * block)[None] - 2 * k + reach - 1
    return mirrored.to(device), inside.to(device, dtype), 2 * _tap(tap).to(device, dtype)


@lru_cache(maxsize=64)
def _halving(width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """As `_doubling`: halved sample i is sum_j h[j] s[2 i + j + 1]."""
    block = min(_BLOCK, width)
    taken = 2 * block + _TAPS - 2
    count = -(-width // block)
    index = torch.arange(count)[:, None] * 2 * block + torch.arange(taken) + 1
    tap = torch.arange(taken)[:, None] - 2 * torch.arange(block)[None]
    last = 2 * (width + 2 * _EDGE_PX) - 1
    return index.clamp(max=last).flatten().to(device), _tap(tap).to(device, dtype)


def _tap(position: Tensor) -> Tensor:
    """The filter, of sum 1, at any positions; 0 outside; float64."""
    filter_ = torch.tensor(SYM6, dtype=torch.float64) / math.sqrt(2)
    inside = (position >= 0) & (position < _TAPS)
    return torch.where(inside, filter_[position.clamp(0, _TAPS - 1)], 0.0)
