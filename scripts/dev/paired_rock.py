"""Makes a pair with a known truth from one fine scan: it plays the SEM, its area mean the CT.

    SEM2CT_REAL_DATA=/where/the/images/are .venv/bin/python scripts/dev/paired_rock.py --out DIR

The Bentheimer sandstone at 2 um is halved along its long axis.  Of the first half, the
first part is averaged `--scale` x `--scale` within its slices and gives the CT patches, the
other part the SEM tiles: a training never sees a place in both, so it is unpaired.  The
second half is kept for checking: its averages as a CT scan, and the fine greys as truth.

Writes into DIR the stores `ct`, `sem` and `sem_reference` (tiles that overlap less, for the
evaluation), and `held_out_ct.tif`, `held_out_truth.tif`, `held_out_bicubic.tif`.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import from_numpy

from sem2ct.data import pictures, scans
from sem2ct.data.intensity import Window, choose_window
from sem2ct.data.store import Domain, StoreWriter

FILE = "micro_ct/bentheimer_hr_2um_90x90x495_u8.tif"
PIXEL_UM = 2.0
PERCENTILES = (0.1, 99.9)
BLOCK_SLICES = 15  # slices that count as one image: neighbours show the same grains
CT_STRIDE_PX, SEM_STRIDE_PX = 3, 8


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--patch-px", type=int, default=16)
    return parser.parse_args()


def averaged(grey: NDArray[Any], scale: int) -> NDArray[np.float64]:
    """Area means within slices: (z, y, x) to (z, y / scale, x / scale)."""
    depth, height, width = grey.shape
    blocks = grey.reshape(depth, height // scale, scale, width // scale, scale)
    return blocks.mean((2, 4), dtype=np.float64)


def write_store(
    folder: Path, grey: NDArray[np.uint8], *, tile_px: int, stride_px: int, **facts: Any
) -> None:
    """Cuts tiles of every slice at a stride into one store; blocks of slices are its sources."""
    depth, height, width = grey.shape
    rows = range(0, height - tile_px + 1, stride_px)
    columns = range(0, width - tile_px + 1, stride_px)
    places = np.array([(z, y, x) for z in range(depth) for y in rows for x in columns])
    tiles = np.stack([grey[z, y : y + tile_px, x : x + tile_px] for z, y, x in places])
    blocks = -(-depth // BLOCK_SLICES)
    writer = StoreWriter(
        folder,
        tile_px=tile_px,
        shard_patches=len(tiles),
        sources=[{"path": FILE, "block": block} for block in range(blocks)],
        facts={},
        **facts,
    )
    z, y, x = places.T
    writer.write_shard(0, tiles, {"source": z // BLOCK_SLICES, "z": z, "y": y, "x": x})
    writer.finish()


def main() -> None:
    """Reads the scan and writes stores and held-out images."""
    chosen = arguments()
    scale, patch_px, out = chosen.scale, chosen.patch_px, chosen.out
    data = Path(os.environ.get("SEM2CT_REAL_DATA", "data"))
    scan = scans.open(str(data / FILE), setting="ct")
    grey = np.stack([scan.slice_at(z) for z in range(scan.shape[0])])
    grey = grey[:, : grey.shape[1] // scale * scale]
    middle, quarter = (grey.shape[2] // parts // scale * scale for parts in (2, 4))
    fine = grey[:, :, quarter:middle]
    coarse = averaged(grey[:, :, :quarter], scale)
    windows: dict[Domain, Window] = {
        "sem": choose_window(fine, PERCENTILES, what=FILE),
        "ct": choose_window(coarse, PERCENTILES, what=FILE),
    }
    ct: dict[str, Any] = {"pixel_um": PIXEL_UM * scale, "window": windows["ct"], "domain": "ct"}
    sem: dict[str, Any] = {"pixel_um": PIXEL_UM, "window": windows["sem"], "domain": "sem"}
    patches = windows["ct"].to_uint8(coarse)
    write_store(out / "ct", patches, tile_px=patch_px, stride_px=CT_STRIDE_PX, **ct)
    tile_px, tiles = patch_px * scale, windows["sem"].to_uint8(fine)
    write_store(out / "sem", tiles, tile_px=tile_px, stride_px=SEM_STRIDE_PX, **sem)
    write_store(out / "sem_reference", tiles, tile_px=tile_px, stride_px=tile_px // 2, **sem)

    truth = grey[:, :, middle : grey.shape[2] // scale * scale]
    held = averaged(truth, scale)
    bicubic = F.interpolate(from_numpy(held)[:, None], scale_factor=scale, mode="bicubic")
    held_out = {
        "ct": (windows["ct"].to_uint8(held), scale * PIXEL_UM),
        "truth": (windows["sem"].to_uint8(truth), PIXEL_UM),
        "bicubic": (windows["sem"].to_uint8(bicubic[:, 0].numpy()), PIXEL_UM),
    }
    for name, (image, pixel_um) in held_out.items():
        pictures.write_tiff(out / f"held_out_{name}.tif", image, pixel_um=pixel_um)
        print(f"{out / f'held_out_{name}.tif'}: {image.shape}, {pixel_um} um")


if __name__ == "__main__":
    main()
