"""SEM tiles drawn while another network trains: a store that takes no disk.

They are drawn between the steps, by the thread that trains.  In a thread beside it, a CPU's
cores would be asked for twice, and on a GPU nothing would be gained: both only hand the
device its next work.  So the translator waits while tiles are drawn, and the log says how much.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sem2ct.runtime import distributed
from sem2ct.runtime.seeding import mix
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.styles import LatentStyles
from sem2ct.training.loop import Trainer

LOGGER = logging.getLogger(__name__)

# The first steps allocate memory and choose kernels; the ones after them are timed.
WARM_STEPS, TIMED_STEPS = 2, 3
# Above this share of the time the tiles had better be stored beforehand.
STARVED = 0.5


class LiveTiles:
    """Endless generated tiles, by number, in the shape of `sem2ct.data.datasets.Patches`."""

    def __init__(self, generator: Generator, *, seed: int, psi: float, styles: int = 1) -> None:
        """Draws nothing yet.

        Args:
            generator: Trained, on the device where it shall draw.
            seed: Start of the random stream; mixed, so that they are not the stored tiles.
            psi: Truncation towards the mean style.
            styles: Styles that are told apart.
        """
        self._generator = generator
        self._seed = mix(seed, "live")
        self._psi = psi
        self.told = LatentStyles(generator, count=styles) if styles > 1 else None

    def share(self, first: int, count: int) -> Tensor:
        """Draws this process's share of a batch.

        Args:
            first: Images shown before this batch, over all processes.
            count: Images in the whole batch.

        Returns:
            (count / processes, 1, R, R) float32 in about [-1, 1].
        """
        numbers = self._numbers(first, count)
        return sample.images(self._generator, seed=self._seed, indices=numbers, psi=self._psi)

    def named(self, first: int, count: int) -> dict[str, Tensor]:
        """As `share`, by name: "sem", and where styles are told apart "style", (n,) int64."""
        images = {"sem": self.share(first, count)}
        if self.told is None:
            return images
        labels = self.told.of(self._seed, self._numbers(first, count))
        return {**images, "style": torch.from_numpy(labels)}

    def _numbers(self, first: int, count: int) -> range:
        return range(first + distributed.rank(), first + count, distributed.world_size())


class Fed:
    """A trainer whose SEM tiles are drawn when it needs them; itself a `Trainer`."""

    def __init__(self, trainer: Trainer, tiles: LiveTiles, batch_size: int) -> None:
        """Takes the trainer, the tiles, and the images of a step over all processes."""
        self._trainer = trainer
        self._tiles = tiles
        self._batch_size = batch_size
        self._steps = 0
        self._drawing = self._learning = 0.0

    def step(self, images: dict[str, Tensor], images_seen: int) -> dict[str, Tensor]:
        """Draws this step's tiles and has the trainer learn from them and `images`."""
        self._steps += 1
        if not WARM_STEPS < self._steps <= WARM_STEPS + TIMED_STEPS:
            sem = self._tiles.named(images_seen, self._batch_size)
            return self._trainer.step({**images, **sem}, images_seen)
        begun = _now()
        sem = self._tiles.named(images_seen, self._batch_size)
        drawn = _now()
        values = self._trainer.step({**images, **sem}, images_seen)
        self._drawing += drawn - begun
        self._learning += _now() - drawn
        if self._steps == WARM_STEPS + TIMED_STEPS:
            LOGGER.info("%s", self.described())
        return values

    @property
    def causes(self) -> Mapping[str, str]:
        """Those of the trainer."""
        return self._trainer.causes

    def state(self) -> dict[str, Any]:
        """The trainer's own state; the tiles have none."""
        return self._trainer.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Hands the state to the trainer."""
        self._trainer.restore(state)

    def described(self) -> str:
        """Rate of the tiles and what they cost the training, from the timed steps."""
        count = TIMED_STEPS * self._batch_size
        share = self._drawing / (self._drawing + self._learning)
        said = (
            f"live tiles: {count / self._drawing:.1f} tiles/s drawn, the training takes"
            f" {count / self._learning:.1f} pairs/s; drawing is {share:.0%} of the time"
        )
        if share <= STARVED:
            return said
        return (
            f"{said}: they do not keep up; make a store with `sem2ct synthesize` and name it sem="
        )


def _now() -> float:
    """The time when the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
