"""Speed of cutting SEM tiles, against plainly copying the same pixels to disk.

    .venv/bin/python scripts/bench/extract.py [side of the image in px, 4096]

Tiles of 1024 px at stride 500 from one uint16 TIFF; extraction reads the file, chooses the
grey window, converts to 8 bit and checksums; the copy only writes the same 8-bit pixels.
Prints a table and appends a line to outputs/bench.jsonl.
"""

import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from sem2ct.data import sem_tiles, tiling
from sem2ct.runtime import log

TILE_PX, STRIDE_PX, ROUNDS = 1024, 500, 3


def copy(image: np.ndarray, corners: np.ndarray, file: Path) -> float:
    """Takes the seconds to write the pixels of all tiles without looking at them."""
    begun = time.perf_counter()
    with file.open("wb") as out:
        for y, x in corners:
            out.write(np.ascontiguousarray(image[y : y + TILE_PX, x : x + TILE_PX]).data)
        os.fsync(out.fileno())
    return time.perf_counter() - begun


def extract(scan: Path, folder: Path, tiles: int) -> float:
    """Takes the seconds from the file to a finished store."""
    begun = time.perf_counter()
    images = sem_tiles.open_images(str(scan), crop_bottom=0, reduce=1, tile_px=TILE_PX)
    with log.progress(1, unit="images", what="window") as bar:
        window = sem_tiles.pooled_window(images, (0.1, 99.9), progress=bar)
    cut = {"tile_px": TILE_PX, "stride_px": STRIDE_PX, "shard_patches": 32, "pixel_um": None}
    with log.progress(tiles, unit="tiles", what="tiles") as bar:
        sem_tiles.write_tiles(folder, images, window=window, progress=bar, **cut)
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
            seconds["extract"].append(extract(folder / "scan.tif", folder / f"{k}", len(corners)))
    rates = {who: len(corners) / statistics.median(took) for who, took in seconds.items()}
    row = {
        "bench": "extract",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tiles_per_second": {who: round(rate, 1) for who, rate in rates.items()},
        "ratio": round(rates["extract"] / rates["copy"], 3),
    }
    for who, rate in rates.items():
        print(f"{who:<10}{rate:10.1f} tiles/s")
    print(f"{'ratio':<10}{row['ratio']:10.3f} of copying (target 0.5)")
    log_file = Path("outputs/bench.jsonl")
    log_file.parent.mkdir(exist_ok=True)
    with log_file.open("a") as out:
        out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
