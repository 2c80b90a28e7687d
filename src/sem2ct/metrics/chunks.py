"""Numbers of many tiles, kept in chunks: memory stays flat and a stop loses little.

Each finished chunk may be written to a folder; a repeat that asks the same of the same
tiles reads it instead of measuring.  What was asked is part of the folder's name, so
nothing is ever taken for an answer to another question.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.run_folder import writing

CHUNK_TILES = 250
FORMAT = 1
CURVES = ("s2", "r")
Arrays = dict[str, NDArray]


@dataclass(frozen=True)
class Journal:
    """Where finished chunks are kept."""

    folder: Path
    identity: str
    """Names the content of the set: digests of its files and how tiles were cut from them."""


class Chunks:
    """Finished chunks of one question, in memory or in a folder."""

    def __init__(self, count: int, kept_in: Path | None) -> None:
        """Looks for chunks of an earlier run.

        Args:
            count: Tiles in the set.
            kept_in: Folder of this question, from `folder_for`; None keeps all in memory.
        """
        self._count = count
        self._folder = kept_in
        self._arrays: list[Arrays] = []
        if kept_in is not None:
            kept_in.mkdir(parents=True, exist_ok=True)

    def spans(self) -> list[range]:
        """The tiles of each chunk."""
        ends = range(0, self._count, CHUNK_TILES)
        return [range(first, min(first + CHUNK_TILES, self._count)) for first in ends]

    def earlier(self, span: range) -> Arrays | None:
        """The numbers of a chunk that an earlier run has kept, without its curves."""
        found = None if self._folder is None else self._read(span)
        return found and _without_curves(found)

    def keep(self, span: range, arrays: Arrays) -> Arrays:
        """Writes a new chunk, if there is a folder.

        Args:
            span: Its tiles.
            arrays: Its numbers; those named in `CURVES` have a row per tile and are large.

        Returns:
            What must stay in memory.
        """
        if self._folder is None:
            return arrays
        with writing(self._file(span)) as file, file.open("wb") as out:
            np.savez(out, **arrays)  # pyright: ignore[reportArgumentType]
        return _without_curves(arrays)

    def add(self, arrays: Arrays) -> None:
        """Adds the next chunk to the answer."""
        self._arrays.append(arrays)

    def joined(self, name: str) -> NDArray:
        """One array of all chunks, end to end."""
        return np.concatenate([arrays[name] for arrays in self._arrays])

    def summed(self, name: str) -> NDArray:
        """One array of all chunks, added up in their order."""
        return np.sum([arrays[name] for arrays in self._arrays], axis=0)

    def names(self, prefix: str) -> list[str]:
        """Names of the arrays that begin so, without the beginning."""
        found = self._arrays[0]
        return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]

    def curves(self, name: str) -> NDArray[np.float32]:
        """Curves of all tiles: an array, or with a folder a read-only map of a file."""
        if self._folder is None:
            return self.joined(name)
        from sem2ct.runtime import distributed  # late, as in _fill_share

        file = self._folder / f"{name}.npy"
        distributed.once(lambda: self._end_to_end(name, file))
        return np.load(file, mmap_mode="r")

    def _end_to_end(self, name: str, file: Path) -> None:
        if not file.is_file():
            with writing(file) as unfinished, unfinished.open("wb") as out:
                self._write_curves(name, out)

    def _write_curves(self, name: str, out: BinaryIO) -> None:
        for span in self.spans():
            with np.load(self._file(span)) as kept:
                curves = np.ascontiguousarray(kept[name])
            if span.start == 0:
                layout = np.lib.format.header_data_from_array_1_0(curves)
                layout["shape"] = (self._count, *curves.shape[1:])
                np.lib.format.write_array_header_1_0(out, layout)
            out.write(curves.data)

    def _file(self, span: range) -> Path:
        assert self._folder is not None
        return self._folder / f"{span.start:09d}.npz"

    def _read(self, span: range) -> Arrays | None:
        try:
            with self._file(span).open("rb") as file, np.load(file) as kept:
                return {name: kept[name] for name in kept.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None


def _without_curves(arrays: Arrays) -> Arrays:
    return {name: arrays[name] for name in arrays if name not in CURVES}


def folder_for(journal: Journal, **question: Any) -> Path:
    """Folder of the chunks that answer one question about one set.

    Args:
        journal: Where chunks are kept, and the identity of the set.
        question: Everything else that the numbers depend on, as plain values.

    Returns:
        A folder named after a digest of all that; it need not exist.
    """
    asked = {"format": FORMAT, "chunk": CHUNK_TILES, "identity": journal.identity, **question}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return journal.folder / digest[:16]


def fill(
    chunks: Chunks,
    measure: Callable[[Iterable[int]], Iterator[Any]],
    gather: Callable[[Sequence[Any], range], Arrays],
    on_tile: Callable[[], object],
) -> None:
    """Measures what no earlier run has, chunk after chunk; each rank its share of them.

    Args:
        chunks: Filled on return.
        measure: Turns indices of tiles into their numbers, one by one and in order.
        gather: Turns the numbers of a chunk's tiles, and their indices, into arrays.
        on_tile: Called once per tile, measured or read.
    """
    _fill_share(chunks, measure, gather)
    earlier = {span.start: chunks.earlier(span) for span in chunks.spans()}
    missing = (index for span in chunks.spans() if earlier[span.start] is None for index in span)
    rows = measure(missing)
    for span in chunks.spans():
        kept, found = earlier[span.start], []
        for _ in span:
            if kept is None:
                found.append(next(rows))
            on_tile()
        chunks.add(chunks.keep(span, gather(found, span)) if kept is None else kept)


def _fill_share(
    chunks: Chunks,
    measure: Callable[[Iterable[int]], Iterator[Any]],
    gather: Callable[[Sequence[Any], range], Arrays],
) -> None:
    """Measures this rank's chunks into the folder, and waits until all ranks have done so.

    Does nothing in a run of one process.
    """
    from sem2ct.runtime import distributed  # torch: the processes that measure do without

    if distributed.world_size() == 1:
        return
    spans = chunks.spans()
    for k in distributed.mine(len(spans)):
        if chunks.earlier(spans[k]) is None:
            chunks.keep(spans[k], gather(list(measure(spans[k])), spans[k]))
    distributed.barrier()
