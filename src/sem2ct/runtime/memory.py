"""Memory of this process: kept for the next step, and refused in one line where it ends.

The C library gives blocks of 32 MB and more back to the system as soon as they are
freed, and gets them again page by page; a network at SEM resolution frees and asks for
hundreds of them per step, which costs a CPU 10 to 15 % of its time.
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from sem2ct.runtime.refusal import Refusal

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
_LARGEST = 2**31 - 1
# What torch says, on a GPU and on a CPU.
_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")


def keep_freed() -> bool:
    """Tells glibc to keep freed blocks for this process.

    Returns:
        Whether it will; False where another C library is in use.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 2**30)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))


def free_bytes(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: of the machine, and of the container it is in.

    Args:
        root: Where /proc and /sys are found.
    """
    try:
        rows = (root / "proc/meminfo").read_text().splitlines()
        (available,) = (row.split()[1] for row in rows if row.startswith("MemAvailable:"))
    except (OSError, ValueError):
        # Other systems do not say what is free; half of what there is, often is.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min([int(available) * 1024, *_left_by_containers(root)])


def _left_by_containers(root: Path) -> Iterator[int]:
    """What the control groups around this process still allow, of both versions of Linux."""
    v1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    names = {"memory": v1, "": ("", "memory.max", "memory.current", "inactive_file")}
    told = root / "proc/self/cgroup"
    for row in told.read_text().splitlines() if told.is_file() else []:
        _, controllers, group = row.split(":", 2)
        if controllers not in names:
            continue
        mounted, limit, used, cached = names[controllers]
        place = Path(group.lstrip("/"))
        for inner in (place, *place.parents):
            folder = root / "sys/fs/cgroup" / mounted / inner
            try:
                allowed = int((folder / limit).read_text())
                rows = dict(
                    row.split() for row in (folder / "memory.stat").read_text().splitlines()
                )
                held = int((folder / used).read_text()) - int(rows.get(cached, 0))
            except (OSError, ValueError):
                continue  # no limit ("max"), or a group that is not shown here
            yield max(0, allowed - held)


@contextlib.contextmanager
def refusing_too_much(what: str) -> Iterator[None]:
    """Says in one line that the memory is too small, whoever notices it.

    Args:
        what: Who needs it, for the message.

    Raises:
        Refusal: If NumPy, torch or Python could not get the memory they asked for.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = (str(error).strip().splitlines() or ["out of memory"])[0]
        if not isinstance(error, MemoryError) and not any(word in said for word in _NO_MEMORY):
            raise
        raise Refusal(
            f"{what} needs more memory than there is ({said}); lower batch_per_device, which"
            " changes no result, or choose a smaller size= or smaller networks and tiles"
        ) from error
