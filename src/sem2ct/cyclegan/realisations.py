"""Volumes written slab by slab, by several processes, in one realisation or in several.

What the CT leaves open is decided by noise, so a scan has as many translations as there
are noises.  With more than one their mean and standard deviation are written too: the
deviation is large where the CT does not say what is there.

A slab is translated while the one before it is compressed and written.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.cyclegan.directions import PLANES
from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data.pyramid import PyramidWriter, open_levels
from sem2ct.runtime import distributed, log
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import free_space, refusing
from sem2ct.runtime.seeding import mix

MEAN, DEVIATION = "mean.ome.zarr", "deviation.ome.zarr"
PORES = "pores.ome.zarr"


def name_of(volume: str, realisation: int) -> str:
    """Name of a realisation's folder: the first is the translation itself.

    Args:
        volume: Name of the translation's folder.
        realisation: From 0.
    """
    return volume if realisation == 0 else f"realisation_{realisation}.ome.zarr"


def pores_of(realisation: int) -> str:
    """Name of the folder of a realisation's pores.

    Args:
        realisation: From 0.
    """
    return PORES if realisation == 0 else f"pores_{realisation}.ome.zarr"


def each(job: VolumeTranslator, realisations: int, *, seed: int) -> list[VolumeTranslator]:
    """The jobs of several realisations; the noise of the first is that of `job`.

    Args:
        job: What is translated.
        realisations: How many.
        seed: Start of the noise of the further ones.

    Raises:
        Refusal: If several are asked of a network without noise.
    """
    if realisations > 1 and job.generator.config["network"] == "paper":
        raise Refusal(
            f"realisations={realisations}, but network=paper has no noise: all of them would"
            " be the same; set realisations=1, or train network=robust"
        )
    keys = [job.noise_key, *(mix(seed, "translate", k) for k in range(1, realisations))]
    return [replace(job, noise_key=key) for key in keys]


class Volumes:
    """The volumes that one translate run writes, all with the same slabs.

    Args:
        jobs: What is translated, in each realisation.
        folder: Where the volumes lie.
        name: Folder of the first realisation.
        ome_zarr_version: 0.4 or 0.5.
        chunk_px: Side of a chunk.
        labels: Whether the pores of each realisation are written too; "only": nothing else is.
        level: Grey level under which a voxel is pore, where labels are asked for.
    """

    def __init__(
        self,
        jobs: list[VolumeTranslator],
        folder: Path,
        *,
        name: str,
        ome_zarr_version: str,
        chunk_px: int,
        labels: bool | str = False,
        level: int = 0,
    ) -> None:
        """Opens the volumes, or joins those that rank 0 has opened."""
        job, realisations, self.jobs = jobs[0], len(jobs), jobs
        self._folder = folder
        self._greys, self._pores, self._level = labels != "only", bool(labels), level
        greys = [name_of(name, k) for k in range(realisations)]
        greys += [MEAN, DEVIATION] if realisations > 1 else []
        pores = [pores_of(k) for k in range(realisations)]
        self._layout = {"version": ome_zarr_version, "chunk_px": chunk_px, "facts": job.facts}
        self._layout |= {"shape": job.shape, **job.placement, "slab": job.slab_slices(chunk_px)}
        self.writers = self._open(
            [folder / one for one in greys * self._greys],
            [folder / one for one in pores * self._pores],
        )

    @property
    def slabs(self) -> int:
        """Number of slabs, the same in all volumes."""
        return self.writers[0].slabs

    @property
    def mine(self) -> list[int]:
        """The slabs of this process: every N-th of N processes."""
        return list(distributed.mine(self.slabs))

    def missing(self) -> list[int]:
        """Those of them that are not written yet."""
        return [k for k in self.mine if not all(writer.has(k) for writer in self.writers)]

    def voxels(self, slabs: list[int]) -> int:
        """Voxels to be translated for these slabs, in all realisations and directions."""
        passes = len(self.jobs) * len(PLANES[self.jobs[0].axes])
        return sum(map(self.writers[0].voxels, slabs)) * passes

    def make(self, needed: int) -> list[Path]:
        """Writes what is missing, shows how far it is, and completes the volumes.

        Args:
            needed: Bytes that all of it takes on disk.

        Returns:
            As from `finish`.

        Raises:
            Refusal: If the disk cannot hold what is missing.
        """
        missing = self.missing()
        short = needed * len(missing) // len(self.mine or [0])
        instead = "lower z_range (dry_run=true says how far), set allow_partial=true"
        free_space(self._folder, short, "translate", instead=instead)
        left, mine = self.voxels(missing), self.voxels(self.mine)
        with log.progress(mine, done=mine - left, unit="voxels", what="translate") as bar:
            bar.unit_scale = True
            self.write(missing, on_tile=bar.update)
        return self.finish()

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

    def reader(self, k: int) -> Callable[[int, int], NDArray[np.uint8]]:
        """Reads slabs of the finished realisation `k`, given first slice and number.

        Where pores alone were written they come as black and the rest as white.
        """
        array = open_levels(self.writers[k].path)[0]

        def read(first: int, count: int) -> NDArray[np.uint8]:
            slab = np.asarray(array[first : first + count])
            return slab if self._greys else np.where(slab, np.uint8(0), np.uint8(255))

        return read

    def seam_steps(self) -> NDArray[np.float64]:
        """Sum over the slabs of the first realisation's seam steps; after `finish`."""
        steps = [self.writers[0].facts(k)["seam_steps"] for k in range(self.slabs)]
        return np.sum(steps, axis=0)

    def _open(self, greys: list[Path], pores: list[Path]) -> list[PyramidWriter]:
        part = distributed.rank()
        if part:
            distributed.barrier()
        opened = [PyramidWriter(path, part=part, **self._layout) for path in greys]
        facts = self._layout["facts"] | {"pore": 1, "threshold": self._level}
        layout = self._layout | {"facts": facts, "labels": True}
        opened += [PyramidWriter(path, part=part, **layout) for path in pores]
        if not part:
            distributed.barrier()
        return opened

    def _translate(
        self, k: int, on_tile: Callable[[int], object]
    ) -> list[tuple[NDArray[np.uint8], dict[str, Any]]]:
        """Slab and facts of each volume."""
        first, count = self.writers[0].slices(k)
        greys, pores, spread = [], [], Spread()
        for job in self.jobs:
            slab, steps = job.slab(first, count, on_tile=on_tile)
            facts = {"seam_steps": list(steps)}
            if self._greys:
                greys.append((slab, facts))
            if self._pores:
                pores.append((job.pores(first, slab, threshold=self._level), facts))
            if len(self.jobs) > 1 and self._greys:
                spread.add(slab)
        if len(self.jobs) > 1 and self._greys:
            greys += [(spread.mean(), {}), (spread.deviation(), {})]
        return greys + pores

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
