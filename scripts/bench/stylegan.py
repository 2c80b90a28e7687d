"""Speed of training StyleGAN2-ADA, phase by phase, against a checkout of the reference.

    .venv/bin/python scripts/bench/stylegan.py --peer PATH            (CPU, 128 px, 2 minutes)
    .venv/bin/python scripts/bench/stylegan.py --peer PATH --device cuda --resolution 1024
        --batch 8 --channel-base 32768 --channel-max 512 --precision mixed --repeats 10

Both sides have the same widths, the same weights of their penalties and the bgc pipe at a
fixed strength; repeats alternate between the sides, and the fastest of each phase counts
(the machine may have other work).  The phases are Gmain, Greg (path length, half a batch),
Dmain and Dreg (R1); an iteration counts Greg a quarter and Dreg a sixteenth.  Inference is
the generator alone.  The reference computes float32 on a CPU, on a GPU float16 in its four
highest resolutions, with TF32 and channels last.  Operations are those that torch counts;
the peak is that of one large matrix product in the same precision.

Prints a table and appends a line to outputs/bench.jsonl.
"""

import argparse
import contextlib
import copy
import ctypes
import resource
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledger
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sem2ct.runtime.device import autocast
from sem2ct.stylegan.trainer import StyleganTrainer

PHASES = ("Gmain", "Greg", "Dmain", "Dreg", "inference")
GREG_EVERY, DREG_EVERY = 4, 16
CLEAR_PEAK = Path("/proc/self/clear_refs")
Work = dict[str, Callable[[], object]]


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="checkout of the reference implementation")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="float32", help="ours")
    parser.add_argument("--channel-base", type=int, default=4096)
    parser.add_argument("--channel-max", type=int, default=128)
    parser.add_argument("--z-dim", type=int, default=512, help="also the length of the style w")
    parser.add_argument("--mapping-layers", type=int, default=2)
    parser.add_argument("--strength", type=float, default=0.5, help="p of the augmentation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--phases", nargs="+", default=list(PHASES), choices=PHASES)
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    return parser.parse_args()


def ours(options: argparse.Namespace, real: torch.Tensor) -> Work:
    """Our phases, each with its step of Adam."""
    trainer = StyleganTrainer(
        resolution=options.resolution,
        z_dim=options.z_dim,
        w_dim=options.z_dim,
        mapping_layers=options.mapping_layers,
        channel_base=options.channel_base,
        channel_max=options.channel_max,
        batch_size=options.batch,
        batch_per_device=options.batch,
        learning_rate=0.002,
        ema_half_life_images=1000,
        ema_ramp=0.05,
        r1_gamma=1.0,
        r1_interval=DREG_EVERY,
        path_length_weight=2.0,
        path_length_interval=GREG_EVERY,
        style_mixing=0.9,
        augment="bgc",
        augment_target=0.6,
        augment_ramp_images=10**12,
        precision=options.precision,
        seed=0,
        device=real.device,
    )
    state = trainer.state()
    state["strength"]["value"] = options.strength
    trainer.restore(state)
    latents = torch.randn(options.batch, options.z_dim, device=real.device)
    seen = iter(range(0, 10**9, options.batch))

    @torch.no_grad()
    def infer() -> torch.Tensor:
        with autocast(options.precision, real.device):
            return trainer.ema(latents)

    return {
        "Gmain": lambda: trainer.generator_phase(next(seen)),
        "Greg": lambda: trainer.path_length_phase(next(seen)),
        "Dmain": lambda: trainer.discriminator_phase(real, next(seen)),
        "Dreg": lambda: trainer.gradient_penalty_phase(real, next(seen)),
        "inference": infer,
    }


def peer(options: argparse.Namespace, real: torch.Tensor) -> Work:
    """The phases of the reference, from its own networks, augmentation and losses."""
    sys.path.insert(0, str(options.peer.resolve()))
    # It imports a library for downloads, which nothing here needs.
    sys.modules.setdefault("requests", types.ModuleType("requests"))
    warnings.simplefilter("ignore")
    networks = __import__("training.networks", fromlist=["networks"])
    loss = __import__("training.loss", fromlist=["loss"])
    generator, discriminator = peer_networks(networks, options, real.device)
    pipe = peer_pipe(options, real.device)
    game = loss.StyleGAN2Loss(
        device=real.device,
        G_mapping=generator.mapping,
        G_synthesis=generator.synthesis,
        D=discriminator,
        augment_pipe=pipe,
        r1_gamma=1.0,
    )
    average = copy.deepcopy(generator).eval()
    latents = torch.randn(options.batch, options.z_dim, device=real.device)
    label = torch.zeros(options.batch, 0, device=real.device)
    adams = {
        "G": torch.optim.Adam(generator.parameters(), lr=0.002, betas=(0.0, 0.99)),
        "D": torch.optim.Adam(discriminator.parameters(), lr=0.002, betas=(0.0, 0.99)),
    }

    def run(phase: str) -> None:
        network = generator if phase[0] == "G" else discriminator
        adams[phase[0]].zero_grad(set_to_none=True)
        network.requires_grad_(True)
        gain = {"Greg": GREG_EVERY, "Dreg": DREG_EVERY}.get(phase, 1)
        z = torch.randn_like(latents)
        game.accumulate_gradients(phase, real, label, z, label, sync=True, gain=gain)
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, 0, 1e5, -1e5, out=parameter.grad)
        adams[phase[0]].step()

    @torch.no_grad()
    def infer() -> torch.Tensor:
        return average(latents, label, noise_mode="const")

    phases: Work = {name: (lambda name=name: run(name)) for name in PHASES[:4]}
    return phases | {"inference": infer}


def peer_networks(networks: Any, options: argparse.Namespace, device: torch.device) -> Any:
    """Generator and discriminator of the reference as its training builds them."""
    on_gpu = device.type == "cuda"
    shared = {
        "channel_base": options.channel_base,
        "channel_max": options.channel_max,
        "num_fp16_res": 4 if on_gpu else 0,
        "conv_clamp": 256 if on_gpu else None,
    }
    size = {"img_resolution": options.resolution, "img_channels": 1}
    generator = networks.Generator(
        z_dim=options.z_dim,
        c_dim=0,
        w_dim=options.z_dim,
        mapping_kwargs={"num_layers": options.mapping_layers},
        synthesis_kwargs={**shared, "fp16_channels_last": on_gpu},
        **size,
    )
    discriminator = networks.Discriminator(
        c_dim=0,
        block_kwargs={"fp16_channels_last": on_gpu},
        epilogue_kwargs={"mbstd_group_size": 4},
        **shared,
        **size,
    )
    return [
        network.to(device).train().requires_grad_(False) for network in (generator, discriminator)
    ]


def peer_pipe(options: argparse.Namespace, device: torch.device) -> Any:
    """The bgc pipe of the reference at the same fixed strength."""
    augment = __import__("training.augment", fromlist=["augment"])
    names = "xflip rotate90 xint scale rotate aniso xfrac brightness contrast lumaflip hue"
    pipe = augment.AugmentPipe(**dict.fromkeys([*names.split(), "saturation"], 1))
    pipe.to(device).train().requires_grad_(False)
    pipe.p.copy_(torch.as_tensor(options.strength))
    return pipe


def seconds(work: Callable[[], object], device: torch.device, clock: str) -> float:
    """How long one call takes."""
    now = time.perf_counter if clock == "wall" else time.process_time
    wait(device)
    begun = now()
    work()
    wait(device)
    return now() - begun


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Memory that one call takes beyond what it finds; 0 where the system does not tell."""
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with contextlib.suppress(OSError, AttributeError):
        # Freed memory that the allocator keeps would hide what this call takes.
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR_PEAK.write_text("5")
        before = status_bytes("VmRSS")
        work()
        return status_bytes("VmHWM") - before
    work()
    return 0


def status_bytes(name: str) -> int:
    """A memory figure of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


class Operations(TorchDispatchMode):
    """Counts floating-point operations, as torch's own formulas have them."""

    def __init__(self) -> None:
        """Starts at zero."""
        super().__init__()
        self.count = 0

    def __torch_dispatch__(  # noqa: D105
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=result)
        return result


def matmul_peak(precision: str, device: torch.device, clock: str) -> float:
    """Operations per second of a large matrix product, the best of several."""
    kinds = {
        "bf16": torch.bfloat16,
        "mixed": torch.float16 if device.type == "cuda" else torch.bfloat16,
    }
    side = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(side, side, device=device).to(kinds.get(precision, torch.float32))
    best = min(seconds(lambda: matrix @ matrix, device, clock) for _ in range(12))
    return 2 * side**3 / best


def measured(options: argparse.Namespace, sides: dict[str, Work], device: torch.device) -> dict:
    """Per side and phase: seconds, operations, memory; repeats alternate between the sides."""
    rows: dict[str, dict[str, dict[str, float]]] = {side: {} for side in sides}
    for phase in options.phases:
        for side, work in sides.items():
            # The first call also chooses kernels and fills caches.
            with Operations() as counted:
                peak = peak_bytes(work[phase], device)
            rows[side][phase] = {
                "flop": counted.count,
                "peak_bytes": peak,
                "seconds": float("inf"),
            }
        for _ in range(options.repeats):
            for side, work in sides.items():
                took = seconds(work[phase], device, options.clock)
                row = rows[side][phase]
                row["seconds"] = min(row["seconds"], took)
    return rows


def iteration(rows: dict[str, dict[str, float]], what: str) -> float:
    """Lazily weighted sum over the phases."""
    weights = {"Gmain": 1.0, "Greg": 1 / GREG_EVERY, "Dmain": 1.0, "Dreg": 1 / DREG_EVERY}
    return sum(rows[phase][what] * weight for phase, weight in weights.items())


def show(options: argparse.Namespace, rows: dict, peaks: dict[str, float]) -> dict[str, Any]:
    """Prints the table and returns what is worth keeping of it."""
    print(f"{'':<12}" + "".join(f"{side:>34}" for side in rows))
    head = f"{'ms':>9}{'GFLOP/s':>9}{'of peak':>8}{'MiB':>8}"
    print(f"{'phase':<12}" + head * len(rows) + (f"{'ratio':>8}" if len(rows) > 1 else ""))
    for phase in options.phases:
        line = f"{phase:<12}"
        for side, table in rows.items():
            row = table[phase]
            rate = row["flop"] / row["seconds"]
            line += f"{row['seconds'] * 1e3:9.1f}{rate / 1e9:9.1f}{rate / peaks[side]:8.1%}"
            line += f"{row['peak_bytes'] / 2**20:8.0f}"
        if len(rows) > 1:
            line += f"{rows['peer'][phase]['seconds'] / rows['ours'][phase]['seconds']:8.2f}"
        print(line)
    kept = {side: summary(options, table, peaks[side]) for side, table in rows.items()}
    if not set(PHASES[:4]) <= set(options.phases):
        return kept
    for side, row in kept.items():
        print(
            f"{side}: {row['images_per_second']:.2f} images/s, {row['gflop_per_second']:.1f}"
            f" GFLOP/s, {row['share_of_matmul_peak']:.1%} of {peaks[side] / 1e9:.0f} measured"
        )
    if len(rows) > 1:
        rates = [kept[side]["images_per_second"] for side in ("ours", "peer")]
        kept["ratio"] = round(rates[0] / rates[1], 3)
        print(f"ratio per lazily weighted iteration: {kept['ratio']:.2f}")
    return kept


def summary(options: argparse.Namespace, table: dict, peak: float) -> dict[str, Any]:
    """What is worth keeping of one side's measurements."""
    kept: dict[str, Any] = {
        "seconds": {phase: round(row["seconds"], 5) for phase, row in table.items()},
        "peak_mib": round(max(row["peak_bytes"] for row in table.values()) / 2**20),
    }
    if set(PHASES[:4]) <= set(table):
        took = iteration(table, "seconds")
        rate = iteration(table, "flop") / took
        kept["images_per_second"] = round(options.batch / took, 3)
        kept["gflop_per_second"] = round(rate / 1e9, 1)
        kept["share_of_matmul_peak"] = round(rate / peak, 4)
    return kept


def main() -> None:
    """Measures, prints and keeps the result."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    if options.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    real = torch.rand(options.batch, 1, options.resolution, options.resolution, device=device) - 0.5
    sides = {"ours": ours(options, real)}
    peaks = {"ours": matmul_peak(options.precision, device, options.clock)}
    if options.peer is not None:
        sides["peer"] = peer(options, real)
        peaks["peer"] = matmul_peak(
            "mixed" if options.device == "cuda" else "float32", device, options.clock
        )
    kept = show(options, measured(options, sides, device), peaks)
    figures = {name: value for name, value in vars(options).items() if name != "peer"}
    figures |= kept
    figures["process_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    ledger.append("stylegan", figures, gpu=gpu, torch=torch.__version__)


if __name__ == "__main__":
    main()
