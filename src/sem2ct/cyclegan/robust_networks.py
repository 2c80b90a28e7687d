"""The default translators: grey-true, tile-invariant, and cheap at SEM resolution.

There is no normalisation layer, so grey level is seen and no pixel depends on the
tile it lies in: beyond the receptive field a tile and the whole slice agree.  The
micro-CT image itself, upsampled and calibrated, is the start of the answer; the
network adds what the CT cannot show.  Nearly all work is done at CT resolution,
from where sub-pixel steps (Shi et al. 2016, arXiv:1609.05158) climb with few
channels.  What the CT leaves open is decided by noise that depends on the absolute
position alone, so neighbouring tiles agree about it and a new key gives another
realisation.

With several styles a network has a gain, a shift and a strength of noise for each (as in
FiLM, Perez et al. 2018, arXiv:1709.07871); all start alike, so a style is only what the
discriminator asks for.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sem2ct.cyclegan.paper_networks import LEAK, steps_of
from sem2ct.cyclegan.phases import channels_last
from sem2ct.runtime.seeding import hashed_normal, mix

# Greys are kept this far inside (-1, 1) before tanh is inverted.
GREY_LIMIT = 0.97
FIRST_NOISE_WEIGHT = 0.5
# Numbers of a style start at 0 and must travel far.  After 100 steps of a toy with a rough and
# a smooth style 9 % of their difference was painted with 1, 63 % with 20, 67 % with 50.
STYLE_RATE = 20.0


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


class Bilinear(nn.Module):
    """Bilinear upsampling that keeps the corners of pixels where they are."""

    def __init__(self, scale: int) -> None:
        """Makes a layer that enlarges by `scale`."""
        super().__init__()
        self.scale = scale

    def forward(self, grey: Tensor) -> Tensor:
        """Maps (N, 1, h, w) to (N, 1, h * scale, w * scale)."""
        how: dict[str, Any] = {"mode": "bilinear", "align_corners": False}
        return F.interpolate(grey, scale_factor=self.scale, **how)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions added to their input, without normalisation."""

    def __init__(self, width: int) -> None:
        """Makes the weights; the second convolution starts small, so depth does no harm."""
        super().__init__()
        self.first = _conv(width, width)
        self.second = _conv(width, width, gain=0.2)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        return maps + self.second(F.leaky_relu_(self.first(F.leaky_relu(maps, LEAK)), LEAK))


class StyleTable(nn.Module):
    """A number per style and channel, 0 at first; nothing at all where there is one style.

    Only what a style has more than the mean of all counts: what they share is learned
    elsewhere, and would drown here what tells them apart.
    """

    def __init__(self, styles: int, channels: int) -> None:
        """Makes the numbers."""
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(styles, channels)) if styles > 1 else None

    def forward(self, style: Tensor) -> Tensor:
        """Numbers of the styles (N,): (N, channels, 1, 1)."""
        assert self.rows is not None, "a style was asked of a network that knows only one"
        # Not by index: the gradient of an index is summed in no fixed order on a GPU.
        own = self.rows - self.rows.mean(0)
        rows = F.one_hot(style, len(own)).to(own) @ own
        return STYLE_RATE * rows[:, :, None, None]


class StyledMaps(nn.Module):
    """Maps times a gain plus a shift, both of their style."""

    def __init__(self, styles: int, channels: int) -> None:
        """Starts as the identity."""
        super().__init__()
        self.gain = StyleTable(styles, channels)
        self.shift = StyleTable(styles, channels)

    def forward(self, maps: Tensor, style: Tensor | None) -> Tensor:
        """Maps (N, C, H, W) to the same shape; without a style to themselves."""
        if style is None:
            return maps
        gain, shift = self.gain(style).to(maps.dtype), self.shift(style).to(maps.dtype)
        # Not addcmul: it may round the last values of a map in another way.
        return maps * (1 + gain) + shift


class PlacedNoise(nn.Module):
    """Adds one plane of noise, weighted per channel, fixed to absolute positions.

    Along z the noise of a level changes as fast as within a plane: there are planes of
    independent numbers as far apart as the level's pixels, and what lies between two of
    them is a mixture of both with the same variance.
    """

    def __init__(self, channels: int, level: int, *, scale: int, styles: int = 1) -> None:
        """Makes the weights.

        Args:
            channels: Channels of the maps it will see.
            level: Doublings above CT resolution.
            scale: SEM pixels per CT pixel.
            styles: Styles that may have noise of different strength.
        """
        super().__init__()
        self.level = level
        self.spacing = scale >> level
        self.weight = nn.Parameter(torch.full((channels, 1, 1), FIRST_NOISE_WEIGHT))
        with torch.no_grad():
            self.weight[1::2].neg_()
        self.strength = StyleTable(styles, channels)

    def forward(
        self,
        maps: Tensor,
        key: int,
        origin: tuple[Tensor, Tensor, Tensor],
        style: Tensor | None = None,
    ) -> Tensor:
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
        weight = self.weight if style is None else self.weight * (1 + self.strength(style))
        return maps + (weight * plane).to(maps.dtype)


class EvenPhases(nn.Module):
    """Makes the four phases of a sub-pixel convolution answer a flat grey alike.

    Else every flat place has a mesh of the period of the CT's pixels, which only training
    takes away.  What the phases of an output have besides the mean of a kernel is theirs; the
    means themselves are one number.

    Source: Sugawara et al. 2019, arXiv:1905.06841 (equal steady-state values of the phases).
    """

    def forward(self, learned: Tensor) -> Tensor:
        """Weights (4 O, C, 3, 3) or biases (4 O,), the phases of an output together."""
        phases = learned.unflatten(0, (-1, 4))
        if phases.ndim == 2:
            return phases.mean(1, keepdim=True).expand_as(phases).flatten()
        level = phases.mean((3, 4), keepdim=True)
        return (phases - level + level.mean(1, keepdim=True)).flatten(0, 1)


class SubPixelStep(nn.Module):
    """3x3 convolution to four phases, pixel shuffle, noise, leaky ReLU."""

    def __init__(
        self, channels: int, out_channels: int, level: int, *, even: bool, **named: int
    ) -> None:
        """Makes the weights of the step that reaches `level` doublings.

        Args:
            channels: Of the maps it sees.
            out_channels: Of the maps it makes.
            level: Doublings above CT resolution.
            even: Whether its phases answer a flat grey alike.
            named: scale and styles, as for `PlacedNoise`.
        """
        super().__init__()
        styles = named["styles"]
        self.styled = StyledMaps(styles, channels)
        self.conv = _conv(channels, 4 * out_channels)
        with torch.no_grad():
            # The four phases start alike: no checkerboard to unlearn.
            self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, 0))
        if even:
            for name in ("weight", "bias"):
                parametrize.register_parametrization(self.conv, name, EvenPhases())
        self.noise = PlacedNoise(out_channels, level, **named)

    def forward(
        self,
        maps: Tensor,
        key: int | None,
        origin: tuple[Tensor, Tensor, Tensor],
        style: Tensor | None,
    ) -> Tensor:
        """Maps (N, C, H, W) to (N, O, 2 H, 2 W)."""
        maps = F.pixel_shuffle(self.conv(self.styled(maps, style)), 2)
        if key is not None:
            maps = self.noise(maps, key, origin, style)
        return F.leaky_relu_(maps, LEAK)


class RobustCtToSem(nn.Module):
    """tanh(calibrated bilinear upsampling of the CT + learned residual)."""

    def __init__(
        self,
        *,
        scale: int,
        width: int = 64,
        blocks: int = 8,
        styles: int = 1,
        even_phases: bool = False,
    ) -> None:
        """Makes the network.

        Args:
            scale: SEM pixels per CT pixel: 2, 4, 8, 16 or 32.
            width: Channels at CT resolution.
            blocks: Residual blocks at CT resolution.
            styles: Styles it can be asked for.
            even_phases: No mesh of CT pixels where the CT is flat; see `EvenPhases`.
        """
        super().__init__()
        self.config: dict[str, Any] = {
            "network": "robust",
            "direction": "ct_to_sem",
            "scale": scale,
            "width": width,
            "blocks": blocks,
            **({"styles": styles} if styles > 1 else {}),
            **({"even_phases": True} if even_phases else {}),
        }
        self.scale, self.styles = scale, styles
        self.style = 0
        """What is painted where a call names no style."""
        self.enlarge = Bilinear(scale)
        self.skip = CalibratedSkip()
        self.head = _conv(1, width)
        self.noise = PlacedNoise(width, 0, scale=scale, styles=styles)
        self.blocks = nn.ModuleList(PlainBlock(width) for _ in range(blocks))
        self.styled = nn.ModuleList(StyledMaps(styles, width) for _ in range(blocks))
        channels = [width, *_step_channels(width, steps_of(scale))]
        how: dict[str, Any] = {"even": even_phases, "scale": scale, "styles": styles}
        self.steps = nn.ModuleList(
            SubPixelStep(channels[level], channels[level + 1], level + 1, **how)
            for level in range(len(channels) - 1)
        )
        self.tail = _conv(channels[-1], 1, gain=0.1)

    def forward(
        self,
        ct: Tensor,
        noise_key: int | None = None,
        origin: tuple[Tensor, Tensor, Tensor] | None = None,
        style: Tensor | None = None,
    ) -> Tensor:
        """Paints tiles.

        Args:
            ct: (N, 1, h, w) in [-1, 1].
            noise_key: Which realisation; None leaves the noise out.
            origin: z (in output slices), y and x (in CT pixels) of each tile's corner, int64
                (N,) each; None puts every tile at 0, 0, 0.
            style: (N,) int64, which style each tile gets; None takes `self.style` for all.

        Returns:
            (N, 1, h * scale, w * scale), float32 in [-1, 1].
        """
        if self.styles == 1:
            style = None
        elif style is None:
            style = torch.full((len(ct),), self.style, device=ct.device)
        if origin is None:
            zeros = torch.zeros(len(ct), dtype=torch.int64)
            origin = (zeros, zeros, zeros)
        upsampled = self.enlarge(ct.float())
        # Channels last is what convolutions of few channels like, on CPU and GPU.
        maps = channels_last(self.head(ct))
        if noise_key is not None:
            maps = self.noise(maps, noise_key, origin, style)
        for block, styled in zip(self.blocks, self.styled, strict=True):
            maps = block(styled(maps, style))
        for step in self.steps:
            maps = step(maps, noise_key, origin, style)
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
        maps = self.head(channels_last(F.pixel_unshuffle(sem, self.fold)))
        for step in self.steps:
            maps = step(F.leaky_relu_(maps, LEAK))
        maps = F.leaky_relu_(self.block(maps), LEAK)
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
