"""Speed of writing a volume as OME-Zarr with its pyramid, against the disk.

    .venv/bin/python scripts/bench/writing.py [GB, 0.5] [folder, outputs]

Slabs of grains with noise, as a translation gives them, go through the writer of translate:
packed with zstd, coarser levels, checksum, journal.  Beside it the same bytes are written to a
plain file and flushed: that is what the disk can do.  Then the volume is read back and compared.
Prints a table and appends a line to outputs/bench.jsonl.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import ledger
import numpy as np
import zarr
from scipy import ndimage

from sem2ct.data.pyramid import PyramidWriter

SIDE_PX, CHUNK_PX = 2048, 256


def texture(depth: int) -> np.ndarray:
    """Grains of 40 px and noise, uint8 (depth, SIDE_PX, SIDE_PX)."""
    draw = np.random.default_rng(0)
    grains = ndimage.gaussian_filter(draw.normal(size=(SIDE_PX, SIDE_PX)), 20) > 0
    volume = np.empty((depth, *grains.shape), np.uint8)
    for k in range(depth):
        noise = draw.standard_normal(grains.shape, np.float32)
        volume[k] = np.clip(90 + 80 * np.roll(grains, k, axis=1) + 12 * noise, 0, 255)
    return volume


def write(folder: Path, slab: np.ndarray, slices: int) -> tuple[float, float, Path]:
    """Seconds of a volume that repeats a slab, by the clock and of the CPU, and its folder."""
    path = folder / "volume.ome.zarr"
    begun, worked = time.perf_counter(), time.process_time()
    shape = (slices, SIDE_PX, SIDE_PX)
    about = {"voxel": (0.5, 0.5, 0.5), "unit_um": True, "chunk_px": CHUNK_PX}
    writer = PyramidWriter(path, shape=shape, **about)
    for k in range(writer.slabs):
        first, count = writer.slices(k)
        writer.write_slab(k, slab[first % len(slab) :][:count])
    writer.finish()
    return time.perf_counter() - begun, time.process_time() - worked, path


def write_plainly(folder: Path, slab: np.ndarray, slices: int) -> float:
    """Seconds of the same bytes in one file, flushed."""
    begun = time.perf_counter()
    with (folder / "plain.bin").open("wb") as out:
        for first in range(0, slices, len(slab)):
            out.write(slab[: slices - first].data)
        out.flush()
        os.fsync(out.fileno())
    return time.perf_counter() - begun


def read_back(path: Path, slab: np.ndarray) -> float:
    """Seconds to read the full resolution; every voxel is compared."""
    array = zarr.open_group(path, mode="r")["0"]
    assert isinstance(array, zarr.Array)
    seconds = 0.0
    for first in range(0, array.shape[0], len(slab)):
        begun = time.perf_counter()
        part = np.asarray(array[first : first + len(slab)])
        seconds += time.perf_counter() - begun
        assert np.array_equal(part, slab[: len(part)])
    return seconds


def main() -> None:
    """Measures in turn, small volumes three times, and prints the best."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "outputs") / "bench_writing"
    slices = max(1, round(gigabytes * 1e9 / SIDE_PX**2))
    megabytes = slices * SIDE_PX**2 / 1e6
    slab = texture(64)
    best: dict[str, float] = {}
    share = 1.0
    for _ in range(3 if gigabytes < 2 else 1):
        folder.mkdir(parents=True)
        try:
            took, worked, path = write(folder, slab, slices)
            seconds = {"written": took, "per core": worked}
            seconds["plain file"] = write_plainly(folder, slab, slices)
            seconds["read back"] = read_back(path, slab)
            sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
            share = sum(sizes) / megabytes / 1e6
        finally:
            shutil.rmtree(folder)
        for what, each in seconds.items():
            best[what] = max(best.get(what, 0.0), megabytes / each)
    for what, rate in best.items():
        print(f"{what:<12}{rate:10.0f} MB/s")
    print(f"{'size':<12}{share:10.2f} of the voxels, with the pyramid")
    print(f"{'ratio':<12}{best['written'] / best['plain file']:10.2f} of the disk (target 0.5)")
    figures = {what: round(rate) for what, rate in best.items()}
    ledger.append("writing", {"mb_per_second": figures, "size": round(share, 3)})


if __name__ == "__main__":
    main()
