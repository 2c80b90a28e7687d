"""Layers of StyleGAN2: dense, convolution, and convolution steered by a style.

Three ideas carry all of them.  Weights are stored with unit variance and scaled when
used (equalised learning rate), so that Adam moves all layers at the same relative speed.
A style scales the input channels of a convolution; demodulation then divides each output
channel by its expected deviation, which needs the squared styles and the squared weights
only, not a weight per sample.  And leaky ReLU commutes with positive factors, so every
gain is moved into small tensors before it: weight, bias, demodulation.

Styles, demodulation and dense layers are float32 under autocast too; a network moved to
float64 computes in float64 throughout.  Under float16 styles and weights are brought to
size 1 before a modulated convolution, and what leaves it is clamped.

Source: Karras et al. 2020, arXiv:1912.04958, section 2; Karras et al. 2018,
arXiv:1710.10196, section 4.1 (equalised learning rate).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sem2ct.stylegan.convolution import convolve2d
from sem2ct.stylegan.fused import SLOPE, activate, serves
from sem2ct.stylegan.resample import (
    blur,
    computes_float16,
    downsample,
    full_precision,
    precise,
    upsample,
)

LRELU_GAIN = math.sqrt(2)
DEMODULATION_EPS = 1e-8
FLOAT16_CLAMP = 256.0

Step = Literal["up", "same", "down"]


class Dense(nn.Module):
    """Fully connected layer in float32, with leaky ReLU or without.

    Args:
        inputs: Features in.
        outputs: Features out.
        rate: Learning-rate multiplier of weight and bias.
        bias: What the bias starts at.
        activate: Leaky ReLU with gain sqrt 2 at the end.
    """

    def __init__(
        self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0, activate: bool
    ) -> None:
        """Draws the weight; see the class for the arguments."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate = rate
        self.activate = activate

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs), float32."""
        scale = self.rate / math.sqrt(self.weight.shape[1])
        with full_precision(features):
            result = functional.linear(
                precise(features), self.weight * scale, self.bias * self.rate
            )
        if not self.activate:
            return result
        return functional.leaky_relu(result, SLOPE, inplace=True) * LRELU_GAIN


def kernel(outputs: int, inputs: int, size: int) -> nn.Parameter:
    """A standard normal weight (outputs, inputs, size, size).

    It lies with its channels last in memory, which the images then do too: convolutions,
    transposed ones above all, are up to twice as fast (CPU, float32 and bf16).
    """
    weight = torch.randn(outputs, inputs, size, size)
    return nn.Parameter(weight.contiguous(memory_format=torch.channels_last))


def convolve(
    images: Tensor, weight: Tensor, bias: Tensor | None = None, *, step: Step = "same"
) -> Tensor:
    """Convolution that may double or halve the resolution, smoothed by [1, 3, 3, 1].

    Up is a transposed convolution followed by the blur, down the blur followed by a
    strided convolution; a 1x1 convolution runs at the lower of the two resolutions.

    Args:
        images: (N, I, H, W).
        weight: (O, I, k, k) with k 1 or 3; as in `torch.nn`, same and down correlate, and
            up spreads each pixel by the weight.
        bias: (O,), not for up.
        step: Whether H and W double, stay, or halve.

    Returns:
        (N, O, H', W').
    """
    if step == "same":
        return convolve2d(images, weight, bias, padding=weight.shape[-1] // 2)
    if step == "down":
        if weight.shape[-1] == 1:
            return convolve2d(downsample(images), weight, bias)
        return convolve2d(blur(images, padding=2), weight, bias, stride=2)
    assert bias is None, "a bias would be blurred"
    if weight.shape[-1] == 1:
        return upsample(convolve2d(images, weight))
    spread = convolve2d(images, weight.transpose(0, 1), stride=2, transposed=True)
    return blur(spread, padding=1, gain=4.0)


def convolve_adjoint(gradient: Tensor, weight: Tensor, *, step: Step = "same") -> Tensor:
    """The adjoint of `convolve` for a linear map of images of even side, same or down.

    Args:
        gradient: (N, O, H', W'), of the result.
        weight: (O, I, k, k), the weight of the convolution.
        step: The step of the convolution.

    Returns:
        (N, I, H, W), the gradient of the images.
    """
    assert step != "up", "not needed so far"
    if step == "same":
        return convolve2d(gradient, weight, padding=weight.shape[-1] // 2, transposed=True)
    if weight.shape[-1] == 1:
        # Upsampling is four times the adjoint of downsampling.
        return upsample(convolve2d(gradient, weight / 4, transposed=True))
    return blur(convolve2d(gradient, weight, stride=2, transposed=True), padding=1)


class Convolution(nn.Module):
    """Convolution of the discriminator, with leaky ReLU and bias or with neither.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        size: Side of the kernel, 1 or 3.
        step: Whether the resolution halves.
        activate: Bias and leaky ReLU with gain sqrt 2.
        gain: Factor on the result.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        size: int,
        step: Step = "same",
        activate: bool = True,
        gain: float = 1.0,
    ) -> None:
        """Draws the weight; see the class for the arguments."""
        super().__init__()
        self.weight = kernel(outputs, inputs, size)
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.step: Step = step
        self.gain = gain * (LRELU_GAIN if activate else 1.0)

    def forward(self, images: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        scale = self.gain / math.sqrt(self.weight[0].numel())
        if self.bias is None:
            return convolve(images, self.weight * scale, step=self.step)
        bias = self.bias * self.gain
        if serves(images.device):
            return activate(convolve(images, self.weight * scale, step=self.step), bias)
        # A convolution adds a bias for nothing on a CPU.
        result = convolve(images, self.weight * scale, bias, step=self.step)
        return functional.leaky_relu(result, SLOPE, inplace=True)

    def adjoint(self, gradient: Tensor, result: Tensor) -> Tensor:
        """Gradient of the images from that of the result, as forward code.

        Args:
            gradient: (N, outputs, H', W').
            result: What `forward` returned, detached; only its signs count.

        Returns:
            (N, inputs, H, W), linear in `gradient` and in the weight.
        """
        if self.bias is not None:
            gradient = torch.ops.aten.leaky_relu_backward(gradient, result, SLOPE, True)
        scale = self.gain / math.sqrt(self.weight[0].numel())
        return convolve_adjoint(gradient, self.weight * scale, step=self.step)


def demodulation(styles: Tensor, weight: Tensor) -> Tensor:
    """Factor that brings every output channel back to unit deviation.

    Args:
        styles: (N, I), float32.
        weight: (O, I, k, k), float32.

    Returns:
        (N, O), 1 / sqrt(sum over i, k of (style_i weight_oik)^2 + 1e-8).

    Source: arXiv:1912.04958, equation 3.
    """
    energy = weight.square().sum((2, 3))
    return (styles.square() @ energy.t() + DEMODULATION_EPS).rsqrt()


def prenormalised(styles: Tensor, weight: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same modulated convolution with factors that float16 can hold.

    Styles are divided by their largest size and weights by theirs and the root of the fan-in,
    so no sum inside the convolution exceeds 256 sqrt(9 * 512) for images clamped to 256; the
    demodulation takes both back.

    Args:
        styles: (N, I).
        weight: (O, I, k, k).
        factor: (N, O), what the result of the convolution is multiplied by.

    Returns:
        The three, changed; what they compute together is the same.

    Source: Karras et al. 2020, arXiv:2006.06676, appendix D.
    """
    # The product does not depend on the two divisors, so they need no gradient.
    largest = styles.detach().abs().amax(1, keepdim=True).clamp(min=DEMODULATION_EPS)
    size = weight.detach().abs().amax((1, 2, 3)).clamp(min=DEMODULATION_EPS)
    size = size * math.sqrt(weight[0].numel())
    return styles / largest, weight / size[:, None, None, None], factor * largest * size


def modulated_convolution(
    images: Tensor, weight: Tensor, styles: Tensor, *, step: Step = "same", demodulate: bool = True
) -> Tensor:
    """Convolution whose weights a style scales per sample and input channel.

    Scaling the images instead of the weights is the same sum, and one ordinary
    convolution serves the whole batch.

    Args:
        images: (N, I, H, W).
        weight: (O, I, k, k).
        styles: (N, I), float32.
        step: Whether the resolution doubles or stays.
        demodulate: Divide each output channel by its expected deviation.

    Returns:
        (N, O, H', W').
    """
    result = convolve(scaled(images, styles), weight, step=step)
    if not demodulate:
        return result
    with full_precision(images):
        factor = demodulation(styles, weight)
    return scaled(result, factor)


def scaled(images: Tensor, factors: Tensor) -> Tensor:
    """(N, C, H, W) times (N, C), in the type of the images."""
    return images * factors.to(images.dtype)[:, :, None, None]


class StyledConvolution(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU: one layer of the synthesis.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        w_dim: Length of the style w.
        resolution: Side of the result.
        step: Whether the resolution doubles.
        clamp: Largest size of a value that leaves the layer.
    """

    noise_const: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        w_dim: int,
        resolution: int,
        step: Step = "same",
        clamp: float = math.inf,
    ) -> None:
        """Draws weights and the constant noise plane; see the class for the arguments."""
        super().__init__()
        self.affine = Dense(w_dim, inputs, bias=1.0, activate=False)
        self.weight = kernel(outputs, inputs, 3)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.step: Step = step
        self.clamp = clamp

    def forward(self, images: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """Runs the layer.

        Args:
            images: (N, inputs, H, W).
            style: (N, w_dim).
            noise: None or planes that broadcast to (N, 1, H', W').

        Returns:
            (N, outputs, H', W').
        """
        styles, weight = self.affine(style), self.weight
        with full_precision(images):
            factor = demodulation(styles, weight) * LRELU_GAIN
        clamp = self.clamp
        if computes_float16(images):
            styles, weight, factor = prenormalised(styles, weight, factor)
            clamp = min(clamp, FLOAT16_CLAMP)
        result = convolve(scaled(images, styles), weight, step=self.step)
        if noise is not None:
            noise = noise * (self.noise_strength * LRELU_GAIN)
        return activate(result, self.bias * LRELU_GAIN, factor=factor, noise=noise, clamp=clamp)


class ToImage(nn.Module):
    """Modulated 1x1 convolution to grey, without demodulation, in float32.

    Args:
        inputs: Channels in.
        channels: Channels of the image.
        w_dim: Length of the style w.
        clamp: Largest size of a value that leaves the layer.
    """

    def __init__(self, inputs: int, channels: int, *, w_dim: int, clamp: float = math.inf) -> None:
        """Draws the weight; see the class for the arguments."""
        super().__init__()
        self.affine = Dense(w_dim, inputs, bias=1.0, activate=False)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.clamp = clamp

    def forward(self, images: Tensor, style: Tensor) -> Tensor:
        """(N, inputs, H, W) and (N, w_dim) -> (N, channels, H, W), float32."""
        count, inputs, height, width = images.shape
        with full_precision(images):
            styles = self.affine(style) / math.sqrt(inputs)
            weight = self.weight[:, :, 0, 0].t() * styles[:, :, None]
            # A 1x1 kernel per sample is a matrix product per sample: no pass over the
            # images to scale them first.
            grey = precise(images).permute(0, 2, 3, 1).reshape(count, -1, inputs) @ weight
            grey = grey.view(count, height, width, -1).permute(0, 3, 1, 2)
            grey = grey + self.bias[:, None, None]
            return grey if self.clamp == math.inf else grey.clamp(-self.clamp, self.clamp)
