"""The charts of an evaluation, drawn from its files: distributions, curves, grey levels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sem2ct.reporting import record, style
from sem2ct.reporting.style import Look

Curves = dict[str, NDArray]
BINS = 24
SHOWN = (1.0, 97.5)
E_FOLDS_SHOWN = 6
MARKERS = 40


def draw(folder: Path) -> list[Path]:
    """Draws all charts into <folder>/figures.

    Args:
        folder: Holds metrics.json, tiles.csv and curves.npz.

    Returns:
        The PNG files.
    """
    metrics = record.read_metrics(folder)
    curves = record.read_arrays(folder, record.CURVES)
    tiles = record.read_tiles(folder)
    looks = style.looks(list(metrics["sets"]), metrics["reference"])
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    drawn = [figures / f"{name}.png" for name in ("distributions", "s2", "r", "threshold")]
    distributions(drawn[0], metrics, tiles, looks)
    two_point(drawn[1], metrics, curves, looks)
    normalised(drawn[2], metrics, curves, looks)
    threshold(drawn[3], metrics, curves, looks)
    if metrics.get("truth"):
        drawn.append(figures / "truth.png")
        truth(drawn[-1], metrics, looks)
    return drawn


def distributions(
    path: Path, metrics: dict[str, Any], tiles: dict[str, dict], looks: dict[str, Look]
) -> None:
    """Histograms of the three scalars, one colour per set, with the means.

    Args:
        path: The PNG file.
        metrics: Content of metrics.json.
        tiles: Content of tiles.csv.
        looks: Colour and line of each set.
    """
    reference = metrics["reference"]
    with style.figure(path, width=10.5, height=3.4) as figure:
        row = figure.subplots(1, len(style.NAMES))
        for axes, (name, label) in zip(row, style.NAMES.items(), strict=True):
            of_set = {one: _finite(columns[name]) for one, columns in tiles.items()}
            edges = _edges([values for values in of_set.values() if len(values)])
            for one, values in of_set.items():
                if not len(values):
                    continue
                weights = np.full(len(values), 1 / len(values))
                kind = "stepfilled" if one == reference else "step"
                colour = looks[one].colour
                axes.hist(
                    np.clip(values, edges[0], edges[-1]),
                    edges,
                    weights=weights,
                    histtype=kind,
                    linestyle="-" if one == reference else looks[one].dash,
                    linewidth=1.6,
                    edgecolor=colour,
                    facecolor="#d9d9d9" if one == reference else "none",
                    label=f"{one} (n = {len(values)})",
                )
                axes.axvline(values.mean(), 0.96, 1.0, color=colour, linewidth=2.5)
            unit = metrics["sets"][reference]["scalars"][name]["unit"]
            axes.set(xlabel=style.with_unit(label, unit), xlim=(edges[0], edges[-1]))
            # Room for the ticks of the means above the highest bar.
            axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
            axes.grid(axis="x", visible=False)
        row[0].set_ylabel("share of tiles")
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))


def two_point(path: Path, metrics: dict[str, Any], curves: Curves, looks: dict[str, Look]) -> None:
    """Mean S2, radial with the band of the real images, and along x and y.

    Args:
        path: The PNG file.
        metrics: Content of metrics.json.
        curves: Content of curves.npz.
        looks: Colour and line of each set.
    """
    radial, axis, size = _lags(metrics, curves)
    with style.figure(path, width=10.5, height=3.9) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        band = curves["band_low"][0], curves["band_high"][0]
        left.fill_between(
            radial, *band, color="#d9d9d9", label=f"{metrics['reference']}, its source images"
        )
        for one, look in looks.items():
            mean = curves[f"{one}/s2_mean"]
            left.plot(radial, mean[0], color=look.colour, linestyle=look.dash, label=one)
            left.axhline(float(mean[0, 0]) ** 2, color=look.colour, linewidth=0.6, alpha=0.6)
            right.plot(axis, mean[1], color=look.colour, label=f"{one}, along x")
            right.plot(axis, mean[2], color=look.colour, linestyle=":", label=f"{one}, along y")
        left.set_title("Two-point correlation, all directions")
        right.set_title("Along x and along y")
        left.set_ylabel("$S_2$")
        for axes in (left, right):
            axes.set(xlabel=style.with_unit("lag", size), xlim=(0, radial[-1]), ylim=(0, None))
            axes.legend(fontsize=8)


def normalised(path: Path, metrics: dict[str, Any], curves: Curves, looks: dict[str, Look]) -> None:
    """Mean R with its exponential fit, and the same along x and y.

    Args:
        path: The PNG file.
        metrics: Content of metrics.json.
        curves: Content of curves.npz.
        looks: Colour and line of each set.
    """
    radial, axis, unit = _lags(metrics, curves)
    lengths = {one: metrics["sets"][one]["fits"]["mean"]["length"] for one in looks}
    known = [length for length in lengths.values() if length]
    end = min(radial[-1], E_FOLDS_SHOWN * max(known)) if known else radial[-1]
    with style.figure(path, width=10.5, height=3.9) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for one, look in looks.items():
            mean = curves[f"{one}/r_mean"]
            label = one
            if lengths[one]:
                label += f", fit $\\lambda$ = {lengths[one]:.3g} {unit.replace('um', 'µm')}"
                fine = np.linspace(0, end, 300)
                left.plot(fine, np.exp(-fine / lengths[one]), color=look.colour, linewidth=1)
            left.plot(
                radial, mean[0], linestyle="none", marker="o", markersize=3.5, label=label,
                markevery=max(1, int(np.count_nonzero(radial <= end)) // MARKERS),
                markerfacecolor="none", color=look.colour,
            )  # fmt: skip
            right.plot(axis, mean[1], color=look.colour, label=f"{one}, along x")
            right.plot(axis, mean[2], color=look.colour, linestyle=":", label=f"{one}, along y")
        left.set_title("Normalised correlation (points) and exponential fit (lines)")
        right.set_title("Along x and along y")
        left.set_ylabel("$R$")
        for axes in (left, right):
            axes.axhline(0, color="#888888", linewidth=0.8)
            axes.axhline(0.05, color="#888888", linewidth=0.8, linestyle=":")
            axes.set(xlabel=style.with_unit("lag", unit), xlim=(0, end), ylim=(None, 1.02))
            axes.legend(fontsize=8)


def threshold(path: Path, metrics: dict[str, Any], curves: Curves, looks: dict[str, Look]) -> None:
    """Grey histograms with the threshold, and what porosity another threshold would give.

    Args:
        path: The PNG file.
        metrics: Content of metrics.json.
        curves: Content of curves.npz.
        looks: Colour and line of each set.
    """
    level, band = metrics["threshold"]["level"], metrics["threshold"]["band_levels"]
    near = (max(0, level - 4 * band), min(256, level + 4 * band))
    highest = 0.0
    with style.figure(path, width=10.5, height=3.4) as figure:
        left, right = figure.subplots(1, 2)
        for one, look in looks.items():
            share = curves[f"{one}/grey"] / curves[f"{one}/grey"].sum()
            left.plot(np.arange(256), share, color=look.colour, linestyle=look.dash, label=one)
            porosity = np.concatenate([[0], share.cumsum()])
            highest = max(highest, float(porosity[near[1]]))
            right.plot(np.arange(257), porosity, color=look.colour, linestyle=look.dash)
        for axes in (left, right):
            axes.axvspan(level - band, level + band, color="#f0e442", alpha=0.35, linewidth=0)
            axes.axvline(level, color="#777777", linewidth=1)
        right.set(xlim=near, xlabel="threshold (grey level)", ylabel="porosity")
        right.set_ylim(0, max(1.05 * highest, 1e-3))
        left.set(xlim=(0, 255), ylim=(0, None), xlabel="grey level", ylabel="share of pixels")
        left.set_title(f"Grey levels; threshold {level} $\\pm$ {band}")
        right.set_title("Porosity for other thresholds")
        left.legend(fontsize=8)


def truth(path: Path, metrics: dict[str, Any], looks: dict[str, Look]) -> None:
    """Porosity of translated slices beside that of the truth, and how many voxels agree.

    Args:
        path: The PNG file.
        metrics: Content of metrics.json, with "truth".
        looks: Colour and line of each set.
    """
    with style.figure(path, width=10.5, height=3.2) as figure:
        left, right = figure.subplots(1, 2)
        for one, entry in metrics["truth"].items():
            slices = entry["slices"]
            z = [row["slice"] for row in slices]
            colour = looks[one].colour
            left.plot(z, [row["porosity"] for row in slices], "o-", color=colour, label=one)
            left.plot(z, [row["truth_porosity"] for row in slices], "s--", color=style.REAL_COLOUR,
                      markerfacecolor="none", label=f"truth at {one}")  # fmt: skip
            right.plot(z, [row["agreement"] for row in slices], "o-", color=colour, label=one)
            right.plot(z, [row["chance"] for row in slices], ":", color=colour,
                       label=f"{one}, by chance")  # fmt: skip
        highest = max(max(line.get_ydata()) for line in left.lines)
        left.set(ylabel="porosity in the field of view", ylim=(0, max(1.2 * highest, 1e-3)))
        right.set(ylabel="share of equal voxels", ylim=(None, 1))
        for axes in (left, right):
            axes.set_xlabel("slice of the translated volume")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(fontsize=8)


def _lags(metrics: dict[str, Any], curves: Curves) -> tuple[NDArray, NDArray, str]:
    """Radial lags, lags along an axis, and their unit."""
    size = metrics["pixel_um"] or 1.0
    unit = "px" if metrics["pixel_um"] is None else "um"
    return curves["lags_radial"] * size, curves["lags_axis"] * size, unit


def _finite(values: NDArray) -> NDArray:
    return values[np.isfinite(values)]


def _edges(samples: Sequence[NDArray]) -> NDArray:
    """Bins over the shown percentiles of the widest set; what lies beyond is clipped in."""
    if not samples:
        return np.linspace(0, 1, BINS + 1)
    low = min(float(np.percentile(values, SHOWN[0])) for values in samples)
    high = max(float(np.percentile(values, SHOWN[1])) for values in samples)
    if high <= low:
        low, high = low - 0.5 * abs(low) - 1e-3, high + 0.5 * abs(high) + 1e-3
    return np.linspace(low, high, BINS + 1)
