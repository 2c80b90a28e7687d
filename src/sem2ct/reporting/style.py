"""One look for all figures: a colour and a line per set, axes with units.

The colours are Okabe and Ito's, told apart by colour-blind readers; dashes and
markers tell the sets apart in a grey print.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

REAL_COLOUR = "#222222"
MARK_COLOUR = "#E69F00"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C564B")
DASHES = ("-", "--", "-.", ":")
DOTS_PER_INCH = 150
NAMES = {
    "porosity": "porosity",
    "specific_surface": "specific surface",
    "correlation_length": "correlation length",
}
_LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Look:
    """How one set is drawn."""

    colour: str
    dash: str


def looks(names: Sequence[str], reference: str) -> dict[str, Look]:
    """Gives each set its colour and line: the reference is black, in every figure.

    Args:
        names: The sets, in the order of the settings.
        reference: The real one.

    Returns:
        By name.
    """
    found = {reference: Look(REAL_COLOUR, "-")}
    for index, name in enumerate(name for name in names if name != reference):
        dash = DASHES[(index + 1) % len(DASHES)]
        found[name] = Look(COLOURS[index % len(COLOURS)], dash)
    return {name: found[name] for name in names}


@contextmanager
def figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yields an empty figure and saves it as PNG.

    Args:
        path: The PNG file; its folder exists.
        width: In inches.
        height: In inches.
    """
    with mpl.rc_context(_LOOK):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        drawn.savefig(path, dpi=DOTS_PER_INCH)


def with_unit(name: str, unit: str) -> str:
    """Label of an axis: "correlation length (µm)"."""
    shown = {"um": "µm", "1/um": "1/µm"}.get(unit, unit)
    return f"{name} ({shown})" if shown else name


def scale_bar(axes: Axes, side_px: float, pixel_um: float | None) -> None:
    """Draws a bar of a round length, about a quarter of the picture wide, in its corner.

    Args:
        axes: An image drawn with `imshow`, data coordinates in pixels.
        side_px: Width of the picture in pixels of its data coordinates.
        pixel_um: Side of such a pixel; None labels the bar in pixels.
    """
    size = pixel_um or 1.0
    length = round_length(side_px * size / 4)
    text = f"{length:g} {'px' if pixel_um is None else 'µm'}"
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    x, y = left + 0.05 * side_px, bottom - 0.06 * side_px
    ends = [x, x + length / size]
    for colour, width in (("black", 5), ("white", 2.5)):
        axes.plot(ends, [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    label = axes.text(x, y - 0.03 * side_px, text, color="white", fontsize=7, va="bottom")
    label.set_bbox({"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.2})


def round_length(about: float) -> float:
    """The 1, 2 or 5 times a power of ten that is nearest below a length."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(step * power for step in (5, 2, 1) if step * power <= about * (1 + 1e-9))
