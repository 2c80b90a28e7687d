"""Keeps the memory that a process frees, so that the next step need not ask for it again.

The C library gives blocks of 32 MB and more back to the system as soon as they are
freed, and gets them again page by page; a network at SEM resolution frees and asks for
hundreds of them per step, which costs a CPU 10 to 15 % of its time.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
_LARGEST = 2**31 - 1


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
