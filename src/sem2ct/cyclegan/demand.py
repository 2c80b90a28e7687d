"""What a translation takes: voxels, bytes, shards, time; and how much of it a disk can hold.

How well greys compress is not known before, so what is refused, or left out, is judged
from the bytes before compression; what they will probably be is told beside it.
"""

import json
import logging
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numcodecs import Zstd
from numpy.typing import NDArray

from sem2ct.cyclegan import apply, directions
from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data.pyramid import SHARD_PX
from sem2ct.data.refinement import RefinedSlices
from sem2ct.runtime import distributed
from sem2ct.runtime.run_folder import free_bytes, free_space, writing

LOGGER = logging.getLogger(__name__)
# Coarser levels add a third in 2-D, a seventh in 3-D.
PYRAMID_SHARE = 4 / 3
# A bit, and what the codec notes about it.
LABEL_BYTES = 1 / 7.5
PARTIAL = "partial.json"


@dataclass(frozen=True)
class Demand:
    """What is made of each voxel."""

    realisations: int
    """Translations of it."""
    labels: bool | str
    """Whether pores are written; "only": instead of greys."""
    statistics_only: bool
    """Whether no voxel is written at all."""

    @property
    def bytes_per_voxel(self) -> float:
        """Bytes on disk at most, coarser levels included."""
        if self.statistics_only:
            return 0.0
        # Several realisations come with their mean and deviation.
        greys = self.realisations + 2 * (self.realisations > 1)
        labels = self.realisations * LABEL_BYTES if self.labels else 0.0
        return (labels + (0 if self.labels == "only" else greys)) * PYRAMID_SHARE

    def bytes_of(self, shape: tuple[int, int, int]) -> int:
        """Bytes on disk at most, of volumes of a shape (z, y, x)."""
        return math.ceil(math.prod(shape) * self.bytes_per_voxel)

    def bytes_held(self, job: VolumeTranslator, *, chunk_px: int) -> int:
        """Bytes of all slabs in memory: one is made while the one before it is written."""
        voxels = job.slab_slices(chunk_px) * math.prod(job.shape[1:])
        volumes = self.realisations * (1 + bool(self.labels)) + 2 * (self.realisations > 1)
        # Sums and sums of squares of 32 bits, and a slab on its way into them.
        spread = 16 * (self.realisations > 1)
        # What is being packed takes as much again as it has, and a little more.
        packed = 0 if self.statistics_only else 3
        return voxels * (2 * volumes + len(directions.PLANES[job.axes]) - 1 + spread + packed)

    def slices_in(self, job: VolumeTranslator, room: int) -> int:
        """Slices of the scan whose translation a disk with `room` bytes can hold."""
        per_slice = self.bytes_of(job.shape) / (job.slices.last - job.slices.first)
        return int(room // per_slice) if per_slice else job.slices.last - job.slices.first


def shortened(job: VolumeTranslator, demand: Demand, folder: Path) -> VolumeTranslator:
    """The job, or as many of its first slices as the disk can hold.

    It is decided once and kept in `partial.json`, so that a stopped run goes on with the same.

    Args:
        job: What is asked for.
        demand: What is made of each voxel.
        folder: Run folder.

    Raises:
        Refusal: If not even one slice has room.
    """
    last = int(distributed.from_main(lambda: {"last": _last(job, demand, folder)})["last"])
    if last == job.slices.last:
        return job
    if distributed.is_main():
        LOGGER.warning(
            "the disk cannot hold all: z_range=[%d,%d] of [%d,%d] is translated",
            job.slices.first,
            last,
            job.slices.first,
            job.slices.last,
        )
    return replace(job, slices=_until(job.slices, last))


def _last(job: VolumeTranslator, demand: Demand, folder: Path) -> int:
    kept = folder / PARTIAL
    if kept.is_file():
        return int(json.loads(kept.read_text())["last"])
    fits = demand.slices_in(job, free_bytes(folder))
    if fits == 0:
        thick = job.shape[0] // (job.slices.last - job.slices.first)
        needed = demand.bytes_of((thick, *job.shape[1:]))
        instead = "lower y_range or x_range"
        free_space(folder, needed, "one slice of translate", instead=instead)
    last = min(job.slices.last, job.slices.first + max(fits, 1))
    with writing(kept) as unfinished:
        unfinished.write_text(json.dumps({"last": last}) + "\n")
    return last


def _until(slices: RefinedSlices, last: int) -> RefinedSlices:
    return RefinedSlices(
        slices.scan,
        first=slices.first,
        last=last,
        scale=slices.scale,
        refine=slices.refine,
        window=slices.window,
    )


def rows(
    job: VolumeTranslator, demand: Demand, folder: Path, *, chunk_px: int, devices: int
) -> dict[str, str]:
    """What a run would take, as rows of a table; a tile is translated to find out.

    Args:
        job: What is asked for.
        demand: What is made of each voxel.
        folder: Run folder; it need not exist.
        chunk_px: Side of a chunk.
        devices: Processes that share the work.
    """
    seconds, sample = sampled(job, chunk_px=chunk_px)
    minutes = seconds * demand.realisations / devices / 60
    needed, free = demand.bytes_of(job.shape), free_bytes(folder)
    share = min(1.0, len(Zstd(level=1).encode(sample)) / sample.size)
    slab = job.slab_slices(chunk_px)
    side = chunk_px * max(1, SHARD_PX // chunk_px)
    slabs = -(-job.shape[0] // slab)
    shards = slabs * math.prod(-(-length // side) for length in job.shape[1:])
    return {
        "volume (z, y, x)": " x ".join(map(str, job.shape)),
        "voxels": f"{math.prod(job.shape) / 1e6:.1f} million",
        "pixel": "unstated" if job.pixel_um is None else f"{job.pixel_um:g} um",
        "tiles": f"{job.tiles}, cores of {job.core_px} and halos of {job.halo_px} CT px",
        "core": f"{job.core_px} CT px: {job.core_because}",
        "shards": f"{shards} in {slabs} slabs of {slab} slices; a crash costs one slab",
        "size": f"{needed / 1e6:.1f} MB at most, coarser levels included; a translated tile"
        f" compresses to {share:.2f} of its bytes",
        "disk": _fits(job, demand, free),
        "time": f"{minutes:.1f} min on {devices} x {job.device}, judged from one tile",
    }


def _fits(job: VolumeTranslator, demand: Demand, free: int) -> str:
    slices = demand.slices_in(job, free)
    first, last = job.slices.first, job.slices.last
    if slices >= last - first:
        return f"{free / 1e9:.1f} GB free: enough"
    part = f"z_range=[{first},{first + slices}] would, or allow_partial=true"
    return f"{free / 1e9:.1f} GB free: does not fit; " + (part if slices else "no slice does")


def sampled(job: VolumeTranslator, *, chunk_px: int) -> tuple[float, NDArray[np.uint8]]:
    """Seconds that one realisation takes, and a tile from the middle that says so.

    Args:
        job: What is asked for.
        chunk_px: Side of a chunk.

    Returns:
        Seconds in one process, without the time for writing; greys (y, x).
    """
    slab = job.slab_slices(chunk_px)
    first = (job.shape[0] - 1) // 2 // slab * slab
    count = min(slab, job.shape[0] - first)
    total, tile = 0.0, np.zeros((1, 1), np.uint8)
    for plane in directions.PLANES[job.axes]:
        if plane == "xy":
            seconds, voxels, tile = _timed(job, job.shape[0] // 2)
        else:
            through, kept = directions.turned(job, plane, first, count)
            seconds, voxels, tile = _timed(through, len(through.slices) // 2)
            voxels *= (kept.stop - kept.start) / through.shape[1]
        total += seconds * math.prod(job.shape) / voxels
    return total, tile


def _timed(job: VolumeTranslator, i: int) -> tuple[float, float, NDArray[np.uint8]]:
    """Seconds, voxels and greys of the tile in the middle; of the slice, if it sees all."""
    cores = apply.cores(job.region, core_px=job.core_px)
    region = job.region if job.norm_over == "slice" else cores[len(cores) // 2]
    started = time.perf_counter()
    tile = job.image(i, region=region)
    return time.perf_counter() - started, tile.size, tile
