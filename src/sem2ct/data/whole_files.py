"""Files that appear whole or not at all: plain values as JSON, grey pictures as .npy."""

import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
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
        bands: Its parts in order along the first axis, uint8.

    Returns:
        The sha256 of what was meant to be written.
    """
    head = io.BytesIO()
    layout = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(head, layout)
    checksum = hashlib.sha256(head.getvalue())
    with writing(path) as unfinished, unfinished.open("wb") as file:
        file.write(head.getvalue())
        for band in bands:
            assert band.dtype == np.uint8
            content = np.ascontiguousarray(band).data
            checksum.update(content)
            file.write(content)
        assert file.tell() == len(head.getvalue()) + math.prod(shape)
    return checksum.hexdigest()


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
        if digest(path) != entry["sha256"]:
            raise Refusal(
                f"{path}: content does not match its checksum in manifest.json; the file was"
                f" damaged or changed: delete {folder} and make it again"
            )
