"""Chord lengths: how long a straight line stays in one phase.

Only interior runs count.  A run that touches the frame goes on outside, nobody knows
how far; counting it as it is would make the frame a boundary.  Leaving it out favours
short chords a little, because long ones touch the frame more often: in a tile many
chords wide this is small, and equal for sets of one tile size.

Source: Torquato, Random Heterogeneous Materials (2002), section 2.5.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Direction = Literal["x", "y", "z"]
AXES: dict[str, int] = {"x": -1, "y": -2, "z": -3}
"""Array axis of each direction: images are (H, W), volumes (D, H, W)."""


@dataclass(frozen=True)
class Runs:
    """Unbroken stretches of one phase along parallel lines."""

    lengths: NDArray[np.int64]
    """(n,) pixels in each run, line after line."""
    interior: NDArray[np.bool_]
    """(n,) False where the run touches the frame."""


def runs(phase: NDArray[np.bool_], *, along: Direction) -> Runs:
    """Finds all runs of a phase along one direction, those at the frame included.

    Args:
        phase: Boolean, (H, W) or (D, H, W), True in the phase: `pores`, or `~pores`.
        along: Direction of the lines.

    Returns:
        The runs.
    """
    lines = np.moveaxis(phase, AXES[along], -1)
    width = lines.shape[-1]
    framed = np.zeros((*lines.shape[:-1], width + 2), np.bool_)
    framed[..., 1:-1] = lines
    # Between its frames each line changes an even number of times, so ends follow starts.
    changes = np.flatnonzero(framed[..., 1:] != framed[..., :-1])
    starts, ends = changes[::2], changes[1::2]
    interior = (starts % (width + 1) > 0) & (ends % (width + 1) < width)
    return Runs(ends - starts, interior)


def chord_lengths(phase: NDArray[np.bool_], *, along: Direction) -> NDArray[np.int64]:
    """Lengths of the interior runs of a phase.

    Args:
        phase: Boolean, (H, W) or (D, H, W), True in the phase: `pores`, or `~pores`.
        along: Direction of the lines.

    Returns:
        (n,) pixels; empty when every run touches the frame.
    """
    found = runs(phase, along=along)
    return found.lengths[found.interior]


def mean_chord(phase: NDArray[np.bool_], *, along: Direction, pixel_size_um: float = 1.0) -> float:
    """Mean length of the interior runs.

    Args:
        phase: Boolean, (H, W) or (D, H, W), True in the phase: `pores`, or `~pores`.
        along: Direction of the lines.
        pixel_size_um: Side of a pixel in micrometres; 1 gives the answer in pixels.

    Returns:
        In um; NaN without an interior run.
    """
    lengths = chord_lengths(phase, along=along)
    return float(lengths.mean()) * pixel_size_um if lengths.size else float("nan")


def chord_density(lengths: NDArray[np.integer], *, longest_px: int) -> NDArray[np.float64]:
    """Chord length density: share of the chords that have each length.

    Args:
        lengths: (n,) pixels, from `chord_lengths`.
        longest_px: Longest length that gets an entry of its own.

    Returns:
        (longest + 1,) per pixel, entry k for length k; sums to 1 when no chord is longer.
        NaN when there is no chord.
    """
    if not lengths.size:
        return np.full(longest_px + 1, np.nan)
    counts = np.bincount(np.minimum(lengths, longest_px + 1), minlength=longest_px + 2)
    return counts[: longest_px + 1] / lengths.size
