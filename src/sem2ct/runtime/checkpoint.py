"""Checkpoints: a bag of named objects in one file per moment, never half written.

They hold plain Python values and tensors only and are read that way, so that opening
a stranger's file cannot run code.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from sem2ct.runtime import distributed, provenance
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import writing

SUFFIX = ".pt"
BEST = "best.json"
Which = Literal["latest", "best"]


def name(images_seen: int) -> str:
    """Returns the name of a checkpoint's file."""
    return f"{images_seen:09d}{SUFFIX}"


def save(
    folder: Path,
    images_seen: int,
    bag: dict[str, Any],
    *,
    keep: int,
    best: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a checkpoint and removes the oldest beyond `keep`; only rank 0 does.

    Args:
        folder: Folder of checkpoints; made when absent.
        images_seen: Progress, which names the file and is added to the bag.
        bag: Plain values and tensors by name.
        keep: How many checkpoints stay.
        best: Record of the best checkpoint so far ("file", and by what), which stays too;
            None or empty where none is judged.

    Returns:
        Where the checkpoint lies.

    Raises:
        Refusal: If the disk is full or the folder cannot be written.
    """
    path = folder / name(images_seen)
    if not distributed.is_main():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with writing(path) as unfinished:
        _write({"images_seen": images_seen, **bag}, unfinished)
    record_best(folder, best or {})
    for old in _all(folder)[:-keep]:
        if not best or old.name != best["file"]:
            old.unlink()
    return path


def record_best(folder: Path, best: Mapping[str, Any]) -> None:
    """Writes down which checkpoint is the best, where that has changed; only rank 0 does.

    Args:
        folder: Folder of checkpoints.
        best: "file", and by what; if empty, an older record is removed.
    """
    path = folder / BEST
    if not distributed.is_main():
        return
    if not best:
        path.unlink(missing_ok=True)
    elif _read_best(folder) != dict(best):
        with writing(path) as unfinished:
            unfinished.write_text(json.dumps(dict(best)) + "\n", encoding="utf-8")


def newest(folder: Path) -> Path | None:
    """Returns the checkpoint with the most images in a folder, None if there is none."""
    checkpoints = _all(folder)
    return checkpoints[-1] if checkpoints else None


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Args:
        path: A file that `save` wrote.

    Returns:
        The bag, with "images_seen".

    Raises:
        Refusal: If the file is damaged, cut short, or not a checkpoint of this program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch does not compare the checksums that it writes.
            broken = archive.testzip()
    except zipfile.BadZipFile:
        broken = "its end"
    except OSError as error:
        raise Refusal(f"{path} could not be read: {error.strerror}") from error
    if broken is not None:
        raise Refusal(
            f"{path} is damaged ({broken} is not as written); delete it to go on from the"
            " checkpoint before it"
        )
    try:
        bag = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Refusal(f"{path} is no checkpoint of sem2ct: {_first_line(error)}") from error
    if not isinstance(bag, dict) or "images_seen" not in bag:
        raise Refusal(f"{path} is no checkpoint of sem2ct: it says nothing about images_seen")
    return bag


def find(run_or_file: Path, *, setting: str, which: Which = "latest") -> Path:
    """Finds the checkpoint that a setting means.

    Args:
        run_or_file: A run folder, or one checkpoint, which is taken as it is.
        setting: Name of the setting, for the refusal; the command that makes such
            runs is train-<setting>.
        which: Of a run folder the newest checkpoint, or the one recorded as the best.

    Returns:
        An existing checkpoint file.

    Raises:
        Refusal: If there is none, or the best is asked for and none is recorded.
    """
    if run_or_file.is_file():
        return run_or_file
    if not run_or_file.exists():
        raise Refusal(
            f"{setting}={run_or_file} does not exist; run `sem2ct train-{setting}` first, or name"
            " its run folder or one of its checkpoints"
        )
    found = newest(run_or_file / "checkpoints")
    if found is None:
        raise Refusal(
            f"{setting}={run_or_file} holds no checkpoint (checkpoints/*{SUFFIX}); run"
            f" `sem2ct train-{setting}` until it has saved one"
        )
    return found if which == "latest" else _best(run_or_file, setting)


def _best(run: Path, setting: str) -> Path:
    """The checkpoint that the record of the best names."""
    record = _read_best(run / "checkpoints")
    if "file" not in record:
        raise Refusal(
            f"{setting}={run}: no checkpoint is recorded as the best (checkpoints/{BEST}); choose"
            " the latest or name a file, or train with evaluate_every= so that checkpoints are"
            " judged"
        )
    found = run / "checkpoints" / record["file"]
    if not found.is_file():
        raise Refusal(
            f"{setting}={run}: the best checkpoint, {record['file']}, is not there any more;"
            " choose the latest or name a file"
        )
    return found


def _read_best(folder: Path) -> dict[str, Any]:
    """The record of the best checkpoint; empty if there is none that can be read."""
    try:
        record = json.loads((folder / BEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def digest(path: Path) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    return provenance.fingerprint(path)["sha256"]


def _write(bag: dict[str, Any], path: Path) -> None:
    """Writes through an open file, or torch would not say that the disk is full."""
    try:
        with path.open("wb") as file:
            torch.save(bag, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _all(folder: Path) -> list[Path]:
    """Checkpoints of a folder, oldest first."""
    named = [path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit()]
    return sorted(named, key=lambda path: int(path.stem))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
