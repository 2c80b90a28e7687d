"""Volumes written slab by slab, by several processes, in one realisation or in several.

What the CT leaves open is decided by noise, so a scan has as many translations as there
are noises.  With more than one their mean and standard deviation are written too: the
deviation is large where the CT does not say what is there.

A slab is translated while the one before it is compressed and written.
"""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data.pyramid import PyramidWriter
from sem2ct.runtime import distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import refusing
from sem2ct.runtime.seeding import mix

# Coarser levels add less than a third in 2-D, a seventh in 3-D.
PYRAMID_SHARE = 4 / 3
MEAN, DEVIATION = "mean.ome.zarr", "deviation.ome.zarr"


def name_of(volume: str, realisation: int) -> str:
    """Name of a realisation's folder: the first is the translation itself.

    Args:
        volume: Name of the translation's folder.
        realisation: From 0.
    """
    return volume if realisation == 0 else f"realisation_{realisation}.ome.zarr"


def size_bytes(shape: tuple[int, int, int], realisations: int) -> int:
    """Bytes on disk at most: several realisations come with their mean and deviation.

    Args:
        shape: (z, y, x) of each volume.
        realisations: How many.
    """
    volumes = realisations + 2 * (realisations > 1)
    return math.ceil(math.prod(shape) * PYRAMID_SHARE) * volumes


class Volumes:
    """The volumes that one translate run writes, all with the same slabs.

    Args:
        job: What is translated; its noise is that of the first realisation.
        folder: Where the volumes lie.
        name: Folder of the first realisation.
        realisations: How many.
        seed: Start of the noise of the further ones.
        version: Of OME-Zarr.
        chunk_px: Side of a chunk.

    Raises:
        Refusal: If several realisations are asked of a network without noise.
    """

    def __init__(
        self,
        job: VolumeTranslator,
        folder: Path,
        *,
        name: str,
        realisations: int,
        seed: int,
        version: str,
        chunk_px: int,
    ) -> None:
        """Opens the volumes, or joins those that rank 0 has opened."""
        if realisations > 1 and job.generator.config["network"] == "paper":
            raise Refusal(
                f"realisations={realisations}, but network=paper has no noise: all of them would"
                " be the same; set realisations=1, or train network=robust"
            )
        keys = [job.noise_key, *(mix(seed, "translate", k) for k in range(1, realisations))]
        self.jobs = [replace(job, noise_key=key) for key in keys]
        names = [name_of(name, k) for k in range(realisations)]
        names += [MEAN, DEVIATION] if realisations > 1 else []
        self._layout = {"version": version, "chunk_px": chunk_px, "facts": job.facts}
        self._layout |= {"shape": job.shape, **job.placement}
        self.writers = self._open([folder / each for each in names])

    @property
    def slabs(self) -> int:
        """Number of slabs, the same in all volumes."""
        return self.writers[0].slabs

    @property
    def mine(self) -> list[int]:
        """The slabs of this process: every N-th of N processes."""
        return list(range(distributed.rank(), self.slabs, distributed.world_size()))

    def missing(self) -> list[int]:
        """Those of them that are not written yet."""
        return [k for k in self.mine if not all(writer.has(k) for writer in self.writers)]

    def voxels(self, slabs: list[int]) -> int:
        """Voxels to be translated for these slabs, in all realisations."""
        return sum(map(self.writers[0].voxels, slabs)) * len(self.jobs)

    def write(self, slabs: list[int], *, on_tile: Callable[[int], object]) -> None:
        """Translates and writes slabs.

        Args:
            slabs: Their numbers.
            on_tile: Told the number of output pixels after each tile.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="write-slab") as pool:
            before: Future[None] | None = None
            for k in slabs:
                made = self._translate(k, on_tile)
                if before is not None:
                    before.result()
                before = pool.submit(self._write, k, made)
            if before is not None:
                before.result()

    def finish(self) -> list[Path]:
        """Completes all volumes once every process is done; only rank 0 does.

        Returns:
            Their folders, the first realisation first.
        """
        distributed.barrier()
        return [writer.finish() for writer in self.writers] if distributed.is_main() else []

    def seam_steps(self) -> NDArray[np.float64]:
        """Sum over the slabs of the first realisation's seam steps; after `finish`."""
        steps = [self.writers[0].facts(k)["seam_steps"] for k in range(self.slabs)]
        return np.sum(steps, axis=0)

    def _open(self, paths: list[Path]) -> list[PyramidWriter]:
        part = distributed.rank()
        if part:
            distributed.barrier()
        opened = [PyramidWriter(path, part=part, **self._layout) for path in paths]
        if not part:
            distributed.barrier()
        return opened

    def _translate(
        self, k: int, on_tile: Callable[[int], object]
    ) -> list[tuple[NDArray[np.uint8], dict[str, Any]]]:
        """Slab and facts of each volume."""
        first, count = self.writers[0].slices(k)
        made, spread = [], Spread()
        for job in self.jobs:
            slab, steps = job.slab(first, count, on_tile=on_tile)
            made.append((slab, {"seam_steps": list(steps)}))
            if len(self.jobs) > 1:
                spread.add(slab)
        if len(self.jobs) > 1:
            made += [(spread.mean(), {}), (spread.deviation(), {})]
        return made

    def _write(self, k: int, made: list[tuple[NDArray[np.uint8], dict[str, Any]]]) -> None:
        for writer, (slab, facts) in zip(self.writers, made, strict=True):
            with refusing(writer.path):
                writer.write_slab(k, slab, **facts)


class Spread:
    """Mean and standard deviation over volumes that are added one after the other."""

    def __init__(self) -> None:
        """Has seen nothing yet."""
        self._count = 0
        self._sum = self._squares = np.zeros(1, np.uint32)

    def add(self, slab: NDArray[np.uint8]) -> None:
        """Takes note of one volume, of any shape, always the same."""
        wide = slab.astype(np.uint32)
        self._sum = self._sum + wide
        self._squares = self._squares + wide * wide
        self._count += 1

    def mean(self) -> NDArray[np.uint8]:
        """Rounded to whole grey levels."""
        return np.rint(self._sum / self._count).astype(np.uint8)

    def deviation(self) -> NDArray[np.uint8]:
        """Population standard deviation, rounded to whole grey levels."""
        mean = self._sum / self._count
        variance = np.maximum(self._squares / self._count - mean * mean, 0)
        return np.rint(np.sqrt(variance)).astype(np.uint8)
