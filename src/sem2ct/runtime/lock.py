"""One process at a time in a run folder.

The system frees its lock when the process ends, however it ends.  What `.lock` says is
for people, and for disks that have no locks: there it is all that is known.  A process
that ends by itself empties it, so a word left there is that of one that was killed.
"""

import atexit
import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

from sem2ct.runtime.refusal import Refusal

NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

# Folders this process has taken; kept open, so that the system frees them at its end.
_taken: dict[Path, int] = {}


def take(folder: Path) -> str:
    """Takes a folder for this process until it ends; again is fine.

    Args:
        folder: An existing folder.

    Returns:
        Who had it and ended without a farewell ("process 41 on node7"), or nothing.

    Raises:
        Refusal: If another process has it, or may have it on a disk without locks.
        OSError: If the folder cannot be written.
    """
    place = folder.resolve()
    if place in _taken:
        return ""
    file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        owner = _words(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(
                f"{folder} is in use by {owner or 'another process'}; wait for it, stop it, or"
                " choose another name with run="
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            _refuse_possible_owner(folder, owner)
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BaseException:
        os.close(file)
        raise
    _taken[place] = file
    atexit.register(_farewell, file, os.getpid())
    return owner


def _refuse_possible_owner(folder: Path, owner: str) -> None:
    """Where nothing else tells: only a process of this machine can be known to be gone."""
    number, _, host = owner.removeprefix("process ").partition(" on ")
    if not owner or (host == socket.gethostname() and not _alive(number)):
        return
    raise Refusal(
        f"{folder} may be in use by {owner}: its disk has no locks that would tell; if that process"
        f" has ended, delete {folder / NAME}, else choose another name with run="
    )


def _alive(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True


def _words(file: int) -> str:
    return os.pread(file, 200, 0).decode(errors="replace").strip()


def _farewell(file: int, owner: int) -> None:
    # A forked process has the same file, and is not the one that took it.
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)
