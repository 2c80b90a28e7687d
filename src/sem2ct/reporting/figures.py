"""Every figure of the report: what it shows, what it needs, where it stands.

A figure that a run has no data for is left out, and the report says why in one sentence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from sem2ct.reporting import curves, distributions, grids, likeness, pictures, record, style
from sem2ct.reporting.evaluation import Evaluation, Table, file_name

FOLDER = "figures"
Draw = Callable[[Figure, Evaluation], Table]
SECTIONS = {
    "summary": "Summary",
    "images": "Images",
    "structure": "Microstructure",
    "spread": "Spread and source images",
    "joint": "All quantities together",
    "styles": "Style and noise",
    "copies": "Copies and variety",
    "truth": "Against the truth",
}
"""Headings of the report in their order, by the name that a chart stands under."""


@dataclass(frozen=True)
class Chart:
    """One figure: three files of one name, and its place in the report."""

    section: str
    name: str
    caption: str
    draw: Draw
    absent: str = ""
    """Why this run has none, as a sentence; empty when it can be drawn."""


def draw(folder: Path, run: Evaluation) -> list[Path]:
    """Draws all figures: PNG, PDF, and CSV with the data.

    Args:
        folder: Where to; made when absent.
        run: The evaluation.

    Returns:
        The PNG files.
    """
    folder.mkdir(exist_ok=True)
    drawn = []
    for chart in charts(run):
        if chart.absent:
            continue
        path = folder / f"{chart.name}.png"
        with style.figure(path, width=10.5, height=4) as figure:
            table = chart.draw(figure, run)
        record.write_table(path.with_suffix(".csv"), table)
        drawn.append(path)
    return drawn


def charts(run: Evaluation) -> list[Chart]:
    """All figures in the order of the report, also those that this run has no data for."""
    parts = (_summary, _images, _structure, _spread, _grids, _likeness)
    return [chart for part in parts for chart in part(run)]


def _summary(run: Evaluation) -> list[Chart]:
    judged = any(row["factor"] is not None for row in run.metrics.get("verdicts", []))
    return [
        Chart(
            "summary",
            "verdicts",
            f"Every check as a multiple of the distance between two halves of {run.reference}"
            " (in 95 of 100 splits it is smaller than 1). In the grey field, left of 1: inside.",
            likeness.verdicts,
            "" if judged else "No check has a band of real halves to be judged by.",
        )
    ]


def _images(run: Evaluation) -> list[Chart]:
    shown = all(f"tiles/{name}" in run.pictures for name in run.looks)
    absent = "" if shown else "The run kept no tiles to look at."
    found = [
        Chart("images", "tiles", "Tiles of each set, evenly spread, all on one grey scale.",
              pictures.tiles, absent),
        Chart("images", "pores", "The same tiles. What is darker than the threshold, and so counts"
              " as pore, is tinted.", pictures.pores, absent),
    ]  # fmt: skip
    for name in run.looks:
        if f"slice/{name}/whole" in run.pictures:
            true = f"slice/{name}/whole/truth" in run.pictures
            beside = "" if true else (
                f" There is no truth; the tile of {run.reference} {pictures.likeness(run, name)}"
                " stands beside the innermost part, on the same scale."
            )  # fmt: skip
            found.append(
                Chart(
                    "images",
                    f"slice_{file_name(name, list(run.looks))}",
                    f"{name} at three zooms: each frame is enlarged below it. The micro-CT is"
                    " stretched between the 0.5th and 99.5th percentile inside its field of"
                    f" view.{beside}",
                    partial(pictures.beside, name=name),
                )
            )
    return found


def _structure(run: Evaluation) -> list[Chart]:
    real = run.reference
    path = any(f"{name}/lineal_path_mean" in run.curves for name in run.looks)
    return [
        Chart("structure", "microstructure", "a, d: mirrored histograms over the tiles; the marker"
              " is the median, the line reaches from the 5th to the 95th percentile; tiles beyond"
              " the axis are counted in the outermost bins. b: mean over the tiles, with the band"
              f" of the source images of {real}. c: mean R (markers) and the fitted exponential"
              " (lines), on a logarithmic axis.", curves.microstructure),
        Chart("structure", "s2", "Mean two-point correlation. Thin lines: porosity squared, which"
              " it approaches at large lags. Right: how far each set lies from the mean of"
              f" {real}. Grey: 5th to 95th percentile of the means of its source images.",
              curves.two_point),
        Chart("structure", "directions", "Mean two-point correlation along x and along y, and"
              " their difference: a medium without a direction stays at zero.",
              curves.directions),
        Chart("structure", "r", "Mean normalised correlation. The exponential is fitted from lag 0"
              " until R first falls under 0.05 (dotted). Right: what an exponential does not"
              " describe.", curves.normalised),
        Chart("structure", "lineal_path", "Chance that a line of this length lies wholly in pore,"
              f" mean over the sampled tiles. It starts at the porosity; one pixel is"
              f" {run.pixel:g} {run.length_unit.replace('um', 'µm')}.", curves.lineal_path,
              "" if path else "The lineal path was not measured."),
    ]  # fmt: skip


def _spread(run: Evaluation) -> list[Chart]:
    real = run.reference
    told_apart = run.metrics["sets"][real]["frames"] is not None
    dear = run.metrics["sets"][real].get("sampled")
    return [
        Chart("spread", "distributions", "Share of the tiles in each bin. Ticks at the upper edge"
              " mark the means; tiles beyond the axis are counted in the outermost bins.",
              distributions.histograms),
        Chart("spread", "quantiles", f"Percentiles 1 to 99 of each set against those of {real}."
              " On the line the distributions are equal. Thin grey lines: the source images of"
              f" {real} one by one, which differ for no reason but their place.",
              distributions.quantiles,
              "" if run.others else "There is one set only, so no quantiles are compared."),
        Chart("spread", "porosity_surface", "Specific surface against porosity; at most"
              f" {distributions.MOST_POINTS} tiles per set are shown, evenly spread. An ellipse"
              " covers 90 % of a normal cloud of the same mean and covariance.",
              distributions.porosity_and_surface),
        Chart("spread", "frames", f"Each column is a source image of {real}: its tiles and their"
              " mean. How much these means scatter is how much a single image can tell.",
              distributions.frames,
              "" if told_apart else f"The source images of {real} are not told apart, so they are"
              " not drawn one by one."),
        Chart("spread", "sampled", "Quantities that take long, measured on a sample of the tiles:"
              " each marker a tile, each bar a mean.", distributions.sampled,
              "" if dear else "Chords, pore size, connectivity and the permeability proxy were not"
              " measured."),
        Chart("spread", "threshold", "Left: grey levels of each set, the threshold and the band of"
              " 10 levels on both sides of it. Right: the porosity that other thresholds would"
              " give.", curves.threshold),
    ]  # fmt: skip


def _grids(run: Evaluation) -> list[Chart]:
    found = []
    for name in (name for name in run.names if "grid" in run.metrics["sets"][name]):
        if run.metrics["sets"][name]["grid"]["mode"] == "interpolate":
            text = (
                f"{name}: each line a straight path in W from one style to another, with one noise"
            )
            text += f" (at most {grids.MOST_PATHS} are shown)."
        else:
            text = f"{name}: each column a style; dots are its noises, the bar is their mean."
        text += f" Grey: 5th to 95th percentile of the tiles of {run.reference}."
        drawn = partial(grids.grid, name=name)
        found.append(Chart("styles", f"grid_{file_name(name, list(run.looks))}", text, drawn))
    return found


def _likeness(run: Evaluation) -> list[Chart]:
    joint = any("joint" in run.compared(name) for name in run.others)
    matrices = any(f"{name}/correlation" in run.curves for name in run.looks)
    copies = any(f"{name}/similarity" in run.curves for name in run.looks)
    pair = any(f"memorisation/{name}/ours" in run.pictures for name in run.others)
    not_sought = "Copies of the training images were not sought."
    return [
        Chart("joint", "joint", "Left: distance over all descriptors at once, with its interval;"
              " grey: the same between two real halves. Right: by how much the mean rank of a"
              " descriptor moved; 0.5 is the farthest possible.", likeness.joint,
              "" if joint else "The joint distance over all descriptors was not measured."),
        Chart("joint", "correlations", "Which quantities go together, tile by tile.",
              likeness.correlations,
              "" if matrices else "Correlations between the quantities were not measured."),
        Chart("copies", "memorisation", "Left: how like its most similar real place a tile is;"
              " 1 is a copy. Grey: real tiles held against the other real images, which"
              " is what new images of this rock look like. Right: how like one another the tiles"
              " of one set are; a set that repeats itself lies to the right.",
              likeness.memorisation, "" if copies else not_sought),
        Chart("copies", "pairs", "Of each set the tile that is most like a real place, and that"
              " place, turned as it fits best. Look whether one is a copy of the other.",
              pictures.pairs, "" if pair else "No most similar pair was kept."),
        Chart("truth", "truth", "Slice by slice: porosity of the translation and of the truth, and"
              " the share of equal voxels beside what two unrelated images of these porosities"
              " would share.", curves.truth,
              "" if run.metrics.get("truth") else "There is no truth to compare with."),
    ]  # fmt: skip
