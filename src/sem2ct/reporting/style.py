"""One look for all figures: a colour, a dash and a marker per set, axes with units.

The colours are Okabe and Ito's, told apart by colour-blind readers, and chosen so that they
also differ in lightness; dashes and markers tell the sets apart in a grey print.
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
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator

from sem2ct.runtime.run_folder import writing

REAL_COLOUR = "#000000"
MARK_COLOUR = "#E69F00"
BAND_COLOUR = "#d6d6d6"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
DASHES = ((6.0, 2.5), (1.5, 1.8), (7.0, 2.0, 1.5, 2.0), (10.0, 2.5), (3.0, 1.5, 1.2, 1.5, 1.2, 1.5))
MARKERS = ("s", "^", "D", "v", "P", "X")
OUTLINES = {
    "o": "M13 6a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "s": "M13.5 2.5h7v7h-7z",
    "^": "M17 1.5l4.5 8h-9z",
    "D": "M17 1l5 5l-5 5l-5 -5z",
    "v": "M17 10.5l4.5 -8h-9z",
    "P": "M15.4 1.5h3.2v3h3v3h-3v3h-3.2v-3h-3v-3h3z",
    "X": "M13 4l2 -2l2 2l2 -2l2 2l-2 2l2 2l-2 2l-2 -2l-2 2l-2 -2l2 -2z",
}
"""The markers as SVG paths in a field of 34 by 12, for the keys in the report's text."""
DOTS_PER_INCH = 150
NAME_LENGTH = 26
MOST_TICKS = 5
WORDS = {
    "chord_pore_x": "mean pore chord along x",
    "chord_pore_y": "mean pore chord along y",
    "chord_grain_x": "mean grain chord along x",
    "chord_grain_y": "mean grain chord along y",
    "euler_number": "Euler number per area",
    "largest_pore": "pore space in the largest pore",
    "percolating_pores": "pore space that spans the tile",
    "pore_diameter": "mean pore diameter",
    "grey_slope": "sharpness (grey slope)",
    "seam": "strongest straight line (seam)",
    "kozeny_carman": "permeability proxy (Kozeny-Carman)",
}
"""Quantities whose name in metrics.json is not plain enough; others are printed as they are."""
NAMES = {
    "porosity": "porosity",
    "specific_surface": "specific surface",
    "correlation_length": "correlation length",
}
_LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.handlelength": 3.2,
    "lines.markersize": 4,
    "figure.facecolor": "white",
    "pdf.fonttype": 3,  # 42 could be edited letter by letter, but costs 3 s for 20 figures
}


@dataclass(frozen=True)
class Look:
    """How one set is drawn."""

    colour: str
    dash: tuple[float, ...]
    """Lengths of ink and gap in line widths; empty for a full line."""
    marker: str

    @property
    def line(self) -> Any:
        """The dash as matplotlib takes it."""
        return (0, self.dash) if self.dash else "-"


def looks(names: Sequence[str], reference: str) -> dict[str, Look]:
    """Gives each set its colour, dash and marker: the reference is black, in every figure.

    Args:
        names: The sets, in the order of the settings.
        reference: The real one.

    Returns:
        By name.  Thirty sets are told apart; after that looks repeat.
    """
    found = {reference: Look(REAL_COLOUR, (), "o")}
    for index, name in enumerate(name for name in names if name != reference):
        found[name] = Look(
            COLOURS[index % len(COLOURS)],
            DASHES[index % len(DASHES)],
            MARKERS[index % len(MARKERS)],
        )
    return {name: found[name] for name in names}


def lightness(colour: str) -> float:
    """How light a colour prints in grey: L* of CIE 1976, 0 for black, 100 for white.

    Args:
        colour: "#rrggbb", sRGB.

    Returns:
        L*.

    Source: IEC 61966-2-1 (sRGB) and CIE 15 (L* from relative luminance).
    """
    levels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
    luminance = sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else 24389 / 27 * luminance


@contextmanager
def figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yields an empty figure and saves it as PNG, and as PDF beside it.

    Args:
        path: The PNG file; its folder exists.
        width: In inches; the drawing may change it.
        height: In inches; the drawing may change it.
    """
    with mpl.rc_context(_LOOK):
        drawn = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
        pixels = FigureCanvasAgg(drawn)
        yield drawn
        for axis in (axis for axes in drawn.axes for axis in (axes.xaxis, axes.yaxis)):
            if isinstance(locator := axis.get_major_locator(), AutoLocator):
                locator.set_params(nbins=MOST_TICKS)  # half of the time goes into ticks
        # Straight to the canvas, placed once: savefig would draw five times instead of two.
        with writing(path) as unfinished:
            pixels.print_png(unfinished, pil_kwargs={"compress_level": 4})
        drawn.set_layout_engine("none")
        undated: Any = {"CreationDate": None}  # the same numbers give the same file
        with writing(path.with_suffix(".pdf")) as unfinished:
            FigureCanvasPdf(drawn).print_pdf(unfinished, metadata=undated)


def label(name: str, *, most: int = NAME_LENGTH) -> str:
    """The name of a set as matplotlib prints it, letter for letter, shortened in its middle.

    Args:
        name: As the user wrote it.
        most: Most letters.

    Returns:
        Without formulas ("$") and never hidden from a legend (a leading "_").
    """
    shown = " ".join(name.split()) or "(no name)"
    if len(shown) > most:
        tail = (most - 1) // 2
        shown = shown[: most - 1 - tail] + "…" + shown[-tail:]
    shown = shown.replace("$", r"\$")
    return "\N{ZERO WIDTH SPACE}" + shown if shown.startswith("_") else shown


def words_for(quantity: str) -> str:
    """A quantity in plain words."""
    return WORDS.get(quantity, quantity.replace("_", " "))


def with_unit(name: str, unit: str) -> str:
    """Label of an axis: "correlation length (µm)", "porosity (-)"."""
    return f"{name} ({unit.replace('um', 'µm').replace('^2', '²') or '-'})"


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
    written = axes.text(x, y - 0.03 * side_px, text, color="white", fontsize=7, va="bottom")
    written.set_bbox({"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.2})


def round_length(about: float) -> float:
    """The 1, 2 or 5 times a power of ten that is nearest below a length."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(step * power for step in (5, 2, 1) if step * power <= about * (1 + 1e-9))
