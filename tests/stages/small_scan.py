"""A small scan, untrained translators, and the translate stage run on them."""

from pathlib import Path

import numpy as np
import tifffile
import torch
import zarr

from sem2ct.config import build
from sem2ct.cyclegan import generators
from sem2ct.runtime import distributed
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import translate

SCALE = 4
WINDOW = {"low": 300.0, "high": 900.0}


def bring(root: Path) -> None:
    """Writes a scan with a round field of view, and runs of train-cyclegan."""
    draw = np.random.default_rng(5)
    ct = draw.integers(200, 1000, (4, 30, 38)).astype(np.uint16)
    y, x = np.mgrid[:30, :38]
    ct[:, (y - 14.5) ** 2 + (x - 18.5) ** 2 > 15**2] = 0
    tifffile.imwrite(root / "ct.tif", ct, photometric="minisblack")
    floats = ct.astype(np.float32)
    floats[2, 15, 15] = np.nan
    tifffile.imwrite(root / "nan.tif", floats, photometric="minisblack")
    for network, blocks in (("robust", 1), ("paper", 1)):
        torch.manual_seed(2)
        generator = generators.build(
            {
                "network": network,
                "direction": "ct_to_sem",
                "scale": SCALE,
                "width": 8,
                "blocks": blocks,
            }
        )
        bag = {
            "images_seen": 16,
            "trainer": {"ema": {"config": generator.config, "weights": generator.state_dict()}},
            "ct_store": {"window": WINDOW, "pixel_um": 2.0},
            "sem_store": {"window": {"low": 10.0, "high": 240.0}, "pixel_um": 0.5},
        }
        (root / network / "checkpoints").mkdir(parents=True)
        torch.save(bag, root / network / "checkpoints" / "000000016.pt")


def settings(root, **changed):
    values = {
        "run": "test",
        "run_root": root / "outputs",
        "seed": 3,
        "dry_run": False,
        "device": "cpu",
        "devices": 1,
        "precision": "float32",
        "cyclegan": root / "robust",
        "ct": str(root / "ct.tif"),
        "ct_raw_shape": "none",
        "ct_raw_dtype": "none",
        "ct_raw_byte_order": "little",
        "ct_raw_header_bytes": 0,
        "ct_dataset": "only",
        "ct_pixel_um": 2.0,
        "z_range": [1, 3],
        "y_range": "all",
        "x_range": "all",
        "refine_z": True,
        "core_px": 12,
        "halo_px": "network",
        "axes": "xy",
        "norm_over": "tile",
        "exact": False,
        "ome_zarr_version": "0.5",
        "chunk_px": 64,
        "realisations": 1,
        "labels": False,
        "statistics_only": False,
        "threshold": "none",
        "reach_px": 8,
        "allow_partial": False,
        "style": 0,
        "export": "none",
        "export_range": "all",
    }
    return build("translate", values | changed)


def run(root, path, **changed):
    asked = settings(root, **changed)
    folder = RunFolder.open(
        path,
        asked.model_dump(mode="json"),
        inputs=translate.inputs(asked),
        writer=distributed.is_main(),
    )
    translate.run(asked, folder)
    return folder


def volume_of(path) -> np.ndarray:
    return zarr.open_group(path / "translation.ome.zarr", mode="r")["0"][:]
