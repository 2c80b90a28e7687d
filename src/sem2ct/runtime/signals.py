"""How work that can be repeated from its files ends when it is asked to.

A training saves first (`training.loop`).  All else has whole files and journals at any
moment and can leave at once; only what is half written is removed before.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """Lets SIGTERM end the process with 143, by the way that an error would take.

    The second SIGTERM ends it where it is.  SIGINT does so by itself, as KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, stop_now)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        # After it was asked to leave, what was there before would not end it.
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, before)


def stop_now(number: int, frame: FrameType | None) -> None:
    """Ends the process at once; files that were being written keep the name of unfinished ones."""
    os._exit(128 + number)
