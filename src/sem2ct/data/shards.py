"""The shards of a store, shared by processes, written while the next ones are made."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sem2ct.data.store import Patches, StoreWriter
from sem2ct.runtime import distributed

Made = tuple[Patches, Mapping[str, NDArray[np.integer]]]


def fill(
    writer: StoreWriter,
    total: int,
    make: Callable[[slice], Made],
    *,
    shard_patches: int,
    progress: tqdm,
) -> None:
    """Writes the shards that are this rank's and not there yet; then rank 0 finishes.

    Args:
        writer: Of the store.
        total: Patches of the whole store.
        make: Makes the patches of these rows, and their places.
        shard_patches: Patches in each shard but the last.
        progress: Advances by one per patch.
    """

    def write(k: int) -> int:
        first = k * shard_patches
        rows = slice(first, min(first + shard_patches, total))
        if not writer.has(k):
            writer.write_shard(k, *make(rows))
        return rows.stop - rows.start

    # One shard is made while the other is flushed to disk.
    with ThreadPoolExecutor(2, thread_name_prefix="shard") as pool:
        for count in pool.map(write, distributed.mine(-(-total // shard_patches))):
            progress.update(count)
    distributed.once(writer.finish)
