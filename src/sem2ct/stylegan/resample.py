"""Filtering while going up and down in resolution.

Everything is one operation, `upfirdn`: put zeros between the samples, pad, convolve
with a fixed filter, keep every n-th sample.  It is linear and its adjoint is again an
upfirdn (up and down exchanged, filter turned, other padding), so its autograd function
differentiates into itself as often as one likes and always runs as one depthwise
convolution.  The stock backward of a depthwise convolution does not: differentiated
twice it loops over the channels.

Networks resample with the binomial filter [1, 3, 3, 1] throughout.

Source: Karras et al. 2020, arXiv:1912.04958, appendix B; Zhang 2019, arXiv:1904.11486.
"""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

BINOMIAL = (1.0, 3.0, 3.0, 1.0)
# From here on the channels alone keep a depthwise convolution busy; below, the samples
# are counted as channels (measured on CPU: 0.7 ms against 8 ms at 16 x 1 x 128 x 128).
_ENOUGH_CHANNELS = 8


class _Geometry(NamedTuple):
    """Whole-number factors along (x, y) and padding (x0, x1, y0, y1)."""

    up: tuple[int, int]
    down: tuple[int, int]
    padding: tuple[int, int, int, int]

    def adjoint(self, kernel: Tensor, before: torch.Size, after: torch.Size) -> "_Geometry":
        """Geometry of the adjoint, of which `before` is the output size and `after` the input."""
        ends = []
        for axis in (0, 1):
            taps, up, down = kernel.shape[1 - axis], self.up[axis], self.down[axis]
            first = self.padding[2 * axis]
            span = before[-1 - axis] * up - after[-1 - axis] * down
            ends += [taps - 1 - first, span + first - up + 1]
        x0, x1, y0, y1 = ends
        return _Geometry(self.down, self.up, (x0, x1, y0, y1))


def full_precision(images: Tensor) -> AbstractContextManager[Any]:
    """Context in which autocast leaves the arithmetic of `images`' device alone."""
    kind = images.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def computes_float16(images: Tensor) -> bool:
    """Whether autocast computes in float16 on the images' device."""
    kind = images.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) is torch.float16


def precise(values: Tensor) -> Tensor:
    """The values in float32, or in float64 if they are."""
    return values if values.dtype is torch.float64 else values.float()


@functools.lru_cache(maxsize=64)
def binomial(gain: float, device: torch.device) -> Tensor:
    """The two-dimensional [1, 3, 3, 1] filter, (4, 4), with sum `gain`."""
    taps = torch.tensor(BINOMIAL, dtype=torch.float64)
    return (torch.outer(taps, taps) * (gain / 64)).to(device, torch.float32)


def upfirdn(
    images: Tensor,
    kernel: Tensor,
    *,
    up: int | tuple[int, int] = 1,
    down: int | tuple[int, int] = 1,
    padding: int | tuple[int, int, int, int] = 0,
    gain: float = 1.0,
    flip: bool = False,
) -> Tensor:
    """Insert zeros, pad, convolve with a fixed filter, keep every n-th sample.

    Args:
        images: (N, C, H, W), any float type; the result has the same.
        kernel: Filter, (kh, kw), or (k,) for the separable filter with these taps along
            both axes.  It gets no gradient.
        up: Samples per sample after inserting zeros, or a pair (x, y).
        down: Every how many samples one is kept, or a pair (x, y).
        padding: Zeros around the grid after `up`, or (x0, x1, y0, y1); negative crops.
        gain: Factor on the result.
        flip: False convolves, True correlates (the filter turned by 180 degrees).

    Returns:
        (N, C, H', W') with H' = (H up + y0 + y1 - kh) // down + 1.  Differentiable any
        number of times.

    Source: the classical multirate operation, Vaidyanathan 1993, chapter 4.
    """
    (up_x, up_y), (down_x, down_y) = _pair(up), _pair(down)
    x0, x1, y0, y1 = (padding,) * 4 if isinstance(padding, int) else padding
    taps = kernel if flip else kernel.flip(tuple(range(kernel.ndim)))
    if kernel.ndim == 2:
        geometry = _Geometry((up_x, up_y), (down_x, down_y), (x0, x1, y0, y1))
        return _filtered(images, taps * gain, geometry)
    taps = taps * gain**0.5
    along_x = _Geometry((up_x, 1), (down_x, 1), (x0, x1, 0, 0))
    along_y = _Geometry((1, up_y), (1, down_y), (0, 0, y0, y1))
    return _filtered(_filtered(images, taps[None], along_x), taps[:, None], along_y)


def blur(images: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """Smooth (N, C, H, W) with [1, 3, 3, 1]; each axis changes by 2 padding - 3 pixels."""
    return _filtered(
        images, _taps(images, gain), _Geometry((1, 1), (1, 1), (padding, padding, padding, padding))
    )


def upsample(images: Tensor) -> Tensor:
    """Double the resolution of (N, C, H, W) without changing the grey level."""
    return _filtered(images, _taps(images, 4.0), _Geometry((2, 2), (1, 1), (2, 1, 2, 1)))


def downsample(images: Tensor) -> Tensor:
    """Halve the resolution of (N, C, H, W), smoothing and skipping in one operation."""
    return _filtered(images, _taps(images, 1.0), _Geometry((1, 1), (2, 2), (1, 1, 1, 1)))


def _taps(images: Tensor, gain: float) -> Tensor:
    return binomial(gain, images.device)


def _pair(factor: int | tuple[int, int]) -> tuple[int, int]:
    return (factor, factor) if isinstance(factor, int) else factor


class _Filter(torch.autograd.Function):
    """The linear map x -> filtered x, whose backward is its adjoint."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor, geometry: _Geometry) -> Tensor:
        ctx.kernel, ctx.geometry, ctx.before = kernel, geometry, images.shape
        return _execute(images, kernel, geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (gradient,) = gradients
        geometry = ctx.geometry.adjoint(ctx.kernel, ctx.before, gradient.shape)
        return _Filter.apply(gradient, ctx.kernel.flip(0, 1), geometry), None, None


def _filtered(images: Tensor, kernel: Tensor, geometry: _Geometry) -> Tensor:
    """Correlate with `kernel` (kh, kw) under the geometry."""
    count, channels, height, width = images.shape
    if channels < _ENOUGH_CHANNELS and count > 1:
        images = images.reshape(1, count * channels, height, width)
    if images.requires_grad and torch.is_grad_enabled():
        result: Tensor = _Filter.apply(images, kernel, geometry)  # type: ignore[assignment]
    else:
        result = _execute(images, kernel, geometry)
    return result.reshape(count, channels, *result.shape[2:])


def _execute(images: Tensor, kernel: Tensor, geometry: _Geometry) -> Tensor:
    weight = kernel.to(images.device, images.dtype).expand(images.shape[1], 1, *kernel.shape)
    with full_precision(images):
        result = _transposed(images, weight, geometry)
        return _direct(images, weight, geometry) if result is None else result


def _direct(images: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    """Zeros are really inserted, then a strided depthwise correlation runs over them."""
    images = _with_zeros(images, geometry.up)
    x0, x1, y0, y1 = geometry.padding
    even = x0 == x1 >= 0 and y0 == y1 >= 0
    if not even:
        images = functional.pad(images, geometry.padding)
    return functional.conv2d(
        images,
        weight,
        stride=geometry.down[::-1],
        padding=(y0, x0) if even else 0,
        groups=images.shape[1],
    )


def _with_zeros(images: Tensor, up: tuple[int, int]) -> Tensor:
    """(N, C, H, W) -> (N, C, H up_y, W up_x), each sample followed by zeros."""
    if up == (1, 1):
        return images
    count, channels, height, width = images.shape
    spread = images.new_zeros(count, channels, height * up[1], width * up[0])
    spread[:, :, :: up[1], :: up[0]] = images
    return spread


def _transposed(images: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor | None:
    """Upsampling without inserting zeros, by a transposed convolution, where it fits.

    The transposed convolution gives all (H - 1) up + kh samples at which the filter touches
    an image; `crop` is what the wanted result leaves out at both ends.
    """
    if geometry.up == (1, 1) or geometry.down != (1, 1) or not _transposes_well(images):
        return None
    crop, surplus = [], []
    for axis in (1, 0):
        taps, up = weight.shape[3 - axis], geometry.up[axis]
        start = taps - 1 - geometry.padding[2 * axis]
        end = taps - up - geometry.padding[2 * axis + 1]
        if start < 0 or not 0 <= start - end < up:
            return None
        crop.append(start)
        surplus.append(start - end)
    return functional.conv_transpose2d(
        images,
        weight.flip(2, 3),
        stride=geometry.up[::-1],
        padding=crop,
        output_padding=surplus,
        groups=images.shape[1],
    )


def _transposes_well(images: Tensor) -> bool:
    """On CPU the depthwise transposed convolution in bf16 is 5 to 15 times slower."""
    return images.dtype is not torch.bfloat16 or images.device.type != "cpu"
