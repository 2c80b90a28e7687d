"""Styles of generated tiles: clusters of w, found once per generator.

The clusters are those of a fixed sample of w, whatever seed draws the tiles.  So style 2
of a generator means the same in every store it fills, in a restarted one, on every
process, and for tiles drawn while a translator trains.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sem2ct.data import styles
from sem2ct.runtime.seeding import mix
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.inputs import latents

SAMPLE = 4096


class LatentStyles:
    """Tells which style a generated tile has, from its seed and number alone."""

    def __init__(self, generator: Generator, *, count: int) -> None:
        """Finds the clusters.

        Args:
            generator: Whose w are looked at.
            count: Number of styles.
        """
        # On the CPU always: a tile must not change its style with the machine.
        self._mapping = copy.deepcopy(generator.mapping).cpu()
        self._z_dim = generator.config["z_dim"]
        self.count = count
        sample = self._w(mix(0, "styles"), range(SAMPLE))
        self._centres = styles.centres(sample, count=count)
        self._sample = np.bincount(styles.nearest(sample, self._centres), minlength=count)

    def of(self, seed: int, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Styles of tiles, without truncation, which brings them nearer but changes none.

        Args:
            seed: That draws the tiles.
            numbers: Which tiles.

        Returns:
            (n,) numbers of the styles.
        """
        return styles.nearest(self._w(seed, numbers), self._centres)

    def facts(self) -> dict[str, Any]:
        """Plain values for a checkpoint: how many styles there are, and tiles of each of 4096."""
        return {"count": self.count, "tiles": self._sample.tolist()}

    @torch.no_grad()
    def _w(self, seed: int, numbers: Sequence[int]) -> NDArray[np.float64]:
        z = latents(seed, numbers, self._z_dim)
        return self._mapping(z)[:, 0].double().numpy()
