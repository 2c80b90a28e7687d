"""Augmentation in front of the discriminator.

Real and generated images pass through the same random changes, so that a small set
of images cannot be learned by heart; each change happens with a chance p below 1,
so the generator still learns the unchanged images.  A controller moves p such that
the discriminator stays right about a given share of the real images.

Which changes there are stands in `augment_pipes`, what is drawn in `augment_draws`;
`apply` executes a draw.  The functions it uses can be called with any numbers, to
replay a draw: `warp`, `recolour`, `amplify_bands`, `add_noise`, `cut_out`.

Source: Karras et al. 2020, arXiv:2006.06676, section 3 and appendix B.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sem2ct.runtime import distributed, sums
from sem2ct.stylegan.augment_draws import Changes, DiffDraw, Draw
from sem2ct.stylegan.augment_filter import amplify_bands
from sem2ct.stylegan.augment_geometry import warp
from sem2ct.stylegan.augment_values import (
    add_noise,
    contrast_about_mean,
    cut_out,
    rearrange,
    rearranges,
    recolour,
    shift,
)
from sem2ct.stylegan.inputs import noise_planes

__all__ = [
    "Strength",
    "add_noise",
    "amplify_bands",
    "apply",
    "cut_out",
    "recolour",
    "warp",
]

MEASURED_EVERY = 4


def apply(images: Tensor, draw: Changes) -> Tensor:
    """Executes a draw; differentiable in the images any number of times.

    Images to which an operation does not happen do not pass through it: it would give
    them back unchanged.  Nothing here waits for the device.

    Args:
        images: (N, 1, H, H) in [-1, 1]; float64 stays, every other type becomes float32.
        draw: The changes of these N images, on the host.

    Returns:
        (N, 1, H, H); grey values may leave [-1, 1].
    """
    with torch.autocast(images.device.type, enabled=False):
        images = images if images.dtype is torch.float64 else images.float()
        return _always(images, draw) if isinstance(draw, DiffDraw) else _adaptive(images, draw)


def _adaptive(images: Tensor, draw: Draw) -> Tensor:
    """In the order of the publication: geometry, grey values, filter, noise, cutout."""
    moves = _differs(draw.inverse, torch.eye(3))
    whole = rearranges(draw.inverse, images.shape[-1])
    images = _where(moves & whole, images, rearrange, draw.inverse)
    images = _where(moves & ~whole, images, warp, draw.inverse)
    if _differs(draw.grey, torch.eye(2)).any():
        images = recolour(images, draw.grey)
    images = _where((draw.gains != 1).any(dim=1), images, amplify_bands, draw.gains)

    def noisy(some: Tensor, rows: Tensor) -> Tensor:
        numbers = draw.number[rows].to(some.device, non_blocking=True)
        (plane,) = noise_planes(draw.noise_key, numbers, some.shape[-1:])
        return add_noise(some, plane, draw.noise_sd[rows])

    images = _where(draw.noise_sd > 0, images, noisy, torch.arange(len(images)))
    return cut_out(images, draw.squares) if (draw.squares[:, 2] > 0).any() else images


def _always(images: Tensor, draw: DiffDraw) -> Tensor:
    """In the order of the publication: grey values, translation, cutout."""
    brightness = draw.brightness.to(images.dtype).to(images.device, non_blocking=True)
    images = contrast_about_mean(images + brightness[:, None, None, None], draw.contrast)
    return cut_out(shift(images, draw.pixels), draw.squares)


def _differs(matrices: Tensor, identity: Tensor) -> Tensor:
    return (matrices != identity).any(dim=2).any(dim=1)


def _where(
    happens: Tensor, images: Tensor, operation: Callable[[Tensor, Tensor], Tensor], numbers: Tensor
) -> Tensor:
    """Passes those images through an operation to which it happens, with their numbers."""
    which = happens.nonzero().squeeze(1)
    if len(which) == 0:
        return images
    if len(which) == len(images):
        return operation(images, numbers)
    rows = which.to(images.device, non_blocking=True)
    return images.index_copy(0, rows, operation(images.index_select(0, rows), numbers[which]))


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
        # Of this process; added up when they are looked at or saved.
        self._signs = torch.zeros((), device=device)
        self._logits = 0  # of all processes
        self._images = 0
        self._steps = 0

    def observe(self, real_signs: Tensor, *, batch_size: int) -> None:
        """Takes note of a step, and moves p if it is time.

        Args:
            real_signs: (n,), signs of this process's logits of real images.
            batch_size: Images of the step over all processes.
        """
        self._signs += real_signs.sum()
        self._logits += len(real_signs) * distributed.world_size()
        self._images += batch_size
        self._steps += 1
        if self._steps < MEASURED_EVERY:
            return
        heuristic = sums.over_ranks(self._signs).item() / self._logits
        change = float(np.sign(heuristic - self._target)) * self._images / self._ramp_images
        self.value = min(max(self.value + change, 0.0), 1.0)
        self._signs.zero_()
        self._logits = self._images = self._steps = 0

    def state(self) -> dict:
        """Returns everything that a resumed run needs; every rank must call it."""
        counts = {"logits": self._logits, "images": self._images, "steps": self._steps}
        return {"value": self.value, "signs": sums.over_ranks(self._signs), **counts}

    def restore(self, state: dict) -> None:
        """Goes on where `state` was taken, on any number of ranks."""
        self.value = state["value"]
        self._signs.copy_(state["signs"] if distributed.is_main() else torch.zeros(()))
        self._logits, self._images = state["logits"], state["images"]
        self._steps = state["steps"]
