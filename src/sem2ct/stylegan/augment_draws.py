"""What happens to each image of a batch before the discriminator sees it: the draws.

Every operation of the pipe happens to an image with chance p, the strength.  All
numbers of a batch are drawn at once, on the host, always the same ones in the same
order: so a draw depends on its place in the random stream alone, N processes draw
what one would, and no device has to be waited for.

Geometry is kept as the inverse transform: a (3, 3) matrix in pixels, from the
centre of the image, x before y, that says where a pixel of the result comes from.
Grey values are kept as a (2, 2) matrix acting on (grey, 1).

Source: Karras et al. 2020, arXiv:2006.06676, appendix B.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sem2ct.runtime import distributed

INTEGER_SHIFT = 0.125
FRACTIONAL_SHIFT_SD = 0.125
SCALE_SD = 0.2
BRIGHTNESS_SD = 0.2
CONTRAST_SD = 0.5


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """Which operations a pipe has; each happens with chance p where it is True."""

    x_flip: bool = False
    rotate_90: bool = False
    integer_translation: bool = False
    scale: bool = False
    rotation: bool = False
    anisotropic_scale: bool = False
    fractional_translation: bool = False
    brightness: bool = False
    contrast: bool = False
    luma_flip: bool = False


_BLIT = {"x_flip": True, "rotate_90": True, "integer_translation": True}
_EVERYTHING = {field.name: True for field in fields(Pipe)}

# bgc is the published pipe for one grey channel.  Its luma flip exchanges pore and
# grain, which no SEM does: sem leaves it out.
PIPES: Mapping[str, Pipe] = MappingProxyType(
    {
        "none": Pipe(),
        "blit": Pipe(**_BLIT),
        "sem": Pipe(**{**_EVERYTHING, "luma_flip": False}),
        "bgc": Pipe(**_EVERYTHING),
    }
)


def within(pipe: Pipe, symmetries: str) -> Pipe:
    """Leaves out turns and mirrorings that the images never show.

    Args:
        pipe: The operations.
        symmetries: none; mirror (left and right); dihedral (all turns and mirrorings).

    Returns:
        The operations that stay.
    """
    if symmetries == "dihedral":
        return pipe
    mirrors = pipe.x_flip and symmetries == "mirror"
    return replace(pipe, x_flip=mirrors, rotate_90=False, rotation=False)


@dataclass(frozen=True)
class Draw:
    """The transforms of a batch, on the host, float64."""

    inverse: Tensor
    """(N, 3, 3), target pixel to source pixel, both from the centre of the image."""
    grey: Tensor
    """(N, 2, 2), acting on the column (grey, 1)."""

    def share(self) -> Self:
        """Returns the part that belongs to this process."""
        return type(self)(distributed.share(self.inverse), distributed.share(self.grey))

    def part(self, k: int, parts: int) -> Self:
        """Returns every parts-th transform from the k-th on."""
        return type(self)(self.inverse[k::parts], self.grey[k::parts])


def draw(
    pipe: Pipe, *, strength: float, count: int, side_px: int, stream: np.random.Generator
) -> Draw:
    """Draws the transforms of a whole batch.

    Args:
        pipe: The operations.
        strength: Chance p of each operation, 0 to 1.
        count: Images in the whole batch, over all processes.
        side_px: Side of the images in pixels.
        stream: The random stream of this batch.

    Returns:
        The transforms of all images.

    Source: Karras et al. 2020, arXiv:2006.06676, appendix B, algorithm 1.
    """
    chances = _Chances(stream, count)
    inverse = np.broadcast_to(np.eye(3), (count, 3, 3))
    for step in _geometry(pipe, strength, side_px, chances):
        inverse = inverse @ step
    grey = np.broadcast_to(np.eye(2), (count, 2, 2))
    for step in _greys(pipe, strength, chances):
        grey = step @ grey
    return Draw(torch.from_numpy(inverse.copy()), torch.from_numpy(grey.copy()))


class _Chances:
    """Draws a value for every image, and forgets it where the operation does not happen."""

    def __init__(self, stream: np.random.Generator, count: int) -> None:
        self._stream = stream
        self._count = count

    def uniform(self, chance: float, low: float, high: float, columns: int = 1) -> np.ndarray:
        values = self._stream.uniform(low, high, (self._count, columns))
        return self._kept(values, chance)

    def normal(self, chance: float, sd: float, columns: int = 1) -> np.ndarray:
        values = self._stream.normal(0.0, sd, (self._count, columns))
        return self._kept(values, chance)

    def choice(self, chance: float, options: int) -> np.ndarray:
        values = self._stream.integers(0, options, (self._count, 1)).astype(np.float64)
        return self._kept(values, chance)

    def _kept(self, values: np.ndarray, chance: float) -> np.ndarray:
        happens = self._stream.random((self._count, 1)) < chance
        kept = np.where(happens, values, 0.0).T
        return kept if len(kept) > 1 else kept[0]


def _geometry(pipe: Pipe, p: float, side_px: int, chances: _Chances) -> list[np.ndarray]:
    """Inverse transforms, first operation first."""
    # One of the two rotations happens with chance p: they cannot be told apart
    # without anisotropic scaling in between.
    p_rotation = pipe.rotation * (1 - (1 - p) ** 0.5)
    flip = chances.choice(p * pipe.x_flip, 2)
    quarters = chances.choice(p * pipe.rotate_90, 4)
    whole = chances.uniform(p * pipe.integer_translation, -INTEGER_SHIFT, INTEGER_SHIFT, 2)
    scale = 2 ** chances.normal(p * pipe.scale, SCALE_SD)
    before = chances.uniform(p_rotation, -np.pi, np.pi)
    stretch = 2 ** chances.normal(p * pipe.anisotropic_scale, SCALE_SD)
    after = chances.uniform(p_rotation, -np.pi, np.pi)
    shift = chances.normal(p * pipe.fractional_translation, FRACTIONAL_SHIFT_SD, 2)
    return [
        _scaled(1 - 2 * flip, np.ones_like(flip)),
        _quarter_turned(quarters),
        _shifted(-np.rint(whole * side_px)),
        _scaled(1 / scale, 1 / scale),
        _turned(-before),
        _scaled(1 / stretch, stretch),
        _turned(-after),
        _shifted(-shift * side_px),
    ]


def _greys(pipe: Pipe, p: float, chances: _Chances) -> list[np.ndarray]:
    brightness = chances.normal(p * pipe.brightness, BRIGHTNESS_SD)
    contrast = 2 ** chances.normal(p * pipe.contrast, CONTRAST_SD)
    flip = chances.choice(p * pipe.luma_flip, 2)
    nothing = np.zeros_like(brightness)
    return [
        _grey(np.ones_like(contrast), brightness),
        _grey(contrast, nothing),
        _grey(1 - 2 * flip, nothing),
    ]


def _scaled(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    matrix = np.zeros((len(x), 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = x, y, 1
    return matrix


def _shifted(by: np.ndarray) -> np.ndarray:
    matrix = _scaled(np.ones_like(by[0]), np.ones_like(by[0]))
    matrix[:, 0, 2], matrix[:, 1, 2] = by
    return matrix


def _turned(angle: np.ndarray) -> np.ndarray:
    return _rotation(np.cos(angle), np.sin(angle))


def _quarter_turned(quarters: np.ndarray) -> np.ndarray:
    # From a table: a cosine of a right angle is not quite 0.
    turns = quarters.astype(np.int64)
    return _rotation(np.array([1.0, 0, -1, 0])[turns], np.array([0.0, 1, 0, -1])[turns])


def _rotation(cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    matrix = _scaled(cosine, cosine)
    matrix[:, 0, 1], matrix[:, 1, 0] = -sine, sine
    return matrix


def _grey(gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    matrix = np.zeros((len(gain), 2, 2))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1] = gain, offset, 1
    return matrix
