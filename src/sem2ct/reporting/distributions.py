"""Figures of numbers per tile: histograms, violins, quantiles, scatter, source images.

Violins are mirrored histograms, not smoothed densities: what they show was counted.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from sem2ct.reporting import style
from sem2ct.reporting.evaluation import Evaluation, Table, stacked

BINS = (6, 24)
SHOWN = (1.0, 97.5)
NEARLY_ALL = (0.2, 99.8)
LEVELS = np.arange(1, 100)
MOST_POINTS = 600
MOST_FRAMES = 40
COVERED = 0.9
Floats = NDArray[np.float64]


def histograms(figure: Figure, run: Evaluation) -> Table:
    """Histograms of the three scalars, with the means as ticks at the upper edge."""
    figure.set_size_inches(10.5, 3.5)
    parts = []
    row = figure.subplots(1, len(style.NAMES))
    for axes, (quantity, words) in zip(row, style.NAMES.items(), strict=True):
        of_set = {name: run.values(name, quantity) for name in run.names}
        edges = bins(list(of_set.values()))
        for name, values in of_set.items():
            parts.append(_histogram(axes, run, name, values, edges) | {"quantity": quantity})
        axes.set(xlabel=style.with_unit(words, run.unit(quantity)), xlim=(edges[0], edges[-1]))
        # Room for the ticks of the means above the highest bar.
        highest = max(float(part["share"].max()) for part in parts[-len(of_set) :])
        axes.set_ylim(0, 1.12 * highest or 1)
        axes.grid(axis="x", visible=False)
    row[0].set_ylabel("share of tiles (-)")
    shared_legend(figure, row[0])
    return stacked(parts)


def violins(axes: Axes, run: Evaluation, quantity: str) -> Table:
    """One mirrored histogram per set, with median, 5th and 95th percentile.

    Args:
        axes: Empty.
        run: The evaluation.
        quantity: A column of tiles.csv.

    Returns:
        The percentiles and means.
    """
    of_set = {name: run.values(name, quantity) for name in run.names}
    edges = bins(list(of_set.values()))
    parts = []
    for place, (name, values) in enumerate(of_set.items()):
        if not len(values):
            axes.text(place, edges.mean(), "undefined", rotation=90, ha="center", va="center")
            continue
        look = run.looks[name]
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        half = np.repeat(0.42 * counts / counts.max(), 2)
        sides = np.repeat(edges, 2)[1:-1]
        face = style.BAND_COLOUR if name == run.reference else "white"
        axes.fill_betweenx(
            sides, place - half, place + half, facecolor=face, edgecolor=look.colour, linewidth=1.2,
            linestyle=look.line,
        )  # fmt: skip
        low, middle, high = np.percentile(values, (5, 50, 95))
        axes.plot([place, place], [low, high], color=look.colour, linewidth=1.2)
        axes.plot(
            place, middle, look.marker, color=look.colour, markersize=6, markeredgecolor="white"
        )
        parts.append(
            {"set": name, "quantity": quantity, "n": len(values), "mean": values.mean(),
             "p5": low, "p50": middle, "p95": high}
        )  # fmt: skip
    names = [style.label(name, most=max(7, 44 // len(of_set))) for name in of_set]
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(edges[0], edges[-1]))
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(style.with_unit(style.NAMES[quantity], run.unit(quantity)))
    return stacked(parts)


def quantiles(figure: Figure, run: Evaluation) -> Table:
    """Quantiles of each set against those of the reference; its source images in grey."""
    figure.set_size_inches(10.5, 3.9)
    parts = []
    row = figure.subplots(1, len(style.NAMES))
    for axes, (quantity, words) in zip(row, style.NAMES.items(), strict=True):
        real = run.values(run.reference, quantity)
        if len(real):
            parts += _quantiles(axes, run, quantity, np.percentile(real, LEVELS))
        axes.set_title(words)
        axes.set_xlabel(style.with_unit(style.label(run.reference, most=18), run.unit(quantity)))
    row[0].set_ylabel("same percentile of the set (unit as below)")
    shared_legend(figure, row[0])
    return stacked(parts)


def porosity_and_surface(figure: Figure, run: Evaluation) -> Table:
    """Specific surface against porosity, tile by tile, with histograms along both axes."""
    figure.set_size_inches(7.2, 6.2)
    grid = figure.add_gridspec(2, 2, width_ratios=(4, 1), height_ratios=(1, 4))
    main = figure.add_subplot(grid[1, 0])
    top = figure.add_subplot(grid[0, 0], sharex=main)
    right = figure.add_subplot(grid[1, 1], sharey=main)
    pairs = {name: _pairs(run, name) for name in run.names}
    x_edges, y_edges = (
        bins([pair[axis] for pair in pairs.values()], NEARLY_ALL) for axis in (0, 1)
    )
    parts = []
    for name, (x, y) in pairs.items():
        if not len(x):
            continue
        look = run.looks[name]
        step = -(-len(x) // MOST_POINTS)
        main.scatter(
            x[::step], y[::step], s=9, marker=look.marker, facecolor="none", alpha=0.45,
            edgecolor=look.colour, linewidth=0.7, rasterized=True,
        )  # fmt: skip
        _covering(main, x, y, look)
        steps(top, run, name, x, x_edges)
        steps(right, run, name, y, y_edges, upright=False)
        main.plot(
            [], [], color=look.colour, linestyle=look.line, marker=look.marker,
            label=f"{style.label(name)} (n = {len(x)})",
        )  # fmt: skip
        parts.append({"set": name, "porosity": x[::step], "specific_surface": y[::step]})
    main.set(
        xlim=(x_edges[0], x_edges[-1]), ylim=(y_edges[0], y_edges[-1]), xlabel="porosity (-)",
        ylabel=style.with_unit("specific surface", run.unit("specific_surface")),
    )  # fmt: skip
    top.set(ylabel="share of tiles (-)", ylim=(0, None))
    right.set(xlabel="share of tiles (-)", xlim=(0, None))
    top.tick_params(labelbottom=False)
    right.tick_params(labelleft=False)
    shared_legend(figure, main)
    return stacked(parts)


def frames(figure: Figure, run: Evaluation) -> Table:
    """Each source image as a column of its tiles, with its mean; the other sets at the right."""
    figure.set_size_inches(10.5, 6.4)
    parts = []
    column = figure.subplots(len(style.NAMES), 1, sharex=True)
    strips = _strips(run)
    for axes, (quantity, words) in zip(column, style.NAMES.items(), strict=True):
        edges = bins([run.values(name, quantity) for name in run.names])
        for place, (name, frame, chosen) in enumerate(strips):
            values = run.tiles[name][quantity][chosen]
            values = values[np.isfinite(values)]
            if len(values):
                parts.append(_strip(axes, run, place, name, values, edges))
                parts[-1] |= {"quantity": quantity, "source_image": frame}
        axes.set_ylim(edges[0], edges[-1])
        axes.set_ylabel(style.with_unit(words.replace(" ", "\n"), run.unit(quantity)))
        axes.grid(axis="x", visible=False)
    shown = sum(name == run.reference for name, _, _ in strips)
    texts = [str(frame) if name == run.reference else "" for name, frame, _ in strips]
    column[-1].set_xticks(range(len(strips)), texts, fontsize=8 if shown <= 20 else 6)
    column[-1].set(xlim=(-0.7, len(strips) - 0.3))
    reference = style.label(run.reference)
    column[-1].set_xlabel(f"source image of {reference} (number); other sets at the right, whole")
    for name in run.names:
        look = run.looks[name]
        column[0].plot([], [], look.marker, color=look.colour, label=style.label(name))
    shared_legend(figure, column[0])
    return stacked(parts)


def sampled(figure: Figure, run: Evaluation) -> Table:
    """The dear quantities, measured on a sample of tiles: one strip per set."""
    facts = run.metrics["sets"][run.reference]["sampled"]
    rows = -(-len(facts) // 3)
    figure.set_size_inches(10.5, 2.4 * rows + 0.3)
    parts = []
    grid = figure.subplots(rows, 3, squeeze=False, sharex=True).ravel()
    for axes in grid[len(facts) :]:
        axes.set_axis_off()
    for axes, (quantity, about) in zip(grid, facts.items(), strict=False):
        of_set = {name: run.curves.get(f"{name}/sampled/{quantity}", np.empty(0)) for name in
                  run.names}  # fmt: skip
        of_set = {name: values[np.isfinite(values)] for name, values in of_set.items()}
        edges = bins(list(of_set.values()))
        for place, (name, values) in enumerate(of_set.items()):
            if len(values):
                parts.append(_strip(axes, run, place, name, values, edges))
                parts[-1] |= {"quantity": quantity, "unit": about["unit"]}
        axes.set_title(style.words_for(quantity), fontsize=9)
        axes.set_ylabel(style.with_unit("", about["unit"]).strip())
        axes.set_ylim(edges[0], edges[-1])
        axes.set_xlim(-0.6, len(run.names) - 0.4)
        names = [style.label(name, most=max(6, 36 // len(run.names))) for name in run.names]
        axes.set_xticks(range(len(run.names)), names, fontsize=7)
        axes.grid(axis="x", visible=False)
    for axes in grid[max(0, len(facts) - 3) : len(facts)]:
        axes.tick_params(labelbottom=True)  # the lowest of its column
    return stacked(parts)


def steps(
    axes: Axes,
    run: Evaluation,
    name: str,
    values: Floats,
    edges: Floats,
    *,
    label: str = "",
    upright: bool = True,
) -> Floats:
    """A histogram as shares of the tiles: filled for the reference, an outline for other sets.

    Args:
        axes: Where to.
        run: The evaluation.
        name: The set.
        values: (n,) finite; what lies beyond the edges is counted in the outermost bins.
        edges: Of the bins.
        label: For the legend; none when empty.
        upright: Whether the shares stand upwards.

    Returns:
        The shares; they sum to 1.
    """
    real, look = name == run.reference, run.looks[name]
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    shares = counts / max(1, len(values))
    axes.stairs(
        shares, edges, fill=real, orientation="vertical" if upright else "horizontal",
        facecolor=style.BAND_COLOUR, edgecolor=look.colour, linestyle=look.line,
        linewidth=1.2 if real else 1.6, label=label or None,
    )  # fmt: skip
    return shares


def shared_legend(figure: Figure, axes: Axes) -> None:
    """One legend above all panels, with the names of the sets in one of them."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        widest = max(map(len, labels))
        columns = max(1, min(len(labels), 4, int(13 * figure.get_size_inches()[0]) // (widest + 9)))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def bins(samples: list[Floats], shown: tuple[float, float] = SHOWN) -> Floats:
    """Bins over the shown percentiles of the widest set; what lies beyond is clipped in.

    Args:
        samples: Finite values of each set.
        shown: Percentiles.

    Returns:
        Edges; twice the cube root of the smallest set in number (Rice rule), within `BINS`.
    """
    samples = [values for values in samples if len(values)]
    if not samples:
        return np.linspace(0, 1, BINS[0] + 1)
    count = int(np.clip(np.ceil(2 * min(map(len, samples)) ** (1 / 3)), *BINS))
    low = min(float(np.percentile(values, shown[0])) for values in samples)
    high = max(float(np.percentile(values, shown[1])) for values in samples)
    if high - low <= 1e-9 * abs(high):
        low, high = low - 0.5 * abs(low) - 1e-3, high + 0.5 * abs(high) + 1e-3
    return np.linspace(low, high, count + 1)


def _histogram(axes: Axes, run: Evaluation, name: str, values: Floats, edges: Floats) -> Table:
    shares = steps(axes, run, name, values, edges, label=f"{style.label(name)} (n = {len(values)})")
    if len(values):
        mean = float(values.mean())
        axes.axvline(mean, 0.96, 1.0, color=run.looks[name].colour, linewidth=2.5)
    return {"set": name, "from": edges[:-1], "to": edges[1:], "share": shares}


def _quantiles(axes: Axes, run: Evaluation, quantity: str, real: Floats) -> list[Table]:
    """Draws one panel; `real` holds the percentiles of the reference."""
    column = run.tiles[run.reference]
    numbers = column.get("frame", np.zeros(len(column[quantity])))
    sources = np.unique(numbers)
    for source in sources[: MOST_FRAMES if len(sources) > 1 else 0]:
        values = column[quantity][numbers == source]
        values = values[np.isfinite(values)]
        if len(values) >= 5:
            axes.plot(real, np.percentile(values, LEVELS), color="#bbbbbb", linewidth=0.7)
    axes.plot(real[[0, -1]], real[[0, -1]], color="black", linewidth=1, label="equal")
    parts = []
    for name in run.others:
        values = run.values(name, quantity)
        if not len(values):
            continue
        look = run.looks[name]
        found = np.percentile(values, LEVELS)
        axes.plot(
            real, found, look.marker, linestyle=look.line, linewidth=0.8, color=look.colour,
            markerfacecolor="none", markevery=4, label=style.label(name),
        )  # fmt: skip
        parts.append({"quantity": quantity, "set": name, "percentile": LEVELS,
                      "reference_value": real, "set_value": found})  # fmt: skip
    return parts or [{"quantity": quantity, "set": run.reference, "percentile": LEVELS,
                      "reference_value": real, "set_value": real}]  # fmt: skip


def _pairs(run: Evaluation, name: str) -> tuple[Floats, Floats]:
    columns = run.tiles.get(name, {})
    x, y = (columns.get(quantity, np.empty(0)) for quantity in ("porosity", "specific_surface"))
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _covering(axes: Axes, x: Floats, y: Floats, look: style.Look) -> None:
    """The ellipse that covers 90 % of a normal cloud of this mean and covariance."""
    if len(x) < 3 or not (x.std() > 0 and y.std() > 0):
        return
    lengths, directions = np.linalg.eigh(np.cov(x, y))
    # Half axes are sqrt(-2 ln(1 - P)) standard deviations (chi-square of two degrees).
    sides = 2 * np.sqrt(-2 * np.log(1 - COVERED) * np.maximum(lengths, 0))
    angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
    ellipse = Ellipse(
        (float(x.mean()), float(y.mean())), sides[1], sides[0], angle=angle, fill=False,
        edgecolor=look.colour, linestyle=look.line, linewidth=1.8,
    )  # fmt: skip
    axes.add_patch(ellipse)


def _strips(run: Evaluation) -> list[tuple[str, str, NDArray[np.intp]]]:
    """(set, source image, its tiles): the reference by image, evenly spread; other sets whole."""
    found = []
    for name in run.names:
        numbers = run.tiles[name]["frame"]
        known = run.metrics["sets"][name]["frames"] is not None
        if name != run.reference or not known:
            found.append((name, "", np.arange(len(numbers))))
            continue
        sources = np.unique(numbers)
        step = -(-len(sources) // MOST_FRAMES)
        for source in sources[::step]:
            found.append((name, f"{source:.0f}", np.flatnonzero(numbers == source)))
    return found


def _strip(
    axes: Axes, run: Evaluation, place: int, name: str, values: Floats, edges: Floats
) -> Table:
    look = run.looks[name]
    step = -(-len(values) // 150)
    shown = np.clip(values[::step], edges[0], edges[-1])
    # Spread sideways by the golden ratio: even, and the same in every drawing.
    aside = 0.5 * ((np.arange(len(shown)) * 0.618034) % 1 - 0.5)
    axes.plot(
        place + aside, shown, look.marker, color=look.colour, markersize=2.6, alpha=0.4,
        markeredgewidth=0, rasterized=True,
    )  # fmt: skip
    mean = float(values.mean())
    axes.plot([place - 0.38, place + 0.38], [mean, mean], color=look.colour, linewidth=2.2)
    return {"set": name, "tiles": len(values), "mean": mean, "sd": float(values.std()),
            "lowest": float(values.min()), "highest": float(values.max())}  # fmt: skip
