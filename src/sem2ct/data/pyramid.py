"""Volumes written as OME-Zarr: the full resolution and area-averaged coarser levels.

The unit of work is a slab of slices: it is written whole, with its share of the
coarser levels, and then noted in a journal together with its checksum.  Killed in
the middle, the next writer checks the noted slabs and asks for the others alone.  All
of it happens in `<name>.tmp`, which takes its name at the very end: a folder called
`<name>` is complete.

Several processes write one volume by taking different slabs, which share no file; each
has a journal of its own.  The first one opens the volume before the others join it, and
finishes it after them.

Source: OME-Zarr 0.4 and 0.5, https://ngff.openmicroscopy.org/specifications/.
"""

import contextlib
import glob
import hashlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numcodecs import Blosc, Zstd
from zarr.codecs import BloscCodec, ZstdCodec

from sem2ct.data.halving import means, pair_sums
from sem2ct.data.ome_attributes import ome_attributes

COARSEST_PX = 512
SHARD_PX = 1024
# Large planes have slabs of fewer slices, but of so many while they keep within the second
# figure: programs that look along z read whole chunks, and with 4 slices instead of 16 a third
# of the speed is lost to the handling of chunks.
SLAB_BYTES, LARGEST_SLAB_BYTES, LEAST_SLICES = 2**23, 2**28, 8
# Of the levels that reach across slabs; eight times as much is read to make it.
COARSE_SHARD_BYTES = 2**23
# Each that is packed holds its voxels again; more than there are cores only take memory.
FILES_AT_ONCE = max(2, min(10, os.cpu_count() or 2))

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Level:
    """One resolution of the pyramid."""

    path: str
    shape: Shape
    factor: Shape
    slab_slices: int


def slab_slices(shape: Shape, *, chunk_px: int, slab_bytes: int) -> int:
    """Slices in a slab: a power of two, at most a chunk.

    Args:
        shape: (z, y, x) of the volume, uint8.
        chunk_px: Side of a chunk.
        slab_bytes: Bytes of a slab, as `SLAB_BYTES`; more where `LEAST_SLICES` need more.
    """
    plane = shape[1] * shape[2]
    least = min(LEAST_SLICES, LARGEST_SLAB_BYTES // plane)
    most = max(1, min(chunk_px, max(slab_bytes // plane, least)))
    slab = 1
    while slab < shape[0] and slab * 2 <= most:
        slab *= 2
    return slab


def levels(shape: Shape, *, slab: int) -> list[Level]:
    """The resolutions: every axis longer than 1 is halved until none exceeds `COARSEST_PX`.

    Args:
        shape: (z, y, x) of the full resolution.
        slab: Slices per slab at full resolution, a power of two.
    """
    factor = (1, 1, 1)
    found = [Level("0", shape, factor, slab)]
    while max(shape) > COARSEST_PX:
        factor = _tuple(f * 2 if n > 1 else f for f, n in zip(factor, shape, strict=True))
        shape = _tuple(-(-n // 2) for n in shape)
        found.append(Level(str(len(found)), shape, factor, max(1, slab // factor[0])))
    return found


class PyramidWriter:
    """Writes a volume slab by slab; opened again with the same plan, it goes on.

    Args:
        path: Folder that the finished volume gets; beside it lie `<path>.tmp` while
            unfinished and `<path>.journal.jsonl`.
        shape: (z, y, x), uint8.
        voxel: Size of a voxel (z, y, x), in micrometres if `unit_um`, else relative.
        unit_um: Whether the size of a voxel is known.
        origin: Where the centre of the first voxel lies, in the unit of `voxel`.
        version: Version of OME-Zarr; 0.5 is sharded.
        chunk_px: Side of a chunk.
        facts: Plain values kept in the attributes under `sem2ct`; with the other arguments
            they are the plan that a journal must have to be continued.
        slab: Slices per slab, a power of two; auto: as many as `SLAB_BYTES` hold.
        part: Number of this process; 0 opens the volume, the others join it.
        labels: Whether it holds 0 and 1 only: then a voxel takes a bit before compression, and
            a coarser voxel is 1 where more than half of it is.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: Shape,
        voxel: tuple[float, float, float],
        unit_um: bool,
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        version: str = "0.5",
        chunk_px: int = 64,
        facts: dict[str, Any] | None = None,
        slab: int | Literal["auto"] = "auto",
        part: int = 0,
        labels: bool = False,
    ) -> None:
        """Continues a volume of the same plan, or starts anew."""
        self.path, self.shape, self.version, self.chunk_px = path, shape, version, chunk_px
        self._labels = labels
        fits = slab_slices(shape, chunk_px=chunk_px, slab_bytes=SLAB_BYTES)
        self.slab = fits if slab == "auto" else slab
        self.slabs = -(-shape[0] // self.slab)
        self.levels = levels(shape, slab=self.slab)
        self._unfinished = path.with_name(path.name + ".tmp")
        self._first_journal = path.with_name(path.name + ".journal.jsonl")
        mine = f"{path.name}.journal.{part}.jsonl"
        self._journal = path.with_name(mine) if part else self._first_journal
        self._attributes = ome_attributes(
            self.levels, path.name, voxel=voxel, unit_um=unit_um, origin=origin, version=version
        )
        self._attributes["sem2ct"] = facts or {}
        if labels:
            self._attributes.get("ome", self._attributes)["image-label"] = {"version": version}
        plan = {"shape": shape, "chunk_px": chunk_px, "slab": self.slab, **self._attributes}
        self._plan = json.loads(json.dumps(plan))
        noted = self._continue()
        if noted is None:
            assert part == 0, "joined a volume that nobody has opened"
            self._start()
        elif not self._journal.exists():
            self._note({"plan": self._plan})
        self._noted: dict[int, dict[str, Any]] = noted or {}
        # To look at every chunk whether it is empty would take as long as to pack it.
        with zarr.config.set({"array.write_empty_chunks": True}):
            group = zarr.open_group(self._unfinished, mode="r+")
            self._arrays: list[Any] = [group[level.path] for level in self.levels]

    def has(self, k: int) -> bool:
        """Whether slab `k` is noted as written and can be read back unchanged."""
        if k not in self._noted:
            return False
        z0 = k * self.slab
        try:
            written = np.asarray(self._arrays[0][z0 : z0 + self.slab])
            if _checksum(written, self.facts(k)) == self._noted[k].get("sha256"):
                return True
        except (OSError, RuntimeError, ValueError):
            pass  # A cut-off shard; it is written again.
        del self._noted[k]
        return False

    def slices(self, k: int) -> tuple[int, int]:
        """First slice of slab `k`, and how many it has."""
        first = k * self.slab
        return first, min(self.slab, self.shape[0] - first)

    def voxels(self, k: int) -> int:
        """Voxels of slab `k` at full resolution."""
        return self.slices(k)[1] * self.shape[1] * self.shape[2]

    def facts(self, k: int) -> dict[str, Any]:
        """The values noted with slab `k`."""
        return self._noted[k]["facts"]

    def write_slab(self, k: int, slab: np.ndarray, **facts: Any) -> None:
        """Writes slices k * slab ... and their share of the coarser levels, then notes it.

        Args:
            k: Number of the slab.
            slab: uint8 (z, y, x), as many slices as the slab has.
            **facts: Plain values noted with it.

        Raises:
            ValueError: If the slab has another shape.
        """
        z0, depth = self.slices(k)
        if slab.shape != (depth, *self.shape[1:]) or slab.dtype != np.uint8:
            raise ValueError(f"slab {k} is {slab.dtype} {slab.shape}, not uint8 of {depth} slices")
        with zarr.config.set({"async.concurrency": FILES_AT_ONCE}):
            self._write_levels(z0, slab)
        entry = {"slab": k, "sha256": _checksum(slab, facts), "facts": facts}
        self._note(entry)
        self._noted[k] = entry

    def _write_levels(self, z0: int, slab: np.ndarray) -> None:
        self._arrays[0][z0 : z0 + len(slab)] = slab
        sums = slab
        for finer, level, array in zip(
            self.levels, self.levels[1:], self._arrays[1:], strict=False
        ):
            if level.factor[0] > self.slab:
                break
            first = z0 // level.factor[0]
            sums = pair_sums(sums, axes=_halved(finer, level))
            array[first : first + len(sums)] = means(sums, count=math.prod(level.factor))

    def finish(self) -> Path:
        """Builds the levels that reach across slabs and gives the folder its name.

        Returns:
            The finished folder.

        Raises:
            ValueError: If a slab is missing.
        """
        self._noted |= self._read_journals()
        missing = [k for k in range(self.slabs) if k not in self._noted]
        if missing:
            raise ValueError(f"slabs {missing[:8]} of {self.path} were not written")
        for i, level in enumerate(self.levels[1:], start=1):
            if level.factor[0] <= self.slab:
                continue
            axes, finer, array = _halved(self.levels[i - 1], level), *self._arrays[i - 1 : i + 1]
            for place in self._shards(level):
                twice = tuple(slice(2 * at.start, 2 * at.stop) for at in place)
                sums = pair_sums(np.asarray(finer[twice]), axes=axes)
                array[place] = means(sums, count=2 ** len(axes))
        self._unfinished.rename(self.path)
        return self.path

    def _shards(self, level: Level) -> Iterator[tuple[slice, slice, slice]]:
        """The places in a level of what lies in one file each, or in a few."""
        side = self.chunk_px * max(1, SHARD_PX // self.chunk_px)
        steps = (self._depth(level), side, side)
        planes, rows, columns = (
            [slice(at, min(at + step, length)) for at in range(0, length, step)]
            for step, length in zip(steps, level.shape, strict=True)
        )
        yield from itertools.product(planes, rows, columns)

    def _depth(self, level: Level) -> int:
        """Slices in a chunk of a level."""
        if level.factor[0] <= self.slab:
            return level.slab_slices
        area = math.prod(min(SHARD_PX, side) for side in level.shape[1:])
        most = min(self.chunk_px, max(1, COARSE_SHARD_BYTES // area))
        return min(2 ** int(math.log2(most)), 2 ** math.ceil(math.log2(level.shape[0])))

    def _continue(self) -> dict[int, dict[str, Any]] | None:
        """The noted slabs of a volume of the same plan; None if there is none."""
        if not self._plans(self._first_journal):
            return None
        if self.path.exists() and not self._unfinished.exists():
            # Finished, but its run was stopped before it could say so.
            self.path.rename(self._unfinished)
        if not self._whole():
            return None
        if self._journal.exists() and self._journal.read_bytes()[-1:] != b"\n":
            with self._journal.open("a") as file:
                file.write("\n")
        return self._read_journals()

    def _whole(self) -> bool:
        """Whether every level is there and can be opened; if not, the volume is begun anew."""
        try:
            group: Any = zarr.open_group(self._unfinished, mode="r")
            shapes = [group[level.path].shape for level in self.levels]
        except Exception:  # whatever zarr raises over damaged metadata
            return False
        return shapes == [level.shape for level in self.levels]

    def _journals(self) -> list[Path]:
        """Those of all processes, also of earlier ones."""
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.journal*.jsonl"))

    def _plans(self, journal: Path) -> list[dict[str, Any]]:
        """The slabs that a journal of this plan notes, after the plan; nothing of another plan."""
        lines = journal.read_bytes().splitlines() if journal.exists() else []
        first, *entries = [_entry(line) for line in lines] or [{}]
        return [first, *filter(_of_slab, entries)] if first.get("plan") == self._plan else []

    def _read_journals(self) -> dict[int, dict[str, Any]]:
        entries = [entry for journal in self._journals() for entry in self._plans(journal)[1:]]
        return {entry["slab"]: entry for entry in entries}

    def _start(self) -> None:
        for journal in self._journals():
            journal.unlink(missing_ok=True)
        for folder in (self._unfinished, self.path):
            shutil.rmtree(folder, ignore_errors=True)
        zarr_format = 3 if self.version == "0.5" else 2
        group = zarr.create_group(
            self._unfinished, zarr_format=zarr_format, attributes=self._attributes
        )
        for level in self.levels:
            group.create_array(level.path, **self._layout(level))
        self._note({"plan": self._plan})

    def _layout(self, level: Level) -> dict[str, Any]:
        """Keyword arguments of zarr: no two slabs ever share a shard or a chunk."""
        depth = self._depth(level)
        chunk = (depth, *(min(self.chunk_px, n) for n in level.shape[1:]))
        layout: dict[str, Any] = {
            "shape": level.shape,
            "dtype": "uint8",
            "chunks": chunk,
            "fill_value": 0,
        }
        if self.version != "0.5":
            separator = {"name": "v2", "separator": "/"}
            packed = Blosc("zstd", 5, Blosc.BITSHUFFLE) if self._labels else Zstd(level=1)
            return layout | {"compressors": packed, "chunk_key_encoding": separator}
        shard = (
            depth,
            *(
                c * min(max(1, SHARD_PX // c), -(-n // c))
                for c, n in zip(chunk[1:], level.shape[1:], strict=True)
            ),
        )
        bits = BloscCodec(typesize=1, cname="zstd", clevel=5, shuffle="bitshuffle")
        return layout | {
            "shards": shard,
            "compressors": bits if self._labels else ZstdCodec(level=1),
            "dimension_names": ("z", "y", "x"),
        }

    def _note(self, entry: dict[str, Any]) -> None:
        with self._journal.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _halved(finer: Level, coarser: Level) -> list[int]:
    """The axes along which a level has half the voxels of the one before it."""
    return [axis for axis in range(3) if coarser.factor[axis] > finer.factor[axis]]


def open_levels(path: Path) -> list[Any]:
    """Opens the arrays of a finished volume, the full resolution first; reads no voxel."""
    group: Any = zarr.open_group(path, mode="r")
    return [group[name] for name in sorted(group.array_keys(), key=int)]


def read_level(path: Path, i: int, *, largest_px: int | None = None) -> np.ndarray:
    """Reads a slice of a finished volume.

    Args:
        path: Folder of the volume.
        i: Slice at full resolution.
        largest_px: Longest side wanted; the finest level that has it is read. None reads the
            full resolution.

    Returns:
        uint8 (y, x).
    """
    arrays = open_levels(path)
    depth = arrays[0].shape[0]
    fitting = [a for a in arrays if largest_px is None or max(a.shape[1:]) <= largest_px]
    chosen = (fitting or arrays[-1:])[0]
    return np.asarray(chosen[i * chosen.shape[0] // depth])


def _checksum(slab: np.ndarray, facts: dict[str, Any]) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(slab).data)
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


def _entry(line: bytes) -> dict[str, Any]:
    """A line of a journal; empty for one that was damaged, or cut off by the end of its writer."""
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(entry := json.loads(line), dict):
            return entry
    return {}


def _of_slab(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("slab"), int) and isinstance(entry.get("facts"), dict)


def _tuple(values: Any) -> Shape:
    z, y, x = values
    return z, y, x
