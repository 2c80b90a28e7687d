"""SEM tiles drawn while another network trains: a store that takes no disk."""

from torch import Tensor

from sem2ct.runtime import distributed
from sem2ct.runtime.seeding import mix
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator


class LiveTiles:
    """Endless generated tiles, by number, in the shape of `sem2ct.data.datasets.Patches`."""

    def __init__(self, generator: Generator, *, seed: int, psi: float) -> None:
        """Draws nothing yet.

        Args:
            generator: Trained, on the device where it shall draw.
            seed: Start of the random stream; mixed, so that they are not the stored tiles.
            psi: Truncation towards the mean style.
        """
        self._generator = generator
        self._seed = mix(seed, "live")
        self._psi = psi

    def share(self, first: int, count: int) -> Tensor:
        """Draws this process's share of a batch.

        Args:
            first: Images shown before this batch, over all processes.
            count: Images in the whole batch.

        Returns:
            (count / processes, 1, R, R) float32 in about [-1, 1].
        """
        numbers = range(first + distributed.rank(), first + count, distributed.world_size())
        return sample.images(self._generator, seed=self._seed, indices=numbers, psi=self._psi)
