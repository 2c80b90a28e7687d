"""A moving average of a network's weights, counted in images.

Counting in images makes the average independent of the batch size; the ramp keeps
the first, untrained weights from lingering in it.

Source: Karras et al. 2018, arXiv:1710.10196, section 4.1; the ramp as in Karras et al.
2020, arXiv:2006.06676, appendix.
"""

import copy

import torch
from torch import nn


class Averaged:
    """Exponential moving average of a module; use `module` for pictures and tests."""

    def __init__(self, module: nn.Module, *, half_life_images: float, ramp: float = 0.0) -> None:
        """Starts from a copy of the module.

        Args:
            module: What is averaged.
            half_life_images: After so many images old weights count half.
            ramp: The half-life is at most this share of the images seen; 0 switches
                the ramp off.
        """
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life_images = half_life_images
        self.ramp = ramp

    @torch.no_grad()
    def update(self, module: nn.Module, *, images_seen: int, batch_size: int) -> None:
        """Moves the average towards the module after a step; buffers are copied.

        Args:
            module: Of the same shape as the averaged one.
            images_seen: Images before this step.
            batch_size: Images of this step, over all ranks.
        """
        weight = self._weight_of_new(images_seen, batch_size)
        for old, new in zip(self.module.parameters(), module.parameters(), strict=True):
            old.lerp_(new, weight)
        for old, new in zip(self.module.buffers(), module.buffers(), strict=True):
            old.copy_(new)

    def _weight_of_new(self, images_seen: int, batch_size: int) -> float:
        half_life = self.half_life_images
        if self.ramp > 0:
            half_life = min(half_life, images_seen * self.ramp)
        return 1 - 0.5 ** (batch_size / half_life) if half_life > 0 else 1.0
