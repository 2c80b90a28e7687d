"""Which changes an augmentation pipe makes, how often and how strongly.

The published pipe has 18 transformations.  Each has a multiplier: it happens to an
image with chance p times the multiplier, where p is what the controller moves.  Most
have a size besides, whose name ends in _sd, _max or _side; a preset chooses the
multipliers, and every number can be set by name.

Sources: Karras et al. 2020, arXiv:2006.06676, appendix B; Zhao et al. 2020,
arXiv:2006.10738.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from sem2ct.runtime.refusal import Refusal

_SIZES = ("_sd", "_max", "_side")
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """The adaptive pipe: multipliers of the 18 transformations, 0 to 1, and their sizes."""

    x_flip: float = 0.0
    rotate_90: float = 0.0
    integer_translation: float = 0.0
    scale: float = 0.0
    rotation: float = 0.0
    """Turns before and after the anisotropic scaling; one of them with chance p at least."""
    anisotropic_scale: float = 0.0
    fractional_translation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    luma_flip: float = 0.0
    """Exchanges dark and bright."""
    hue: float = 0.0
    """Turns colours about the grey axis: one grey channel stays as it is."""
    saturation: float = 0.0
    """Scales the distance to the grey axis: one grey channel stays as it is."""
    filter_band_1: float = 0.0
    """Amplifies or damps up to 1/16 of a period per pixel."""
    filter_band_2: float = 0.0
    """The octave above, up to 1/8 of a period per pixel."""
    filter_band_3: float = 0.0
    """The octave above, up to 1/4 of a period per pixel."""
    filter_band_4: float = 0.0
    """The octave above, up to 1/2 of a period per pixel."""
    noise: float = 0.0
    """White noise is added."""
    cutout: float = 0.0
    """A square becomes grey 0."""

    integer_translation_max: float = 0.125
    """Largest shift, as a share of the side."""
    scale_sd: float = 0.2
    """Of the base-2 logarithm of the factor."""
    rotation_max: float = 1.0
    """Largest angle, as a share of half a turn."""
    anisotropic_scale_sd: float = 0.2
    """Of the base-2 logarithm of the factor along x; y gets its inverse."""
    fractional_translation_sd: float = 0.125
    """Of the shift, as a share of the side."""
    brightness_sd: float = 0.2
    """Of what is added; black and white are 2 apart."""
    contrast_sd: float = 0.5
    """Of the base-2 logarithm of the factor."""
    hue_max: float = 1.0
    """Largest angle, as a share of half a turn."""
    saturation_sd: float = 1.0
    """Of the base-2 logarithm of the factor."""
    filter_sd: float = 1.0
    """Of the base-2 logarithm of a band's factor."""
    noise_sd: float = 0.1
    """Scale of the half-normal distribution of the noise's standard deviation."""
    cutout_side: float = 0.5
    """Side of the square, as a share of the image's."""

    @property
    def adaptive(self) -> bool:
        """Whether anything happens that a chance p governs."""
        return any(getattr(self, name) > 0 for name in multipliers())


@dataclass(frozen=True, kw_only=True)
class DiffAugment:
    """The pipe that changes every image, always: no chance, no controller."""

    brightness_max: float = 0.5
    """Most that is added or taken away; black and white are 2 apart."""
    contrast_max: float = 0.5
    """The distance to the image's mean is multiplied by 1 - this to 1 + this."""
    translation_max: float = 0.125
    """Largest shift in whole pixels, as a share of the side; grey 0 moves in."""
    cutout_side: float = 0.5
    """Side of the square that becomes grey 0, as a share of the image's."""

    @property
    def adaptive(self) -> bool:
        """Whether anything happens that a chance p governs: no."""
        return False


def multipliers() -> list[str]:
    """Returns the names of the 18 transformations."""
    return [field.name for field in fields(Pipe) if not field.name.endswith(_SIZES)]


def _of(*names: str) -> Pipe:
    return Pipe(**dict.fromkeys(names, 1.0))


_BLIT = ("x_flip", "rotate_90", "integer_translation")
_GEOMETRY = ("scale", "rotation", "anisotropic_scale", "fractional_translation")
_GREY = ("brightness", "contrast")
_COLOUR = ("luma_flip", "hue", "saturation")

# bgc is the published default.  Its luma flip exchanges pore and grain, which no SEM
# does: sem leaves it out.
PIPES: Mapping[str, Pipe | DiffAugment] = MappingProxyType(
    {
        "none": Pipe(),
        "blit": _of(*_BLIT),
        "sem": _of(*_BLIT, *_GEOMETRY, *_GREY),
        "bgc": _of(*_BLIT, *_GEOMETRY, *_GREY, *_COLOUR),
        "bgcfnc": _of(*multipliers()),
        "diffaugment": DiffAugment(),
    }
)


def pipe(
    name: str, *, symmetries: str = "dihedral", strengths: Mapping[str, float] = _NOTHING
) -> Pipe | DiffAugment:
    """Builds the pipe that the settings ask for.

    Args:
        name: One of `PIPES`.
        symmetries: none, mirror or dihedral, of the rock; what sem may turn and mirror.
            The published pipes stay as published.
        strengths: Numbers that replace those of the preset, by name.

    Returns:
        The pipe.

    Raises:
        Refusal: If a strength has an unknown name or is out of its range.
    """
    preset = PIPES[name]
    if name == "sem" and isinstance(preset, Pipe):
        preset = within(preset, symmetries)
    known = [field.name for field in fields(preset)]
    for strength, value in strengths.items():
        _refuse_unknown(strength, known, name)
        _refuse_out_of_range(strength, value)
    return replace(preset, **strengths)


def within(pipe: Pipe, symmetries: str) -> Pipe:
    """Leaves out turns and mirrorings that the images never show.

    Args:
        pipe: The transformations.
        symmetries: none; mirror (left and right); dihedral (all turns and mirrorings).

    Returns:
        The transformations that stay.
    """
    if symmetries == "dihedral":
        return pipe
    mirrors = pipe.x_flip if symmetries == "mirror" else 0.0
    return replace(pipe, x_flip=mirrors, rotate_90=0.0, rotation=0.0)


def _refuse_unknown(strength: str, known: list[str], name: str) -> None:
    if strength in known:
        return
    close = difflib.get_close_matches(strength, known, n=1)
    advice = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
    raise Refusal(f"augment_strengths: unknown '{strength}' for augment={name}; {advice}")


def _refuse_out_of_range(strength: str, value: float) -> None:
    most = math.inf if strength.endswith("_sd") else 1.0
    if not 0 <= value <= most or math.isinf(value):
        allowed = "0 or more" if strength.endswith("_sd") else "0 to 1"
        raise Refusal(f"augment_strengths: {strength}={value} is not allowed; set {allowed}")
