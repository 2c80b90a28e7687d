"""Figures of grids: what style and noise each decide, and the ways between styles."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sem2ct.reporting import style
from sem2ct.reporting.evaluation import Evaluation, Table, stacked

SHOWN_PERCENTILES = (5, 95)
MOST_PATHS = 12


def grid(figure: Figure, run: Evaluation, *, name: str) -> Table:
    """The tiles of one grid: style by style with all its noises, or path by path.

    Args:
        figure: Empty.
        run: The evaluation.
        name: A set that is a grid.

    Returns:
        Every tile's place and numbers.
    """
    figure.set_size_inches(10.5, 3.6)
    walked = run.metrics["sets"][name]["grid"]["mode"] == "interpolate"
    parts = []
    row = figure.subplots(1, len(style.NAMES))
    for axes, (quantity, words) in zip(row, style.NAMES.items(), strict=True):
        cells = run.curves[f"{name}/grid/{quantity}"]
        _real(axes, run, quantity)
        (_paths if walked else _styles)(axes, cells, run.looks[name])
        axes.set_title(_title(run, name, quantity, walked), fontsize=8.5)
        axes.set_ylabel(style.with_unit(words, run.unit(quantity)))
        outer, inner = np.indices(cells.shape)
        sides = ("path", "step") if walked else ("style", "noise")
        parts.append(
            {
                "quantity": quantity,
                sides[0]: outer.ravel(),
                sides[1]: inner.ravel(),
                "value": cells.ravel(),
            }
        )
    return stacked(parts)


def _real(axes: Axes, run: Evaluation, quantity: str) -> None:
    """The range of the real tiles, in grey."""
    real = run.values(run.reference, quantity)
    if len(real):
        low, high = np.percentile(real, SHOWN_PERCENTILES)
        axes.axhspan(low, high, color=style.BAND_COLOUR, alpha=0.6, linewidth=0)


def _styles(axes: Axes, cells: NDArray[np.float64], look: style.Look) -> None:
    """A column per style, the lowest mean first: dots are noises, bars are means."""
    defined = np.isfinite(cells).any(axis=1)
    means = np.array([np.nanmean(row) for row in cells[defined]])
    order = np.argsort(means)
    for place, row in enumerate(cells[defined][order]):
        axes.plot(np.full(len(row), place), row, ".", color=look.colour, markersize=4, alpha=0.7)
    places = np.arange(len(means))
    axes.hlines(means[order], places - 0.4, places + 0.4, color="black", linewidth=1.2)
    axes.set_xlabel("style, in the order of its mean (-)")
    axes.grid(axis="x", visible=False)


def _paths(axes: Axes, cells: NDArray[np.float64], look: style.Look) -> None:
    """A line per path."""
    share = np.linspace(0, 1, cells.shape[1])
    for k, row in enumerate(cells[:MOST_PATHS]):
        shade = 0.35 + 0.65 * (k % 4) / 3
        axes.plot(share, row, marker=".", color=look.colour, alpha=shade, linewidth=1)
    axes.set_xlabel("way from one style to the other (-)")


def _title(run: Evaluation, name: str, quantity: str, walked: bool) -> str:
    found = run.metrics["sets"][name]["grid"]["quantities"][quantity]
    key = "largest_step" if walked else "share_style"
    if found[key] is None:
        return "not decided"
    if walked:
        return f"largest step {found[key]:.0%} of the way (even: {found['even_step']:.0%})"
    return f"style decides {found[key]:.0%} (± {found['share_style_error']:.0%}) of the variance"
