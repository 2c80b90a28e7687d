"""The folder of one run: settings as used, provenance, values, pictures, done or not.

Every stage's folder has the same face, and running the same command again resumes in
it.  Therefore whatever is written here appears whole or not at all, other settings or
other inputs in the same folder are refused, and two runs never share a folder.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import yaml

from sem2ct.runtime import provenance
from sem2ct.runtime.refusal import Refusal

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# They say where a run lies and how it is done on this machine, not what it computes.
MACHINE_SETTINGS = (
    "run",
    "run_root",
    "dry_run",
    "verify",
    "export",
    "device",
    "devices",
    "batch_per_device",
    "processes",
)

# Names that a run folder has before the stage has made anything that could be resumed.
BEFORE_THE_FIRST_RESULT = {"config.yaml", "provenance.json", "log.txt", ".lock", "previews"}

# What a disk says when it cannot take a file; anything else is not about the disk.
UNWRITABLE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}

# Folders this process has locked; kept open, so that the system frees them at exit.
_locks: dict[Path, int] = {}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Lets a file appear whole or not at all.

    Args:
        path: Where the file shall be in the end; an older file there is replaced.

    Yields:
        The path to write to.  On success it is flushed to disk and renamed, on any
        error it is removed.

    Raises:
        Refusal: If the disk is full or the folder cannot be written.
    """
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with refusing(path):
            yield unfinished
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def free_space(folder: Path, needed: int, what: str) -> None:
    """Refuses work whose result would not fit on the disk.

    Args:
        folder: Where the result shall be; it need not exist yet.
        needed: Bytes that will be written.
        what: Who needs them, for the message.

    Raises:
        Refusal: If less than `needed` bytes are free.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise Refusal(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free;"
            " make room, make less, or choose another folder with run_root="
        )


class RunFolder:
    """One execution of a stage on disk; made by `RunFolder.open`.

    Without `writer` (ranks above 0) every writing method does nothing.
    """

    def __init__(self, path: Path, *, writer: bool) -> None:
        """Wraps a folder without touching it; use `open`."""
        self.path = path
        self.writer = writer
        self._tensorboard: SummaryWriter | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        settings: Mapping[str, Any],
        *,
        inputs: Sequence[Path] = (),
        writer: bool = True,
    ) -> "RunFolder":
        """Begins a run, or resumes the one that has the same settings and inputs.

        Args:
            path: The run's folder; made when absent.
            settings: All settings of the command; paths and tuples are fine.
            inputs: Files whose digests are kept, and must not change until it is done.
            writer: False on ranks above 0: nothing is checked or written then.

        Returns:
            The folder, locked against other processes if `writer`.

        Raises:
            Refusal: If the folder cannot be written, is in use by another process, or
                was begun with other settings or inputs.
        """
        folder = cls(path, writer=writer)
        if writer:
            # ENOENT: some systems' own folders (/proc) take none, and say it so.
            with refusing(path, also=errno.ENOENT):
                path.mkdir(parents=True, exist_ok=True)
                _lock(path)
            folder._check_settings(_plain(settings))
            folder._check_inputs(inputs)
        return folder

    @property
    def finished(self) -> bool:
        """Whether the stage has written all it makes."""
        return self._done.exists()

    def finish(self, **facts: Any) -> None:
        """Marks the run as done.

        Args:
            facts: Plain values worth telling when the command is given again.
        """
        self.close()
        if self.writer:
            _write_json(self._done, _plain(facts))

    def forget(self) -> None:
        """Lets go of a run that was refused before it made anything.

        Without this a corrected command would be refused for its other settings.
        """
        made = {path.name for path in self.path.iterdir()} - BEFORE_THE_FIRST_RESULT
        if self.writer and not made:
            for name in ("config.yaml", "provenance.json"):
                (self.path / name).unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """Returns what `finish` was told."""
        return json.loads(self._done.read_text())

    def values(self, images_seen: int, row: Mapping[str, float]) -> None:
        """Appends one row to values.jsonl and shows it in TensorBoard.

        Args:
            images_seen: Progress that the row belongs to.
            row: Names to numbers.
        """
        if not self.writer:
            return
        text = json.dumps({"images": images_seen, **row})
        with refusing(self._values), self._values.open("a") as file:
            file.write(text + "\n")
        board = self._board(images_seen)
        for name, value in row.items():
            board.add_scalar(name, value, images_seen)

    def rewind(self, images_seen: int) -> float:
        """Drops the rows beyond a checkpoint, so that a resumed run repeats them.

        Args:
            images_seen: Progress of the checkpoint.

        Returns:
            "seconds" of the last row that stays, 0 if there is none.
        """
        if not self.writer:
            return 0.0
        rows = self.rows()
        kept = [row for row in rows if row["images"] <= images_seen]
        with writing(self._values) as unfinished:
            unfinished.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self.close()
        self._board(images_seen)
        return float(kept[-1].get("seconds", 0.0)) if kept else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows of values.jsonl; a last line cut short by a crash is left out."""
        if not self._values.exists():
            return []
        *whole, _ = self._values.read_text().split("\n")
        return [json.loads(line) for line in whole]

    def picture(self, name: str, images_seen: int, image: np.ndarray) -> Path:
        """Writes a preview, and shows it in TensorBoard if values are shown there.

        Args:
            name: What the picture shows; part of the file's name.
            images_seen: Progress that it belongs to.
            image: uint8, (H, W) grey or (H, W, 3) colour.

        Returns:
            Where the PNG lies.
        """
        path = self.path / "previews" / f"{name}_{images_seen:09d}.png"
        if self.writer:
            with refusing(path):
                path.parent.mkdir(exist_ok=True)
            with writing(path) as unfinished:
                unfinished.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))
            if self._tensorboard is not None:
                layout = "HW" if image.ndim == 2 else "HWC"
                self._tensorboard.add_image(name, image, images_seen, dataformats=layout)
        return path

    def close(self) -> None:
        """Flushes TensorBoard; the folder stays locked until the process ends."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None

    @property
    def _done(self) -> Path:
        return self.path / "done.json"

    @property
    def _values(self) -> Path:
        return self.path / "values.jsonl"

    def _board(self, images_seen: int) -> "SummaryWriter":
        if self._tensorboard is None:
            # Imported late: it costs a second, and only trainings show values.
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.path), purge_step=images_seen + 1)
        return self._tensorboard

    def _check_settings(self, settings: dict[str, Any]) -> None:
        config = self.path / "config.yaml"
        if not config.exists():
            with writing(config) as unfinished:
                unfinished.write_text(yaml.safe_dump(settings, sort_keys=False))
            return
        before, now = _compared(yaml.safe_load(config.read_text()) or {}), _compared(settings)
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            lines = [
                f"  {name}: {before.get(name, 'absent')} (this folder)"
                f" / {now.get(name, 'absent')} (now)"
                for name in names
            ]
            raise Refusal(
                f"{self.path} was begun with other settings; choose another name with run=,"
                " or delete the folder:\n" + "\n".join(lines)
            )

    def _check_inputs(self, inputs: Sequence[Path]) -> None:
        record = self.path / "provenance.json"
        if not record.exists():
            _write_json(record, provenance.record(inputs))
            return
        if self.finished:
            return
        before = json.loads(record.read_text())["inputs"]
        now = [str(file) for file in inputs]
        changed = sorted(set(before) ^ set(now))
        changed += [
            file
            for file in now
            if file in before and not provenance.unchanged(Path(file), before[file])
        ]
        if changed:
            raise Refusal(
                f"{changed[0]} is not what it was when {self.path} was begun"
                f" ({len(changed)} of {len(now)} inputs differ); choose another name with run=,"
                " or delete the folder"
            )


@contextlib.contextmanager
def refusing(path: Path, *, also: int = errno.ENOSPC) -> Iterator[None]:
    """Says in one line what the system has against writing.

    Args:
        path: What is written, for the message.
        also: One more error that is about the disk.

    Raises:
        Refusal: If the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE | {also}:
            raise
        reason = (error.strerror or str(error)).lower()
        raise Refusal(
            f"{path} could not be written: {reason}; make room or choose another folder"
            " with run_root="
        ) from error


def _lock(path: Path) -> None:
    """Takes the folder for this process until it ends."""
    place = path.resolve()
    if place in _locks:
        return
    file = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(file, 200).decode().strip() or "another process"
        os.close(file)
        raise Refusal(
            f"{path} is in use by {owner}; wait for it, stop it, or choose another name with run="
        ) from None
    except OSError as error:
        # Some network disks have no locks; a run there goes without.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _locks[place] = file


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with writing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n")


def _plain(value: Any) -> Any:
    """Copies settings into what YAML and JSON can hold."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that decide what a run computes, nested ones as "sets.real"."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name in MACHINE_SETTINGS:
            continue
        if isinstance(value, Mapping):
            flat |= {f"{name}.{part}": inner for part, inner in value.items()}
        else:
            flat[name] = value
    return flat
