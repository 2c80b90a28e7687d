"""The guard against a translation in which dark and bright have changed places.

No loss of CycleGAN sees it: a cycle closes as well through a negative.  The correlation of
the CT with the averaged translation does.
"""

import torch
from torch import Tensor

from sem2ct.cyclegan.monitors import RARELY
from sem2ct.runtime.refusal import Refusal

DOUBTFUL_CORRELATION = 0.5


class InversionGuard:
    """Follows the grey correlation over some steps, and stops a training that has inverted."""

    def __init__(
        self, network: str, batch_size: int, guard_images: int, device: torch.device
    ) -> None:
        """Starts with no correlation.

        Args:
            network: paper or robust; decides what to do about it.
            batch_size: Images per step.
            guard_images: Images before which nothing is said.
            device: Where the correlations are.
        """
        self.network, self.batch_size, self.guard_images = network, batch_size, guard_images
        self.correlation = torch.zeros((), device=device)

    def doubt(self, images_seen: int) -> str:
        """A sentence when dark and bright begin to change places; empty otherwise.

        Args:
            images_seen: Images before the next step.
        """
        if images_seen < self.guard_images or self.correlation >= DOUBTFUL_CORRELATION:
            return ""
        return (
            f"grey_correlation is {float(self.correlation):.2f} at {images_seen} images (under"
            f" {DOUBTFUL_CORRELATION}): the translation hardly follows the CT; {self._remedy()}"
        )

    def follow(self, correlation: Tensor, images_seen: int) -> None:
        """Takes in the correlation of a step.

        Args:
            correlation: 0-d, the same on all ranks.
            images_seen: Images before that step.

        Raises:
            Refusal: If the contrast is inverted after `guard_images`.
        """
        remembered = 0.5 ** (8 * self.batch_size / max(self.guard_images, 8 * self.batch_size))
        self.correlation = torch.lerp(correlation, self.correlation, remembered)
        seen = images_seen + self.batch_size
        if seen < self.guard_images or (seen // self.batch_size) % RARELY:
            return
        if self.correlation < 0:
            raise Refusal(
                f"grey_correlation is {float(self.correlation):.2f} after {seen} images: the"
                f" translation is dark where the CT is bright; {self._remedy()}, under another run="
            )

    def _remedy(self) -> str:
        turned = "extract with the two percentiles of its window exchanged where pores are bright"
        if self.network == "paper":
            return f"{turned}, or choose network=robust or another seed="
        return f"{turned}, or raise consistency_weight, or choose another seed="
