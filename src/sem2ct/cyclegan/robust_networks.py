"""The default translators: grey-true, tile-invariant, and cheap at SEM resolution.

There is no normalisation layer, so grey level is seen and no pixel depends on the
tile it lies in: beyond the receptive field a tile and the whole slice agree.  The
micro-CT image itself, upsampled and calibrated, is the start of the answer; the
network adds what the CT cannot show.  Nearly all work is done at CT resolution,
from where sub-pixel steps (Shi et al. 2016, arXiv:1609.05158) climb with few
channels.  What the CT leaves open is decided by noise that depends on the absolute
position alone, so neighbouring tiles agree about it and a new key gives another
realisation.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from sem2ct.cyclegan.paper_networks import LEAK, steps_of
from sem2ct.runtime.seeding import hashed_normal, mix

# Greys are kept this far inside (-1, 1) before tanh is inverted.
GREY_LIMIT = 0.97
FIRST_NOISE_WEIGHT = 0.5


class CalibratedSkip(nn.Module):
    """A learned linear grey map, handed on in the units before a final tanh."""

    def __init__(self) -> None:
        """Starts as the identity."""
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, grey: Tensor) -> Tensor:
        """Maps greys in [-1, 1] to values whose tanh is gain * grey + bias, softly limited."""
        target = self.gain * grey.float() + self.bias
        return torch.atanh(target.clamp(-GREY_LIMIT, GREY_LIMIT))


class PlainBlock(nn.Module):
    """Two 3x3 convolutions added to their input, without normalisation."""

    def __init__(self, width: int) -> None:
        """Makes the weights; the second convolution starts small, so depth does no harm."""
        super().__init__()
        self.first = _conv(width, width)
        self.second = _conv(width, width, gain=0.2)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        return maps + self.second(F.leaky_relu(self.first(F.leaky_relu(maps, LEAK)), LEAK))


class PlacedNoise(nn.Module):
    """Adds one plane of noise, weighted per channel, fixed to absolute positions.

    Along z the noise of a level changes as fast as within a plane: there are planes of
    independent numbers as far apart as the level's pixels, and what lies between two of
    them is a mixture of both with the same variance.
    """

    def __init__(self, channels: int, level: int, *, scale: int) -> None:
        """Makes the weights.

        Args:
            channels: Channels of the maps it will see.
            level: Doublings above CT resolution.
            scale: SEM pixels per CT pixel.
        """
        super().__init__()
        self.level = level
        self.spacing = scale >> level
        self.weight = nn.Parameter(torch.full((channels, 1, 1), FIRST_NOISE_WEIGHT))
        with torch.no_grad():
            self.weight[1::2].neg_()

    def forward(self, maps: Tensor, key: int, origin: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Adds the noise of `key` at `origin` (z, y, x in CT pixels, each (N,)) to the maps."""
        height, width = maps.shape[-2:]
        z, y, x = (axis.to(maps.device).view(-1, 1, 1, 1) for axis in origin)
        rows = (y << self.level) + torch.arange(height, device=maps.device).view(-1, 1)
        columns = (x << self.level) + torch.arange(width, device=maps.device)
        key = mix(key, "level", self.level)
        knot = torch.div(z, self.spacing, rounding_mode="floor")
        plane = hashed_normal(key, knot, rows, columns)
        past = z - knot * self.spacing
        # Whole planes are the rule in training; looking at them there would stall a GPU.
        if self.spacing > 1 and (past.is_cuda or bool(past.any())):
            turn = past * (torch.pi / 2 / self.spacing)
            following = hashed_normal(key, knot + 1, rows, columns)
            plane = plane * turn.cos() + following * turn.sin()
        return maps + (self.weight * plane).to(maps.dtype)


class SubPixelStep(nn.Module):
    """3x3 convolution to four phases, pixel shuffle, noise, leaky ReLU."""

    def __init__(self, channels: int, out_channels: int, level: int, *, scale: int) -> None:
        """Makes the weights of the step that reaches `level` doublings of `scale`."""
        super().__init__()
        self.conv = _conv(channels, 4 * out_channels)
        with torch.no_grad():
            # The four phases start alike: no checkerboard to unlearn.
            self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, 0))
        self.noise = PlacedNoise(out_channels, level, scale=scale)

    def forward(
        self, maps: Tensor, key: int | None, origin: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """Maps (N, C, H, W) to (N, O, 2 H, 2 W)."""
        maps = F.pixel_shuffle(self.conv(maps), 2)
        if key is not None:
            maps = self.noise(maps, key, origin)
        return F.leaky_relu(maps, LEAK)


class RobustCtToSem(nn.Module):
    """tanh(calibrated bilinear upsampling of the CT + learned residual)."""

    def __init__(self, *, scale: int, width: int = 64, blocks: int = 8) -> None:
        """Makes the network.

        Args:
            scale: SEM pixels per CT pixel: 2, 4, 8, 16 or 32.
            width: Channels at CT resolution.
            blocks: Residual blocks at CT resolution.
        """
        super().__init__()
        self.config: dict[str, Any] = {
            "network": "robust",
            "direction": "ct_to_sem",
            "scale": scale,
            "width": width,
            "blocks": blocks,
        }
        self.scale = scale
        self.skip = CalibratedSkip()
        self.head = _conv(1, width)
        self.noise = PlacedNoise(width, 0, scale=scale)
        self.blocks = nn.ModuleList(PlainBlock(width) for _ in range(blocks))
        channels = [width, *_step_channels(width, steps_of(scale))]
        self.steps = nn.ModuleList(
            SubPixelStep(channels[level], channels[level + 1], level + 1, scale=scale)
            for level in range(len(channels) - 1)
        )
        self.tail = _conv(channels[-1], 1, gain=0.1)

    def forward(
        self,
        ct: Tensor,
        noise_key: int | None = None,
        origin: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Paints tiles.

        Args:
            ct: (N, 1, h, w) in [-1, 1].
            noise_key: Which realisation; None leaves the noise out.
            origin: z (in output slices), y and x (in CT pixels) of each tile's corner, int64
                (N,) each; None puts every tile at 0, 0, 0.

        Returns:
            (N, 1, h * scale, w * scale), float32 in [-1, 1].
        """
        if origin is None:
            zeros = torch.zeros(len(ct), dtype=torch.int64)
            origin = (zeros, zeros, zeros)
        upsampled = F.interpolate(
            ct.float(), scale_factor=self.scale, mode="bilinear", align_corners=False
        )
        # Channels last is what convolutions of few channels like, on CPU and GPU.
        maps = self.head(ct).contiguous(memory_format=torch.channels_last)
        if noise_key is not None:
            maps = self.noise(maps, noise_key, origin)
        for block in self.blocks:
            maps = block(maps)
        for step in self.steps:
            maps = step(maps, noise_key, origin)
        return torch.tanh(self.skip(upsampled) + self.tail(maps).float())


class RobustSemToCt(nn.Module):
    """tanh(calibrated box mean of the SEM + residual of a light strided network)."""

    def __init__(self, *, scale: int, width: int = 32) -> None:
        """Makes the network.

        Args:
            scale: SEM pixels per CT pixel: 2, 4, 8, 16 or 32.
            width: Channels at CT resolution.
        """
        super().__init__()
        self.config: dict[str, Any] = {
            "network": "robust",
            "direction": "sem_to_ct",
            "scale": scale,
            "width": width,
        }
        self.scale = scale
        self.skip = CalibratedSkip()
        # A quarter of the resolution at once: 16 phases instead of one wide fine layer.
        self.fold = min(scale, 4)
        halvings = steps_of(scale) - steps_of(self.fold)
        channels = [max(8, width >> (halvings - step)) for step in range(halvings + 1)]
        self.head = _conv(self.fold**2, channels[0])
        self.steps = nn.ModuleList(
            _conv(channels[step], channels[step + 1], kernel=4, stride=2)
            for step in range(halvings)
        )
        self.block = PlainBlock(channels[-1])
        self.tail = _conv(channels[-1], 1, gain=0.1)

    def forward(self, sem: Tensor) -> Tensor:
        """Maps (N, 1, H, W) in [-1, 1] to (N, 1, H / scale, W / scale), float32."""
        maps = self.head(F.pixel_unshuffle(sem, self.fold))
        maps = maps.contiguous(memory_format=torch.channels_last)
        for step in self.steps:
            maps = step(F.leaky_relu(maps, LEAK))
        maps = F.leaky_relu(self.block(maps), LEAK)
        averaged = F.avg_pool2d(sem.float(), self.scale)
        return torch.tanh(self.skip(averaged) + self.tail(maps).float())


def _step_channels(width: int, steps: int) -> list[int]:
    """3/4 of the width, halved at each doubling; 4 to 8 at full resolution."""
    channels = [max(4, (3 * width // 4) >> step) for step in range(steps)]
    return [*channels[:-1], min(channels[-1], 8)]


def _conv(
    channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, gain: float = 1.0
) -> nn.Conv2d:
    """A zero-padded convolution that keeps the variance (times gain squared), bias 0."""
    conv = nn.Conv2d(channels, out_channels, kernel, stride=stride, padding=1)
    nn.init.kaiming_normal_(conv.weight, a=LEAK)
    with torch.no_grad():
        conv.weight.mul_(gain)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
