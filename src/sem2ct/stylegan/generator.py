"""The generator: latents to styles, styles and noise to images.

The mapping network turns a normal z into a style w.  The synthesis network starts from
a learned 4x4 constant and doubles the resolution step by step; at each resolution two
convolutions are steered by a style, and a 1x1 layer adds its share to an image that is
upsampled along (skip connections).  The style of a 1x1 layer is the one of the next
convolution.

Source: Karras et al. 2020, arXiv:1912.04958, figure 7; truncation: Karras et al. 2019,
arXiv:1812.04948, section B.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan.layers import Dense, StyledConvolution, ToImage
from sem2ct.stylegan.resample import precise, upsample

MAPPING_RATE = 0.01
LARGEST_RESOLUTION = 1024

Noise = Literal["const", "none", "random"] | Sequence[Tensor]


def resolutions(largest: int) -> list[int]:
    """Sides 4, 8, ... up to `largest`.

    Raises:
        Refusal: If `largest` is not a power of two from 4 to 1024.
    """
    if largest not in (2**power for power in range(2, LARGEST_RESOLUTION.bit_length())):
        raise Refusal(
            f"resolution={largest} is not a power of two from 4 to {LARGEST_RESOLUTION};"
            " extract tiles of such a side (tile_px=)"
        )
    return [2**power for power in range(2, largest.bit_length())]


def width(resolution: int, *, channel_base: int, channel_max: int) -> int:
    """Channels at a resolution: min(channel_base / resolution, channel_max), at least 1."""
    return max(1, min(channel_base // resolution, channel_max))


class Mapping(nn.Module):
    """Fully connected layers from z to w, with the running mean of w for truncation."""

    w_avg: Tensor

    def __init__(
        self, *, z_dim: int, w_dim: int, layers: int, style_count: int, w_avg_beta: float
    ) -> None:
        """Builds `layers` dense layers; `style_count` is how often w is handed out."""
        super().__init__()
        sizes = [z_dim] + [w_dim] * layers
        self.layers = nn.ModuleList(
            Dense(sizes[i], sizes[i + 1], rate=MAPPING_RATE, activate=True) for i in range(layers)
        )
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.w_avg_beta = w_avg_beta
        self.style_count = style_count

    def forward(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Styles of latents.

        Args:
            z: (N, z_dim), standard normal.
            psi: Truncation: the share of its distance to the mean style that a style keeps.
            cutoff: Number of leading styles that are truncated; None truncates all.

        Returns:
            (N, style_count, w_dim), float32.
        """
        z = precise(z)
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            w = layer(w)
        ws = w[:, None].repeat(1, self.style_count, 1)
        if psi == 1.0:
            return ws
        cutoff = self.style_count if cutoff is None else cutoff
        return torch.cat([self.w_avg.lerp(ws[:, :cutoff], psi), ws[:, cutoff:]], 1)

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Moves the mean style towards the mean of `w`, (N, w_dim) or (N, style_count, w_dim).

        Of the latter the first style counts.  With several processes the caller hands in
        the mean over all of them, or the means would drift apart.
        """
        mean = (w[:, 0] if w.ndim == 3 else w).detach().mean(0).to(self.w_avg.dtype)
        self.w_avg.copy_(mean.lerp(self.w_avg, self.w_avg_beta))


class SynthesisBlock(nn.Module):
    """The layers of one resolution; the first block starts from the learned constant."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        resolution: int,
        w_dim: int,
        channels: int,
        clamp: float,
    ) -> None:
        """Builds the block; `inputs` of 0 makes it the first one."""
        super().__init__()
        self.const = None if inputs else nn.Parameter(torch.randn(outputs, 4, 4))
        shared: dict[str, Any] = {"w_dim": w_dim, "resolution": resolution, "clamp": clamp}
        self.conv0 = StyledConvolution(inputs, outputs, step="up", **shared) if inputs else None
        self.conv1 = StyledConvolution(outputs, outputs, **shared)
        self.to_image = ToImage(outputs, channels, w_dim=w_dim, clamp=clamp)

    def convolutions(self) -> list[StyledConvolution]:
        """The layers that take noise, in order."""
        return [self.conv1] if self.conv0 is None else [self.conv0, self.conv1]

    def forward(
        self, features: Tensor | None, image: Tensor | None, ws: Tensor, planes: list[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Features and image of the previous resolution to those of this one.

        Args:
            features: (N, inputs, r / 2, r / 2), or None in the first block.
            image: (N, channels, r / 2, r / 2) float32, or None in the first block.
            ws: (N, convolutions + 1, w_dim).
            planes: Noise of each convolution.

        Returns:
            Features (N, outputs, r, r) and image (N, channels, r, r).
        """
        if features is None:
            assert self.const is not None
            features = self.const.expand(len(ws), -1, -1, -1)
        result: Tensor = features
        for i, layer in enumerate(self.convolutions()):
            result = layer(result, ws[:, i], planes[i])
        share = self.to_image(result, ws[:, len(planes)])
        return result, share if image is None else upsample(image) + share


class Synthesis(nn.Module):
    """Styles and noise to images."""

    def __init__(
        self,
        *,
        resolution: int,
        w_dim: int,
        channel_base: int,
        channel_max: int,
        channels: int,
        clamp: float,
    ) -> None:
        """Builds one block per resolution."""
        super().__init__()
        sides = resolutions(resolution)
        widths = [width(r, channel_base=channel_base, channel_max=channel_max) for r in sides]
        self.blocks = nn.ModuleList(
            SynthesisBlock(
                before, after, resolution=side, w_dim=w_dim, channels=channels, clamp=clamp
            )
            for before, after, side in zip([0, *widths], widths, sides, strict=False)
        )

    def convolutions(self) -> list[StyledConvolution]:
        """All layers that take noise, in order."""
        return [layer for block in self.blocks for layer in block.convolutions()]  # type: ignore[operator]

    def forward(self, ws: Tensor, noise: Noise = "const") -> Tensor:
        """Draws images.

        Args:
            ws: (N, style_count, w_dim).
            noise: const (the planes stored in the network), none, random (drawn from
                torch's global stream), or one plane (N, 1, r, r) per layer, r being
                `Generator.noise_shapes`.

        Returns:
            (N, channels, R, R) float32, about -1 to 1 in a trained network.
        """
        planes = self._planes(noise, ws)
        features, image, first = None, None, 0
        for block in self.blocks:
            count = len(block.convolutions())  # type: ignore[operator]
            features, image = block(
                features, image, ws[:, first : first + count + 1], planes[first : first + count]
            )
            first += count
        assert image is not None
        return image

    def _planes(self, noise: Noise, ws: Tensor) -> list[Tensor | None]:
        layers = self.convolutions()
        if noise == "none":
            return [None] * len(layers)
        if noise == "const":
            return [layer.noise_const for layer in layers]
        if noise == "random":
            return [
                torch.randn(len(ws), 1, *layer.noise_const.shape, device=ws.device)
                for layer in layers
            ]
        planes: list[Tensor | None] = [plane for plane in noise if not isinstance(plane, str)]
        if len(planes) != len(layers):
            raise Refusal(
                f"noise={noise!r} is none of const, none, random and not one plane for each"
                f" of the {len(layers)} layers"
            )
        return planes


class Generator(nn.Module):
    """StyleGAN2 generator with skip connections.

    Args:
        resolution: Side of the images, a power of two from 4 to 1024.
        z_dim: Length of the latent z.
        w_dim: Length of the style w.
        mapping_layers: Fully connected layers between z and w.
        channel_base: Channels at resolution r are min(channel_base / r, channel_max).
        channel_max: Most channels at any resolution.
        w_avg_beta: Share of the mean style that survives one `mapping.track`.
        channels: Channels of the images.
        clamp: Largest size of a value that leaves a convolution; networks of the reference
            are trained with 256 (arXiv:2006.06676, appendix D).

    Raises:
        Refusal: If the resolution is not allowed.
    """

    def __init__(
        self,
        *,
        resolution: int,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        w_avg_beta: float = 0.995,
        channels: int = 1,
        clamp: float = math.inf,
    ) -> None:
        """Draws all weights from torch's global stream; see the class for the arguments."""
        super().__init__()
        self.config: dict[str, Any] = {
            "resolution": resolution,
            "z_dim": z_dim,
            "w_dim": w_dim,
            "mapping_layers": mapping_layers,
            "channel_base": channel_base,
            "channel_max": channel_max,
            "w_avg_beta": w_avg_beta,
            "channels": channels,
        }
        if clamp < math.inf:
            self.config["clamp"] = clamp
        self.resolution = resolution
        self.style_count = 2 * len(resolutions(resolution))
        self.mapping = Mapping(
            z_dim=z_dim,
            w_dim=w_dim,
            layers=mapping_layers,
            style_count=self.style_count,
            w_avg_beta=w_avg_beta,
        )
        self.synthesis = Synthesis(
            resolution=resolution,
            w_dim=w_dim,
            channel_base=channel_base,
            channel_max=channel_max,
            channels=channels,
            clamp=clamp,
        )

    @property
    def noise_shapes(self) -> list[int]:
        """Side of the noise plane of each layer, in order."""
        return [len(layer.noise_const) for layer in self.synthesis.convolutions()]

    def forward(
        self, z: Tensor, psi: float = 1.0, cutoff: int | None = None, noise: Noise = "const"
    ) -> Tensor:
        """Images (N, channels, R, R) of latents (N, z_dim); see `mapping` and `synthesis`."""
        return self.synthesis(self.mapping(z, psi, cutoff), noise)
