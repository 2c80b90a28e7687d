"""The discriminator: an image to one number, high for real ones.

Residual blocks halve the resolution down to 4x4.  There a channel is added that holds
how much the images of a group differ, so that a generator without variety is found out,
and two dense layers give the logit.  From the minibatch deviation on all is float32.

Source: Karras et al. 2020, arXiv:1912.04958, figure 7; minibatch deviation: Karras et al.
2018, arXiv:1710.10196, section 3.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from sem2ct.stylegan.generator import resolutions, width
from sem2ct.stylegan.layers import Convolution, Dense
from sem2ct.stylegan.resample import full_precision, precise

DEVIATION_EPS = 1e-8


def minibatch_deviation(features: Tensor, *, group: int) -> Tensor:
    """One channel that tells how much the samples of a group differ.

    Args:
        features: (N, C, H, W).
        group: Samples in a group; lowered to the largest divisor of N.  With N / group
            groups, sample n belongs to group n mod (N / group).

    Returns:
        (N, 1, H, W): the deviation over the group, averaged over channels and pixels.

    Source: arXiv:1710.10196, section 3.
    """
    count, _, height, wide = features.shape
    members = max(size for size in range(1, min(group, count) + 1) if count % size == 0)
    grouped = features.reshape(members, count // members, -1)
    variance = (grouped - grouped.mean(0)).square().mean(0)
    deviation = (variance + DEVIATION_EPS).sqrt().mean(1)
    return deviation.repeat(members)[:, None, None, None].expand(-1, 1, height, wide)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Builds the two branches; each is scaled by sqrt 1/2, so that the sum keeps its size."""
        super().__init__()
        half = math.sqrt(0.5)
        self.conv0 = Convolution(inputs, inputs, size=3)
        self.conv1 = Convolution(inputs, outputs, size=3, step="down", gain=half)
        self.skip = Convolution(inputs, outputs, size=1, step="down", activate=False, gain=half)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        return self.skip(features) + self.conv1(self.conv0(features))

    def traced(self, features: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`forward`, and what the two activations gave, detached, for `adjoint`."""
        inner = self.conv0(features)
        result = self.conv1(inner)
        return self.skip(features) + result, (inner.detach(), result.detach())

    def adjoint(self, gradient: Tensor, results: tuple[Tensor, Tensor]) -> Tensor:
        """Gradient of the features from that of the result, as forward code.

        Args:
            gradient: (N, outputs, H / 2, W / 2).
            results: Of the activations, from `traced`.

        Returns:
            (N, inputs, H, W), linear in `gradient` and in every weight.
        """
        inner, result = results
        within = self.conv0.adjoint(self.conv1.adjoint(gradient, result), inner)
        return self.skip.adjoint(gradient, gradient) + within


class Discriminator(nn.Module):
    """StyleGAN2 discriminator with residual blocks.

    Args:
        resolution: Side of the images, a power of two from 4 to 1024.
        channel_base: Channels at resolution r are min(channel_base / r, channel_max).
        channel_max: Most channels at any resolution.
        group: Samples in a group of the minibatch deviation.
        channels: Channels of the images.

    Raises:
        Refusal: If the resolution is not allowed.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        group: int = 4,
        channels: int = 1,
    ) -> None:
        """Draws all weights from torch's global stream; see the class for the arguments."""
        super().__init__()
        self.config: dict[str, Any] = {
            "resolution": resolution,
            "channel_base": channel_base,
            "channel_max": channel_max,
            "group": group,
            "channels": channels,
        }
        self.resolution = resolution
        self.group = group
        sides = resolutions(resolution)[::-1]
        widths = [width(r, channel_base=channel_base, channel_max=channel_max) for r in sides]
        last = widths[-1]
        self.from_image = Convolution(channels, widths[0], size=1)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(before, after) for before, after in itertools.pairwise(widths)
        )
        self.conv = Convolution(last + 1, last, size=3)
        self.dense = Dense(last * 16, last, activate=True)
        self.out = Dense(last, 1, activate=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N,), float32, of images (N, channels, R, R) in -1 to 1."""
        features = self.from_image(images).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features)
        return self.judge(features)

    def judge(self, features: Tensor) -> Tensor:
        """Logits (N,), float32, of the features (N, C, 4, 4) behind the last block."""
        with full_precision(features):
            features = precise(features)
            deviation = minibatch_deviation(features, group=self.group)
            features = self.conv(torch.cat([features, deviation], 1))
            return self.out(self.dense(features.flatten(1)))[:, 0]
