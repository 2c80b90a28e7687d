"""Speed of making SEM tiles, from the generator to files on disk, and what limits it.

    .venv/bin/python scripts/bench/synthesize.py                       (CPU, 128 px, a minute)
    .venv/bin/python scripts/bench/synthesize.py --peer PATH --tiles 32
    .venv/bin/python scripts/bench/synthesize.py --device cuda --resolution 1024 --tiles 4000
        --channel-base 32768 --channel-max 512 --batch 16 --precision bf16

Ours is the stage's own way: batches, 8 bit on the device, shards with checksums written in
threads.  The reference (a checkout of it, never part of this project) goes the way of its
own script: one image at a time in float32, each saved as PNG by Pillow.  Both have the same
widths and untrained weights; they take turns, and the fastest round of each counts, since the
machine may have other work.  `--clock cpu` counts the process's own seconds instead of the
wall's.

Prints a table and appends a line to outputs/bench.jsonl.
"""

import argparse
import importlib
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import ledger
import numpy as np
import torch

from sem2ct.data.intensity import from_network
from sem2ct.data.store import StoreWriter
from sem2ct.runtime.device import autocast
from sem2ct.stylegan import bulk, sample
from sem2ct.stylegan.generator import Generator

Rates = dict[str, float]


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, help="checkout of the reference implementation")
    parser.add_argument("--peer-fp16", action="store_true", help="its four highest resolutions")
    parser.add_argument("--noise", default="const", choices=["const", "random"], help="of the peer")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shard", type=int, default=32)
    parser.add_argument("--precision", default="float32", help="ours")
    parser.add_argument("--channel-base", type=int, default=4096)
    parser.add_argument("--channel-max", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    return parser.parse_args()


def clock(options: argparse.Namespace) -> float:
    """Seconds, when the device has done what it was given."""
    if options.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() if options.clock == "wall" else time.process_time()


def rate(options: argparse.Namespace, work: Callable[[], object]) -> float:
    """Tiles per second of some work on all of them."""
    begun = clock(options)
    work()
    return options.tiles / (clock(options) - begun)


def generator(options: argparse.Namespace) -> Generator:
    """Ours, untrained."""
    torch.manual_seed(0)
    made = Generator(
        resolution=options.resolution,
        mapping_layers=2,
        channel_base=options.channel_base,
        channel_max=options.channel_max,
    )
    return made.eval().requires_grad_(False).to(options.device)


def ours(options: argparse.Namespace, network: Generator, folder: Path) -> tuple[Rates, bulk.Spent]:
    """Rates of the whole and of its parts, and where the stage says its time went."""
    writer = StoreWriter(
        folder,
        tile_px=options.resolution,
        domain="sem",
        pixel_um=None,
        window=None,
        shard_patches=options.shard,
        sources=[],
        facts={},
    )
    how = {"shard_patches": options.shard, "precision": options.precision}
    spent: list[bulk.Spent] = []

    def whole() -> None:
        made = bulk.fill(
            writer,
            network,
            n=options.tiles,
            seed=0,
            psi=1.0,
            batch_per_device=options.batch,
            **how,
        )
        spent.append(made)

    rates = {"end to end": rate(options, whole)}
    batches = [range(k, k + options.batch) for k in range(0, options.tiles, options.batch)]
    with autocast(options.precision, torch.device(options.device)):
        rates["generator"] = rate(
            options, lambda: [sample.images(network, seed=0, indices=batch) for batch in batches]
        )
    grey = sample.images(network, seed=0, indices=batches[0])
    rates["conversion"] = rate(options, lambda: [from_network(grey).cpu().numpy() for _ in batches])
    tiles = np.zeros((options.shard, options.resolution, options.resolution), np.uint8)
    places = {"seed": np.arange(options.shard)}
    shards = range(max(1, options.tiles // options.shard))
    rates["writing"] = rate(options, lambda: [writer.write_shard(k, tiles, places) for k in shards])
    return rates, spent[0]


def peer(options: argparse.Namespace) -> Callable[[Path], Rates]:
    """Rates of the reference: end to end, and of its generator alone."""
    import PIL.Image

    sys.path.insert(0, str(options.peer))
    networks = importlib.import_module("training.networks")
    network = networks.Generator(
        z_dim=512,
        c_dim=0,
        w_dim=512,
        img_resolution=options.resolution,
        img_channels=1,
        mapping_kwargs={"num_layers": 2},
        synthesis_kwargs={
            "channel_base": options.channel_base,
            "channel_max": options.channel_max,
            "num_fp16_res": 4 if options.peer_fp16 else 0,
        },
    )
    network = network.eval().requires_grad_(False).to(options.device)
    label = torch.zeros(1, 0, device=options.device)

    def drawn(number: int) -> torch.Tensor:
        z = torch.from_numpy(np.random.default_rng(number).standard_normal((1, 512)))
        return network(z.to(options.device), label, noise_mode=options.noise)

    def saved(number: int, folder: Path) -> None:
        grey = from_network(drawn(number)).cpu().numpy()[0, 0]
        PIL.Image.fromarray(grey).save(folder / f"{number}.png")

    def measured(folder: Path) -> Rates:
        numbers = range(options.tiles)
        return {
            "end to end": rate(options, lambda: [saved(k, folder) for k in numbers]),
            "generator": rate(options, lambda: [drawn(k) for k in numbers]),
        }

    return measured


def best(rounds: list[Rates]) -> Rates:
    """The fastest round of each."""
    return {name: max(one[name] for one in rounds) for name in rounds[0]}


def memory(options: argparse.Namespace) -> float:
    """Most memory this process, or its GPU, has held, in GB."""
    if options.device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def show(options: argparse.Namespace, table: dict[str, Rates], spent: bulk.Spent) -> Rates:
    """Prints the table; returns ours over the reference's."""
    whole = table["ours"]["end to end"]
    print(f"{options.resolution} px, {options.precision}, {options.device}, tiles/s")
    for who, rates in table.items():
        for name, value in rates.items():
            share = f"{whole / value:8.0%} of the time" if who == "ours" else ""
            print(f"  {who:<6}{name:<12}{value:12.1f}{share}")
    print(f"  the stage says: {spent}")
    ratios: Rates = {}
    if "peer" in table:
        ratios = {name: table["ours"][name] / value for name, value in table["peer"].items()}
        print(f"  ratio  end to end {ratios['end to end']:.2f} (target 5 on a GPU)")
        print(f"  ratio  generator  {ratios['generator']:.2f} (target 3)")
    return ratios


def main() -> None:
    """Measures in turn, prints, appends a line."""
    options = arguments()
    torch.set_num_threads(options.threads)
    # The reference builds kernels of its own on a GPU, and warns where it cannot.
    warnings.simplefilter("ignore")
    network = generator(options)
    measured = peer(options) if options.peer else None
    spent: list[bulk.Spent] = []
    rounds: dict[str, list[Rates]] = {"ours": []} | ({"peer": []} if measured else {})
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        for k in range(options.rounds):
            rates, one = ours(options, network, Path(name) / f"{k}")
            rounds["ours"].append(rates)
            spent.append(one)
            if measured:
                rounds["peer"].append(measured(Path(name)))
    table = {who: best(given) for who, given in rounds.items()}
    ratios = show(options, table, spent[-1])
    print(f"  memory {memory(options):.2f} GB")
    figures = {
        "settings": {name: value for name, value in vars(options).items() if name != "peer"},
        "tiles_per_second": {who: rounded(rates) for who, rates in table.items()},
        "ratio": rounded(ratios),
        "memory_gb": round(memory(options), 2),
    }
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else "none"
    ledger.append("synthesize", figures, gpu=gpu, torch=torch.__version__)


def rounded(rates: Rates) -> Rates:
    """Two digits are more than the machine repeats."""
    return {name: round(value, 2) for name, value in rates.items()}


if __name__ == "__main__":
    main()
