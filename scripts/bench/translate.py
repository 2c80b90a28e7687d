"""Memory and speed of translate, end to end with files, also beside the authors' predict loop.

    .venv/bin/python scripts/bench/translate.py [--side 400] [--slices 2] [--peer /path/to/them]

Memory: peak of a process that translates 64^3, 128^3 and 256^3 voxels of CT with a tiny network
of scale 2, slabs being limited to 2 MB so that all three have whole ones; it must not grow.
Speed: slices with the published network of scale 16 (random weights), from the TIFF to the
finished OME-Zarr folder.  The authors' loop (--peer: a clone of theanswer003/MultiscaleDRPNet) gets
the same pixels, as PNG files of 64 px that overlap by 8, and the same weights; it is run as it is,
in a process of its own, and its pixels count once.  Times are processor seconds of one thread, the
start of the process included.
Prints a table and appends a line to outputs/bench.jsonl.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import imagecodecs
import ledger
import numpy as np
import tifffile
import torch

from sem2ct.cyclegan import generators

SIDES, TINY = (64, 128, 256), {"scale": 2, "width": 4, "blocks": 1}
SLAB_BYTES = 2**21
TILE_PX, OVERLAP_PX = 64, 8
SMALL_SLABS = f"""
import sys
from sem2ct import cli
from sem2ct.data import pyramid
pyramid.SLAB_BYTES = {SLAB_BYTES}
cli.main(sys.argv[1:])
"""
# Their script needs torchvision's transforms only; its compiled part need not fit this torch.
PEER = """
import pathlib, runpy, sys, types
place = next(p for p in map(pathlib.Path, sys.path) if (p / "torchvision" / "transforms").is_dir())
sys.modules["torchvision"] = package = types.ModuleType("torchvision")
package.__path__, package.extension = [str(place / "torchvision")], types.ModuleType("extension")
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[1] + "/predict.py", run_name="__main__")
"""


def child(code: str, *arguments: str, cwd: Path) -> tuple[float, float]:
    """Runs Python code in a process of its own: processor seconds, and peak memory in MB."""
    log = (cwd / "log.txt").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=cwd, stdout=log, stderr=log
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit((cwd / "log.txt").read_text(errors="replace")[-2000:])
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def translate(cwd: Path, network: Any, ct: np.ndarray, code: str, *more: str) -> tuple:
    """Seconds and megabytes of `sem2ct translate` of a scan that is written for it."""
    window, store = {"low": 0.0, "high": 255.0}, {"pixel_um": None}
    bag = {
        "images_seen": 0,
        "trainer": {"ema": {"config": network.config, "weights": network.state_dict()}},
        "ct_store": {"window": window, **store},
        "sem_store": {"window": window, **store},
    }
    (cwd / "net" / "checkpoints").mkdir(parents=True)
    torch.save(bag, cwd / "net" / "checkpoints" / "000000000.pt")
    tifffile.imwrite(cwd / "ct.tif", ct, photometric="minisblack")
    whole = [f"{axis}_range=all" for axis in "zyx"]
    given = [f"ct={cwd / 'ct.tif'}", "ct_pixel_um=unstated", f"cyclegan={cwd / 'net'}"]
    machine = ["device=cpu", "devices=1", f"run_root={cwd / 'outputs'}", "run=bench"]
    return child(code, "translate", *whole, *given, *machine, *more, cwd=cwd)


def memory(folder: Path) -> dict[int, float]:
    """Peak memory in MB by the side of the region."""
    network = generators.build({"network": "robust", "direction": "ct_to_sem", **TINY})
    peaks = {}
    for side in SIDES:
        ct = np.random.default_rng(side).integers(0, 255, (side,) * 3, dtype=np.uint8)
        (folder / str(side)).mkdir()
        how = ("core_px=64", "refine_z=true")
        took, peaks[side] = translate(folder / str(side), network, ct, SMALL_SLABS, *how)
        print(f"{side}^3{'':<7}{peaks[side]:10.1f} MB at most, {took:.1f} s", flush=True)
    return peaks


def ours(folder: Path, network: Any, ct: np.ndarray) -> float:
    """Voxels per second of `sem2ct translate` with its usual settings."""
    folder.mkdir()
    code = "import sys\nfrom sem2ct import cli\ncli.main(sys.argv[1:])"
    took, _ = translate(folder, network, ct, code, "core_px=auto", "refine_z=false")
    return ct.size * network.scale**2 / took


def theirs(folder: Path, peer: Path, weights: dict, ct: np.ndarray) -> float:
    """Voxels per second of the authors' loop; what overlaps counts once."""
    for name in ("data/carbonates/train/A", "data/carbonates/train/B", "saved_models", "outs"):
        (folder / name).mkdir(parents=True)
    (folder / "outs" / "pred_hr").mkdir()
    torch.save(weights, folder / "saved_models" / "netG_A2B_5.pth")
    corners = range(0, ct.shape[1] - TILE_PX + 1, TILE_PX - OVERLAP_PX)
    places = list(itertools.product(range(len(ct)), corners, corners))
    for z, y, x in places:
        tile = np.ascontiguousarray(ct[z, y : y + TILE_PX, x : x + TILE_PX])
        for domain in "AB":
            at = folder / "data" / "carbonates" / "train" / domain / f"{z}_{y:05d}_{x:05d}.png"
            at.write_bytes(imagecodecs.png_encode(tile))
    took, _ = child(PEER, str(peer.resolve() / "cyclegan"), cwd=folder)
    made = len(list((folder / "outs" / "pred_hr").glob("*.png")))
    assert made == len(places), f"{made} tiles came back, not {len(places)}"
    return ct.size * 256 / took


def peer_weights(peer: Path) -> dict:
    """Fresh weights of their generator, made by their class."""
    sys.path.insert(0, str(peer / "cyclegan"))
    from models import GeneratorL2H  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    return GeneratorL2H(1, 1).state_dict()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=400, help="CT pixels; 8 more than n * 56")
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--no-memory", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not asked.no_memory:
            peaks = memory(folder)
            figures["peak_mb"] = {str(side): round(mb, 1) for side, mb in peaks.items()}
            print(f"{'spread':<12}{max(peaks.values()) / min(peaks.values()):10.3f} (target 1.10)")
        ct = np.random.default_rng(1).integers(
            0, 255, (asked.slices, asked.side, asked.side), dtype=np.uint8
        )
        if asked.peer is None:
            network = generators.build({"network": "paper", "direction": "ct_to_sem", "scale": 16})
        else:
            weights = peer_weights(asked.peer)
            network = generators.ct_to_sem_from_state(weights)
        figures["ours"] = ours(folder / "ours", network, ct) / 1e6
        print(f"{'ours':<12}{figures['ours']:10.3f} Mvoxel/s", flush=True)
        if asked.peer is not None:
            figures["peer"] = theirs(folder / "peer", asked.peer, weights, ct) / 1e6
            print(f"{'peer':<12}{figures['peer']:10.3f} Mvoxel/s")
            print(f"{'ratio':<12}{figures['ours'] / figures['peer']:10.2f} (target 3)")
    ledger.append("translate", figures, torch=torch.__version__)


if __name__ == "__main__":
    main()
