"""Adaptive augmentation in front of the discriminator.

Real and generated images pass through the same random changes, so that a small set
of images cannot be learned by heart; each change happens with a chance p below 1,
so the generator still learns the unchanged images.  A controller moves p such that
the discriminator stays right about a given share of the real images.

Source: Karras et al. 2020, arXiv:2006.06676, section 3 and appendix B.
"""

import numpy as np
import torch
from torch import Tensor

from sem2ct.runtime import distributed
from sem2ct.stylegan.augment_draws import Draw
from sem2ct.stylegan.augment_geometry import warp

MEASURED_EVERY = 4


def apply(images: Tensor, draw: Draw) -> Tensor:
    """Executes a draw; twice differentiable in the images.

    Images to which nothing geometric happens do not pass through the resampling: it
    would give them back unchanged.  If this is so for all of them, or nothing
    happens to any grey value, the step is left out altogether.

    Args:
        images: (N, 1, H, H) float32 in [-1, 1].
        draw: The transforms of these N images, on the host.

    Returns:
        (N, 1, H, H) float32; grey values may leave [-1, 1].
    """
    with torch.autocast(images.device.type, enabled=False):
        return _recoloured(_moved(images, draw.inverse), draw.grey)


def _moved(images: Tensor, inverse: Tensor) -> Tensor:
    moves = (inverse != torch.eye(3, dtype=inverse.dtype)).any(dim=2).any(dim=1)
    which = moves.nonzero().squeeze(1)
    if len(which) == 0:
        return images
    if len(which) == len(images):
        return warp(images, inverse)
    rows = which.to(images.device, non_blocking=True)
    return images.index_copy(0, rows, warp(images.index_select(0, rows), inverse[which]))


def _recoloured(images: Tensor, grey: Tensor) -> Tensor:
    if torch.equal(grey, torch.eye(2, dtype=grey.dtype).expand_as(grey)):
        return images
    gain_offset = grey[:, 0].float().to(images.device, non_blocking=True)
    gain, offset = gain_offset[:, :, None, None, None].unbind(1)
    return images * gain + offset


class Strength:
    """The chance p of every operation, and the controller that moves it.

    The discriminator's signs on real images are summed on the device; the host
    looks at them every `MEASURED_EVERY` steps, and moves p up if their mean
    r_t lies above the target (the discriminator is too sure), else down.
    """

    def __init__(self, *, target: float, ramp_images: int, device: torch.device) -> None:
        """Starts at p = 0.

        Args:
            target: r_t = E[sign D(real)] to be kept.
            ramp_images: Images in which p may go from 0 to 1.
            device: Where the logits are.
        """
        self.value = 0.0
        self._target = target
        self._ramp_images = ramp_images
        self._signs = torch.zeros((), device=device)
        self._logits = 0
        self._images = 0
        self._steps = 0

    def observe(self, real_signs: Tensor, *, batch_size: int) -> None:
        """Takes note of a step, and moves p if it is time.

        Args:
            real_signs: (n,), signs of this process's logits of real images.
            batch_size: Images of the step over all processes.
        """
        self._signs += real_signs.sum()
        self._logits += len(real_signs)
        self._images += batch_size
        self._steps += 1
        if self._steps < MEASURED_EVERY:
            return
        heuristic = distributed.mean_over_ranks(self._signs / self._logits).item()
        change = float(np.sign(heuristic - self._target)) * self._images / self._ramp_images
        self.value = min(max(self.value + change, 0.0), 1.0)
        self._signs.zero_()
        self._logits = self._images = self._steps = 0

    def state(self) -> dict:
        """Returns everything that a resumed run needs."""
        counts = {"logits": self._logits, "images": self._images, "steps": self._steps}
        return {"value": self.value, "signs": self._signs, **counts}

    def restore(self, state: dict) -> None:
        """Goes on where `state` was taken."""
        self.value = state["value"]
        self._signs.copy_(state["signs"])
        self._logits, self._images = state["logits"], state["images"]
        self._steps = state["steps"]
