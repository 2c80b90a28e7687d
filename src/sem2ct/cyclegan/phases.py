"""Convolutions on the phases of a map: the same sums in a shape that processors like.

A map of twice the size is four maps, one per phase (space-to-depth); a convolution of it is
one of the four, with weights that are a fixed linear map of the plain ones, which stay the
parameters.  A 7x7 after a nearest x2 touches only 4 coarse pixels per axis and phase, so it
becomes one 5x5 to four phases and a pixel shuffle.  Where a doubled map is mirrored at its
edges this does not hold for the outermost 3 pixels, which are computed plainly.  An image of
one channel gets four: convolutions of one channel are several times as slow on a CPU,
above all backwards.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

EDGE_PX = 3  # half a 7x7 kernel


def channels_last(maps: Tensor) -> Tensor:
    """The same maps (N, C, H, W), with the channels of a pixel beside one another in memory."""
    return maps.contiguous(memory_format=torch.channels_last)


def _phase_taps() -> Tensor:
    """Which of 5 coarse pixels each of 7 taps reads, per phase: (2, 5, 7) of 0 and 1."""
    taps = torch.zeros(2, 5, 7)
    for phase in range(2):
        for tap in range(7):
            taps[phase, (phase + tap - 3) // 2 + 2, tap] = 1
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
        out, channels = self.weight.shape[:2]
        rows = torch.einsum("aut,oits->oaius", self.taps, self.weight)
        weight = torch.einsum("bvs,oaius->oabiuv", self.taps, rows)
        weight = weight.reshape(4 * out, channels, 5, 5)
        assert self.bias is not None
        phases = F.conv2d(input, weight, self.bias.repeat_interleave(4), padding=2)
        return F.pixel_shuffle(phases, 2)


class MirroredDoublingConv(DoublingConv):
    """Nearest x2, mirrored edges, 7x7 convolution: 5x5 inside, plainly along the frame."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, O, 2 H, 2 W)."""
        height, width = input.shape[2:]
        if min(height, width) <= EDGE_PX:
            return self._plain(input, (3, 3, 3, 3))
        # 3 coarse pixels become 6, of which 3 are mirrored out: what 3 rows of the result see.
        top = self._plain(input[:, :, :EDGE_PX], (3, 3, 3, 0))
        bottom = self._plain(input[:, :, -EDGE_PX:], (3, 3, 0, 3))
        left = self._plain(input[..., :EDGE_PX], (3, 0, 0, 0))
        right = self._plain(input[..., -EDGE_PX:], (0, 3, 0, 0))
        inner = super().forward(input)[..., EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]
        return torch.cat([top, torch.cat([left, inner, right], 3), bottom], 2)

    def _plain(self, maps: Tensor, mirrored: tuple[int, int, int, int]) -> Tensor:
        doubled = F.interpolate(maps, scale_factor=2.0, mode="nearest")
        return F.conv2d(F.pad(doubled, mirrored, mode="reflect"), self.weight, self.bias)


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
