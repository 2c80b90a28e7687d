"""Grey values: from what a microscope wrote to what a network sees, and back.

A window (two raw grey levels that become black and white) is chosen once, from
training images only, and travels with the store: every later image of the same
rock goes through the same window, so that equal greys stay equal.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sem2ct.runtime.refusal import Refusal

Percentiles = Sequence[float] | Literal["keep"]
_LEAST_BACKGROUND_PX = 64
_BAND_PIXELS = 2**18


@dataclass(frozen=True)
class Window:
    """Two raw grey levels: `low` becomes 0, `high` becomes 255.

    Where pores are bright, `low` is the brighter of the two, so that in stores pores are dark.
    """

    low: float
    high: float

    def to_uint8(self, grey: NDArray[Any]) -> NDArray[np.uint8]:
        """Stretches the window to 0..255, rounds to nearest, clips outside.

        Args:
            grey: Raw grey values, any shape, integer or float.

        Returns:
            The same shape, uint8.
        """
        stretched = np.empty(grey.shape, dtype=np.uint8)
        # In bands that stay in the cache: three times as fast as a table of all grey levels.
        rows, target = np.atleast_1d(grey), np.atleast_1d(stretched)
        step = max(1, _BAND_PIXELS * len(rows) // max(rows.size, 1))
        for first in range(0, len(rows), step):
            scaled = rows[first : first + step].astype(np.float32)
            scaled -= np.float32(self.low)
            scaled *= np.float32(255 / (self.high - self.low))
            np.rint(scaled, out=scaled)
            target[first : first + step] = np.clip(scaled, 0, 255, out=scaled)
        return stretched

    def as_dict(self) -> dict[str, float]:
        """Returns plain numbers for a manifest or a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> Self:
        """Rebuilds a window from `as_dict`."""
        return cls(low=float(values["low"]), high=float(values["high"]))


def choose_window(grey: NDArray[Any], percentiles: Percentiles, *, what: str) -> Window:
    """Chooses the window between two percentiles of pooled grey values.

    Args:
        grey: Raw grey values of everything pooled, any shape.
        percentiles: Those that become black and white, 0 to 100, the higher one first where
            pores are bright; or "keep": 8-bit greys stay as they are.
        what: Name of the images as the user wrote it, for a refusal.

    Returns:
        The window.

    Raises:
        Refusal: If there are no values, a value is NaN or infinite, all values are
            equal, the two percentiles fall on the same grey level, or greys beyond 255
            shall be kept.
    """
    if grey.size == 0:
        raise Refusal(f"{what}: no pixels to choose a grey window from")
    refuse_unusable(grey, what=what)
    if isinstance(percentiles, str):
        if grey.min() < 0 or grey.max() > 255:
            raise Refusal(
                f"{what}: grey values from {grey.min():g} to {grey.max():g} cannot be kept as they"
                " are, a store holds 0 to 255; give two percentiles instead of keep"
            )
        return Window(low=0.0, high=255.0)
    low, high = _levels(grey, percentiles)
    if low == high:
        raise Refusal(
            f"{what}: percentiles {percentiles[0]:g} and {percentiles[1]:g} both lie at grey"
            f" {low:g}, so the window has no width; widen the percentiles (0 and 100 at most)"
        )
    return Window(low=low, high=high)


def _levels(grey: NDArray[Any], percentiles: Sequence[float]) -> list[float]:
    """As np.percentile; of integers by counting, which is several times as fast."""
    if grey.dtype not in (np.uint8, np.uint16):
        return [float(level) for level in np.percentile(grey, percentiles)]
    counts, flat = np.zeros(2**16, dtype=np.int64), grey.ravel()
    for first in range(0, flat.size, _BAND_PIXELS):  # in bands that stay in the cache
        counts += np.bincount(flat[first : first + _BAND_PIXELS], minlength=2**16)
    up_to = np.cumsum(counts)
    levels = []
    for percentile in percentiles:
        place = percentile / 100 * (grey.size - 1)
        below, above = np.searchsorted(up_to, (np.floor(place), np.ceil(place)), side="right")
        levels.append(float(below + (above - below) * (place % 1)))
    return levels


def refuse_unusable(grey: NDArray[Any], *, what: str) -> None:
    """Refuses images that hold NaN or infinite values, or one value only.

    Args:
        grey: Raw grey values, not empty, any shape.
        what: Name of the image as the user wrote it.

    Raises:
        Refusal: Naming the image and what was found.
    """
    refuse_not_finite(grey, what=what)
    if grey.min() == grey.max():
        raise Refusal(
            f"{what}: every pixel has the grey value {grey.flat[0]:g}; a constant image shows"
            " nothing to learn from; choose another file"
        )


def refuse_not_finite(grey: NDArray[Any], *, what: str) -> None:
    """Refuses NaN and infinite values.

    Args:
        grey: Raw grey values, any shape.
        what: Name of the image as the user wrote it.

    Raises:
        Refusal: Naming the image and how many values are affected.
    """
    if not np.issubdtype(grey.dtype, np.floating):
        return
    bad = int(np.count_nonzero(~np.isfinite(grey)))
    if bad:
        raise Refusal(
            f"{what}: {bad} of {grey.size} values are NaN or infinite; grey values must be"
            " numbers: replace them in the file"
        )


def to_network(tiles: Tensor) -> Tensor:
    """Turns stored greys into network input.

    Args:
        tiles: uint8, any shape, 0 to 255.

    Returns:
        float32 of the same shape, x / 127.5 - 1, in [-1, 1].
    """
    return tiles.to(torch.float32).div_(127.5).sub_(1)


def from_network(images: Tensor) -> Tensor:
    """Turns network output into stored greys.

    Args:
        images: Floating point, any shape; [-1, 1] is black to white.

    Returns:
        uint8 of the same shape, rounded to nearest, clamped outside.
    """
    return images.to(torch.float32).add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def field_of_view(grey: NDArray[Any]) -> NDArray[np.bool_]:
    """Finds the part of a slice that the CT saw, from the background around it.

    Reconstructions fill what lies outside the (usually round) field with one
    constant.  So where all four corners hold the same value, the pixels of that
    value that hang together with a corner are background.  A pore of the same
    value inside the field is not.

    Args:
        grey: (H, W), raw grey values of one slice.

    Returns:
        (H, W), True inside; all True where the field fills the frame.
    """
    corners = grey[[0, 0, -1, -1], [0, -1, 0, -1]]
    inside = np.ones(grey.shape, dtype=np.bool_)
    if np.any(corners != corners[0]):
        return inside
    from scipy import ndimage  # not above: it takes a quarter of a second

    parts = np.empty(grey.shape, dtype=np.int32)
    ndimage.label(grey == corners[0], output=parts)
    background = np.isin(parts, parts[[0, 0, -1, -1], [0, -1, 0, -1]])
    if np.count_nonzero(background) < _LEAST_BACKGROUND_PX:
        return inside  # four equal corner pixels by chance
    return np.asarray(~background)


def is_field_of_view(inside: NDArray[np.bool_], grey: NDArray[Any]) -> bool:
    """Says whether `field_of_view(grey)` is this mask; never wrongly yes, and far quicker.

    Background is what hangs together with a corner; a mask found in a neighbouring slice is
    that here too if all outside it has the corners' value and nothing along its edge has.

    Args:
        inside: (H, W), what `field_of_view` found in another slice.
        grey: (H, W), raw grey values.

    Returns:
        True if it is known to be so.
    """
    if inside[[0, 0, -1, -1], [0, -1, 0, -1]].any():
        return False
    same = grey == grey[0, 0]
    if not (same | inside).all():
        return False
    # An edge: two neighbours, one of them inside, and both of the background's value.
    for axis in (0, 1):
        one, other = (np.moveaxis(a, axis, 0) for a in (inside, same))
        if np.any((one[1:] != one[:-1]) & other[1:] & other[:-1]):
            return False
    return True


def collapse_channels(image: NDArray[Any], *, what: str) -> NDArray[Any]:
    """Turns a colour image of a grey subject into the grey image it is.

    Args:
        image: (H, W), or (H, W, channels): grey, grey and alpha, RGB, or RGB and alpha.
        what: Name of the image as the user wrote it.

    Returns:
        (H, W); alpha is dropped.

    Raises:
        Refusal: If red, green and blue differ anywhere.
    """
    if image.ndim == 2:
        return image
    red = image[..., 0]
    for channel in range(1, 3 if image.shape[-1] >= 3 else 1):
        unequal = int(np.count_nonzero(image[..., channel] != red))
        if unequal:
            raise Refusal(
                f"{what}: a colour image, red, green and blue differ in {unequal} of {red.size}"
                " pixels; only grey images can be read: remove overlays or save it as grey"
            )
    return red
