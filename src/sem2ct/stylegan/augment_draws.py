"""What happens to each image of a batch before the discriminator sees it: the draws.

Every transformation of the adaptive pipe happens to an image with chance p, the
strength, times its multiplier.  All numbers of a batch are drawn at once, on the host,
always the same ones in the same order: so a draw depends on its place in the random
stream alone, N processes draw what one would, and no device has to be waited for.
Noise is the exception: every pixel of it is a hash of the image's number and its place.

Geometry is kept as the inverse transform: a (3, 3) matrix in pixels, from the
centre of the image, x before y, that says where a pixel of the result comes from.
Grey values are kept as a (2, 2) matrix acting on (grey, 1).

Sources: Karras et al. 2020, arXiv:2006.06676, appendix B; Zhao et al. 2020,
arXiv:2006.10738.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sem2ct.runtime import distributed, seeding
from sem2ct.stylegan.augment_pipes import DiffAugment, Pipe

# Share of the power of natural images in the octave bands, lowest first: 1 / f.  A change
# of one band is made up for in all of them, so that the expected power stays.
EXPECTED_POWER = np.array([10.0, 1, 1, 1]) / 13


@dataclass(frozen=True)
class _Rows:
    """Numbers per image; they are shared and parted row by row."""

    def share(self) -> Self:
        """Returns the part that belongs to this process."""
        return replace(self, **{name: distributed.share(rows) for name, rows in self._rows()})

    def part(self, k: int, parts: int) -> Self:
        """Returns every parts-th image from the k-th on."""
        return replace(self, **{name: rows[k::parts] for name, rows in self._rows()})

    def _rows(self) -> list[tuple[str, Tensor]]:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in values if isinstance(value, Tensor)]


@dataclass(frozen=True, kw_only=True)
class Draw(_Rows):
    """The changes of a batch by the adaptive pipe, on the host, float64."""

    inverse: Tensor
    """(N, 3, 3), target pixel to source pixel, both from the centre of the image."""
    grey: Tensor
    """(N, 2, 2), acting on the column (grey, 1)."""
    gains: Tensor
    """(N, 4), factors of the octave bands, lowest first."""
    noise_sd: Tensor
    """(N,), standard deviation of the added noise."""
    squares: Tensor
    """(N, 3), centre x and y and side of the square cut out, as shares of the image."""
    number: Tensor
    """(N,) int64, place of each image in the sequence of all images ever drawn."""
    noise_key: int
    """Names the stream of the noise."""


@dataclass(frozen=True, kw_only=True)
class DiffDraw(_Rows):
    """The changes of a batch by the pipe that is always on, on the host, float64."""

    brightness: Tensor
    """(N,), added."""
    contrast: Tensor
    """(N,), factor of the distance to the image's mean."""
    pixels: Tensor
    """(N, 2) int64, shift to the right and down."""
    squares: Tensor
    """(N, 3), centre x and y and side of the square cut out, as shares of the image."""


Changes: TypeAlias = Draw | DiffDraw


def draw(
    pipe: Pipe | DiffAugment,
    *,
    strength: float,
    seed: int,
    phase: str,
    first: int,
    count: int,
    side_px: int,
) -> Changes:
    """Draws the changes of a whole batch.

    Args:
        pipe: The transformations.
        strength: Chance p, 0 to 1; the pipe that is always on does not look at it.
        seed: The run's seed.
        phase: Which images of the step: each phase has a random stream of its own.
        first: Images seen before this batch.
        count: Images in the whole batch, over all processes.
        side_px: Side of the images in pixels.

    Returns:
        The changes of all images.
    """
    chances = _Chances(seeding.numpy_generator(seed, "augment", phase, first), count)
    if isinstance(pipe, DiffAugment):
        return _always(pipe, side_px, chances)
    # What came later into this project is drawn last: older runs keep their numbers.
    return Draw(
        inverse=_product(_geometry(pipe, strength, side_px, chances)),
        grey=_product(reversed(_greys(pipe, strength, chances))),
        gains=torch.from_numpy(_gains(pipe, strength, chances)),
        noise_sd=torch.from_numpy(np.abs(chances.normal(strength * pipe.noise, pipe.noise_sd))),
        squares=_squares(strength * pipe.cutout, pipe.cutout_side, chances),
        number=torch.arange(first, first + count),
        noise_key=seeding.mix(seed, "augment noise", phase),
    )


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
    p_rotation = 1 - (1 - p * pipe.rotation) ** 0.5
    most, angle = pipe.integer_translation_max, np.pi * pipe.rotation_max
    flip = chances.choice(p * pipe.x_flip, 2)
    quarters = chances.choice(p * pipe.rotate_90, 4)
    whole = chances.uniform(p * pipe.integer_translation, -most, most, 2)
    scale = 2 ** chances.normal(p * pipe.scale, pipe.scale_sd)
    before = chances.uniform(p_rotation, -angle, angle)
    stretch = 2 ** chances.normal(p * pipe.anisotropic_scale, pipe.anisotropic_scale_sd)
    after = chances.uniform(p_rotation, -angle, angle)
    shift = chances.normal(p * pipe.fractional_translation, pipe.fractional_translation_sd, 2)
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
    """Matrices, first operation first; hue and saturation leave grey as it is."""
    brightness = chances.normal(p * pipe.brightness, pipe.brightness_sd)
    contrast = 2 ** chances.normal(p * pipe.contrast, pipe.contrast_sd)
    flip = chances.choice(p * pipe.luma_flip, 2)
    nothing = np.zeros_like(brightness)
    return [
        _grey(np.ones_like(contrast), brightness),
        _grey(contrast, nothing),
        _grey(1 - 2 * flip, nothing),
    ]


def _gains(pipe: Pipe, p: float, chances: _Chances) -> np.ndarray:
    """Factors of the bands, (N, 4): of each change, divided by what it does to the power."""
    bands = (pipe.filter_band_1, pipe.filter_band_2, pipe.filter_band_3, pipe.filter_band_4)
    gains = np.ones((1, len(bands)))
    for band, multiplier in enumerate(bands):
        factor = 2 ** chances.normal(p * multiplier, pipe.filter_sd)
        change = np.where(np.arange(len(bands)) == band, factor[:, None], 1.0)
        gains = gains * change / np.sqrt(change**2 @ EXPECTED_POWER)[:, None]
    return gains


def _squares(chance: float, side: float, chances: _Chances) -> Tensor:
    """The side is drawn from one value, so that it is forgotten where nothing happens."""
    centre = chances.uniform(1.0, 0.0, 1.0, 2)
    sides = chances.uniform(chance, side, side)
    return torch.from_numpy(np.stack([*centre, sides], axis=1))


def _always(pipe: DiffAugment, side_px: int, chances: _Chances) -> DiffDraw:
    added, factor = pipe.brightness_max, pipe.contrast_max
    brightness = chances.uniform(1.0, -added, added)
    contrast = chances.uniform(1.0, 1 - factor, 1 + factor)
    # Every whole number of pixels from -farthest to farthest is as likely as any other.
    farthest = round(pipe.translation_max * side_px)
    pixels = np.floor(chances.uniform(1.0, -farthest, farthest + 1, 2)).astype(np.int64)
    return DiffDraw(
        brightness=torch.from_numpy(brightness),
        contrast=torch.from_numpy(contrast),
        pixels=torch.from_numpy(pixels.T.copy()),
        squares=_squares(1.0, pipe.cutout_side, chances),
    )


def _product(steps: Iterable[np.ndarray]) -> Tensor:
    """(N, k, k), the product of matrices, first one on the left."""
    return torch.from_numpy(functools.reduce(np.matmul, steps))


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
