"""Training batches from a store.

A batch is named by the number of its first image in the sequence of all images
ever shown.  Image and symmetry depend on that number alone, so N processes that
take every N-th image see together exactly what one process would see.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sem2ct.data.sampler import order
from sem2ct.data.store import Store
from sem2ct.data.styles import Told
from sem2ct.runtime import distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import mix, numpy_generator

Symmetries = Literal["none", "mirror", "dihedral"]
_COUNT = {"none": 1, "mirror": 2, "dihedral": 8}


def turn(patch: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    """Applies one of the eight symmetries of the square.

    Args:
        patch: (H, W), square.
        symmetry: 0 to 7: the last bit mirrors left and right, then the rest counts
            quarter turns counter-clockwise.

    Returns:
        (H, W), a view where possible.
    """
    mirrored = patch[:, ::-1] if symmetry % 2 else patch
    return np.rot90(mirrored, symmetry // 2)


def count_symmetries(symmetries: str) -> int:
    """Counts the symmetries that `turn` may apply.

    Args:
        symmetries: none, mirror or dihedral.

    Returns:
        1, 2 or 8.

    Raises:
        Refusal: If they are none of these.
    """
    if symmetries not in _COUNT:
        raise Refusal(f"symmetries={symmetries}; allowed are {', '.join(_COUNT)}")
    return _COUNT[symmetries]


def numbers_of(first: int, count: int, rank: int, world_size: int) -> NDArray[np.int64]:
    """Which images of a batch a process takes.

    Args:
        first: Images shown before this batch, over all processes.
        count: Images in the whole batch; a multiple of `world_size`.
        rank: The process, from 0.
        world_size: Number of processes.

    Returns:
        (count / world_size,) places in the sequence of all images ever shown.
    """
    assert count % world_size == 0
    return np.arange(first + rank, first + count, world_size, dtype=np.int64)


def network_batch(tiles: NDArray[np.uint8]) -> Tensor:
    """Turns stored greys into a batch for a network.

    Args:
        tiles: (n, H, W) uint8.

    Returns:
        (n, 1, H, W) float32 in [-1, 1].
    """
    # Not by torch: this runs in a second thread, and torch would start threads of its own
    # for it, more than there are cores; the training beside it then ran at 0.6 of its speed.
    grey = tiles.astype(np.float32)
    grey /= np.float32(127.5)
    grey -= np.float32(1)
    return torch.from_numpy(grey)[:, None]


class Patches:
    """Batches of one store, ready for a network."""

    def __init__(
        self, store: Store, *, symmetries: Symmetries, seed: int, told: Told | None = None
    ) -> None:
        """Prepares batches; reads nothing yet.

        Args:
            store: Where the patches lie.
            symmetries: none; mirror (left and right exchanged, chance 1/2); dihedral
                (one of the eight turns and mirrors of the square).
            seed: Start of the random stream; the store's domain is mixed in, so that
                the two domains of a translation are shuffled independently.
            told: The tiles that are shown, and their styles; None shows all.

        Raises:
            Refusal: If the symmetries are none of these.
        """
        self._symmetries = count_symmetries(symmetries)
        self.store = store
        self.told = told
        self._seed = mix(seed, store.domain)

    def batch(self, first: int, count: int, *, rank: int, world_size: int) -> Tensor:
        """Gives this process its share of a batch.

        Args:
            first: Number of images shown before this batch, over all processes.
            count: Images in the whole batch; a multiple of `world_size`.
            rank: This process, from 0.
            world_size: Number of processes; this one takes images `first + rank`,
                `first + rank + world_size`, and so on.

        Returns:
            (count / world_size, 1, H, W) float32 in [-1, 1].
        """
        positions = numbers_of(first, count, rank, world_size)
        numbers = self._place(positions)
        patches = self.store.tiles[numbers if self.told is None else self.told.tiles[numbers]]
        if self._symmetries > 1:
            for row, position in enumerate(positions):
                patches[row] = turn(patches[row].copy(), self._draw(int(position)))
        return network_batch(patches)

    def pictures(self, n: int) -> NDArray[np.uint8]:
        """Gives the same few patches whenever asked, to look at.

        Args:
            n: How many; they are spread evenly over the store, as they lie there.

        Returns:
            (n, H, W) uint8.
        """
        return self.store.tiles[np.linspace(0, len(self.store) - 1, n).astype(np.int64)]

    def share(self, first: int, count: int) -> Tensor:
        """As `batch`, for this process among those that run together."""
        rank, world_size = distributed.rank(), distributed.world_size()
        return self.batch(first, count, rank=rank, world_size=world_size)

    def named(self, first: int, count: int) -> dict[str, Tensor]:
        """As `share`, by name for a trainer.

        Args:
            first: Number of images shown before this batch, over all processes.
            count: Images in the whole batch.

        Returns:
            The images under their domain (ct, sem); where styles are told apart also "style",
            (n,) int64.
        """
        images = {self.store.domain: self.share(first, count)}
        if self.told is None:
            return images
        positions = numbers_of(first, count, distributed.rank(), distributed.world_size())
        return {**images, "style": torch.from_numpy(self.told.labels[self._place(positions)])}

    def _place(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of the tiles that are shown stands at each position."""
        shown = len(self.store) if self.told is None else len(self.told.tiles)
        return order(shown, positions, seed=self._seed)

    def _draw(self, position: int) -> int:
        return int(numpy_generator(self._seed, "symmetry", position).integers(self._symmetries))
