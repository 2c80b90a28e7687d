"""How large tiles may be: the largest core that fits, with the slabs, into the free memory.

Large tiles waste least on their halos.  What a tile takes grows with its area, halo
included, so a small one is translated and the bytes of all tensors that are alive at a time
are counted (on a GPU its allocator counts them).  The size is chosen once and kept in
`core.json`: another one rounds sums differently, and a run that goes on must not.
"""

import json
import logging
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sem2ct.cyclegan import apply
from sem2ct.cyclegan.demand import Demand
from sem2ct.cyclegan.volume import LARGEST_CORE_PX, VolumeTranslator
from sem2ct.runtime import distributed
from sem2ct.runtime.device import autocast, free_bytes
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import writing

LOGGER = logging.getLogger(__name__)
FILE = "core.json"
STEP_PX = 16
# Beyond, halos cost little and the caches are left: kept Mvoxel/s of the x16 network of size=paper
# on one core 2.25 with cores of 80 px, 2.96 with 128, 3.38 with 192, 3.61 with 256, 3.59 with 320.
WORTH_ON_CPU_PX = 256
# Of the free memory: others want some, and it may be less later.
SHARE = 0.5
# Seen: 1.2 to 1.7 times what is counted, for workspaces of the libraries and gaps in the heap.
UNCOUNTED = 2.0
_SAMPLE_PX = 32


@dataclass(frozen=True)
class Needs:
    """Bytes that a translation takes besides the program."""

    per_pixel: float
    """Of a tile, per CT pixel that is read."""
    halo_px: int
    """CT pixels read around a core."""
    slabs: int
    """Of all slabs that are held at a time."""

    def bytes_of(self, core_px: int) -> int:
        """With tiles whose cores have this side."""
        return self.slabs + round(self.per_pixel * (core_px + 2 * self.halo_px) ** 2)


def settled(
    job: VolumeTranslator,
    demand: Demand,
    folder: Path,
    *,
    chunk_px: int,
    devices: int,
    keep: bool,
) -> VolumeTranslator:
    """The job with the largest cores that fit, or with those that its run began with.

    Args:
        job: What is asked for.
        demand: What is made of each voxel.
        folder: Run folder; it need not exist.
        chunk_px: Side of a chunk.
        devices: Processes on this machine.
        keep: Whether the choice is written to `core.json`.

    Raises:
        Refusal: If not even the smallest core fits.
    """

    def choice() -> dict[str, Any]:
        kept = folder / FILE
        if kept.is_file():
            return json.loads(kept.read_text()) | {"why": "as when this run began"}
        found = _chosen(job, demand, chunk_px=chunk_px, devices=devices)
        if keep:
            with writing(kept) as unfinished:
                unfinished.write_text(json.dumps({"core_px": found["core_px"]}) + "\n")
        return found

    found = distributed.from_main(choice)
    if distributed.is_main():
        LOGGER.info("core_px=auto: cores of %(core_px)d CT px: %(why)s", found)
    return replace(job, core_px=int(found["core_px"]), core_because=found["why"])


def largest(needs: Needs, room: float, *, most_px: int) -> int:
    """The largest core, a multiple of `STEP_PX`, whose needs `room` bytes can hold.

    Args:
        needs: What tiles and slabs take.
        room: Bytes.
        most_px: Longest side of what is translated; never more than `LARGEST_CORE_PX`.

    Returns:
        Its side in CT pixels; 0 if none fits.
    """
    most_px = min(LARGEST_CORE_PX, -(-most_px // STEP_PX) * STEP_PX)
    fitting = [c for c in range(STEP_PX, most_px + 1, STEP_PX) if needs.bytes_of(c) <= room]
    return max(fitting, default=0)


def _chosen(
    job: VolumeTranslator, demand: Demand, *, chunk_px: int, devices: int
) -> dict[str, Any]:
    on_cpu = job.device.type == "cpu"
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", devices)) if on_cpu else 1
    free = free_bytes(job.device)
    room = SHARE * free / sharing
    slabs = demand.bytes_held(job, chunk_px=chunk_px) if on_cpu else 0
    needs = Needs(UNCOUNTED * bytes_per_pixel(job), job.halo_px, slabs)
    top, bottom, left, right = job.region
    most_px = max(bottom - top, right - left)
    core = largest(needs, room, most_px=min(most_px, WORTH_ON_CPU_PX) if on_cpu else most_px)
    limit = f"{SHARE:.0%} of the {free / 1e9:.2f} GB that are free on {job.device}"
    limit += f" for {sharing} processes" if sharing > 1 else ""
    if core == 0:
        raise Refusal(
            f"core_px=auto: the smallest tiles, cores of {STEP_PX} CT px with halos of"
            f" {job.halo_px}, need {needs.bytes_of(STEP_PX) / 1e9:.2f} GB with the slabs, more"
            f" than {limit}; lower devices= or realisations=, or set core_px={STEP_PX} to try"
            " it all the same"
        )
    why = f"{needs.bytes_of(core) / 1e9:.2f} GB with the slabs, within {limit}"
    return {"core_px": core, "why": why}


def bytes_per_pixel(job: VolumeTranslator) -> float:
    """Bytes alive at a time while a tile is translated, per CT pixel read; nothing of weights."""
    sample = torch.zeros(_SAMPLE_PX, _SAMPLE_PX)
    side = _SAMPLE_PX * job.generator.scale
    out = torch.empty(side, side, dtype=torch.uint8)
    # Not at a plane of noise: between two of them a tile needs both.
    how = {"z": 1, "core_px": _SAMPLE_PX, "halo_px": 0, "noise_key": 0, "device": job.device}
    with autocast(job.precision, job.device):
        peak = most_alive(
            lambda: apply.translate_slice(job.generator, sample, out=out, **how), job.device
        )
    return peak / sample.numel()


def most_alive(action: Callable[[], object], device: torch.device) -> int:
    """Bytes of the tensors made by an action, at the moment when most of them are alive.

    Args:
        action: What is done.
        device: Where its tensors are.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return torch.cuda.max_memory_allocated(device) - before
    alive = _Alive()
    with alive:
        action()
    return alive.most


class _Alive(TorchDispatchMode):
    """Counts bytes of storages from when an operation returns them until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._held: dict[int, weakref.ref[Any]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; else torch imports its compiler, which takes two seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        place, nbytes = storage._cdata, storage.nbytes()
        if place in self._held:
            return

        def freed(_: object) -> None:
            self._now -= nbytes
            del self._held[place]

        self._held[place] = weakref.ref(storage, freed)
        self._now += nbytes
        self.most = max(self.most, self._now)
