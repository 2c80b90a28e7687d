"""What `sem2ct evaluate` says of real images that were changed in known ways.

    SEM2CT_REAL_DATA=/where/the/images/are .venv/bin/python scripts/dev/evaluate_known_changes.py

Thirty of the sixty carbonate images (sem_synthetic/, see the data's README: synthetic ones) are
the reference; the other thirty are held against it as they are, and blurred, zoomed,
dilated, shuffled, or with six images copied from the reference.  The coating (sem/ebc_*) is
held against them too, and its samples against one of them.  Unchanged images
must be inside on all checks; each change must be outside on one, and copies must be counted.
Prints a table: the number of checks outside, the three furthest, the copies; exits with 1
where one of these does not hold.  Takes about five minutes of a core, writes below --out only.

Measured with 480 tiles per set, checks outside and the furthest of them: unchanged 0 of 16;
blurred 3, whitened descriptors x31, sharpness x8.2; zoomed 2, sharpness x2.1; dilated 2,
whitened x12; shuffled 3, seams x8; copies 96 of 96 counted; coating 12, whitened x92; samples
of the coating 1 to 14 of 16.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, grey_erosion, zoom

from sem2ct import composition
from sem2ct.config import EvaluateSettings
from sem2ct.data.pictures import write_png
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import evaluate

Grey = NDArray[np.uint8]
HALF, COPIED = 30, 6
BLUR_PX, ZOOM, BLOCK_PX = 1.0, 1.1, 64


def blurred(image: Grey) -> Grey:
    """Smoothed by a Gaussian of one pixel."""
    return np.asarray(gaussian_filter(image, BLUR_PX), np.uint8)


def zoomed(image: Grey) -> Grey:
    """Enlarged by a tenth, and cut to the old size."""
    height, width = image.shape
    return np.asarray(zoom(image, ZOOM, order=3), np.uint8)[:height, :width]


def dilated(image: Grey) -> Grey:
    """Pores one pixel wider: each pixel as dark as its darkest neighbour along x or y."""
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    return np.asarray(grey_erosion(image, footprint=cross), np.uint8)


def shuffled(image: Grey) -> Grey:
    """Square blocks put in another order."""
    rows, columns = (side // BLOCK_PX for side in image.shape)
    cut = image[: rows * BLOCK_PX, : columns * BLOCK_PX]
    blocks = cut.reshape(rows, BLOCK_PX, columns, BLOCK_PX).swapaxes(1, 2)
    flat = blocks.reshape(rows * columns, BLOCK_PX, BLOCK_PX)
    mixed = flat[np.random.default_rng(0).permutation(len(flat))].reshape(blocks.shape)
    return mixed.swapaxes(1, 2).reshape(cut.shape)


CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "blurred": blurred,
    "zoomed": zoomed,
    "dilated": dilated,
    "shuffled": shuffled,
}


def write_sets(data: Path, out: Path) -> dict[str, dict[str, str]]:
    """Writes the changed copies.

    Returns:
        For each run its sets, the reference first.
    """
    every = sorted((data / "sem_synthetic").glob("*.png"))
    if len(every) < 2 * HALF:
        sys.exit(f"{data}: {len(every)} images in sem_synthetic, {2 * HALF} are needed")
    real, other = every[:HALF], every[HALF : 2 * HALF]
    made = {
        "real": {path.name: path for path in real},
        "other_half": {path.name: path for path in other},
        "with_copies": {path.name: path for path in (*other[COPIED:], *real[:COPIED])},
    }
    for name, files in made.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for called, path in files.items():
            (out / name / called).write_bytes(path.read_bytes())
    for name, change in CHANGES.items():
        for path in other:
            write_png(out / name / path.name, change(imagecodecs.imread(path)))
    carbonate = {name: str(out / name) for name in (*made, *CHANGES)}
    samples = sorted({path.name.split("_")[1] for path in (data / "sem").glob("ebc_*.png")})
    coating = {name: str(data / "sem" / f"ebc_{name}_*.png") for name in samples}
    return {
        "carbonate": carbonate | {"coating": str(data / "sem" / "ebc_*.png")},
        "coating": coating,
    }


def judged(run: str, sets: dict[str, str], out: Path, tiles: int) -> dict[str, Any]:
    """Runs the evaluation, report and all, and returns its metrics."""
    options = {
        "run": run, "run_root": out, "sets": sets, "reference": next(iter(sets)),
        "threshold": "otsu", "pixel_um": "unstated", "tile_px": 256, "reach_px": 100,
        "most_tiles": tiles, "looked_tiles": tiles, "ct": "none", "truth": "none",
        "note": "none", "figures_tiles": 2, "devices": 1, "processes": os.cpu_count() or 1,
    }  # fmt: skip
    settings = EvaluateSettings.model_validate(composition.settings_of("evaluate", []) | options)
    folder = RunFolder.open(out / "evaluate" / run, settings.model_dump())
    if not folder.finished:
        evaluate.run(settings, folder)
    return json.loads((folder.path / "metrics.json").read_text(encoding="utf-8"))


def row(metrics: dict[str, Any], name: str) -> tuple[list[str], bool]:
    """A line of the table, and whether any check is outside."""
    checks = [one for one in metrics["verdicts"] if one["set"] == name]
    known = [one for one in checks if one["inside"] is not None]
    outside = sorted(
        (one for one in known if not one["inside"]), key=lambda one: -(one["factor"] or 0)
    )
    furthest = ", ".join(f"{one['check']} x{one['factor'] or 0:.2g}" for one in outside[:3])
    copies = metrics["comparisons"][name].get("memorisation", {}).get("copies", "-")
    cells = [metrics["reference"], name, f"{len(outside)} of {len(known)}", str(copies), furthest]
    return cells, bool(outside)


def main() -> int:
    """Makes the sets, judges them, prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder to keep; none: a temporary one")
    parser.add_argument("--tiles", type=int, default=480, help="most tiles per set")
    args = parser.parse_args()
    data = Path(os.environ.get("SEM2CT_REAL_DATA", "data"))
    table = [["reference", "set", "outside", "copies", "furthest"]]
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        for run, sets in write_sets(data, out / "sets").items():
            metrics = judged(run, sets, out, args.tiles)
            for name in metrics["comparisons"]:
                cells, outside = row(metrics, name)
                table.append(cells)
                if run == "carbonate" and outside == (name == "other_half"):
                    wrong.append(name)
                if name == "with_copies" and cells[3] == "0":
                    wrong.append(name)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)))
    print(f"not as it must be: {', '.join(wrong)}" if wrong else "all as it must be")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
