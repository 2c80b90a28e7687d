"""Discriminators of the default translation: one answer per place, none per image.

A map of logits judges every texture where it stands; one number for a tile of a
million pixels judges none.  No norm hides a grey level.  The SEM side is seen twice,
as it is and averaged 4 x 4, for detail and for arrangement; the CT side looks no
further than 34 pixels, because more than that it could only learn by heart.

Source: patch discriminators after Isola et al. 2017, arXiv:1611.07004, section 3.2.2;
several scales after Wang et al. 2018, arXiv:1711.11585, section 3.2; the part of a logit
that depends on the style after Miyato & Koyama 2018, arXiv:1802.05637, equation 3.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from sem2ct.cyclegan.paper_networks import (
    LEAK,
    PaperCtDiscriminator,
    PaperSemDiscriminator,
)
from sem2ct.cyclegan.phases import FirstConv, channels_last
from sem2ct.cyclegan.robust_networks import StyleTable

COARSER = 4
SMALLEST_COARSE_PX = 16


class PatchDiscriminator(nn.Module):
    """Strided convolutions and a map of logits; no normalisation."""

    def __init__(
        self, *, width: int, halvings: int, plain_head: bool = False, styles: int = 1
    ) -> None:
        """Makes the network.

        Args:
            width: Channels of the first layer, doubled at each later halving, at most 4 times it.
            halvings: Number of 4x4 convolutions of stride 2.
            plain_head: Starts with a 3x3 convolution of stride 1.
            styles: Styles that images are said to have.
        """
        super().__init__()
        layers: list[nn.Module] = []
        channels, wider = 1, width
        if plain_head:
            layers.append(nn.Conv2d(1, width, 3, padding=1))
            channels, wider = width, 2 * width
        for _ in range(halvings):
            layers.append(FirstConv(wider) if channels == 1 else _halving(channels, wider))
            channels, wider = wider, min(2 * wider, 4 * width)
        self.layers = nn.ModuleList(layers)
        self.tail = nn.Conv2d(channels, 1, 3, padding=1)
        self.projection = StyleTable(styles, channels)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, a=LEAK)
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.tail.weight.mul_(0.2)

    def forward(self, images: Tensor, style: Tensor | None = None) -> Tensor:
        """Judges (N, 1, H, W); logits (N, 1, about H / 2**halvings, about W / 2**halvings)."""
        maps = images
        for number, layer in enumerate(self.layers):
            maps = layer(maps)
            if number == 0:
                # That is what convolutions of few channels like, on CPU and GPU.
                maps = channels_last(maps)
            maps = F.leaky_relu_(maps, LEAK)
        logits = self.tail(maps).float()
        if style is None:
            return logits
        return logits + (maps.float() * self.projection(style)).sum(1, keepdim=True)


class SemDiscriminator(nn.Module):
    """D_H: two patch discriminators, on the tile and on its 4 x 4 means."""

    def __init__(self, *, tile_px: int, width: int = 32, styles: int = 1) -> None:
        """Makes the network.

        Args:
            tile_px: Side of the tiles; where a quarter of it is less than 16 pixels the coarse
                view is left out.
            width: Channels of the first layers.
            styles: Styles that tiles are said to have.
        """
        super().__init__()
        self.fine = PatchDiscriminator(width=width, halvings=3, styles=styles)
        seen_coarsely = tile_px // COARSER >= SMALLEST_COARSE_PX
        self.coarse = (
            PatchDiscriminator(width=width, halvings=2, styles=styles) if seen_coarsely else None
        )

    def forward(self, images: Tensor, style: Tensor | None = None) -> list[Tensor]:
        """Judges (N, 1, H, W), said to have the styles (N,); one map of logits per scale."""
        logits = [self.fine(images, style)]
        if self.coarse is not None:
            logits.append(self.coarse(F.avg_pool2d(images, COARSER), style))
        return logits


class CtDiscriminator(nn.Module):
    """D_L: a patch discriminator that sees 20 pixels."""

    def __init__(self, *, width: int = 32) -> None:
        """Makes the network with `width` channels in its first layer."""
        super().__init__()
        self.patches = PatchDiscriminator(width=width, halvings=2, plain_head=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Judges (N, 1, h, w); one map of logits."""
        return [self.patches(images)]


def pair(
    *, network: str, scale: int, patch_px: int, width: int, styles: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Makes the discriminators of SEM tiles and of CT patches.

    Args:
        network: "paper" or "robust".
        scale: SEM pixels per CT pixel.
        patch_px: Side of a CT patch.
        width: Channels of the first layers; 8 in the paper.
        styles: Styles that SEM tiles are said to have; in paper one.

    Returns:
        D_H and D_L; each gives a list of logits, one tensor (N, ...) per scale.

    Raises:
        ValueError: If there is no such network.
    """
    if network == "paper":
        sem = PaperSemDiscriminator(scale=scale, width=width)
        return sem, PaperCtDiscriminator(patch_px=patch_px, width=width)
    if network == "robust":
        sem = SemDiscriminator(tile_px=scale * patch_px, width=width, styles=styles)
        return sem, CtDiscriminator(width=width)
    raise ValueError(f"no network {network}; there are paper, robust")


def _halving(channels: int, out_channels: int) -> nn.Conv2d:
    """A zero-padded 4x4 convolution of stride 2."""
    return nn.Conv2d(channels, out_channels, 4, stride=2, padding=1)
