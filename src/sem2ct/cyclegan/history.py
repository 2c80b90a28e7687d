"""Earlier fakes, shown again to a discriminator so that it does not forget them.

The store of 50 is cut into lanes, one per index of the global batch: what comes at
index i is only ever exchanged with what came at index i before.  Lane i lives on the
rank that owns index i, and its draws come from the seed, the images seen and i.  So
N processes show their discriminators exactly what one would, without sending an image.
Images are kept as uint8, a quarter of the memory, at the precision real tiles have.

Source: Shrivastava et al. 2017, arXiv:1612.07828, section 2.3, with a batch of lanes.
"""

from typing import Any

import torch
from torch import Tensor

from sem2ct.runtime.distributed import mean_over_ranks, rank, share, world_size
from sem2ct.runtime.seeding import generator


class History:
    """A store of earlier fakes, in lanes."""

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        side_px: int,
        seed: int,
        name: str,
        device: torch.device,
    ) -> None:
        """Reserves the memory.

        Args:
            size: Images kept, over all ranks; 0 keeps none. Lane i gets size // batch_size of
                them, the first lanes one more where that leaves a rest.
            batch_size: Images per step, over all ranks.
            side_px: Side of the images.
            seed: The run's seed.
            name: Which history this is; part of the random stream.
            device: Where the images are kept.
        """
        self.batch_size, self.seed, self.name = batch_size, seed, name
        lanes = torch.arange(batch_size)
        self.all_depths = size // batch_size + (lanes < size % batch_size).long()
        self.depths = share(self.all_depths)
        depth = int(self.all_depths.max())
        self.images = torch.zeros(
            (len(self.depths), depth, 1, side_px, side_px), dtype=torch.uint8, device=device
        )
        self.styles = torch.zeros((len(self.depths), depth), dtype=torch.uint8, device=device)
        self.steps = 0

    @torch.no_grad()
    def exchange(self, fakes: Tensor, images_seen: int, *styles: Tensor) -> tuple[Tensor, ...]:
        """Keeps some of this step's fakes and hands out earlier ones for them.

        A lane that is not full keeps the fake and shows it too. A full lane keeps it with
        chance 1/2, and shows what lay there before.

        Args:
            fakes: This rank's share (n, 1, H, W) in [-1, 1].
            images_seen: Images before this step.
            styles: (n,) int64, the style that each was painted in; nothing if there is only one.

        Returns:
            What the discriminator shall see, and its styles if there are: the same shapes and
            types.
        """
        draw = generator(self.seed, "history", self.name, images_seen)
        swap = share(torch.rand(self.batch_size, generator=draw)) < 0.5
        slot = share(torch.rand(self.batch_size, generator=draw)) * self.depths
        filling = self.steps < self.depths
        slot = torch.where(filling, self.steps, slot.long().clamp(max=self.images.shape[1]))
        self.steps += 1
        keep = (filling | swap) & (self.depths > 0)
        lanes = keep.nonzero().flatten()
        if not len(lanes):
            return fakes, *styles
        device = self.images.device
        replaced = lanes[~filling[lanes]].to(device)
        place = (lanes.to(device), slot[lanes].to(device))
        from_place = (replaced, slot.to(device)[replaced])
        shown, earlier = fakes.clone(), self.images[from_place]
        kept = ((fakes[place[0]].float() + 1) * 127.5).round_().clamp_(0, 255)
        self.images[place] = kept.to(torch.uint8)
        shown[replaced] = (earlier.float() / 127.5 - 1).to(fakes.dtype)
        if not styles:
            return (shown,)
        shown_styles, earlier_styles = styles[0].clone(), self.styles[from_place]
        self.styles[place] = styles[0][place[0]].to(torch.uint8)
        shown_styles[replaced] = earlier_styles.long()
        return shown, shown_styles

    def state(self) -> dict[str, Any]:
        """All lanes of all ranks; every rank must call it, and each gets the same."""
        return {
            "images": self._gathered(self.images),
            "styles": self._gathered(self.styles),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave, on any number of ranks.

        Raises:
            ValueError: If it was made with another size, batch or side.
        """
        expected = (self.batch_size, *self.images.shape[1:])
        if tuple(state["images"].shape) != expected:
            raise ValueError(f"history of {tuple(state['images'].shape)}, expected {expected}")
        self.images.copy_(state["images"][rank() :: world_size()])
        # Checkpoints from before there were styles have only the first one.
        self.styles.copy_(share(state.get("styles", torch.zeros(expected[:2]))))
        self.steps = int(state["steps"])

    def _gathered(self, mine: Tensor) -> Tensor:
        whole = torch.zeros((self.batch_size, *mine.shape[1:]))
        share(whole).copy_(mine)
        return (mean_over_ranks(whole) * world_size()).round().to(torch.uint8)
