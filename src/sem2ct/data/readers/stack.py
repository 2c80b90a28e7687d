"""What every reader returns: a stack of grey slices, of which a window is read at a time.

A header is only a claim.  Whoever believes it allocates whatever it says, so sides and
sizes are held against what files hold and what microscopes make before anything is read.
"""

import contextlib
import importlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)
ReadWindow = Callable[[int, slice, slice], NDArray[Any]]
Spacing = tuple[float, float, float]

LARGEST_SIDE = 2**20
MOST_PACKED = 1100
"""No deflate stream unpacks to more than 1032 times its size."""
_LARGEST_SLICE_BYTES = 2**36
_FOR_A_HEADER = 4096

# How files write units of length, in micrometres.
UNIT_UM = {"m": 1e6, "meter": 1e6, "metre": 1e6, "cm": 1e4, "mm": 1e3, "nm": 1e-3}
UNIT_UM |= dict.fromkeys(("centimeter", "centimetre"), 1e4)
UNIT_UM |= dict.fromkeys(("millimeter", "millimetre", "millimeters"), 1e3)
UNIT_UM |= dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns"), 1.0)
UNIT_UM |= dict.fromkeys(("micrometer", "micrometre", "micrometers"), 1.0)
UNIT_UM |= dict.fromkeys(("nanometer", "nanometre"), 1e-3)
UNIT_UM |= dict.fromkeys(("angstrom", "å", "a"), 1e-4)


@dataclass(frozen=True)
class Stack:
    """An opened file: what its header says, and how to read a window of a slice."""

    shape: tuple[int, int, int]
    """(z, y, x)."""
    dtype: np.dtype[Any]
    """Type of the grey values, in this machine's byte order."""
    read_window: ReadWindow
    """Reads rows and columns of slice z, (h, w)."""
    spacing_um: Spacing | None = None
    """Distance of voxels along (z, y, x) in micrometres as stated; NaN where not stated."""
    data_bar_rows: int = 0
    """Rows under the image that the microscope says are its data bar."""
    whole_only: bool = False
    """Any window costs as much time and memory as the whole slice."""

    def slice_at(self, z: int) -> NDArray[Any]:
        """Reads the whole slice z, (H, W)."""
        return self.read_window(z, slice(None), slice(None))


def unit_um(unit: object) -> float | None:
    """Gives a unit of length in micrometres.

    Args:
        unit: As written in a file: text, or bytes.

    Returns:
        Micrometres, or None if it is none that is known.
    """
    text = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    return UNIT_UM.get(text.strip().strip("\0").lower())


def spacing_um(sizes: Sequence[float], unit: object) -> Spacing | None:
    """Puts stated voxel sizes into micrometres.

    Args:
        sizes: Along z, y and x; one for all is enough, two are y and x.
        unit: As written in the file.

    Returns:
        (z, y, x), or None if the unit is not known or nothing is stated.
    """
    per_um = unit_um(unit)
    given = [float(size) for size in np.ravel(np.asarray(sizes, dtype=np.float64))]
    if per_um is None or not 1 <= len(given) <= 3:
        return None
    if len(given) == 1:
        given *= 3
    if len(given) == 2:
        given = [math.nan, *given]
    z, y, x = (size * per_um for size in given)
    return z, y, x


def need(module: str, *, package: str, what: str) -> ModuleType:
    """Imports a reader's library, which not everybody has installed.

    Args:
        module: Name of the module.
        package: Name that pip knows it by.
        what: The file as the user wrote it.

    Returns:
        The module.

    Raises:
        Refusal: If it is not installed, with the command that installs it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise Refusal(
            f"{what}: reading this kind of file needs the package {package}, which is not"
            f" installed; install it with: pip install {package} (or all readers with:"
            " pip install 'sem2ct[formats]')"
        ) from error


@contextlib.contextmanager
def reading(what: str, kind: str) -> Iterator[None]:
    """Turns whatever a library raises over a damaged file into a refusal.

    Args:
        what: The file as the user wrote it.
        kind: What it should be, for instance "HDF5 file".

    Raises:
        Refusal: If anything inside fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Refusal:
        raise
    except Exception as error:  # each library has exceptions of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refusal(
            f"{what}: not a whole {kind} ({reason}); it was cut short or damaged: copy it again,"
            " or convert it"
        ) from error


def checked(stack: Stack, *, what: str) -> Stack:
    """Refuses stacks that no microscope writes.

    Args:
        stack: As its header describes it.
        what: The file as the user wrote it.

    Returns:
        The same stack.

    Raises:
        Refusal: If a side is 0 or absurd, or the values are no real numbers.
    """
    if stack.dtype.kind not in "uif":
        raise Refusal(
            f"{what}: values of type {stack.dtype} are no grey values; convert it to uint8, uint16,"
            " int16 or float32"
        )
    if min(stack.shape) < 1:
        raise Refusal(f"{what}: shape (z, y, x) is {stack.shape}, so there is nothing to read")
    _, height, width = stack.shape
    size = height * width * stack.dtype.itemsize
    if max(stack.shape) > LARGEST_SIDE or size > _LARGEST_SLICE_BYTES:
        raise Refusal(
            f"{what}: the header says shape (z, y, x) {stack.shape} of {stack.dtype}, more than any"
            " microscope writes; the file is damaged: copy it again"
        )
    return stack


def refuse_impossible(needed: int, file_bytes: int, *, what: str) -> None:
    """Refuses a header that claims more pixels than its file can hold, even packed.

    Args:
        needed: Bytes of the pixels when unpacked.
        file_bytes: Bytes of the file.
        what: The file as the user wrote it.

    Raises:
        Refusal: If the packed pixels would be packed more than a thousandfold.
    """
    if needed > MOST_PACKED * file_bytes + _FOR_A_HEADER:
        raise Refusal(
            f"{what}: its header claims {needed} bytes of pixels, but the file has {file_bytes},"
            " which cannot hold them; it is damaged: copy it again"
        )


def suspected_byte_order(grey: NDArray[Any]) -> bool:
    """Guesses whether the bytes of each value were read in the wrong order.

    Neighbouring pixels of an image are alike.  With swapped bytes the fast, noisy byte
    comes to the front: neighbours then differ as much as any two pixels do.

    Args:
        grey: (H, W) grey values of 2 bytes or more.

    Returns:
        True if the image with swapped bytes is far smoother.  A guess.
    """
    if grey.dtype.itemsize == 1 or min(grey.shape) < 2:
        return False
    return bool(_roughness(grey.byteswap()) < 0.5 * _roughness(grey))


def warn_of_byte_order(stack: Stack, *, what: str, change: str) -> None:
    """Warns if the values look as if their bytes were read in the wrong order.

    For files whose byte order a person states; other kinds state it themselves, in a number
    that could not be read either.

    Args:
        stack: Of which the middle is looked at.
        what: The file as the user wrote it.
        change: What to do if it is so, "set this=that".
    """
    if suspected_byte_order(middle_of(stack)):
        LOGGER.warning(
            "%s: with swapped bytes neighbouring pixels are far more alike; if the preview is"
            " noise, %s",
            what,
            change,
        )


def _roughness(grey: NDArray[Any]) -> float:
    """Mean difference of neighbours over the mean difference of any two pixels.

    Of ranks, not values: swapped floats reach from 1e-38 to 1e38, and NaN.
    """
    _, places = np.unique(grey, return_inverse=True)
    ranks = places.reshape(grey.shape).astype(np.float64)
    near = np.abs(np.diff(ranks, axis=1)).mean()
    flat = np.sort(ranks.ravel())
    weights = 2 * np.arange(1, flat.size + 1) - flat.size - 1
    far = 2 * float(weights @ flat) / flat.size**2
    return float(near / far) if far > 0 else 0.0


def middle_of(stack: Stack, *, most_px: int = 512) -> NDArray[Any]:
    """Reads the middle of the middle slice, to have a look at the grey values."""
    depth, height, width = stack.shape
    y, x = max(0, (height - most_px) // 2), max(0, (width - most_px) // 2)
    return stack.read_window(depth // 2, slice(y, y + most_px), slice(x, x + most_px))
