"""Many tiles into a store: the device draws the next ones while threads write the last ones.

Checksums and files are made in threads beside the drawing.  Which tiles a shard holds
depends on its number alone, so that any process may make any shard, and a stopped run makes
the missing ones only.
"""

import collections
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sem2ct.data.store import StoreWriter
from sem2ct.data.styles import COLUMN
from sem2ct.runtime import device, distributed, log
from sem2ct.runtime.run_folder import free_space
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.styles import LatentStyles

# One writes while the other one sums up; a third would only take memory.
WRITERS = 2


@dataclass(frozen=True)
class Spent:
    """Where the time of this process went, in seconds."""

    tiles: int
    """Tiles drawn."""
    drawing: float
    """Generator, conversion and the way from the device."""
    writing: float
    """Checksums and files, in threads."""
    waiting: float
    """The part of the writing that the drawing waited for."""

    def __str__(self) -> str:
        """What a person wants to know: rate, and what limits it."""
        whole = self.drawing + self.waiting
        limit = "the disk" if self.waiting > self.drawing else "the generator"
        return (
            f"{self.tiles} tiles, {self.tiles / max(whole, 1e-9):.1f} tiles/s, limited by {limit}"
            f" (drawing {self.drawing:.1f} s, writing {self.writing:.1f} s beside it,"
            f" of which waited for {self.waiting:.1f} s)"
        )


def fill(
    writer: StoreWriter,
    generator: Generator,
    *,
    n: int,
    shard_patches: int,
    seed: int,
    psi: float,
    precision: str,
    batch_per_device: int,
    styles: int = 1,
) -> Spent:
    """Writes this process's missing shards of a store of generated tiles.

    Args:
        writer: Of the store.
        generator: On the device that shall draw.
        n: Tiles of the whole store.
        shard_patches: Tiles in each shard but the last.
        seed: Of the run.
        psi: Truncation.
        precision: Arithmetic of the generator.
        batch_per_device: Tiles that go through it at once.
        styles: Styles to tell apart; with several the store says which one each tile has.

    Returns:
        Where the time went.

    Raises:
        Refusal: If there is not enough room on the disk.
    """
    mine = distributed.mine(-(-n // shard_patches))
    numbers = {k: range(k * shard_patches, min((k + 1) * shard_patches, n)) for k in mine}
    missing = {k: chosen for k, chosen in numbers.items() if not writer.has(k)}
    to_do, total = (sum(map(len, part.values())) for part in (missing, numbers))
    free_space(writer.folder, to_do * generator.resolution**2, "synthesize")
    shards = _Shards(writer)
    known = LatentStyles(generator, count=styles) if styles > 1 and missing else None
    begun = time.perf_counter()
    with (
        log.progress(total, done=total - to_do, unit="tiles", what="synthesize") as bar,
        device.autocast(precision, generator.mapping.w_avg.device),
        shards,
    ):
        for k, chosen in missing.items():
            drawn = sample.tiles(
                generator,
                seed=seed,
                indices=chosen,
                psi=psi,
                batch=batch_per_device,
                seen=bar.update,
            )
            places = {"seed": np.asarray(chosen)}
            if known is not None:
                places[COLUMN] = known.of(seed, chosen)
            shards.put(k, drawn, places)
    whole = time.perf_counter() - begun
    return Spent(to_do, whole - shards.waited, shards.wrote, shards.waited)


class _Shards:
    """Writes shards in threads, at most `WRITERS` at a time.

    Attributes:
        wrote: Seconds the threads worked.
        waited: Seconds the caller waited for them.
    """

    def __init__(self, writer: StoreWriter) -> None:
        self.wrote = self.waited = 0.0
        self._writer = writer
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="shard")
        self._pending: collections.deque[Future[float]] = collections.deque()

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._settle(0)
        self._pool.shutdown(wait=True)

    def put(self, k: int, tiles: np.ndarray, places: dict[str, np.ndarray]) -> None:
        """Has a shard written, once there is a thread for it."""
        self._settle(WRITERS - 1)
        self._pending.append(self._pool.submit(self._write, k, tiles, places))

    def _settle(self, at_most: int) -> None:
        """Waits until no more than so many are pending; what failed there is raised here."""
        begun = time.perf_counter()
        while len(self._pending) > at_most:
            self.wrote += self._pending.popleft().result()
        self.waited += time.perf_counter() - begun

    def _write(self, k: int, tiles: np.ndarray, places: dict[str, np.ndarray]) -> float:
        begun = time.perf_counter()
        self._writer.write_shard(k, tiles, places)
        return time.perf_counter() - begun
