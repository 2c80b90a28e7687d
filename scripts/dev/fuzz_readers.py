"""Feeds damaged files to every reader: each must be read or refused, in bounded time and memory.

    .venv/bin/python scripts/dev/fuzz_readers.py [files per reader, 2000] [reader ...]

A whole file of each kind is written by the library of that kind, then mutated: bits flipped,
bytes overwritten, 4-byte numbers replaced by extreme ones, pieces removed, doubled or moved, the
end cut off.  Each mutant is opened and read (a window of the first and the last slice) in a child
process with limits of memory and time.  Anything but pixels or a `Refusal` is a fault: a
traceback, a crash, a hang, a process out of memory.  Mutants that caused a fault stay in
outputs/fuzz/.  Prints one line per reader; ends with 1 if there was a fault.
"""

import contextlib
import importlib.util
import multiprocessing
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sem2ct.data import scans
from sem2ct.runtime.refusal import Refusal

ROOT = Path(__file__).resolve().parents[2]
MEMORY_BYTES, SECONDS = 3 * 2**30, 20
BLOW_UP_BYTES = 2**30
EXTREME = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**16, 2**24, 10**6]
HEADER = f"{'':<24}{'tried':>7}{'read':>7}{'refused':>9}{'faults':>8}{'seconds':>9}"
RAW = {"raw_shape": (5, 20, 26), "raw_dtype": "uint16"}


def makers() -> dict[str, Callable[[Path], Path]]:
    """Writers of small whole files, by the name of the reader."""
    path = ROOT / "tests/data/readers/written.py"
    specification = importlib.util.spec_from_file_location("written", path)
    assert specification is not None
    assert specification.loader is not None
    written = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(written)
    names = ["tiff_tiles", "tiff_strips", "png", "raw", "hdf5", "nexus", "netcdf3", "nrrd"]
    names += ["nrrd_gzip", "nrrd_beside", "nifti", "nifti_gzip", "mrc", "dicom", "ome_zarr"]
    names += ["zeiss", "zipped", "tarred"]
    made = {name: getattr(written, name) for name in names}
    return made | {"tarred_plain": lambda folder: written.tarred(folder, name="ct.tar")}


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """Damages a file in one place or a few, most often near its start, where headers are."""
    data = bytearray(content)
    for _ in range(int(draw.choice([1, 1, 1, 2, 3, 8]))):
        if not data:
            break
        header = min(len(data), 1024) if draw.random() < 0.6 else len(data)
        place = int(draw.integers(header))
        match int(draw.integers(7)):
            case 0:
                data[place] ^= 1 << int(draw.integers(8))
            case 1:
                data[place] = int(draw.integers(256))
            case 2:
                order = "<" if draw.random() < 0.5 else ">"
                extreme = EXTREME[int(draw.integers(len(EXTREME)))]
                data[place : place + 4] = struct.pack(f"{order}I", extreme)
            case 3:
                del data[place : place + int(draw.integers(1, 64))]
            case 4:
                data[place:place] = data[place : place + int(draw.integers(1, 64))]
            case 5:
                del data[place + int(draw.integers(len(data))) :]
            case _:
                length = int(draw.integers(1, 32))
                data[place : place + length] = draw.bytes(length)
    return bytes(data)


def look(path: Path) -> None:
    """Opens a scan and reads a little of it."""
    stated: dict[str, Any] = RAW if path.suffix == ".raw" else {}
    scan = scans.open(path, **stated)
    for z in (0, scan.shape[0] - 1):
        scan.window(z, slice(0, 64), slice(0, 64))


def serve(line: Connection, look: Callable[[Path], object]) -> None:
    """Looks at one path after another; tells what came of each, and the growth of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    while True:
        path = line.recv()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            look(path)
            said = "read"
        except Refusal:
            said = "refused"
        except BaseException:
            said = traceback.format_exc()
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        line.send((said, grown))


class Child:
    """A process that looks at files; started again after a crash or a hang."""

    def __init__(self, look: Callable[[Path], object] = look, *, seconds: float = SECONDS) -> None:
        """Starts the process.

        Args:
            look: Opens a file and reads a little of it, or refuses it.
            seconds: What takes longer is a hang.
        """
        self._look, self._seconds = look, seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._look), daemon=True)
        self._process.start()
        theirs.close()

    def look(self, path: Path) -> str:
        """Says what came of a file: read, refused, or the fault."""
        self._line.send(path)
        said, grown = "", 0
        with contextlib.suppress(EOFError):
            if self._line.poll(self._seconds):
                said, grown = self._line.recv()
            else:
                said = "hang"
        if not said or said == "hang":
            self._process.kill()
            self._process.join()
            self._start()
            return said or "crash"
        return "memory" if grown > BLOW_UP_BYTES else said

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()


def damaged(whole: Path, folder: Path, draw: np.random.Generator) -> Path:
    """A copy of a file, or of a folder of files, with damage in one of them."""
    copy = folder / whole.name
    if whole.is_file():
        for beside in whole.parent.iterdir():
            shutil.copy(beside, folder / beside.name)
    else:
        shutil.copytree(whole, copy)
    files = [copy] if copy.is_file() else sorted(f for f in copy.rglob("*") if f.is_file())
    small = [file for file in files if file.suffix in ("", ".json") or file.name.startswith(".")]
    chosen = small if small and draw.random() < 0.7 else files
    victim = chosen[int(draw.integers(len(chosen)))]
    victim.write_bytes(mutated(victim.read_bytes(), draw))
    return copy


def fuzz(name: str, make: Callable[[Path], Path], count: int, child: Child) -> Counter[str]:
    """Feeds one reader; keeps what caused a fault."""
    kept = ROOT / "outputs/fuzz" / name
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        (original := Path(place) / "whole").mkdir()
        whole = make(original)
        assert child.look(whole) == "read", name
        for k in range(count):
            (folder := Path(place) / "mutant").mkdir()
            path = damaged(whole, folder, np.random.default_rng([k, len(name), *name.encode()]))
            said = child.look(path)
            if said not in ("read", "refused"):
                shutil.copytree(folder, kept / str(k), dirs_exist_ok=True)
                (kept / f"{k}.txt").write_text(said)
                said = said.strip().splitlines()[-1][:100]
            counted[said] += 1
            shutil.rmtree(folder)
    return counted


def tell(name: str, counted: Counter[str], seconds: float) -> int:
    """Prints one line of the table, and the faults below it; returns how many there were."""
    count, read, refused = sum(counted.values()), counted.pop("read", 0), counted.pop("refused", 0)
    faults = sum(counted.values())
    print(f"{name:<24}{count:>7}{read:>7}{refused:>9}{faults:>8}{seconds:>9.0f}", flush=True)
    for what, often in counted.most_common():
        print(f"    {often} x {what}", flush=True)
    return faults


def main() -> None:
    """Feeds all readers, or those named."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    known = makers()
    chosen = sys.argv[2:] or list(known)
    child, faults = Child(), 0
    print(HEADER)
    for name in chosen:
        begun = time.monotonic()
        counted = fuzz(name, known[name], count, child)
        faults += tell(name, counted, time.monotonic() - begun)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
