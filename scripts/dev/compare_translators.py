"""The comparison that decides the default translator: network=robust against network=paper.

    SEM2CT_REAL_DATA=/where/the/images/are \
        .venv/bin/python scripts/dev/compare_translators.py carbonate bentheimer --seeds 0 1 2

Both networks get the same time of one CPU core, by numbers of images from measured speeds;
`cpu s` in the table tells what each run took.  Every run is an ordinary run of the program in
`--out` (outputs/compare): the same command goes on where it was stopped.

carbonate   real micro-CT slice; SEM tiles multiplied from synthetic images of the rock family
bentheimer  `paired_rock.py`: one fine scan is both sides, so the held-out half has a truth

Prints one table per rock, and writes it beside the runs.  Means over the last fifth of the
training are taken of what is measured there; the rest is measured on the translation.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from sem2ct.metrics import correlation, segmentation, surface

NETWORKS = {"robust": ["network=robust"], "paper": ["network=paper"]}
NETWORKS["no_consistency"] = ["network=robust", "consistency_weight=0", "guard_images=1000000"]
NETWORKS["no_sem_cycle"] = ["network=robust", "sem_cycle_weight=0"]
NETWORKS["meshed"] = ["network=robust", "raster_weight=0", "even_phases=false"]
NETWORKS["paper_slow"] = ["network=paper", "learning_rate=0.0002"]
IMAGES = {"carbonate": {"robust": 11200, "paper": 3680}}
IMAGES["bentheimer_x4"] = {"robust": 7680, "paper": 2560}
IMAGES["bentheimer_x2"] = {"robust": 7680, "paper": 1840}
STEP = 80  # images that all intervals must divide
REACH_PX = 40
FINE_UM = 2.0  # of bentheimer's fine scan
LABELS = {
    "cpu_s": "CPU time of the training, s",
    "grey_correlation": "correlation with the CT (negative: inverted)",
    "consistency_grey": "CT consistency, grey levels",
    "noise_floor_grey": "CT noise, grey levels",
    "hidden_by_noise": "hidden information by noise (1: honest)",
    "hidden_by_rounding": "hidden information by rounding",
    "porosity_transfer": "porosity follows CT darkness (1: always)",
    "seam_contrast": "grey step at tile seams (1: none)",
    "porosity": "porosity",
    "specific_surface": "specific surface, 1/px",
    "joint": "all descriptors, times the real-vs-real band",
    "joint_whitened": "the same, whitened",
    "rmse_grey": "error against the truth, grey levels",
    "truth_correlation": "correlation with the truth",
    "ssim": "structural similarity to the truth",
    "voxels": "voxels as in truth",
    "s2_error": "largest error of S2 up to 40 px",
}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rocks", nargs="+", choices=["carbonate", "bentheimer"])
    parser.add_argument("--out", type=Path, default=Path("outputs/compare"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--networks", nargs="+", choices=list(NETWORKS), default=["robust", "paper"]
    )
    parser.add_argument("--scale", type=int, default=4, help="of bentheimer: 2 or 4")
    parser.add_argument("--demo", type=Path, help="run_root of a finished experiment=carbonate_cpu")
    return parser.parse_args()


def sem2ct(command: str, *overrides: str) -> float:
    """Runs a stage; seconds of CPU it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "sem2ct.cli", command, *overrides], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def carbonate(chosen: argparse.Namespace) -> tuple[list[str], list[str], str]:
    """Makes the stores; gives overrides of train-cyclegan and translate, and the reference."""
    root = chosen.demo or chosen.out
    if chosen.demo is None:
        for command in ("extract", "train-stylegan", "synthesize"):
            sem2ct(command, "experiment=carbonate_cpu", f"run_root={root}", "machine=cpu")
    extracted, drawn = (f"{root}/{stage}/carbonate_cpu" for stage in ("extract", "synthesize"))
    stores = [f"ct={extracted}/ct", f"sem={drawn}/sem"]
    return ["rock=carbonate", *stores], ["rock=carbonate"], f"{extracted}/sem"


def bentheimer(chosen: argparse.Namespace) -> tuple[list[str], list[str], str]:
    """As `carbonate`, of the halved fine scan."""
    scale, pair = chosen.scale, chosen.out / f"bentheimer_x{chosen.scale}"
    if not (pair / "held_out_bicubic.tif").exists():
        script = Path(__file__).with_name("paired_rock.py")
        subprocess.run(
            [sys.executable, str(script), "--out", str(pair), "--scale", str(scale)], check=True
        )
    train = ["rock=mine", "symmetries=dihedral", f"ct={pair}/ct", f"sem={pair}/sem"]
    translate = ["rock=mine", f"ct={pair}/held_out_ct.tif", f"ct_pixel_um={FINE_UM * scale}"]
    translate += ["refine_z=false", "core_px=16"]
    return train, translate, f"{pair}/sem_reference"


def trained(out: Path, run: str, rock: str, network: str, overrides: Sequence[str]) -> float:
    """Trains, or goes on; seconds of CPU of all its parts together."""
    kept = out / "cpu_seconds" / f"{run}.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    total = IMAGES[rock]["paper" if network.startswith("paper") else "robust"]
    schedule = [f"total_images={total}", f"constant_images={total // 2 // STEP * STEP}"]
    schedule += [f"values_images={STEP}", f"preview_images={10 * STEP}"]
    schedule += [f"checkpoint_images={10 * STEP}"]
    if network.startswith("paper"):
        schedule += ["guard_images=1000000"]  # an inverted contrast is a result here
    where = [f"run_root={out}", f"run={run}", "size=demo", "machine=cpu"]
    if not (out / "train_cyclegan" / run / "done.json").exists():
        seconds = sem2ct("train-cyclegan", *where, *overrides, *NETWORKS[network], *schedule)
        before = float(kept.read_text()) if kept.exists() else 0.0
        kept.write_text(f"{before + seconds:.1f}\n")
    return float(kept.read_text()) if kept.exists() else float("nan")


def while_training(folder: Path) -> dict[str, float]:
    """Means of what the training measured, over its last fifth."""
    rows = [json.loads(line) for line in (folder / "values.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["images"] > 0.8 * rows[-1]["images"]]
    names = ("grey_correlation", "consistency_grey", "noise_floor_grey", "hidden_by_noise")
    means = {}
    for name in (*names, "hidden_by_rounding", "porosity_transfer"):
        means[name] = float(np.mean([row[name] for row in last if name in row]))
    return means


def evaluated(out: Path, rock: str, reference: str, runs: Sequence[str]) -> dict[str, Any]:
    """Holds all translations against the SEM tiles; by run, porosity, surface and joint checks."""
    # At x2 the tiles of size=demo have half the side.
    side = ["tile_px=32", "reach_px=15"] if rock.endswith("_x2") else []
    # Of these runs and no others: more of them are another evaluation.
    name = "_".join([rock, *(run.removeprefix(f"{rock}_") for run in runs)])
    sets = [f"+sets.{run}={out}/translate/{run}" for run in runs]
    overrides = [f"run_root={out}", f"run={name}", "size=demo", "rock=mine", "ct=none"]
    left = ["sets.synthetic=none", "sets.translated=none", f"sets.real={reference}"]
    sem2ct("evaluate", *overrides, *left, *sets, *side, "threshold=otsu", "looked_tiles=20")
    metrics = json.loads((out / "evaluate" / name / "metrics.json").read_text())
    found = {}
    for run in ("real", *runs):
        scalars = metrics["sets"][run]["scalars"]
        found[run] = {key: scalars[key]["mean"] for key in ("porosity", "specific_surface")}
    for verdict in metrics["verdicts"]:
        if verdict["check"] in ("joint", "joint_whitened"):
            found[verdict["set"]][verdict["check"]] = verdict["factor"]
    return found


def against_truth(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
    """Compares (z, y, x) greys with the truth, slice by slice, one threshold from the truth."""
    threshold = segmentation.otsu(segmentation.histogram([truth]))
    pores, true = image < threshold, truth < threshold

    def mean(number: Callable[..., float], *stacks: NDArray[Any]) -> float:
        return float(np.mean([number(*slices) for slices in zip(*stacks, strict=True)]))

    def s2(stack: NDArray[np.bool_]) -> NDArray[np.float64]:
        curves = [correlation.radial(correlation.two_point(one, REACH_PX)) for one in stack]
        return np.mean(curves, axis=0)

    def on_pixels(one: NDArray[np.bool_]) -> float:
        return surface.specific_surface(one, pixel_size_um=1.0)

    def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
        similarity: Any = structural_similarity(one, other, data_range=255)
        return float(similarity)

    error = image.astype(float) - truth
    return {
        "porosity": float(pores.mean()),
        "specific_surface": mean(on_pixels, pores),
        "rmse_grey": float(np.sqrt(np.square(error).mean())),
        "truth_correlation": float(np.corrcoef(image.ravel(), truth.ravel())[0, 1]),
        "ssim": mean(alike, image, truth),
        "voxels": float((pores == true).mean()),
        "s2_error": float(np.abs(s2(pores) - s2(true)).max()),
    }


def table(columns: dict[str, dict[str, float]]) -> str:
    """Markdown: one row per number that any column has."""
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for key, label in LABELS.items():
        cells = [f"{column[key]:.3g}" if key in column else "" for column in columns.values()]
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(rock: str, chosen: argparse.Namespace) -> str:
    """Trains, translates and measures all runs of a rock; gives its table."""
    out: Path = chosen.out
    prepare = {"carbonate": carbonate, "bentheimer": bentheimer}[rock]
    train, translate, reference = prepare(chosen)
    columns: dict[str, dict[str, float]] = {}
    prefix = rock if rock == "carbonate" else f"{rock}_x{chosen.scale}"
    for seed in chosen.seeds:
        for network in chosen.networks:
            run = f"{prefix}_{network}_{seed}"
            seconds = trained(out, run, prefix, network, [*train, f"seed={seed}"])
            sem2ct(
                "translate", f"run_root={out}", f"run={run}", "size=demo", "machine=cpu", *translate
            )
            done = json.loads((out / "translate" / run / "done.json").read_text())
            columns[run] = {"cpu_s": seconds, "seam_contrast": done["seam_contrast"]}
            columns[run] |= while_training(out / "train_cyclegan" / run)
    runs = list(columns)
    for run, numbers in evaluated(out, prefix, reference, runs).items():
        columns[run] = {**columns.get(run, {}), **numbers}
    if rock == "bentheimer":
        pair = out / f"bentheimer_x{chosen.scale}"
        truth = tifffile.imread(pair / "held_out_truth.tif")
        columns["truth"] = against_truth(truth, truth)
        columns["bicubic"] = against_truth(tifffile.imread(pair / "held_out_bicubic.tif"), truth)
        for run in runs:
            volume: Any = zarr.open_group(
                out / "translate" / run / "translation.ome.zarr", mode="r"
            )
            columns[run] |= against_truth(np.asarray(volume["0"][:]), truth)
    return table(columns)


def main() -> None:
    """Compares on every rock named, prints and writes the tables."""
    chosen = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for rock in chosen.rocks:
        written = compare(rock, chosen)
        (chosen.out / f"{rock}.md").write_text(written + "\n")
        print(written)


if __name__ == "__main__":
    main()
