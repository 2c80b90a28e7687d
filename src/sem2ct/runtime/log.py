"""What a person sees while a run works: lines in a fixed order, and a progress bar.

Lines go to the terminal, above the bar, and to log.txt in the run's folder.  Only
rank 0 speaks; the others pass on warnings.
"""

import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from sem2ct.runtime import distributed
from sem2ct.runtime.run_folder import refusing

NAME = "sem2ct"


def start(folder: Path) -> None:
    """Sends the log to the terminal and to a file; calling it again moves the file.

    Args:
        folder: Where log.txt is continued.
    """
    logger = logging.getLogger(NAME)
    logger.propagate = False
    stop()
    terminal = _Terminal()
    logger.addHandler(terminal)
    if not distributed.is_main():
        terminal.setFormatter(logging.Formatter(f"rank {distributed.rank()}: %(message)s"))
        logger.setLevel(logging.WARNING)
        return
    logger.setLevel(logging.INFO)
    with refusing(folder / "log.txt"):
        file = _File(folder / "log.txt", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logger.addHandler(file)


def stop() -> None:
    """Closes what `start` opened."""
    logger = logging.getLogger(NAME)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        # What a full disk did not take was said when it did not.
        with contextlib.suppress(OSError):
            handler.close()


def line(images_seen: int, seconds: float, rate: float, values: Mapping[str, float]) -> str:
    """Formats one line of progress.

    Args:
        images_seen: Images so far.
        seconds: Time so far.
        rate: Images per second.
        values: Names to numbers, shown in their order.

    Returns:
        For example "images 512000 | 3.1 h | 41.2 images/s | d_loss 0.71".
    """
    parts = [f"images {images_seen}", _duration(seconds), f"{rate:.1f} images/s"]
    return " | ".join(parts + [f"{name} {_short(value)}" for name, value in values.items()])


def progress(total: int, *, done: int = 0, unit: str, what: str) -> tqdm:
    """Returns a progress bar with rate and remaining time, silent on ranks above 0.

    Args:
        total: Amount of work.
        done: Amount that an earlier run did.
        unit: What is counted, in the plural: "images".
        what: What is being done, in front of the bar.
    """
    # In a file of a batch system a bar is one more line each time it moves.
    seldom = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total,
        initial=done,
        unit=f" {unit}",
        desc=what,
        disable=not distributed.is_main(),
        mininterval=seldom,
        maxinterval=max(10.0, seldom),
        dynamic_ncols=True,
    )


class _Terminal(logging.Handler):
    """Writes above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _File(logging.FileHandler):
    """A log that cannot be written stops nothing: the terminal has the lines too."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        if self.level <= logging.CRITICAL:
            tqdm.write(f"{self.baseFilename}: {error.strerror}, no more is said there", sys.stderr)
        self.setLevel(logging.CRITICAL + 1)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _short(value: float) -> str:
    """Two decimals where they say something, else two digits."""
    return f"{value:.2f}" if value == 0 or 0.1 <= abs(value) < 1e5 else f"{value:.1e}"
