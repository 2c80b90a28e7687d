"""The published translators and discriminators, computed without their waste.

Layers, padding and the numbers of parameters (1,420,417 in each generator, 534,913 and
99,393 in the discriminators) are those of the public networks, as their state
dictionaries and the shapes of a forward pass show: mirrored edges around the first and
the last convolution and in the residual blocks, zeros everywhere else, no affine weights
in the instance norms.  Weights start at N(0, 0.02).

The rewrites are exact.  Repeating pixels leaves mean and variance of a map unchanged, so
norm and ReLU stand before the nearest x2, and that and the 7x7 behind it are one 5x5
(`phases`).  The first two layers of G_HL run on the four phases of the map, and so does
the first of D_H.  The norm of one image is a batch norm of a batch of one; with channels
last, both it and the convolutions of few channels are up to twice as fast on a CPU.

Source: Liu & Mukerji 2022, doi:10.1029/2022GL098342; Zhu et al. 2017,
arXiv:1703.10593 (least squares, patch discriminators, initial weights).
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from sem2ct.cyclegan.phases import (
    EDGE_PX,
    DoublingConv,
    HalvingConv,
    MirroredDoublingConv,
    PhasesOfOne,
    channels_last,
    merged,
    side_by_side,
)

LEAK = 0.2
EPSILON = 1e-5  # of torch's instance norm


def steps_of(scale: int) -> int:
    """Number of doublings in a scale.

    Raises:
        ValueError: If `scale` is not 2, 4, 8, 16 or 32.
    """
    if scale not in (2, 4, 8, 16, 32):
        raise ValueError(f"scale={scale} is not one of 2, 4, 8, 16, 32")
    return scale.bit_length() - 1


def _doubled_taps() -> Tensor:
    """The stride-1 7x7 between maps in space-to-depth form: (out phase, in phase, 5, 7)."""
    taps = torch.zeros(2, 2, 5, 7)
    for phase in range(2):
        for tap in range(7):
            fine = phase + tap - 3
            taps[phase, fine % 2, fine // 2 + 2, tap] = 1
    return taps


def instance_norm(maps: Tensor) -> Tensor:
    """Gives each channel of each image mean 0 and variance 1; (N, C, H, W) to the same shape."""
    if maps.is_cuda:
        return F.instance_norm(maps)
    normed = [F.batch_norm(one, None, None, training=True) for one in maps.split(1)]
    return normed[0] if len(normed) == 1 else torch.cat(normed)


def instance_norm_(maps: Tensor) -> Tensor:
    """As `instance_norm`, in place where there are no gradients to keep the maps for."""
    if maps.is_cuda or maps.dtype != torch.float32 or torch.is_grad_enabled():
        return instance_norm(maps)
    known = [maps.new_empty(maps.shape[1]) for _ in range(2)]
    for one in maps.split(1):
        # It finds mean and variance first, and changes each value by itself afterwards.
        torch.native_batch_norm(one, None, None, None, None, True, 0.0, EPSILON, out=(one, *known))
    return maps


def before_norm(conv: nn.Conv2d) -> nn.Conv2d:
    """Keeps the bias of a convolution that an instance norm follows as it is.

    The norm takes it away again, so its gradient is zero but for rounding, which Adam would
    blow up to full steps; no result would change, but no two machines would agree on it.
    """
    assert conv.bias is not None
    conv.bias.requires_grad_(False)
    return conv


class FineHead(nn.Module):
    """Mirrored 7x7 convolution of one channel, norm, ReLU, and the first 7x7 of stride 2.

    Both convolutions run at half the resolution, on the four phases of each map
    (space-to-depth): the same sums, in a shape that convolution code likes better.
    """

    taps: Tensor

    def __init__(self, channels: int, out_channels: int) -> None:
        """Makes the 7x7 weights of both layers; a norm follows each.

        Args:
            channels: Channels at full resolution.
            out_channels: Channels at half the resolution.
        """
        super().__init__()
        self.first = before_norm(nn.Conv2d(1, channels, 7))
        self.second = HalvingConv(channels, out_channels)
        before_norm(self.second)
        self.register_buffer("taps", _doubled_taps(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W), sides even, to (N, O, H / 2, W / 2)."""
        # One pixel more than the convolution sees, so that the phases stay in step.
        mirrored = F.pad(images, (EDGE_PX + 1,) * 4, mode="reflect")
        phases = self._first(channels_last(F.pixel_unshuffle(mirrored, 2))).movedim(1, 3)
        # Channels lying last, the four phases of a pixel are four pixels without a copy.
        n, h, w, channels = phases.shape
        pixels = phases.reshape(n, h, 4 * w, channels // 4).movedim(3, 1)
        normed = F.relu_(instance_norm(pixels)).movedim(1, 3)
        return self.second(normed.reshape(n, h, w, channels).movedim(3, 1))

    def _first(self, phases: Tensor) -> Tensor:
        weight = self.first.weight[:, 0]
        rows = torch.einsum("aput,ots->oapus", self.taps, weight)
        weight = torch.einsum("bqvs,oapus->abopquv", self.taps, rows)
        assert self.first.bias is not None
        bias = self.first.bias.repeat(4)
        return F.conv2d(phases, weight.reshape(-1, 4, 5, 5), bias)


class InstanceNorm(nn.Module):
    """Instance norm without weights, in a place where its statistics can be replaced."""

    def __init__(self, *, phases: int = 1) -> None:
        """Uses the statistics of what it is shown.

        Args:
            phases: 4 if the maps are phases of a map twice as high and wide, otherwise 1.
        """
        super().__init__()
        self.phases = phases
        self.given: tuple[Tensor, Tensor] | tuple[()] = ()
        """Mean and variance (C,) to use instead, if there are."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, phases * C, H, W) to mean 0 and variance 1; in place without gradients."""
        pixels = side_by_side(maps) if self.phases == 4 else maps
        if self.given:
            mean, variance = (each.view(-1, 1, 1) for each in self.given)
            normed = (pixels - mean) * (variance + EPSILON).rsqrt()
        else:
            normed = instance_norm_(pixels)
        return normed.movedim(1, 3).reshape(maps.movedim(1, 3).shape).movedim(3, 1)


def mirrored_conv(channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution whose input is mirrored at its edges."""
    return nn.Conv2d(channels, out_channels, 3, padding=1, padding_mode="reflect")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, added to their input."""

    def __init__(self, width: int) -> None:
        """Makes the weights for `width` channels."""
        super().__init__()
        self.first = before_norm(mirrored_conv(width, width))
        self.second = before_norm(mirrored_conv(width, width))
        self.norms = nn.ModuleList(InstanceNorm() for _ in range(2))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        inner = F.relu_(self.norms[0](self.first(maps)))
        return maps + self.norms[1](self.second(inner))


class PaperCtToSem(nn.Module):
    """G_LH of the paper: micro-CT patch to SEM tile."""

    def __init__(self, *, scale: int, width: int = 128, blocks: int = 3) -> None:
        """Makes the network; the paper's is scale 16.

        Args:
            scale: SEM pixels per CT pixel, 2 to 32.
            width: Channels at CT resolution; halved at each doubling.
            blocks: Residual blocks at CT resolution.
        """
        super().__init__()
        steps = steps_of(scale)
        widths = [max(1, width >> step) for step in range(steps + 1)]
        self.config: dict[str, Any] = {
            "network": "paper",
            "direction": "ct_to_sem",
            "scale": scale,
            "width": width,
            "blocks": blocks,
        }
        self.scale = scale
        self.head = before_norm(mirrored_conv(1, width))
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.coarse = before_norm(nn.Conv2d(widths[0], widths[1], 7, padding=3))
        self.steps = nn.ModuleList(
            before_norm(DoublingConv(widths[step], widths[step + 1])) for step in range(1, steps)
        )
        self.tail = MirroredDoublingConv(widths[-1], 1)
        self.norms = nn.ModuleList(InstanceNorm() for _ in range(2))
        self.norms.extend(InstanceNorm(phases=4) for _ in range(steps - 1))
        self.apply(_draw_weights)

    def forward(
        self,
        ct: Tensor,
        noise_key: int | None = None,
        origin: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Paints a tile.

        Args:
            ct: (N, 1, h, w) in [-1, 1].
            noise_key: Not used; the published network has no noise.
            origin: Not used.

        Returns:
            (N, 1, h * scale, w * scale) in [-1, 1].
        """
        del noise_key, origin
        maps = F.relu_(self.norms[0](channels_last(self.head(ct))))
        for block in self.blocks:
            maps = block(maps)
        maps = F.relu_(self.norms[1](self.coarse(maps)))
        for k, (norm, step) in enumerate(zip(self.norms[2:], self.steps, strict=True)):
            assert isinstance(step, DoublingConv)
            maps = F.relu_(norm(step.phases(merged(maps) if k else maps)))
        grey = self.tail.of_phases(maps) if len(self.steps) else self.tail(maps)
        return grey.float().tanh_()


class PaperSemToCt(nn.Module):
    """G_HL of the paper: the mirror image of G_LH."""

    def __init__(self, *, scale: int, width: int = 128, blocks: int = 3) -> None:
        """Makes the network; arguments as in `PaperCtToSem`."""
        super().__init__()
        steps = steps_of(scale)
        widths = [max(1, width >> step) for step in range(steps, -1, -1)]
        self.config: dict[str, Any] = {
            "network": "paper",
            "direction": "sem_to_ct",
            "scale": scale,
            "width": width,
            "blocks": blocks,
        }
        self.scale = scale
        self.head = FineHead(widths[0], widths[1])
        self.steps = nn.ModuleList(
            before_norm(nn.Conv2d(widths[step], widths[step + 1], 7, padding=3, stride=2))
            for step in range(1, steps)
        )
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.tail = mirrored_conv(width, 1)
        self.apply(_draw_weights)

    def forward(self, sem: Tensor) -> Tensor:
        """Maps (N, 1, H, W) in [-1, 1] to (N, 1, H / scale, W / scale)."""
        maps = F.relu_(instance_norm(channels_last(self.head(sem))))
        for step in self.steps:
            maps = F.relu_(instance_norm(step(maps)))
        for block in self.blocks:
            maps = block(maps)
        return torch.tanh(self.tail(maps).float())


class PaperSemDiscriminator(nn.Module):
    """D_H of the paper: 7x7 convolutions down to CT resolution, then one scalar."""

    def __init__(self, *, scale: int, width: int = 8) -> None:
        """Makes the network.

        Args:
            scale: SEM pixels per CT pixel; 16 in the paper.
            width: Channels of the first layer, doubled at each later one.
        """
        super().__init__()
        steps = steps_of(scale)
        self.head = PhasesOfOne(width)
        self.steps = nn.ModuleList(
            before_norm(_wider(width << step, kernel=7, stride=2 if step < steps - 1 else 1))
            for step in range(steps)
        )
        self.tail = nn.Conv2d(width << steps, 1, 3, padding=1)
        self.apply(_draw_weights)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Judges (N, 1, H, W); one scale of logits (N,)."""
        return [_one_answer(self.head, self.steps, self.tail, images)]


class PaperCtDiscriminator(nn.Module):
    """D_L of the paper: 3x3 convolutions, channels doubled four times, one scalar.

    The first three of the four steps halve the map, as long as it is wider than 4 pixels,
    so that instance norm keeps something to average: 64 px become 8, 16 px become 4.
    """

    def __init__(self, *, patch_px: int, width: int = 8) -> None:
        """Makes the network.

        Args:
            patch_px: Side of the patches it will see.
            width: Channels of the first layer.
        """
        super().__init__()
        halvings = min(3, max(0, (patch_px // 4).bit_length() - 1))
        self.head = nn.Conv2d(1, width, 3, padding=1)
        self.steps = nn.ModuleList(
            before_norm(_wider(width << step, kernel=3, stride=2 if step < halvings else 1))
            for step in range(4)
        )
        self.tail = nn.Conv2d(width << 4, 1, 3, padding=1)
        self.apply(_draw_weights)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Judges (N, 1, h, w); one scale of logits (N,)."""
        return [_one_answer(self.head, self.steps, self.tail, images)]


def _wider(channels: int, *, kernel: int, stride: int) -> nn.Conv2d:
    """A zero-padded convolution to twice as many channels."""
    return nn.Conv2d(channels, 2 * channels, kernel, padding=kernel // 2, stride=stride)


def _one_answer(head: nn.Module, steps: nn.ModuleList, tail: nn.Module, images: Tensor) -> Tensor:
    """The mean (N,) of the map of logits."""
    maps = F.leaky_relu_(channels_last(head(images)), LEAK)
    for step in steps:
        maps = F.leaky_relu_(instance_norm(step(maps)), LEAK)
    return tail(maps).float().mean((1, 2, 3))


def _draw_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
