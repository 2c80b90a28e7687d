"""The folder of one run: settings as used, provenance, values, pictures, done or not.

Every stage's folder has the same face, and running the same command again resumes in
it.  Therefore whatever is written here appears whole or not at all, other settings or
other inputs in the same folder are refused, and two runs never share a folder.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import yaml

from sem2ct.runtime import board, lock, provenance, records, sheet
from sem2ct.runtime.refusal import Refusal

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

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

_ELSE = "choose another name with run=, or delete the folder"


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
            _sync_names(path.parent)
    finally:
        # A disk that has become read-only keeps it; its name tells that it is no result.
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not exist yet."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def free_space(
    folder: Path, needed: int, what: str, *, instead: str = "make room, make less"
) -> None:
    """Refuses work whose result would not fit on the disk.

    Args:
        folder: Where the result shall be; it need not exist yet.
        needed: Bytes that will be written.
        what: Who needs them, for the message.
        instead: What can be done besides choosing another folder.

    Raises:
        Refusal: If less than `needed` bytes are free.
    """
    free = free_bytes(folder)
    if free < needed:
        raise Refusal(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free;"
            f" {instead}, or choose another folder with run_root="
        )


class RunFolder:
    """One execution of a stage on disk; made by `RunFolder.open`.

    Without `writer` (ranks above 0) every writing method does nothing.

    Attributes:
        path: Where it lies.
        writer: Whether this process writes.
        left_by: The process that was killed while it had this folder, or nothing.
        younger: Settings that came after the folder's sheet, and what they are taken for.
    """

    def __init__(self, path: Path, *, writer: bool) -> None:
        """Wraps a folder without touching it; use `open`."""
        self.path = path
        self.writer = writer
        self.left_by = ""
        self.younger: dict[str, Any] = {}
        self._tensorboard: SummaryWriter | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        settings: Mapping[str, Any],
        *,
        inputs: Sequence[Path] = (),
        later: Mapping[str, Any] = MappingProxyType({}),
        writer: bool = True,
    ) -> "RunFolder":
        """Begins a run, or resumes the one that has the same settings and inputs.

        Args:
            path: The run's folder; made when absent.
            settings: All settings of the command; paths and tuples are fine.
            inputs: Files whose digests are kept, and must not change until it is done.
            later: Settings that a folder may be older than, with the values that do what was
                done before there were any.
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
                folder.left_by = lock.take(path)
            folder._check_settings(sheet.plain(settings), later)
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
            _write_json(self._done, sheet.plain(facts))

    def forget(self) -> None:
        """Lets go of a run that was refused before it made anything.

        Without this a corrected command would be refused for its other settings.
        """
        if not self.writer:
            return
        made = {path.name for path in self.path.iterdir()} - BEFORE_THE_FIRST_RESULT
        if not made:
            for name in ("config.yaml", "provenance.json"):
                (self.path / name).unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """Returns what `finish` was told."""
        return records.read_json(self._done, remedy="delete it and give the same command again")

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
        with refusing(self.path):
            shown = self._board(images_seen)
            for name, value in row.items():
                shown.add_scalar(name, value, images_seen)

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
        with refusing(self.path):
            self._board(images_seen)
        return float(kept[-1].get("seconds", 0.0)) if kept else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows of values.jsonl, up to a line that a crash or the disk spoilt."""
        if not self._values.exists():
            return []
        *whole, _ = self._values.read_text(errors="replace").split("\n")
        rows = []
        for line in whole:
            row = records.row_of(line)
            if row is None:
                break
            rows.append(row)
        return rows

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
                with refusing(self.path):
                    self._tensorboard.add_image(name, image, images_seen, dataformats=layout)
        return path

    def close(self) -> None:
        """Flushes TensorBoard; the folder stays locked until the process ends."""
        if self._tensorboard is not None:
            shown, self._tensorboard = self._tensorboard, None
            # What a full disk did not take of this copy, values.jsonl has or has refused.
            with contextlib.suppress(OSError):
                shown.close()

    @property
    def _done(self) -> Path:
        return self.path / "done.json"

    @property
    def _values(self) -> Path:
        return self.path / "values.jsonl"

    def _board(self, images_seen: int) -> "SummaryWriter":
        if self._tensorboard is None:
            self._tensorboard = board.continued(self.path, images_seen)
        return self._tensorboard

    def _check_settings(self, settings: dict[str, Any], later: Mapping[str, Any]) -> None:
        config = self.path / "config.yaml"
        if not config.exists():
            with writing(config) as unfinished:
                unfinished.write_text(yaml.safe_dump(settings, sort_keys=False))
            return
        before = records.read_yaml(config, remedy=_ELSE)
        whole = sheet.completed(before, later)
        lines = sheet.differences(whole, settings)
        if lines:
            raise Refusal(
                f"{self.path} was begun with other settings; choose another name with run=,"
                " or delete the folder:\n" + "\n".join(f"  {line}" for line in lines)
            )
        self.younger = {name: whole[name] for name in later if name not in before}

    def _check_inputs(self, inputs: Sequence[Path]) -> None:
        record = self.path / "provenance.json"
        if not record.exists():
            _write_json(record, provenance.record(inputs))
            return
        if self.finished:
            return
        before = provenance.inputs_of(records.read_json(record, remedy=_ELSE))
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


def _sync_names(folder: Path) -> None:
    """Has a new name survive a power cut, before anything older is deleted."""
    # Some network disks know no such request.
    with contextlib.suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with writing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
