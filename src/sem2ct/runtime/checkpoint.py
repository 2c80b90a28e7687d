"""Checkpoints: a bag of named objects in one file per moment, never half written.

They hold plain Python values and tensors only and are read that way, so that opening
a stranger's file cannot run code.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch

from sem2ct.runtime import distributed, provenance
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import writing

SUFFIX = ".pt"


def save(folder: Path, images_seen: int, bag: dict[str, Any], *, keep: int) -> Path:
    """Writes a checkpoint and removes the oldest beyond `keep`; only rank 0 does.

    Args:
        folder: Folder of checkpoints; made when absent.
        images_seen: Progress, which names the file and is added to the bag.
        bag: Plain values and tensors by name.
        keep: How many checkpoints stay.

    Returns:
        Where the checkpoint lies.

    Raises:
        Refusal: If the disk is full or the folder cannot be written.
    """
    path = folder / f"{images_seen:09d}{SUFFIX}"
    if not distributed.is_main():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with writing(path) as unfinished:
        _write({"images_seen": images_seen, **bag}, unfinished)
    for old in _all(folder)[:-keep]:
        old.unlink()
    return path


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


def find(run_or_file: Path, *, setting: str) -> Path:
    """Finds the checkpoint that a setting means.

    Args:
        run_or_file: A run folder, meaning its newest checkpoint, or one checkpoint.
        setting: Name of the setting, for the refusal; the command that makes such
            runs is train-<setting>.

    Returns:
        An existing checkpoint file.

    Raises:
        Refusal: If there is none.
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
    return found


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
