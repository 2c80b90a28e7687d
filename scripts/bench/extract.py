"""Speed of cutting SEM tiles, against plainly copying the same pixels.

    .venv/bin/python scripts/bench/extract.py [side of the image in px, 4096]

Tiles of 1024 px at stride 500 from one uint16 TIFF.  Extraction reads the file, chooses the
grey window, looks for flat regions and data bars, converts to 8 bit, writes the whole frame
and the tiles, and checksums both.  The copy reads the same file, drops the lower byte, and
writes the same frame and tiles to as many files, flushed as well; the other figure is for the
tiles alone, from memory.
Prints a table and appends a line to outputs/bench.jsonl.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import ledger
import numpy as np
import tifffile

from sem2ct.data import sem_frames, sem_tiles, tiling

TILE_PX, STRIDE_PX, SHARD_TILES, ROUNDS = 1024, 500, 32, 7


def write(file: Path, parts: Iterable[np.ndarray]) -> None:
    """Writes pixels to a file and waits until the disk has them."""
    with file.open("wb") as out:
        for part in parts:
            out.write(np.ascontiguousarray(part).data)
        out.flush()
        os.fsync(out.fileno())


def write_tiles(image: np.ndarray, folder: Path) -> None:
    """Writes the pixels of all tiles without looking at them."""
    corners = tiling.grid((image.shape[0], image.shape[1]), tile_px=TILE_PX, stride_px=STRIDE_PX)
    for first in range(0, len(corners), SHARD_TILES):
        some = corners[first : first + SHARD_TILES]
        tiles = (image[y : y + TILE_PX, x : x + TILE_PX] for y, x in some)
        write(folder / f"{first}.bin", tiles)


def copy(scan: Path, folder: Path) -> None:
    """Reads the file, and writes what extraction writes."""
    image = (tifffile.imread(scan) >> 8).astype(np.uint8)
    write(folder / "frame.bin", [image])
    write_tiles(image, folder)


def extract(scan: Path, folder: Path) -> None:
    """From the file to a finished store, with the frame beside it."""
    images = sem_tiles.open_images(str(scan), crop_bottom=0, reduce=1, tile_px=TILE_PX)
    cut = {"tile_px": TILE_PX, "stride_px": STRIDE_PX, "shard_patches": SHARD_TILES}
    cut |= {"pixel_um": None, "sem_flat_share": 0.5, "encoding": "npy"}
    # Its progress bars would stand between the figures.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        sem_frames.extract(folder, {"sem": images}, sem_window=(0.1, 99.9), **cut)


def main() -> None:
    """Runs all in turn and prints the medians."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    image = np.random.default_rng(0).normal(30000, 5000, (side, side)).astype(np.uint16)
    count = len(tiling.grid((side, side), tile_px=TILE_PX, stride_px=STRIDE_PX))
    with tempfile.TemporaryDirectory() as name:
        scan = Path(name) / "scan.tif"
        tifffile.imwrite(scan, image)
        small = (image >> 8).astype(np.uint8)
        runs: dict[str, Callable[[Path], None]] = {
            "extraction": lambda folder: extract(scan, folder),
            "copy": lambda folder: copy(scan, folder),
            "tiles alone": lambda folder: write_tiles(small, folder),
        }
        seconds: dict[str, list[float]] = {who: [] for who in runs}
        for k in range(ROUNDS):
            for who, do in runs.items():
                (folder := Path(name) / f"{who}_{k}").mkdir()
                begun = time.perf_counter()
                do(folder)
                seconds[who].append(time.perf_counter() - begun)
    rates = {who: count / statistics.median(took) for who, took in seconds.items()}
    for who, rate in rates.items():
        share = rates["extraction"] / rate
        print(f"{who:<12}{rate:10.1f} tiles/s   extraction reaches {share:.2f} of it")
    figures = {
        "tiles_per_second": {who: round(rate, 1) for who, rate in rates.items()},
        "ratio": round(rates["extraction"] / rates["copy"], 3),
    }
    ledger.append("extract", figures, numpy=np.__version__)


if __name__ == "__main__":
    main()
