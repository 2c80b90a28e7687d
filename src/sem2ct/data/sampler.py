"""Which stored image is shown when.

Every pass over the store shows each image once, in an order shuffled anew from
the seed and the number of the pass.  The answer depends on the position alone, so
a run can start at any image, and N processes can each ask for their own share.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.seeding import numpy_generator


@lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    shuffled = numpy_generator(seed, "order", epoch).permutation(n).astype(np.int64)
    shuffled.flags.writeable = False  # it is shared between calls
    return shuffled


def order(n: int, positions: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Says which of n images stands at each position of the endless sequence.

    Args:
        n: Number of images, at least 1.
        positions: int64, any shape, at least 0: positions in the sequence of all
            images ever shown, over all processes.
        seed: Start of the random stream.

    Returns:
        int64, the shape of `positions`, in [0, n).
    """
    epochs, places = np.divmod(positions, n)
    chosen = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        chosen[here] = _permutation(n, seed, int(epoch))[places[here]]
    return chosen
