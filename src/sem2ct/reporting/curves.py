"""Figures of curves: two-point correlation, its exponential fit, lineal path, threshold, truth."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sem2ct.reporting import distributions, style
from sem2ct.reporting.evaluation import Evaluation, Table, stacked

E_FOLDS_SHOWN = 6
LEAST_R = 0.01
MARKERS = 12
AXES = {"x": 1, "y": 2}
Floats = NDArray[np.float64]


def microstructure(figure: Figure, run: Evaluation) -> Table:
    """Porosity, S2, log R with its fit, and correlation length: the paper's figure 3."""
    figure.set_size_inches(10.5, 7.6)
    grid = figure.subplots(2, 2)
    parts = [distributions.violins(grid[0, 0], run, "porosity")]
    parts.append(distributions.violins(grid[1, 1], run, "correlation_length"))
    _s2(grid[0, 1], run)
    _r(grid[1, 0], run)
    grid[1, 0].set(yscale="log", ylim=(LEAST_R, 1.1))
    grid[1, 0].set_yticks([1, 0.1, 0.01], ["1", "0.1", "0.01"])
    grid[1, 0].legend(fontsize=8, loc="lower left")
    titles = ("Porosity", "Two-point correlation", "Normalised correlation", "Correlation length")
    for letter, axes, title in zip("abcd", grid.ravel(), titles, strict=True):
        axes.set_title(f"{letter}  {title}")
    distributions.shared_legend(figure, grid[0, 1])
    return stacked(parts)


def two_point(figure: Figure, run: Evaluation) -> Table:
    """Mean S2 in all directions, and what each set differs from the reference."""
    figure.set_size_inches(10.5, 3.9)
    left, right = figure.subplots(1, 2)
    parts = _s2(left, run)
    radial, _ = run.lags
    real = run.curves[f"{run.reference}/s2_mean"][0]
    low, high = (run.curves[f"band_{end}"][0] - real for end in ("low", "high"))
    right.fill_between(radial, low, high, color=style.BAND_COLOUR)
    for name in run.names:
        _line(right, run, name, radial, run.curves[f"{name}/s2_mean"][0] - real)
    left.set_title("Two-point correlation, all directions")
    right.set_title(f"Difference from {style.label(run.reference)}")
    right.set(xlabel=style.with_unit("lag", run.length_unit), ylabel="difference of S2 (-)")
    right.set_xlim(0, radial[-1])
    distributions.shared_legend(figure, left)
    return stacked(parts)


def directions(figure: Figure, run: Evaluation) -> Table:
    """Mean S2 along x and along y, and their difference: zero where no direction is special."""
    figure.set_size_inches(10.5, 3.9)
    row = figure.subplots(1, 3)
    row[1].sharey(row[0])
    _, lags = run.lags
    parts = []
    for axes, (axis, index) in zip(row, AXES.items(), strict=False):
        ends = (run.curves[f"band_{end}"][index] for end in ("low", "high"))
        axes.fill_between(lags, *ends, color=style.BAND_COLOUR, label=_band_label(run))
        axes.set_title(f"Along {axis}")
        axes.set_ylabel("S2 (-)")
    for name in run.names:
        along = run.curves[f"{name}/s2_mean"]
        for axes, index in zip(row, AXES.values(), strict=False):
            _line(axes, run, name, lags, along[index])
        _line(row[2], run, name, lags, along[1] - along[2])
        parts.append({"set": name, "lag": lags, "s2_x": along[1], "s2_y": along[2]})
    row[2].axhline(0, color="#888888", linewidth=0.8)
    row[2].set_title("Along x minus along y")
    row[2].set_ylabel("difference of S2 (-)")
    for axes in row:
        axes.set(xlabel=style.with_unit("lag", run.length_unit), xlim=(0, lags[-1]))
    distributions.shared_legend(figure, row[0])
    return stacked(parts)


def normalised(figure: Figure, run: Evaluation) -> Table:
    """Mean R with its exponential fit, and what the exponential misses."""
    figure.set_size_inches(10.5, 3.9)
    left, right = figure.subplots(1, 2)
    parts = _r(left, run)
    radial, _ = run.lags
    for name in run.names:
        length = _length(run, name)
        if length is not None:
            missed = run.curves[f"{name}/r_mean"][0] - np.exp(-radial / length)
            _line(right, run, name, radial, missed)
    for axes in (left, right):
        axes.axhline(0, color="#888888", linewidth=0.8)
    left.axhline(0.05, color="#888888", linewidth=0.8, linestyle=":")
    left.set_title("Normalised correlation (markers) and exponential fit (lines)")
    right.set_title("Measured minus fitted")
    right.set(xlabel=style.with_unit("lag", run.length_unit), ylabel="difference of R (-)")
    right.set_xlim(left.get_xlim())
    distributions.shared_legend(figure, left)
    return stacked(parts)


def lineal_path(figure: Figure, run: Evaluation) -> Table:
    """Chance that a whole line lies in pore, along x and along y, on a logarithmic axis."""
    figure.set_size_inches(10.5, 3.9)
    row = figure.subplots(1, 2, sharey=True)
    parts = []
    for name in run.names:
        if f"{name}/lineal_path_mean" not in run.curves:
            continue
        along = run.curves[f"{name}/lineal_path_mean"]
        lengths = (np.arange(along.shape[1]) + 1) * run.pixel
        for axes, curve in zip(row, along, strict=True):
            _line(axes, run, name, lengths, np.where(curve > 0, curve, np.nan))
        parts.append({"set": name, "length": lengths, "along_x": along[0], "along_y": along[1]})
    drawn = [line.get_ydata() for axes in row for line in axes.lines]
    highest = max((np.nanmax(y) for y in drawn if np.isfinite(y).any()), default=1.0)
    for axes, axis in zip(row, AXES, strict=True):
        axes.set(yscale="log", ylim=(1e-4 * highest, 1.5 * highest))
        axes.set_xlabel(style.with_unit("length of the line", run.length_unit))
        axes.set_title(f"Lineal path along {axis}")
    row[0].set_ylabel("chance that it lies in pore (-)")
    distributions.shared_legend(figure, row[0])
    return stacked(parts)


def threshold(figure: Figure, run: Evaluation) -> Table:
    """Grey histograms with the threshold, and what porosity another threshold would give."""
    figure.set_size_inches(10.5, 3.7)
    level = run.metrics["threshold"]["level"]
    band = run.metrics["threshold"]["band_levels"]
    near = (max(0, level - 2 * band), min(256, level + 2 * band))
    left, right = figure.subplots(1, 2)
    parts = []
    # Four levels per bin: a grey window that stretched the image leaves empty levels.
    levels, ends = np.arange(2.0, 256, 4), np.arange(near[0], near[1] + 1.0)
    for name in run.names:
        counts = run.curves[f"{name}/grey"]
        share = counts / max(1, counts.sum())
        porosity = np.concatenate([[0], share.cumsum()])
        _line(left, run, name, levels, share.reshape(-1, 4).mean(axis=1))
        _line(right, run, name, ends, porosity[near[0] : near[1] + 1])
        parts.append({"set": name, "grey_level": np.arange(256), "share_of_pixels": share,
                      "porosity_when_threshold": porosity[:-1]})  # fmt: skip
    for axes in (left, right):
        axes.axvspan(level - band, level + band, color=style.BAND_COLOUR, alpha=0.6, linewidth=0)
        axes.axvline(level, color="#555555", linewidth=1)
    right.set(xlim=near, ylim=(0, None), xlabel="threshold (grey level)", ylabel="porosity (-)")
    left.set(
        xlim=(0, 255), ylim=(0, None), xlabel="grey level (0 to 255)", ylabel="share of pixels (-)"
    )
    left.set_title(f"Grey levels; threshold {level} ± {band}")
    right.set_title("Porosity for other thresholds")
    distributions.shared_legend(figure, left)
    return stacked(parts)


def truth(figure: Figure, run: Evaluation) -> Table:
    """Porosity of translated slices beside that of the truth, and how many voxels agree."""
    figure.set_size_inches(10.5, 3.5)
    left, right = figure.subplots(1, 2)
    parts, keys = [], ("slice", "porosity", "truth_porosity", "agreement", "chance")
    for name, entry in run.metrics["truth"].items():
        columns = {key: [row[key] for row in entry["slices"]] for key in keys}
        columns = {key: np.array(column, float) for key, column in columns.items()}
        look, shown = run.looks[name], style.label(name)
        z = columns["slice"]
        how: dict[str, Any] = {"color": look.colour, "marker": look.marker}
        open_ones: dict[str, Any] = how | {"markerfacecolor": "none", "linestyle": "--"}
        left.plot(z, columns["porosity"], **how, label=shown)
        left.plot(z, columns["truth_porosity"], **open_ones, label=f"truth at {shown}")
        right.plot(z, columns["agreement"], **how, label=shown)
        right.plot(z, columns["chance"], **open_ones, label=f"{shown}, by chance")
        parts.append({"set": name, **columns})
    left.set(ylabel="porosity in the field of view (-)", ylim=(0, None))
    right.set(ylabel="share of equal voxels (-)", ylim=(None, 1))
    for axes in (left, right):
        axes.set_xlabel("slice of the translated volume (number)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)
    return stacked(parts)


def _s2(axes: Axes, run: Evaluation) -> list[Table]:
    radial, _ = run.lags
    low, high = run.curves["band_low"][0], run.curves["band_high"][0]
    axes.fill_between(radial, low, high, color=style.BAND_COLOUR, label=_band_label(run))
    parts = []
    for name in run.names:
        mean = run.curves[f"{name}/s2_mean"][0]
        _line(axes, run, name, radial, mean)
        parts.append({"set": name, "lag": radial, "s2": mean, "band_low": low, "band_high": high,
                      "tiles_p5": run.curves[f"{name}/s2_p5"][0],
                      "tiles_p95": run.curves[f"{name}/s2_p95"][0]})  # fmt: skip
        axes.axhline(float(mean[0]) ** 2, color=run.looks[name].colour, linewidth=0.6, alpha=0.6)
    axes.set(xlabel=style.with_unit("lag", run.length_unit), ylabel="S2 (-)")
    axes.set(xlim=(0, radial[-1]), ylim=(0, None))
    return parts


def _r(axes: Axes, run: Evaluation) -> list[Table]:
    radial, _ = run.lags
    known = [length for name in run.names if (length := _length(run, name))]
    end = min(float(radial[-1]), E_FOLDS_SHOWN * max(known)) if known else float(radial[-1])
    fine = np.linspace(0, end, 300)
    parts = []
    for name in run.names:
        mean, length, look = run.curves[f"{name}/r_mean"][0], _length(run, name), run.looks[name]
        label = style.label(name)
        fitted = np.full(len(radial), np.nan)
        if length is not None:
            unit = run.length_unit.replace("um", "µm")
            label += f", λ = {length:.3g} {unit}"
            fitted = np.exp(-radial / length)
            axes.plot(fine, np.exp(-fine / length), color=look.colour, linestyle=look.line)
        axes.plot(
            radial, mean, look.marker, linestyle="none", color=look.colour, label=label,
            markerfacecolor="none", markevery=_every(int(np.count_nonzero(radial <= end)), 2),
        )  # fmt: skip
        parts.append({"set": name, "lag": radial, "r": mean, "exponential_fit": fitted})
    axes.set(xlabel=style.with_unit("lag", run.length_unit), ylabel="R (-)", xlim=(0, end))
    return parts


def _length(run: Evaluation, name: str) -> float | None:
    """The length fitted to the mean R, None where R has none."""
    length = run.metrics["sets"][name]["fits"]["mean"]["length"]
    return length if length else None


def _line(axes: Axes, run: Evaluation, name: str, x: Floats, y: Floats) -> None:
    """A curve of a set, with its marker now and then, shifted from set to set."""
    look = run.looks[name]
    step = _every(len(x))
    first = list(run.looks).index(name) * step // max(1, len(run.looks))
    axes.plot(
        x, y, color=look.colour, linestyle=look.line, marker=look.marker, linewidth=1.5,
        markevery=(first, step), label=style.label(name),
    )  # fmt: skip


def _every(points: int, density: int = 1) -> int:
    return max(1, points // (MARKERS * density))


def _band_label(run: Evaluation) -> str:
    return f"source images of {style.label(run.reference)}"
