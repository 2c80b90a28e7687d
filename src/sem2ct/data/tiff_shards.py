"""Shards of a store as BigTIFF files: a patch per page, packed with zstd and a predictor.

Noisy grey patches pack to two thirds, and the file opens in Fiji.  Where each page's
bytes lie is kept beside the shard, so that one patch is read at random without the
file's list of pages.  A damaged byte unpacks to wrong pixels without complaint: only the
checksum of the shard finds it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import writing

SUFFIX = ".tif"
_LEVEL = 3
_HORIZONTAL = 2


def write(path: Path, patches: Iterable[NDArray[np.uint8]]) -> tuple[str, list[list[int]]]:
    """Writes a shard: complete under its name, or not at all; equal patches, equal bytes.

    Args:
        path: The file.
        patches: (H, W) uint8 each.

    Returns:
        The sha256 of the file, and per page its offset and length in bytes.
    """
    with writing(path) as unfinished:
        with tifffile.TiffWriter(unfinished, bigtiff=True) as writer:
            for patch in patches:
                writer.write(
                    patch,
                    photometric="minisblack",
                    compression="zstd",
                    compressionargs={"level": _LEVEL},
                    predictor=_HORIZONTAL,
                    rowsperstrip=len(patch),
                    contiguous=False,
                    metadata=None,
                    software="sem2ct",
                )
        with unfinished.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        with tifffile.TiffFile(unfinished) as tif:
            places = [[page.dataoffsets[0], page.databytecounts[0]] for page in tif.pages]
    return checksum, places


class Pages:
    """The patches of one shard, read one at a time."""

    def __init__(self, path: Path, places: Sequence[Sequence[int]], px: int) -> None:
        """Opens the file.

        Args:
            path: The shard.
            places: What `write` returned.
            px: Side of a patch.
        """
        self._path, self._places, self._px = path, places, px
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        """Reads patch number `row` of the shard, (H, W).

        Raises:
            Refusal: If the page cannot be unpacked.
        """
        offset, length = self._places[row]
        packed = self._bytes[offset : offset + length].tobytes()
        try:
            grey = np.frombuffer(imagecodecs.zstd_decode(packed), dtype=np.uint8)
            patch = grey.reshape(self._px, self._px)
        except Exception as error:  # the decoder's own exception class
            raise Refusal(
                f"{self._path}: patch {row} of the shard cannot be unpacked ({error}); the file was"
                " damaged: delete the store's folder and make it again"
            ) from error
        return np.cumsum(patch, axis=1, dtype=np.uint8)  # undoes the predictor
