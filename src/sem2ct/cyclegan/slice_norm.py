"""Instance norm taken over a whole slice, though the slice is translated in tiles.

With statistics of its own every tile has another grey scale, which no halo can mend.
Here mean and variance of each layer are those of the whole slice: found tile by tile,
one layer after the other (a layer's statistics need those of all before it), then frozen
while the tiles are translated.  That is several times the work of a slice, and as
little memory as a tile.
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from sem2ct.cyclegan import apply
from sem2ct.cyclegan.paper_networks import InstanceNorm
from sem2ct.runtime.refusal import Refusal

Statistics = dict[InstanceNorm, tuple[Tensor, Tensor]]


class _SeenError(Exception):
    """The layer that was asked for has been seen; what follows is of no use."""


class _Sums:
    """Collects the sums of the first layer that is not known yet, over the cores of tiles."""

    def __init__(self) -> None:
        self.norm: InstanceNorm | None = None
        self.core: apply.Box = (0, 0, 0, 0)
        self.rows = 0
        self._count = 0
        self._sum = self._squares = torch.zeros(())

    def take(self, norm: InstanceNorm, inputs: tuple[Tensor, ...]) -> None:
        """Takes note of the maps (1, C, H, W) that come to a layer, and ends the pass."""
        maps = inputs[0]
        fine = maps.shape[-2] // self.rows
        top, bottom, left, right = (at * fine for at in self.core)
        kept = maps[0, :, top:bottom, left:right].double()
        kept = kept.unflatten(0, (norm.phases, -1)).movedim(1, 0).flatten(1)
        self.norm = norm
        self._count += kept.shape[1]
        self._sum = self._sum + kept.sum(1).cpu()
        self._squares = self._squares + kept.square().sum(1).cpu()
        raise _SeenError

    def statistics(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel."""
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0)
        return mean.float().to(device), variance.float().to(device)


@torch.no_grad()
def statistics(
    generator: nn.Module,
    ct: Tensor,
    *,
    core_px: int,
    halo_px: int,
    device: torch.device | str,
) -> Statistics:
    """Mean and variance of each norm layer over a whole slice.

    Args:
        generator: CT-to-SEM translator, on `device`.
        ct: (H, W) float32 in [-1, 1].
        core_px: Side of the part of a tile that counts, in CT pixels.
        halo_px: CT pixels read around it.
        device: Where the network runs.

    Returns:
        By layer, (C,) float32 each.

    Raises:
        Refusal: If the network has no such layer.
    """
    norms, known = _norms(generator), {}
    whole = (0, ct.shape[0], 0, ct.shape[1])
    while len(known) < len(norms):
        sums = _Sums()
        with frozen(known), contextlib.ExitStack() as hooks:
            for norm in norms:
                if norm not in known:
                    hooks.enter_context(norm.register_forward_pre_hook(sums.take))
            for y0, y1, x0, x1 in apply.cores(whole, core_px=core_px):
                top, left = max(0, y0 - halo_px), max(0, x0 - halo_px)
                window = ct[top : y1 + halo_px, left : x1 + halo_px]
                sums.core, sums.rows = (y0 - top, y1 - top, x0 - left, x1 - left), len(window)
                with contextlib.suppress(_SeenError):
                    generator(window[None, None].to(device))
        assert sums.norm is not None
        known[sums.norm] = sums.statistics(device)
    return known


def neutral(generator: nn.Module) -> Statistics:
    """Statistics that leave all maps as they are, for a network on the CPU.

    Raises:
        Refusal: If the network has no norm layer.
    """
    return {norm: (torch.zeros(1), torch.ones(1)) for norm in _norms(generator)}


@contextlib.contextmanager
def frozen(found: Mapping[InstanceNorm, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Lets norm layers use these statistics instead of those of what they see."""
    before = {norm: norm.given for norm in found}
    try:
        for norm, replacement in found.items():
            norm.given = replacement
        yield
    finally:
        for norm, given in before.items():
            norm.given = given


def _norms(generator: nn.Module) -> list[InstanceNorm]:
    norms = [module for module in generator.modules() if isinstance(module, InstanceNorm)]
    if not norms:
        raise Refusal(
            "norm_over=slice, but the network of this translator has no instance norm: its tiles"
            " agree already; leave norm_over=tile"
        )
    return norms
