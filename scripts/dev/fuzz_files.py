"""Damages the files that stages write: each must be refused, or change nothing that is made of it.

    .venv/bin/python scripts/dev/fuzz_files.py [damages per kind, 300] [kind ...] [--outputs FOLDER]

Six runs of size=tiny are made (in FOLDER, where they stay).  Then one file of them is damaged at a
time: bytes as in fuzz_readers.py; in JSON, YAML and checkpoints also a value of another type, a
huge or negative number, NaN, a path out of the folder, a missing name.  What reads such files is
called in a child process with limits of memory and time.  Faults are: any error but a `Refusal`, a
crash, a hang, a process out of memory, and pixels or weights that were taken although they are
not what was written.  What caused a fault stays in outputs/fuzz/.  Ends with 1 if there was one.
"""

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_readers import HEADER, Child, mutated, tell

from sem2ct import cli, composition
from sem2ct.cyclegan import volume
from sem2ct.data import scans, toy_rock
from sem2ct.data.frames import Frames
from sem2ct.data.image_sets import open_set
from sem2ct.data.store import Store
from sem2ct.metrics import earlier
from sem2ct.runtime import checkpoint
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan import trained

ROOT = Path(__file__).resolve().parents[2]
RUN = "toy_tiny"
SECONDS = 120  # the first look imports what its stage needs
NASTY: list[Any] = [None, True, -1, 0, 3, 10**18, 10**400, 1e308, 0.5, float("nan"), float("inf")]
NASTY += ["", "x", "9" * 5000, "../../x", "/etc/hostname", [], [[]], {}, {"x": 1}, [1, 2, 3]]
OURS = ["size=tiny", "machine=cpu"]
Look = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what reads them."""

    stage: str
    """Folder of the run that is damaged, under the outputs."""
    files: tuple[str, ...]
    """Globs of the files that are damaged, within the run."""
    look: Look
    """Reads them, given the outputs; raises a `Refusal`, or an AssertionError for wrong content."""
    bytes_only: bool = False
    """Whether nothing but bytes is damaged: content that checksums would not tell apart stays."""


def changed(value: Any, draw: np.random.Generator) -> Any:
    """Plain values with one of them, at any depth, replaced, removed or doubled."""
    inner = isinstance(value, dict | list) and len(value) > 0
    if not inner or draw.random() < 0.1:
        return NASTY[int(draw.integers(len(NASTY)))]
    names = list(value) if isinstance(value, dict) else list(range(len(value)))
    name = names[int(draw.integers(len(names)))]
    copy = value.copy()
    match int(draw.integers(5)):
        case 0:
            del copy[name]
        case 1 if isinstance(copy, list):
            copy.append(copy[name])
        case _:
            copy[name] = changed(copy[name], draw)
    return copy


def damage(path: Path, draw: np.random.Generator, *, bytes_only: bool) -> None:
    """Damages one file: in what it says, where that can be read, or in its bytes."""
    content = path.read_bytes()
    readable = path.suffix in (".json", ".yaml", ".jsonl", ".pt") and content
    if bytes_only or not readable or draw.random() < 0.4:
        path.write_bytes(mutated(content, draw))
    elif path.suffix == ".pt":
        torch.save(changed(torch.load(path, weights_only=True), draw), path)
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(changed(yaml.safe_load(content), draw)))
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in content.decode().splitlines()]
        at = int(draw.integers(len(rows)))
        rows[at] = changed(rows[at], draw)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(changed(json.loads(content), draw)))


def settings(root: Path, command: str, *overrides: str) -> dict[str, Any]:
    """Plain values of a run as it was made."""
    given = [*OURS, f"run_root={root}", *overrides]
    return composition.settings_of(command.replace("-", "_"), given)


def again(root: Path, command: str, *overrides: str) -> Look:
    """Gives the command of a run once more; composed now, because that takes long."""
    values = settings(root, command, *overrides)
    return lambda _: cli.start(command, values)


def opened(root: Path, command: str) -> Look:
    """Opens a run folder as a resumed run does, reads what it says and goes back to its start."""
    values = settings(root, command)
    stage = command.replace("-", "_")
    module = __import__(f"sem2ct.stages.{stage}", fromlist=["inputs"])
    asked = cli.checked(stage, values)

    def look(outputs: Path) -> None:
        path = outputs / stage / RUN
        values, inputs = asked.model_dump(mode="json"), module.inputs(asked)
        folder = RunFolder.open(path, values, inputs=inputs, later=asked.LATER)
        if folder.finished:
            folder.facts()
        folder.rewind(16)
        folder.close()

    return look


def same_store(root: Path, where: str) -> Look:
    """Reads a store whole; its pixels, places and grey window are as written, or refused."""
    before = Store(root / where)
    pixels, known = before.tiles[:], before.grey_and_size()

    def look(outputs: Path) -> None:
        store = Store(outputs / where)
        store.places()
        found = store.tiles[:]
        assert np.array_equal(found, pixels) or store.grey_and_size() != known, "other pixels"
        open_set("real", str(outputs / where), tile_px=32, most_tiles=20, seed=0).read(0)

    return look


def same_frames(outputs: Path) -> None:
    """Opens frames and verifies them."""
    frames = Frames(outputs / f"extract/{RUN}/sem_frames")
    frames.verify()
    assert all(frame.ndim == 2 for frame in frames.training)


def same_weights(root: Path, folder: str) -> Look:
    """Loads a checkpoint; it is refused, or holds what it held."""
    file = checkpoint.newest(root / folder)
    assert file is not None
    before = checkpoint.load(file)

    def look(outputs: Path) -> None:
        assert same(checkpoint.load(outputs / folder / file.name), before), "other weights"

    return look


def same(one: Any, other: Any) -> bool:
    """Whether nested tensors and plain values are equal."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict | list | tuple):
        parts = list(one) if isinstance(one, dict) else range(len(one))
        alike = type(one) is type(other) and len(one) == len(other)
        return alike and all(same(one[name], other[name]) for name in parts)
    return one == other


def resumed(root: Path, command: str, look: Look = bool) -> Look:
    """Goes on with a run that was stopped just before it said that it is done."""
    values, stage = settings(root, command), command.replace("-", "_")

    def go_on(outputs: Path) -> None:
        (outputs / stage / RUN / "done.json").unlink()
        cli.start(command, values)
        look(outputs)

    return go_on


def look_at_volume(outputs: Path) -> None:
    """Opens a translated volume as evaluate does, and reads a tile."""
    run = outputs / f"translate/{RUN}"
    open_set("translated", str(run), tile_px=32, most_tiles=20, seed=0).read(0)


def look_at_numbers(outputs: Path) -> None:
    """Compares an earlier evaluation with itself, as evaluate does."""
    where = outputs / f"evaluate/{RUN}"
    metrics = earlier.complete(where)
    earlier.lines(earlier.differences(metrics, metrics, where=str(where)))


def look_at_rock(outputs: Path) -> None:
    """Takes a toy rock that is already there."""
    shape: dict[str, Any] = {"ct_shape": (4, 32, 32), "sem_images": 3, "sem_px": 128, "scale": 4}
    toy_rock.make(outputs / f"extract/{RUN}/rock", seed=0, **shape)


def generator(outputs: Path) -> object:
    """Opens the generator of SEM tiles."""
    return trained.load(outputs / f"train_stylegan/{RUN}", "latest")


def translator(outputs: Path) -> object:
    """Prepares a translation."""
    scan = scans.open(outputs / f"extract/{RUN}/rock/ct.tif")
    ranges: dict[str, Any] = {"z_range": "all", "y_range": "all", "x_range": "all"}
    how: dict[str, Any] = {"core_px": 16, "halo_px": "network", "seed": 0, "precision": "float32"}
    how |= {"ct_pixel_um": "metadata", "refine_z": True, "device": "cpu"}
    return volume.prepare(scan, cyclegan=outputs / f"train_cyclegan/{RUN}", **ranges, **how)


def kinds(root: Path) -> dict[str, Callable[[], Kind]]:
    """All kinds of files, read from the outputs in `root`; each is made when it is wanted."""
    sem, points = f"extract/{RUN}/sem", "checkpoints/*.pt"
    shards, volumes = ("sem/*.json", "sem/*.npy"), ("*.tif", "*.zarr/**/*")
    journal = ("*.jsonl", "*.zarr/**/*")
    made: dict[str, Callable[[], Kind]] = {
        "store": lambda: Kind("extract", shards, same_store(root, sem)),
        "frames": lambda: Kind("extract", ("sem_frames/*",), same_frames),
        "rock": lambda: Kind("extract", ("rock/rock.json",), look_at_rock),
        "generator": lambda: Kind("train_stylegan", (points,), generator),
        "translator": lambda: Kind("train_cyclegan", (points,), translator),
        "volume": lambda: Kind("translate", ("config.yaml", *volumes), look_at_volume),
        "numbers": lambda: Kind("evaluate", ("metrics.json",), look_at_numbers),
        "extract resumed": lambda: Kind(
            "extract", shards, resumed(root, "extract", same_store(root, sem))
        ),
        "synthesize resumed": lambda: Kind(
            "synthesize",
            shards,
            resumed(root, "synthesize", same_store(root, f"synthesize/{RUN}/sem")),
        ),
        "translate resumed": lambda: Kind(
            "translate", journal, resumed(root, "translate", look_at_volume)
        ),
    }
    for command in ("train-stylegan", "train-cyclegan"):
        made |= training_kinds(root, command)
    for command in cli.STAGES:
        made |= folder_kinds(root, command)
    return made


def training_kinds(root: Path, command: str) -> dict[str, Callable[[], Kind]]:
    """Checkpoints of a training: their weights, and a resume from them."""
    stage, files = command.replace("-", "_"), ("checkpoints/*", "values.jsonl")
    folder = f"{stage}/{RUN}/checkpoints"
    return {
        f"{stage} weights": lambda: Kind(
            stage, ("checkpoints/*.pt",), same_weights(root, folder), bytes_only=True
        ),
        f"{stage} resumed": lambda: Kind(stage, files, resumed(root, command)),
    }


def folder_kinds(root: Path, command: str) -> dict[str, Callable[[], Kind]]:
    """The small files of a run folder: opened as a resumed run does, and by its command."""
    stage, files = command.replace("-", "_"), ("config.yaml", "provenance.json", "done.json")
    return {
        f"{stage} folder": lambda: Kind(stage, (*files, "values.jsonl"), opened(root, command)),
        f"{stage} again": lambda: Kind(stage, files, again(root, command)),
    }


def prepare(root: Path) -> None:
    """Makes the six runs."""
    for command in cli.STAGES:
        cli.start(command, settings(root, command))


def quiet(look: Look) -> Look:
    """Without the lines and bars that commands show."""

    def silent(outputs: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            look(outputs)

    return silent


def fuzz(name: str, kind: Kind, root: Path, count: int) -> Counter[str]:
    """Damages files of one kind in place, one at a time, and puts them right again."""
    kept = ROOT / "outputs/fuzz" / name.replace(" ", "_")
    run, child = root / kind.stage / RUN, Child(quiet(kind.look), seconds=SECONDS)
    files = sorted({file for glob in kind.files for file in run.glob(glob) if file.is_file()})
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        whole = Path(shutil.copytree(run, Path(place) / RUN))
        for k in range(count + 1):
            draw = np.random.default_rng([k, *name.encode()])
            victim = files[int(draw.integers(len(files)))]
            if k:
                damage(victim, draw, bytes_only=kind.bytes_only)
            damaged = victim.read_bytes()
            said = child.look(root)
            assert k or said == "read", f"{name}, undamaged: {said}"
            if said not in ("read", "refused"):
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{k}_{victim.name}").write_bytes(damaged)
                (kept / f"{k}.txt").write_text(said)
                said = f"{victim.name}: {said.strip().splitlines()[-1][:100]}"
            counted[said] += 1 if k else 0
            shutil.rmtree(run)
            shutil.copytree(whole, run)
    child.end()
    return counted


def main() -> None:
    """Damages files of all kinds, or of those named."""
    parser = argparse.ArgumentParser(description="Damages the files that stages write.")
    parser.add_argument("count", nargs="?", type=int, default=300)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--outputs", type=Path)
    given = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as place:
        root = given.outputs or Path(place)
        prepare(root)
        known = kinds(root)
        print(HEADER)
        for name in given.kinds or list(known):
            begun = time.monotonic()
            counted = fuzz(name, known[name](), root, given.count)
            faults += tell(name, counted, time.monotonic() - begun)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
