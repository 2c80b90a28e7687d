"""Training batches cut from whole frames: endless tiles from the same pixels.

Frame, place and symmetry of a crop depend on the seed and on the number of the image
alone, so N processes that take every N-th image see together exactly what one would,
and a training can begin at any image.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sem2ct.data.datasets import Symmetries, count_symmetries, network_batch, numbers_of, turn
from sem2ct.data.flat_regions import flat_blocks
from sem2ct.runtime import distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import mix, numpy_generator

MOST_DRAWS = 100
"""Then a flat crop is taken as it is: frames that are flat nearly everywhere."""


class Crops:
    """Batches of random pieces of frames, in the shape of `sem2ct.data.datasets.Patches`."""

    def __init__(
        self,
        frames: Sequence[NDArray[np.uint8]],
        *,
        tile_px: int,
        symmetries: Symmetries,
        seed: int,
        flat_share: float = 1.0,
    ) -> None:
        """Prepares batches; reads nothing yet.

        Args:
            frames: (H, W) uint8 each, of any shapes; memory-mapped arrays are fine.
            tile_px: Side of a crop.
            symmetries: none; mirror (left and right exchanged, chance 1/2); dihedral
                (one of the eight turns and mirrors of the square).
            seed: Start of the random stream.
            flat_share: A crop of which more is flat is drawn anew; 1 keeps all.

        Raises:
            Refusal: If there are no frames, one is smaller than a crop, or the symmetries
                are none of these.
        """
        self._symmetries = count_symmetries(symmetries)
        self._frames = frames
        self._tile_px = tile_px
        self._seed = mix(seed, "crops")
        self._flat_share = flat_share
        rows = [frame.shape[0] - tile_px + 1 for frame in frames]
        self._columns = [frame.shape[1] - tile_px + 1 for frame in frames]
        if not frames or min(rows) < 1 or min(self._columns) < 1:
            shapes = ", ".join(f"{frame.shape[0]}x{frame.shape[1]}" for frame in frames) or "none"
            raise Refusal(
                f"sem_frames: frames of {shapes} pixels hold no tile of {tile_px} px; extract again"
                " with a smaller tile_px, or leave the small images out"
            )
        self._ends = np.cumsum([r * c for r, c in zip(rows, self._columns, strict=True)])

    @property
    def frames(self) -> int:
        """Number of frames that crops are cut from."""
        return len(self._frames)

    def __len__(self) -> int:
        """Number of different places that a crop can have, symmetries not counted."""
        return int(self._ends[-1])

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
        return network_batch(self.tiles(numbers_of(first, count, rank, world_size)))

    def share(self, first: int, count: int) -> Tensor:
        """As `batch`, for this process among those that run together."""
        rank, world_size = distributed.rank(), distributed.world_size()
        return self.batch(first, count, rank=rank, world_size=world_size)

    def pictures(self, n: int) -> NDArray[np.uint8]:
        """Gives the first n crops of the training: (n, H, W) uint8."""
        return self.tiles(np.arange(n))

    def tiles(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Cuts crops by their numbers.

        Args:
            numbers: (n,) places in the sequence of all images ever shown.

        Returns:
            (n, H, W) uint8.
        """
        side = self._tile_px
        tiles = np.empty((len(numbers), side, side), dtype=np.uint8)
        for tile, number in zip(tiles, numbers.tolist(), strict=True):
            piece, symmetry = self._drawn(number)
            tile[:] = turn(piece, symmetry)
        return tiles

    def _drawn(self, number: int) -> tuple[NDArray[np.uint8], int]:
        """One crop, before its symmetry is applied, and the symmetry."""
        stream = numpy_generator(self._seed, number)
        piece, symmetry = self._frames[0], 0
        for _ in range(MOST_DRAWS):
            # One place in all frames together: every place is as likely as every other,
            # whatever the frames' shapes.
            drawn = int(stream.integers(len(self) * self._symmetries))
            place, symmetry = divmod(drawn, self._symmetries)
            piece = np.array(self._piece(place))
            if self._flat_share >= 1 or flat_blocks(piece).mean() <= self._flat_share:
                break
        return piece, symmetry

    def _piece(self, place: int) -> NDArray[np.uint8]:
        k = int(np.searchsorted(self._ends, place, side="right"))
        y, x = divmod(place - (int(self._ends[k - 1]) if k else 0), self._columns[k])
        return self._frames[k][y : y + self._tile_px, x : x + self._tile_px]
