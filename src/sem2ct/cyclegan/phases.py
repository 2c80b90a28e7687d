"""Convolutions on the phases of a map: the same sums in a shape that processors like.

A map of twice the size is four maps, one per phase (space-to-depth); a convolution of it is
one of the four, with weights that are a fixed linear map of the plain ones, which stay the
parameters.  A 7x7 after a nearest x2 touches only 4 coarse pixels per axis and phase, so it
becomes one 5x5 to four phases, which are then put together; of a map that is itself given
as phases it is one 3x3 to sixteen.  Where a doubled map is mirrored at its
edges this does not hold for the outermost 3 pixels, which are computed plainly.  An image of
one channel gets four: convolutions of one channel are several times as slow on a CPU,
above all backwards.

Phases lie one after the other, (0, 0), (0, 1), (1, 0), (1, 1), each with all its channels.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

EDGE_PX = 3  # half a 7x7 kernel


def channels_last(maps: Tensor) -> Tensor:
    """The same maps (N, C, H, W), with the channels of a pixel beside one another in memory."""
    return maps.contiguous(memory_format=torch.channels_last)


def merged(phases: Tensor) -> Tensor:
    """The map (N, C, 2 H, 2 W) whose four phases (N, 4 C, H, W) these are."""
    n, channels, height, width = phases.shape
    # Channels lying last, two phases of a row are one run of memory.
    rows = phases.permute(0, 2, 3, 1).reshape(n, height, width, 2, channels // 2)
    maps = rows.transpose(2, 3).reshape(n, 2 * height, 2 * width, channels // 4)
    return maps.permute(0, 3, 1, 2)


def side_by_side(phases: Tensor) -> Tensor:
    """Four phases (N, 4 C, H, W) as pixels (N, C, H, 4 W), in no useful order; not copied."""
    n, channels, height, width = phases.shape
    pixels = phases.permute(0, 2, 3, 1).reshape(n, height, 4 * width, channels // 4)
    return pixels.permute(0, 3, 1, 2)


def _phase_taps() -> Tensor:
    """Which of 5 coarse pixels each of 7 taps reads, per phase: (2, 5, 7) of 0 and 1."""
    taps = torch.zeros(2, 5, 7)
    for phase in range(2):
        for tap in range(7):
            taps[phase, (phase + tap - 3) // 2 + 2, tap] = 1
    return taps


def _doubled_phase_taps() -> Tensor:
    """As `_phase_taps` of a map in phases: (4 phases of the result, 2 of the map, 3, 7)."""
    taps = torch.zeros(4, 2, 3, 7)
    for phase in range(4):
        for tap in range(7):
            at = phase + tap - 3  # in a quarter of a coarse pixel
            taps[phase, at % 4 // 2, at // 4 + 1, tap] = 1
    return taps


def _halved_taps() -> Tensor:
    """The stride-2 7x7 from a map in space-to-depth form: (in phase, 4, 7)."""
    taps = torch.zeros(2, 4, 7)
    for tap in range(7):
        taps[(tap - 3) % 2, (tap - 3) // 2 + 2, tap] = 1
    return taps


class DoublingConv(nn.Conv2d):
    """Nearest x2, then a zero-padded 7x7 convolution, as one 5x5 convolution."""

    taps: Tensor

    def __init__(self, channels: int, out_channels: int) -> None:
        """Makes the 7x7 weights (out_channels, channels, 7, 7) and the bias."""
        super().__init__(channels, out_channels, 7, padding=3)
        self.register_buffer("taps", _phase_taps(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, O, 2 H, 2 W)."""
        return merged(self.phases(input))

    def phases(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the four phases (N, 4 O, H, W) of the result."""
        rows = torch.einsum("aut,oits->aoius", self.taps, self.weight)
        weight = torch.einsum("bvs,aoius->aboiuv", self.taps, rows)
        assert self.bias is not None
        return F.conv2d(maps, weight.flatten(0, 2), self.bias.repeat(4), padding=2)


class MirroredDoublingConv(DoublingConv):
    """Nearest x2, mirrored edges, 7x7 convolution: 5x5 inside, plainly along the frame."""

    fine_taps: Tensor

    def __init__(self, channels: int, out_channels: int) -> None:
        """Makes the 7x7 weights (out_channels, channels, 7, 7) and the bias."""
        super().__init__(channels, out_channels)
        self.register_buffer("fine_taps", _doubled_phase_taps(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, O, 2 H, 2 W)."""
        if min(input.shape[2:]) <= EDGE_PX:
            return self._plain(input, (3, 3, 3, 3))
        sides = [input.narrow(*place) for place in _along_edges(input, EDGE_PX)]
        return self._framed(super().forward(input), sides)

    def of_phases(self, phases: Tensor) -> Tensor:
        """As `forward` of the map whose four phases (N, 4 C, H / 2, W / 2) these are."""
        if 2 * min(phases.shape[2:]) <= EDGE_PX:
            return self(merged(phases))
        sides = [merged(phases.narrow(*place)) for place in _along_edges(phases, EDGE_PX // 2 + 1)]
        return self._framed(self._inner(phases), sides)

    def _inner(self, phases: Tensor) -> Tensor:
        rows = torch.einsum("aput,oits->aopius", self.fine_taps, self.weight)
        weight = torch.einsum("bqvs,aopius->oabpqiuv", self.fine_taps, rows)
        assert self.bias is not None
        weight = weight.flatten(3, 5).flatten(0, 2)
        finer = F.conv2d(phases, weight, self.bias.repeat_interleave(16), padding=1)
        return F.pixel_shuffle(finer, 4)

    def _framed(self, image: Tensor, sides: list[Tensor]) -> Tensor:
        """The image with its outermost pixels computed plainly, from the map along its sides."""
        top, bottom, left, right = sides
        # 3 coarse pixels become 6, of which 3 are mirrored out: what 3 rows of the result see.
        image[..., :EDGE_PX] = self._plain(left, (3, 0, 3, 3))[..., :EDGE_PX]
        image[..., -EDGE_PX:] = self._plain(right, (0, 3, 3, 3))[..., -EDGE_PX:]
        image[:, :, :EDGE_PX] = self._plain(top, (3, 3, 3, 0))[:, :, :EDGE_PX]
        image[:, :, -EDGE_PX:] = self._plain(bottom, (3, 3, 0, 3))[:, :, -EDGE_PX:]
        return image

    def _plain(self, maps: Tensor, mirrored: tuple[int, int, int, int]) -> Tensor:
        doubled = F.interpolate(maps, scale_factor=2.0, mode="nearest")
        return F.conv2d(F.pad(doubled, mirrored, mode="reflect"), self.weight, self.bias)


def _along_edges(maps: Tensor, depth: int) -> list[tuple[int, int, int]]:
    """Axis, start and length of what lies along top, bottom, left and right."""
    return [(axis, at, depth) for axis in (2, 3) for at in (0, maps.shape[axis] - depth)]


class HalvingConv(nn.Conv2d):
    """Zero-padded 7x7 convolution of stride 2, of a map given as its four phases."""

    taps: Tensor

    def __init__(self, channels: int, out_channels: int) -> None:
        """Makes the 7x7 weights (out_channels, channels, 7, 7) and the bias."""
        super().__init__(channels, out_channels, 7, padding=3, stride=2)
        self.register_buffer("taps", _halved_taps(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, 4 C, H / 2, W / 2), one phase after the other, to (N, O, H / 2, W / 2)."""
        rows = torch.einsum("put,oits->oipus", self.taps, self.weight)
        weight = torch.einsum("qvs,oipus->opqiuv", self.taps, rows)
        weight = weight.reshape(self.out_channels, -1, 4, 4)
        # Two zeros before and one behind: cutting a row is cheaper than padding the wide maps.
        # By a negative pad, not by a slice: its gradient keeps the channels last.
        return F.pad(F.conv2d(input, weight, self.bias, padding=2), (0, -1, 0, -1))


class PhasesOfOne(HalvingConv):
    """Zero-padded 7x7 convolution of stride 2 of grey images, on their four phases."""

    def __init__(self, out_channels: int) -> None:
        """Makes the 7x7 weights (out_channels, 1, 7, 7) and the bias."""
        super().__init__(1, out_channels)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, 1, H, W), sides even, to (N, O, H / 2, W / 2)."""
        return super().forward(channels_last(F.pixel_unshuffle(input, 2)))


class FirstConv(nn.Conv2d):
    """4x4 convolution of stride 2 of grey images, on their four phases (space-to-depth).

    There it has 2x2 weights.
    """

    def __init__(self, out_channels: int) -> None:
        """Makes the 4x4 weights (out_channels, 1, 4, 4) and the bias."""
        super().__init__(1, out_channels, 4, stride=2, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, 1, H, W) to (N, O, H // 2, W // 2)."""
        if input.shape[2] % 2 or input.shape[3] % 2:
            return super().forward(input)
        phases = channels_last(F.pixel_unshuffle(F.pad(input, (1, 1, 1, 1)), 2))
        weight = self.weight.view(-1, 2, 2, 2, 2).permute(0, 2, 4, 1, 3).reshape(-1, 4, 2, 2)
        return F.conv2d(phases, weight, self.bias)
