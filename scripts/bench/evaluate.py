"""Time per tile of the evaluation's numbers, of its parts, and against porespy.

    .venv/bin/python scripts/bench/evaluate.py                    (CPU, half a minute)
    .venv/bin/python scripts/bench/evaluate.py --peer PYTHON      (one that has porespy >= 3.1)
    .venv/bin/python scripts/bench/evaluate.py --tiles 5000 --images FOLDER
    .venv/bin/python scripts/bench/evaluate.py --device cuda

Parts are timed on one core, ours and porespy's in turn; porespy gets its default 100 bins,
which is its fastest way, and bins of 1 px as ours has.  Then tiles are read from PNG and
measured by processes of one thread each, as `sem2ct evaluate` does it, in chunks that are kept
for a repeat; the share of tiles measured dearly is that of a set of 200,000, to which the
rate is extrapolated.  There are fewer files than tiles: they are read again and again, from
the system's memory.  Given again, only what is missing is measured; that is timed, too.
On a GPU the batched transform is compared with the integers of the processor.
Wall time counts on an idle machine; time of the processor is given beside it.
Prints a table and appends a line to outputs/bench.jsonl.
"""

import argparse
import functools
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import ledger
import numpy as np
import scipy
from scipy.ndimage import gaussian_filter

from sem2ct.metrics import correlation, measure, segmentation

FULL_SET = 200_000
DIFFERENT = 8  # generated images; what is read again lies in the system's memory either way
PEER = """
import sys, time
import numpy as np
import porespy
porespy.settings.tqdm["disable"] = True
porespy.settings.ncores = 1
pores = np.load(sys.argv[1])
print(porespy.__version__, flush=True)
for line in sys.stdin:
    bins = 100 if line.strip() == "default" else np.arange(int(line)) + 0.5
    begun, busy = time.perf_counter(), time.process_time()
    porespy.metrics.two_point_correlation(pores, bins=bins)
    print(time.perf_counter() - begun, time.process_time() - busy, flush=True)
"""


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=1024, help="of a tile, px")
    parser.add_argument("--reach", type=int, default=256, help="longest lag, px")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peer", help="Python interpreter that can import porespy")
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=200, help="of the run over files")
    parser.add_argument("--images", type=Path, help="folder of PNG tiles; none: generated ones")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=16, help="tiles at once on a GPU")
    return parser.parse_args()


def texture(side: int, seed: int) -> np.ndarray:
    """A grey image with pores of many sizes and the noise of a detector."""
    rng = np.random.default_rng(seed)
    field = sum(gaussian_filter(rng.normal(size=(side, side)), s) * s for s in (2, 8))
    grey = 150 + 90 * field / np.std(field) + rng.normal(0, 6, (side, side))
    return np.clip(grey, 0, 255).astype(np.uint8)


def milliseconds(work: Callable[[], object], rounds: int) -> list[float]:
    """Wall time of each of several rounds."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - begun))
    return took


def reader(files: list[str]) -> measure.Read:
    """Gives tile after tile from PNG files, starting again when they end."""
    return lambda index: imagecodecs.png_decode(Path(files[index % len(files)]).read_bytes())


def against_peer(python: str, pores: np.ndarray, reach: int, rounds: int) -> dict[str, Any]:
    """Times porespy and ours in turn."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "pores.npy"
        np.save(file, pores)
        command = [python, "-c", PEER, str(file)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            version = peer.stdout.readline().strip()
            took: dict[str, list[list[float]]] = {"ours": [], "default": [], str(reach): []}
            for _ in range(rounds):
                for bins in ("default", str(reach)):
                    for _ in range(5):
                        begun, busy = time.perf_counter(), time.process_time()
                        correlation.pair_counts(pores, reach)
                        spent = [time.perf_counter() - begun, time.process_time() - busy]
                        took["ours"].append(spent)
                    peer.stdin.write(bins + "\n")
                    peer.stdin.flush()
                    took[bins].append([float(word) for word in peer.stdout.readline().split()])
            peer.stdin.close()
    found: dict[str, Any] = {"porespy": version}
    for column, clock in enumerate(("wall", "cpu")):
        best = {who: 1000 * min(row[column] for row in rows) for who, rows in took.items()}
        found[f"ours_{clock}_ms"] = best["ours"]
        for bins, name in (("default", "100_bins"), (str(reach), "1_px_bins")):
            found[f"porespy_{name}_{clock}_ms"] = best[bins]
            found[f"ratio_{name}_{clock}"] = best[bins] / best["ours"]
    return found


def parts(grey: np.ndarray, file: str, threshold: int, args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds per tile of each part, the best and the median."""
    pores = segmentation.segment(grey, threshold=threshold)
    lean = functools.partial(measure.tile, grey, threshold=threshold, reach_px=args.reach)
    work: dict[str, tuple[Callable[[], object], int]] = {
        "s2": (lambda: correlation.pair_counts(pores, args.reach), args.rounds),
        "all_cheap": (lean, args.rounds),
        "png": (lambda: reader([file])(0), args.rounds),
        "dear": (lambda: measure.dear_numbers(pores), 3),
    }
    found = {}
    for name, (do, rounds) in work.items():
        begun = time.process_time()
        times = milliseconds(do, rounds)
        cpu = 1000 * (time.process_time() - begun) / rounds
        median = statistics.median(times)
        found[name] = {"best_ms": min(times), "median_ms": median, "mean_cpu_ms": cpu}
    return found


def memory_mb() -> dict[str, float]:
    """What the main process and the largest of its workers hold now; nothing where unknown."""
    held = {}
    pids = {"main": os.getpid()} | {
        f"worker_{k}": one.pid for k, one in enumerate(multiprocessing.active_children())
    }
    for name, pid in pids.items():
        status = Path(f"/proc/{pid}/status")
        lines = status.read_text().splitlines() if status.is_file() else []
        held[name] = sum(int(line.split()[1]) / 1024 for line in lines if line[:6] == "VmRSS:")
    workers = [mb for name, mb in held.items() if name != "main"]
    return {"main": held["main"], "largest_worker": max(workers, default=0.0)}


def over_files(
    files: list[str], threshold: int, args: argparse.Namespace, kept: Path
) -> dict[str, Any]:
    """Rate of the whole, by processes, once they have started; then the same given again."""
    stamps: list[float] = []
    memory: dict[int, dict[str, float]] = {}

    def seen() -> None:
        stamps.append(time.perf_counter())
        if len(stamps) in (args.tiles // 10, args.tiles // 2, args.tiles - args.workers):
            memory[len(stamps)] = memory_mb()

    run = functools.partial(
        measure.tiles,
        measure.Reopen(functools.partial(reader, files)),
        args.tiles,
        threshold=threshold,
        reach_px=args.reach,
        workers=args.workers,
        sample=max(1, round(measure.SAMPLE * args.tiles / FULL_SET)),
        journal=measure.Journal(kept, "bench"),
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    first = run(on_tile=seen)
    begun = time.perf_counter()
    again = run(on_tile=list)
    repeated = time.perf_counter() - begun
    skipped = len(stamps) // 10
    rate = (len(stamps) - 1 - skipped) / (stamps[-1] - stamps[skipped])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "tiles": args.tiles,
        "different_files": len(files),
        "workers": args.workers,
        "whole_s": stamps[-1] - stamps[0],
        "given_again_s": repeated,
        "given_again_equal": all(
            np.array_equal(first.scalars[name], again.scalars[name], equal_nan=True)
            for name in first.scalars
        ),
        "tiles_per_second": rate,
        "core_ms_per_tile": 1000 * args.workers / rate,
        "cpu_ms_per_tile_with_start": 1000 * cpu / args.tiles,
        "minutes_for_200000": FULL_SET / rate / 60,
        "largest_process_mb": after.ru_maxrss / 1024,
        **{
            f"{name}_mb_after_{tiles}": mb
            for tiles, held in memory.items()
            for name, mb in held.items()
        },
    }


def on_gpu(args: argparse.Namespace) -> dict[str, Any]:
    """The batched transform on a GPU, and whether it gives the same integers."""
    import torch

    pores = np.stack([texture(args.side, seed) < 110 for seed in range(args.batch)])
    there = torch.from_numpy(pores).cuda()

    def batch() -> np.ndarray:
        hits = correlation.pair_counts_batch(there, args.reach)[0]
        torch.cuda.synchronize()
        return hits.cpu().numpy()

    equal = all(
        np.array_equal(one, correlation.pair_counts(image, args.reach)[0])
        for one, image in zip(batch(), pores, strict=True)
    )
    best = min(milliseconds(batch, args.rounds)) / args.batch
    return {"gpu": torch.cuda.get_device_name(), "ms_per_tile": best, "equal_integers": equal}


def main() -> None:
    """Runs what was asked for, prints a table and writes the ledger."""
    args = arguments()
    figures: dict[str, Any] = {"side_px": args.side, "reach_px": args.reach}
    with tempfile.TemporaryDirectory() as name:
        files = [str(path) for path in sorted(args.images.glob("*.png"))] if args.images else []
        for seed in range(0 if files else DIFFERENT):
            files.append(f"{name}/{seed}.png")
            imagecodecs.imwrite(files[-1], texture(args.side, seed))
        grey = imagecodecs.imread(files[0])
        threshold = segmentation.otsu(segmentation.histogram([grey]))
        figures["files"] = over_files(files, threshold, args, Path(name) / "kept")
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        if cores:
            os.sched_setaffinity(0, {max(cores)})
        figures["parts"] = parts(grey, files[0], threshold, args)
        if args.peer:
            pores = segmentation.segment(grey, threshold=threshold)
            figures["peer"] = against_peer(args.peer, pores, args.reach, args.peer_rounds)
    if args.device == "cuda":
        figures["gpu"] = on_gpu(args)
    for group, rows in figures.items():
        for what, value in rows.items() if isinstance(rows, dict) else ():
            shown = value if isinstance(value, dict) else {"": value}
            text = "  ".join(
                f"{key} {of:.2f}" if isinstance(of, float) else f"{key} {of}"
                for key, of in shown.items()
            )
            print(f"{group:<8}{what:<28}{text}")
    ledger.append("evaluate", figures, numpy=np.__version__, scipy=scipy.__version__)


if __name__ == "__main__":
    sys.exit(main())
