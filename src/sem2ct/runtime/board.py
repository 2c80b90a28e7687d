"""TensorBoard's copy of values and pictures, in files that are named after host and second."""

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def continued(folder: Path, images_seen: int) -> "SummaryWriter":
    """Goes on with a run's copy.

    Args:
        folder: Of the run.
        images_seen: What lies beyond is replaced by what comes.

    Raises:
        OSError: If nothing can be written there; so do the writer's methods.
    """
    # Imported late: it costs a second, and only trainings show values.
    from torch.utils.tensorboard import SummaryWriter

    _leave_the_word_to_the_caller()
    return SummaryWriter(str(folder), purge_step=images_seen + 1)


@functools.cache
def _leave_the_word_to_the_caller() -> None:
    """Keeps the writer's thread from printing what its methods will raise."""
    before = threading.excepthook

    def hook(fault: threading.ExceptHookArgs) -> None:
        of_board = type(fault.thread).__module__.startswith("tensorboard.")
        if not (of_board and isinstance(fault.exc_value, OSError)):
            before(fault)

    threading.excepthook = hook
