"""A disk that takes nothing more, whichever part of a stage is told so."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from sem2ct.runtime.run_folder import UNWRITABLE, refusing

# Only writing is ever answered so; all else may be about an input.
ABOUT_WRITING = {errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS}


@contextlib.contextmanager
def refusing_all(folder: Path) -> Iterator[None]:
    """Says in one line what the system has against writing, anywhere in a run's folder.

    Args:
        folder: Of the run.

    Raises:
        Refusal: If the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        place = Path(str(error.filename or folder))
        inside = place.absolute().is_relative_to(folder.absolute())
        if error.errno in ABOUT_WRITING or (error.errno in UNWRITABLE and inside):
            with refusing(place):
                raise
        raise
