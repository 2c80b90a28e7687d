"""Files that appear whole or not at all: plain values as JSON, grey pictures as .npy."""

import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.checkpoint import digest
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import writing


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes plain values as JSON: complete under its name, or not at all."""
    with writing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=None) + "\n", encoding="utf-8")


def write_bands(path: Path, shape: Sequence[int], bands: Iterable[NDArray[np.uint8]]) -> str:
    """Writes an .npy file that need not fit into memory.

    Args:
        path: The file; it appears whole or not at all.
        shape: Of the whole array.
        bands: Its parts in order along the first axis, uint8; none may be changed afterwards,
            because the next one is made while its checksum is taken.

    Returns:
        The sha256 of what was meant to be written.
    """
    head = io.BytesIO()
    layout = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(head, layout)
    checksum = hashlib.sha256(head.getvalue())
    with (
        writing(path) as unfinished,
        unfinished.open("wb") as file,
        ThreadPoolExecutor(1, thread_name_prefix="sha256") as beside,
    ):
        file.write(head.getvalue())
        before = None
        for band in bands:
            assert band.dtype == np.uint8
            content = np.ascontiguousarray(band).data
            if before is not None:
                before.result()
            before = beside.submit(checksum.update, content)
            file.write(content)
        if before is not None:
            before.result()
        assert file.tell() == len(head.getvalue()) + math.prod(shape)
    return checksum.hexdigest()


def opened(path: Path, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Maps a file that `write_bands` wrote.

    Raises:
        Refusal: If it holds anything but uint8 of that shape.
    """
    try:
        found = np.load(path, mmap_mode="r")
    except Exception as error:  # NumPy has Python read the header, which raises anything
        raise Refusal(f"{path} is no file of pixels ({error}); make its folder again") from error
    if found.dtype != np.uint8 or found.shape != tuple(shape):
        raise Refusal(
            f"{path} holds {found.dtype} of shape {found.shape}, but its manifest.json says uint8"
            f" of {tuple(shape)}; make its folder again"
        )
    return found


def verify(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Reads files again and compares their checksums with a manifest.

    Args:
        folder: Where they lie.
        entries: Of the manifest: "file" and "sha256" each.

    Raises:
        Refusal: Naming the first file whose content changed.
    """
    for entry in entries:
        path = folder / entry["file"]
        try:
            found = digest(path)
        except OSError as error:
            raise Refusal(
                f"{path} could not be read ({error.strerror}); delete {folder} and make it again"
            ) from error
        if found != entry["sha256"]:
            raise Refusal(
                f"{path}: content does not match its checksum in manifest.json; the file was"
                f" damaged or changed: delete {folder} and make it again"
            )


def refuse_shrunk(path: Path, least: int) -> None:
    """Looks whether a file that was mapped earlier can still be read.

    Reading the lost end of a map ends the process with SIGBUS, and without a word.

    Args:
        path: The file.
        least: Its bytes when it was mapped.

    Raises:
        Refusal: If it is gone, or has become shorter.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Refusal(f"{path} is gone while it is read: {reason}; put it back") from error
    if size < least:
        raise Refusal(
            f"{path} was cut short while it is read: {size} of {least} bytes are left; put it back"
        )
