"""Single pictures, PNG or TIFF, wherever their bytes lie: in a file or in an archive."""

import dataclasses
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from sem2ct.data.intensity import collapse_channels
from sem2ct.data.readers import tiff
from sem2ct.data.readers.stack import Stack, refuse_impossible
from sem2ct.runtime.refusal import Refusal

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
PNG_SUFFIXES = (".png",)
SUFFIXES = TIFF_SUFFIXES + PNG_SUFFIXES
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


@dataclass(frozen=True)
class Content:
    """The bytes of a picture, read when asked for."""

    size: int
    """How many there are."""
    head: Callable[[int], bytes]
    """Reads that many from the start."""
    whole: Callable[[], bytes]
    """Reads all of them."""

    @classmethod
    def of_file(cls, path: Path) -> "Content":
        """The bytes of a file."""

        def head(count: int) -> bytes:
            with path.open("rb") as file:
                return file.read(count)

        return cls(path.stat().st_size, head, path.read_bytes)


def open_png(content: Content, *, what: str) -> Stack:
    """Opens a PNG picture; reads its header only.

    Args:
        content: Its bytes.
        what: Its name as the user wrote it.

    Returns:
        A stack of one slice.

    Raises:
        Refusal: If it is no PNG, or cannot hold as many pixels as it says.
    """
    head = content.head(26)
    if len(head) < 26 or head[:8] != _PNG_MAGIC:
        raise Refusal(f"{what}: not a PNG file; copy it again, or convert it")
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    if min(width, height) < 1 or bits not in (1, 2, 4, 8, 16) or colour not in _CHANNELS:
        raise Refusal(f"{what}: its PNG header is damaged; copy it again")
    refuse_impossible(width * height * bits * _CHANNELS[colour] // 8, content.size, what=what)

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        assert z == 0
        try:
            image = imagecodecs.png_decode(content.whole())
        except Exception as error:  # the decoder's own exception class
            raise Refusal(
                f"{what}: the PNG file cannot be decoded ({error}); it was cut short or damaged:"
                " copy it again"
            ) from error
        if image.shape[:2] != (height, width):
            raise Refusal(f"{what}: the PNG file changed while it was read; run again")
        return collapse_channels(image[rows, columns], what=what)

    return Stack(
        (1, height, width), np.dtype(np.uint16 if bits == 16 else np.uint8), read, whole_only=True
    )


def open_packed(content: Content, name: str, *, what: str) -> Stack:
    """Opens a picture that is no file of its own, but lies in an archive.

    Args:
        content: Its bytes.
        name: Its name, whose ending says what it is.
        what: Its name as the user wrote it.

    Returns:
        The stack; of a TIFF all pages.

    Raises:
        Refusal: If it is damaged.
    """
    if Path(name).suffix.lower() in PNG_SUFFIXES:
        return open_png(content, what=what)
    described = tiff.open_stack(io.BytesIO(content.whole()), what=what)

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        return tiff.open_stack(io.BytesIO(content.whole()), what=what).read_window(z, rows, columns)

    return dataclasses.replace(described, read_window=read, whole_only=True)
