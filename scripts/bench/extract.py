"""Speed of cutting SEM tiles, against plainly copying the same pixels to disk.

    .venv/bin/python scripts/bench/extract.py [side of the image in px, 4096]

Tiles of 1024 px at stride 500 from one uint16 TIFF; extraction reads the file, chooses the
grey window, converts to 8 bit, writes the whole frame and checksums; the copy only writes the
8-bit pixels of the tiles.
Prints a table and appends a line to outputs/bench.jsonl.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import ledger
import numpy as np
import tifffile

from sem2ct.data import sem_frames, sem_tiles, tiling

TILE_PX, STRIDE_PX, ROUNDS = 1024, 500, 3


def copy(image: np.ndarray, corners: np.ndarray, file: Path) -> float:
    """Takes the seconds to write the pixels of all tiles without looking at them."""
    begun = time.perf_counter()
    with file.open("wb") as out:
        for y, x in corners:
            out.write(np.ascontiguousarray(image[y : y + TILE_PX, x : x + TILE_PX]).data)
        os.fsync(out.fileno())
    return time.perf_counter() - begun


def extract(scan: Path, folder: Path) -> float:
    """Takes the seconds from the file to a finished store, with the frame beside it."""
    begun = time.perf_counter()
    images = sem_tiles.open_images(str(scan), crop_bottom=0, reduce=1, tile_px=TILE_PX)
    cut = {"tile_px": TILE_PX, "stride_px": STRIDE_PX, "shard_patches": 32, "pixel_um": None}
    cut |= {"sem_flat_share": 0.5, "encoding": "npy"}
    sem_frames.extract(folder, {"sem": images}, sem_window=(0.1, 99.9), **cut)
    return time.perf_counter() - begun


def main() -> None:
    """Runs both in turn and prints the medians."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    image = np.random.default_rng(0).normal(30000, 5000, (side, side)).astype(np.uint16)
    corners = tiling.grid((side, side), tile_px=TILE_PX, stride_px=STRIDE_PX)
    seconds: dict[str, list[float]] = {"copy": [], "extract": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tifffile.imwrite(folder / "scan.tif", image)
        small = (image >> 8).astype(np.uint8)
        for k in range(ROUNDS):
            seconds["copy"].append(copy(small, corners, folder / "copy.bin"))
            seconds["extract"].append(extract(folder / "scan.tif", folder / f"{k}"))
    rates = {who: len(corners) / statistics.median(took) for who, took in seconds.items()}
    ratio = rates["extract"] / rates["copy"]
    for who, rate in rates.items():
        print(f"{who:<10}{rate:10.1f} tiles/s")
    print(f"{'ratio':<10}{ratio:10.3f} of copying (target 0.5)")
    figures = {
        "tiles_per_second": {who: round(rate, 1) for who, rate in rates.items()},
        "ratio": round(ratio, 3),
    }
    ledger.append("extract", figures, numpy=np.__version__)


if __name__ == "__main__":
    main()
