"""Convolutions whose sums do not depend on the size of the tile, so tiles agree in every bit.

A library of convolutions chooses, by the shape of the map, in which order it adds the
products of a pixel; the last bit of the sum shows it.  Here a pixel is the sum of nine
matrix products, one per tap of the kernel, always in the same order; a product is over
the channels alone, too short to be split.  It takes two to three times as long on a CPU,
which is why it has to be asked for.
"""

from collections.abc import Callable
from types import MethodType

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from sem2ct.cyclegan.robust_networks import GREY_LIMIT, Bilinear, CalibratedSkip, RobustCtToSem
from sem2ct.runtime.refusal import Refusal


def make(generator: nn.Module, *, device: torch.device) -> None:
    """Lets a translator compute so from now on.

    Args:
        generator: CT-to-SEM translator.
        device: Where it will run.

    Raises:
        Refusal: If it has layers that see a tile as a whole, or does not run on a CPU.
    """
    if device.type != "cpu":
        raise Refusal(f"exact=true is for device=cpu, but this run is on {device}; set exact=false")
    if not isinstance(generator, RobustCtToSem):
        raise Refusal(
            "exact=true, but network=paper normalises each tile by itself, so its tiles differ in"
            " more than the last bit; set exact=false"
        )
    for module in generator.modules():
        if isinstance(module, nn.Conv2d):
            _replace(module, convolved)
        elif isinstance(module, CalibratedSkip):
            _replace(module, _skipped)
        elif isinstance(module, Bilinear):
            _replace(module, _enlarged)


def convolved(conv: nn.Conv2d, maps: Tensor) -> Tensor:
    """What a zero-padded convolution of stride 1 computes.

    Args:
        conv: The layer.
        maps: (1, C, H, W).

    Returns:
        (1, O, H, W), channels last; a pixel depends on its neighbourhood alone, bit for bit.
    """
    channels, (height, width) = maps.shape[1], maps.shape[2:]
    up, left = conv.kernel_size[0] // 2, conv.kernel_size[1] // 2
    padded = F.pad(maps[0].permute(1, 2, 0), (0, 0, left, left, up, up))
    taps = conv.weight.permute(2, 3, 1, 0)
    assert conv.bias is not None
    total = conv.bias.repeat(height * width, 1)
    for y in range(conv.kernel_size[0]):
        for x in range(conv.kernel_size[1]):
            seen = padded[y : y + height, x : x + width].reshape(-1, channels)
            total.addmm_(seen, taps[y, x])
    return total.view(1, height, width, -1).permute(0, 3, 1, 2)


def _skipped(skip: CalibratedSkip, grey: Tensor) -> Tensor:
    """As its forward; torch's atanh computes the last values of a tensor in another way."""
    target = (skip.gain * grey.float() + skip.bias).clamp(-GREY_LIMIT, GREY_LIMIT)
    return torch.log((1 + target) / (1 - target)) / 2


def _enlarged(layer: Bilinear, grey: Tensor) -> Tensor:
    """As its forward; torch enlarges small maps by other code than large ones."""
    for axis in (2, 3):
        grey = _along(grey.transpose(axis, 3), layer.scale).transpose(axis, 3)
    return grey


def _along(grey: Tensor, scale: int) -> Tensor:
    """Linear upsampling of the last axis."""
    framed = F.pad(grey, (1, 1, 0, 0), mode="replicate")
    at = (torch.arange(scale) + 0.5) / scale + 0.5
    below = at.long()
    phases = [
        framed[..., low : low + grey.shape[3]] * (1 - share)
        + framed[..., low + 1 : low + 1 + grey.shape[3]] * share
        for low, share in zip(below.tolist(), (at - below).tolist(), strict=True)
    ]
    return torch.stack(phases, dim=-1).flatten(-2)


def _replace(module: nn.Module, forward: Callable[..., Tensor]) -> None:
    module.forward = MethodType(forward, module)
