"""Checkpoints: a bag of named objects in one file per moment, never half written.

They hold plain Python values and tensors only and are read that way, so that opening
a stranger's file cannot run code.
"""

import contextlib
import copy
import json
import logging
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from sem2ct.runtime import distributed, provenance
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import refusing, writing

LOGGER = logging.getLogger(__name__)

SUFFIX = ".pt"
ASIDE = ".damaged"
BEST = "best.json"
Which = Literal["latest", "best"]
# What taking a wrong part for the right one ends in: a name, a type, a shape, a size.
_MISFITS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
_MISFITS += (AssertionError,)


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
    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with writing(path) as unfinished:
        _write({"images_seen": images_seen, **bag}, unfinished)
    record_best(folder, best or {})
    with refusing(folder):
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
        with refusing(path):
            path.unlink(missing_ok=True)
    elif _read_best(folder) != dict(best):
        with writing(path) as unfinished:
            unfinished.write_text(json.dumps(dict(best)) + "\n", encoding="utf-8")


def newest(folder: Path) -> Path | None:
    """Returns the checkpoint with the most images in a folder, None if there is none."""
    checkpoints = _all(folder)
    return checkpoints[-1] if checkpoints else None


def newest_sound(folder: Path) -> Path | None:
    """Finds the checkpoint to go on from; every rank must call it, and gets the same.

    One that is damaged is set aside, and a warning says so: the one before it leads to the
    same end, later.

    Args:
        folder: Folder of checkpoints; it need not exist.

    Returns:
        The newest checkpoint that is as it was written, None if there never was one.

    Raises:
        Refusal: If all there are, are damaged.
    """
    found = distributed.from_main(lambda: {"images": float(_newest_sound(folder))})["images"]
    return folder / name(int(found)) if found >= 0 else None


def _newest_sound(folder: Path) -> int:
    """Images seen of the newest undamaged checkpoint, -1 if there is none at all."""
    damaged: list[Path] = []
    for path in reversed(_all(folder)):
        if _damaged_part(path):
            damaged.append(path)
            continue
        for each in damaged:
            with refusing(each):
                each.rename(each.with_name(each.name + ASIDE))
            LOGGER.warning(
                "%s is damaged and was set aside as %s; going on from %s, which takes longer and"
                " leads to the same",
                *(each, each.name + ASIDE, path.name),
            )
        return int(path.stem)
    if damaged:
        raise Refusal(
            f"{damaged[0]} is damaged, and so are all before it ({len(damaged)} in all); delete"
            f" {folder} to begin anew"
        )
    return -1


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Args:
        path: A file that `save` wrote.

    Returns:
        The bag, with "images_seen".

    Raises:
        Refusal: If the file is damaged, cut short, or not a checkpoint of this program.
    """
    broken = _damaged_part(path)
    if broken:
        raise Refusal(
            f"{path} is damaged ({broken} is not as written); delete it to go on from the"
            " checkpoint before it"
        )
    try:
        bag = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Refusal(f"{path} is no checkpoint of sem2ct: {_first_line(error)}") from error
    if not isinstance(bag, dict) or type(bag.get("images_seen")) is not int:
        raise Refusal(f"{path} is no checkpoint of sem2ct: it says nothing about images_seen")
    return bag


def _damaged_part(path: Path) -> str:
    """What of a file is not as it was written; nothing if all is."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch does not compare the checksums that it writes.
            return archive.testzip() or ""
    except OSError as error:
        raise Refusal(f"{path} could not be read: {error.strerror}") from error
    except Exception:
        # A spoilt header may say anything: a wrong size, another compression, encryption.
        return "its end"


@contextlib.contextmanager
def fitting(path: Path | str, fault: str, *, remedy: str) -> Iterator[None]:
    """Turns what unexpected content of a checkpoint leads to into a refusal.

    Args:
        path: The checkpoint, for the message.
        fault: What is wrong then: "holds no generator", say.
        remedy: What to do about it.

    Raises:
        Refusal: If anything inside fails for what the bag holds.
    """
    try:
        yield
    except Refusal:
        raise
    except _MISFITS as error:
        raise Refusal(f"{path} {fault}; {remedy} ({_first_line(error)})") from error


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
    named = record.get("file") if isinstance(record, dict) else None
    # Only a file of this very folder: the record may have been damaged, or planted.
    return record if isinstance(named, str) and Path(named).name == named else {}


def digest(path: Path) -> str:
    """Returns the sha256 of a file, in hexadecimal."""
    return provenance.fingerprint(path)["sha256"]


def _write(bag: dict[str, Any], path: Path) -> None:
    """Writes through an open file, or torch would not say that the disk is full."""
    try:
        with path.open("wb") as file:
            torch.save(_one_of_each_text(bag), file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _one_of_each_text(value: Any) -> Any:
    """Copies nested plain values so that equal texts are one object.

    A pickle refers back to a text that it has written before, but only if it is the same
    object; after a resume some are not, and the same content would be other bytes.
    """
    if type(value) is str:
        return sys.intern(value)
    if type(value) in (list, tuple):
        return type(value)(map(_one_of_each_text, value))
    if not isinstance(value, dict):
        return value
    copied = copy.copy(value)  # with what a state_dict carries besides its entries
    copied.clear()
    copied.update((_one_of_each_text(key), _one_of_each_text(part)) for key, part in value.items())
    return copied


def _all(folder: Path) -> list[Path]:
    """Checkpoints of a folder, oldest first."""
    named = [path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit()]
    return sorted(named, key=lambda path: int(path.stem))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
