"""Zip and tar files of pictures, read without unpacking them to disk.

An archive comes from anywhere.  One whose members point outside it, overlap, or unpack
to a thousand times its size was made to do harm, or is damaged: it is refused before
anything is unpacked.
"""

import bz2
import functools
import gzip
import json
import lzma
import re
import tarfile
import threading
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sem2ct.data.readers import picture
from sem2ct.data.readers.stack import MOST_PACKED, Stack, reading
from sem2ct.runtime.refusal import Refusal

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MOST_MEMBERS = 5_000_000
_LARGEST_MEMBER = 2**33
_HARMLESS = 2**26
_PACKINGS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}


@dataclass(frozen=True)
class Member:
    """A picture in an archive."""

    name: str
    """Its path inside."""
    size: int
    """Bytes when unpacked."""
    place: Any
    """Where the archive finds it."""


class Archive:
    """An opened archive: its pictures in the order they lie there."""

    def __init__(self, path: Path, what: str) -> None:
        """Reads the list of members, no pictures.

        Args:
            path: The archive.
            what: Its name as the user wrote it.

        Raises:
            Refusal: If it is damaged or dangerous.
        """
        self.path, self._what = path, what
        self._lock = threading.Lock()
        self._others: dict[str, Member] = {}
        self._latest: tuple[str, bytes] = ("", b"")
        with reading(what, "archive"):
            if zipfile.is_zipfile(path):
                self._zip, found = self._open_zip()
            elif tarfile.is_tarfile(path):
                self._zip, found = None, self._list_tar()
                self._stream = _stream(path)
                weakref.finalize(self, self._stream.close)
            else:
                raise ValueError("neither zip nor tar")
        self.members = {member.name: member for member in found}
        if len(self.members) < len(found):
            raise Refusal(f"{what}: it holds two members of one name; make the archive again")

    def content(self, name: str) -> picture.Content:
        """Gives the bytes of a picture.

        Args:
            name: Of a member.

        Returns:
            The bytes, read when asked for.
        """
        member = self.members[name]

        def whole() -> bytes:
            return self._read(member)

        return picture.Content(member.size, lambda count: whole()[:count], whole)

    def open_stack(self, name: str, *, what: str) -> Stack:
        """Opens a picture.

        Args:
            name: Of a member.
            what: Its name as the user would write it.

        Returns:
            The stack.

        Raises:
            Refusal: If it is damaged.
        """
        return picture.open_packed(self.content(name), name, what=what)

    def labels(self) -> dict[str, Any]:
        """Reads the dataset.json that NVIDIA's archives have; empty where there is none."""
        member = self._others.get("dataset.json")
        if member is None:
            return {}
        with reading(f"{self._what}: dataset.json", "JSON file"):
            return json.loads(self._read(member))

    def _read(self, member: Member) -> bytes:
        with self._lock, reading(f"{self._what}: {member.name}", "picture in the archive"):
            # Asked for twice, once for the header: a packed stream would start again.
            if self._latest[0] != member.name:
                self._latest = member.name, self._unpacked(member)
            return self._latest[1]

    def _unpacked(self, member: Member) -> bytes:
        if self._zip is not None:
            return self._zip.read(member.place)
        self._stream.seek(member.place)
        content = self._stream.read(member.size)
        if len(content) < member.size:
            raise EOFError("the archive ends too early")
        return content

    def _open_zip(self) -> tuple[zipfile.ZipFile, list[Member]]:
        opened = zipfile.ZipFile(self.path)
        entries = [entry for entry in opened.infolist() if not entry.is_dir()]
        size = self.path.stat().st_size
        if sum(entry.compress_size for entry in entries) > size:
            raise Refusal(
                f"{self._what}: its members overlap, which only archives made to do harm do;"
                " make the archive again"
            )
        members, unpacked = [], 0
        for entry in entries:
            if entry.flag_bits & 1:
                raise Refusal(f"{self._what}: it is encrypted; pack it again without a password")
            unpacked += entry.file_size
            self._refuse_harm(entry.filename, entry.file_size, unpacked, size)
            self._note(Member(entry.filename, entry.file_size, entry), members)
        return opened, members

    def _list_tar(self) -> list[Member]:
        members: list[Member] = []
        size, unpacked, count = self.path.stat().st_size, 0, 0
        with tarfile.open(self.path, mode="r|*") as tar:
            kept: Any = tar
            while (entry := tar.next()) is not None:
                kept.members = []  # tarfile keeps a kilobyte for each, for ever
                count += 1
                if entry.issym() or entry.islnk() or entry.isdev():
                    raise Refusal(
                        f"{self._what}: its member '{entry.name}' is a link or a device; pack"
                        " plain files only"
                    )
                if not entry.isreg() or count > _MOST_MEMBERS:
                    continue
                unpacked += entry.size
                self._refuse_harm(entry.name, entry.size, unpacked, size)
                self._note(Member(entry.name, entry.size, entry.offset_data), members)
        return members

    def _note(self, member: Member, members: list[Member]) -> None:
        name = PurePosixPath(member.name)
        hidden = name.name.startswith(".") or "__MACOSX" in name.parts
        if name.suffix.lower() in picture.SUFFIXES and not hidden:
            members.append(member)
        elif name.name == "dataset.json":
            self._others["dataset.json"] = member

    def _refuse_harm(self, name: str, size: int, unpacked: int, archive_bytes: int) -> None:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise Refusal(
                f"{self._what}: its member '{name}' points outside the archive; make the archive"
                " again with plain names"
            )
        bomb = unpacked > _HARMLESS and unpacked > MOST_PACKED * archive_bytes
        if not 0 <= size <= _LARGEST_MEMBER or bomb:
            raise Refusal(
                f"{self._what}: {archive_bytes} bytes would unpack to {unpacked} or more (at"
                f" '{name}'); no pictures pack so well: make the archive again"
            )


def _stream(path: Path) -> Any:
    with path.open("rb") as file:
        magic = file.read(2)
    return _PACKINGS.get(magic, lambda plain: plain.open("rb"))(path)


def is_archive(path: Path) -> bool:
    """Says by its name whether a file is an archive."""
    return path.name.lower().endswith(ENDINGS)


def opened(path: Path, *, what: str) -> Archive:
    """Opens an archive, or gives the one opened before if the file has not changed.

    Args:
        path: The archive.
        what: Its name as the user wrote it.

    Returns:
        The archive.

    Raises:
        Refusal: If it is damaged or dangerous, or holds no picture.
    """
    status = path.stat()
    archive = _opened(path, what, status.st_size, status.st_mtime_ns)
    if not archive.members:
        raise Refusal(
            f"{what}: the archive holds no picture; looked for {', '.join(picture.SUFFIXES)}"
        )
    return archive


@functools.lru_cache(maxsize=4)
def _opened(path: Path, what: str, size: int, modified_ns: int) -> Archive:
    assert size >= 0
    assert modified_ns
    return Archive(path, what)
