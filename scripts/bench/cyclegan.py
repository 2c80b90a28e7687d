"""Seconds and memory of one CycleGAN step, ours against the authors' networks and objective.

    .venv/bin/python scripts/bench/cyclegan.py --peer ../MultiscaleDRPNet/cyclegan

Without --peer only ours is measured.  On a CPU patches of 16 px and one thread are enough for
ratios; on a GPU give --device cuda --patch-px 64 --batch 16.  Each measurement runs in a
process of its own, and they take turns, because machines are shared and noisy: the least
time of each counts (of robust the mean of four steps, because every fourth takes the SEM cycle).

The peer's step is its four networks under the published objective as it was published:
adversarial terms, cycles of weight 5, and the "identity" terms of weight 10 that compute
the cycles a second time; one Adam for the translators, one for each discriminator.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ledger
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from sem2ct.cyclegan.trainer import CycleganTrainer
from sem2ct.runtime.device import autocast, choose

SCALE = 16
INTERVAL = {"peer": 1, "paper": 1, "robust": 4}  # steps of a kind that are not all alike
PAPER_SIZES = {"width": 128, "blocks": 3, "discriminator_width": 8}
ROBUST_SIZES = {"width": 64, "blocks": 8, "discriminator_width": 32}
OURS = {
    "paper": {**PAPER_SIZES, "consistency_weight": 0.0, "raster_weight": 0.0},
    "robust": {**ROBUST_SIZES, "consistency_weight": 10.0, "raster_weight": 3.0},
}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peer", type=Path, help="folder that holds the authors' models.py")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch-px", type=int, default=16)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def our_step(kind: str, precision: str, chosen: argparse.Namespace) -> Callable[[], object]:
    """A step of our trainer in the middle of a training: every branch has weight."""
    total = 1000 * chosen.batch
    trainer = CycleganTrainer(
        network=kind,
        scale=SCALE,
        patch_px=chosen.patch_px,
        batch_size=chosen.batch,
        batch_per_device=chosen.batch,
        learning_rate=2e-4,
        constant_images=total,
        total_images=total,
        cycle_weight=15.0 if kind == "paper" else 10.0,
        sem_cycle_weight=15.0 if kind == "paper" else 1.0,
        sem_cycle_interval=INTERVAL[kind],
        even_phases=True,
        history=50,
        guard_images=total,
        ema_half_life_images=1000,
        precision=precision,
        seed=0,
        device=choose(chosen.device),
        **OURS[kind],
    )
    images = pictures(chosen)
    seen = iter(range(chosen.batch, total, chosen.batch))
    return lambda: trainer.step(images, next(seen))


def pictures(chosen: argparse.Namespace) -> dict[str, Tensor]:
    """Random patches and tiles."""
    random = torch.Generator().manual_seed(0)
    sides = {"ct": chosen.patch_px, "sem": chosen.patch_px * SCALE}
    return {
        name: (torch.rand(chosen.batch, 1, side, side, generator=random) * 2 - 1).to(chosen.device)
        for name, side in sides.items()
    }


def peer_step(precision: str, chosen: argparse.Namespace) -> Callable[[], object]:
    """A step of the authors' networks under their objective."""
    sys.path.insert(0, str(chosen.peer))
    models = importlib.import_module("models")
    device = torch.device(chosen.device)
    up, down = models.GeneratorL2H(1, 1).to(device), models.GeneratorH2L(1, 1).to(device)
    judge_sem, judge_ct = models.DiscriminatorH(1).to(device), models.DiscriminatorL(1).to(device)
    translators = torch.optim.Adam([*up.parameters(), *down.parameters()], 2e-4, (0.5, 0.999))
    adams = [torch.optim.Adam(j.parameters(), 2e-4, (0.5, 0.999)) for j in (judge_sem, judge_ct)]
    images = pictures(chosen)
    ct, sem = images["ct"], images["sem"]

    def translate() -> tuple[Tensor, Tensor]:
        translators.zero_grad()
        with autocast(precision, device):
            same = 10 * (F.l1_loss(up(down(sem)), sem) + F.l1_loss(down(up(ct)), ct))
            fake_sem, fake_ct = up(ct), down(sem)
            cheated = (judge_sem(fake_sem) - 1).square().mean()
            cheated = cheated + (judge_ct(fake_ct) - 1).square().mean()
            cycle = 5 * (F.l1_loss(down(fake_sem), ct) + F.l1_loss(up(fake_ct), sem))
        (same + cheated + cycle).backward()
        translators.step()
        return fake_sem.detach(), fake_ct.detach()

    def step() -> None:
        fakes = translate()
        judged = zip((judge_sem, judge_ct), adams, (sem, ct), fakes, strict=True)
        for judge, adam, real, fake in judged:
            adam.zero_grad()
            with autocast(precision, device):
                loss = (judge(real) - 1).square().mean() + judge(fake).square().mean()
            (loss / 2).backward()
            adam.step()

    return step


def measure(chosen: argparse.Namespace) -> dict[str, float]:
    """Seconds of the fastest step, and peak memory, of what `--one` names."""
    torch.set_num_threads(chosen.threads)
    who, precision = chosen.one.split(":")
    on_gpu = chosen.device.startswith("cuda")
    torch.manual_seed(0)
    step = peer_step(precision, chosen) if who == "peer" else our_step(who, precision, chosen)
    step()
    best = float("inf")
    for _ in range(chosen.steps):
        begun = time.perf_counter()
        for _ in range(INTERVAL[who]):
            step()
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - begun) / INTERVAL[who])
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    return {
        "seconds": best,
        "peak_mb": (peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 1e6,
    }


def main() -> None:
    """Measures everything in turn, prints a table and appends a line to outputs/bench.jsonl."""
    chosen = arguments()
    if chosen.one:
        print(json.dumps(measure(chosen)))
        return
    whos = ["peer"] * (chosen.peer is not None) + list(OURS)
    what = [f"{who}:{precision}" for precision in ("float32", "bf16") for who in whos]
    found: dict[str, dict[str, float]] = {}
    for _ in range(chosen.rounds):
        for name in what:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            one = json.loads(said.splitlines()[-1])
            known = found.setdefault(name, one)
            found[name] = {key: min(known[key], one[key]) for key in one}
    peer = found.get("peer:float32", {}).get("seconds")
    print(f"scale {SCALE}, patches of {chosen.patch_px} px, batch {chosen.batch}, {chosen.device}")
    print(f"{'step':<16}{'s':>9}{'pairs/s':>10}{'peak MB':>10}{'x peer float32':>16}")
    for name, one in found.items():
        times = f"{peer / one['seconds']:16.2f}" if peer else ""
        rate = chosen.batch / one["seconds"]
        print(f"{name:<16}{one['seconds']:9.3f}{rate:10.2f}{one['peak_mb']:10.0f}{times}")
    setting = {key: str(value) for key, value in vars(chosen).items() if key not in ("one", "peer")}
    ledger.append("cyclegan", {"setting": setting, "steps": found}, torch=torch.__version__)


if __name__ == "__main__":
    main()
