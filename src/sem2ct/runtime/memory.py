"""Memory of this process: kept for the next step, and refused in one line where it ends.

The C library gives blocks of 32 MB and more back to the system as soon as they are
freed, and gets them again page by page; a network at SEM resolution frees and asks for
hundreds of them per step, which costs a CPU 10 to 15 % of its time.
"""

import contextlib
import ctypes
import platform
from collections.abc import Iterator

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
