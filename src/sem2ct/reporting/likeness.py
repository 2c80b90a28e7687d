"""Figures of how alike two sets are: verdicts, joint distance, correlations, memorisation."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sem2ct.reporting import distributions, style
from sem2ct.reporting.evaluation import Evaluation, Table, stacked

MOST_SHIFTS = 16
LEAST_BAND = 0.2


def verdicts(figure: Figure, run: Evaluation) -> Table:
    """Each check as a multiple of what two real halves differ: left of 1 is inside."""
    judged = [row for row in run.metrics["verdicts"] if row["factor"] is not None]
    labels = list(dict.fromkeys(row["label"] for row in judged))
    figure.set_size_inches(10.5, 1.3 + max(0.28, 0.1 * len(run.others)) * len(labels))
    axes = figure.subplots()
    factors = np.clip([row["factor"] for row in judged], 0.05, 1000)
    axes.axvspan(0.04, 1, color=style.BAND_COLOUR, alpha=0.6, linewidth=0)
    axes.axvline(1, color="#555555", linewidth=1)
    shift = 0.5 / max(1, len(run.others))
    for index, name in enumerate(run.others):
        look = run.looks[name]
        mine = [(labels.index(row["label"]), factor) for row, factor in
                zip(judged, factors, strict=True) if row["set"] == name]  # fmt: skip
        if not mine:
            continue
        y = [place + (index - (len(run.others) - 1) / 2) * shift for place, _ in mine]
        axes.plot(
            [factor for _, factor in mine], y, look.marker, color=look.colour, markersize=7,
            label=style.label(name), markeredgecolor="black", markeredgewidth=0.6,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.04, max(3.0, 1.4 * float(factors.max(initial=1))))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel("distance, as a multiple of that between two real halves (-)")
    distributions.shared_legend(figure, axes)
    keys = ("set", "check", "value", "band", "factor", "verdict")
    return {key: [row[key] for row in judged] for key in keys}


def joint(figure: Figure, run: Evaluation) -> Table:
    """All descriptors together: the energy distances, and which descriptors moved."""
    names = [name for name in run.others if "joint" in run.compared(name)]
    figure.set_size_inches(10.5, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    parts = [_joint_distances(left, run, names)]
    parts.append(_shifts(right, run, names))
    distributions.shared_legend(figure, right)
    return parts[1]


def _joint_distances(axes: Axes, run: Evaluation, names: list[str]) -> Table:
    kinds = {"energy": "energy", "energy_whitened": "energy,\nwhitened", "correlations":
             "correlations"}  # fmt: skip
    parts = []
    width = 0.7 / max(1, len(names))
    for index, name in enumerate(names):
        look, distances = run.looks[name], run.compared(name)["joint"]["distances"]
        for place, kind in enumerate(kinds):
            row = distances.get(kind)
            if row is None or row["value"] is None:
                continue
            x = place + (index - (len(names) - 1) / 2) * width
            low, high = (end if end is not None else row["value"] for end in row["interval"])
            axes.plot([x, x], [low, high], color=look.colour, linewidth=1.4)
            axes.plot(x, row["value"], look.marker, color=look.colour, markersize=6)
            band = row["real_vs_real"]
            if band:
                ends = [x - 0.45 * width, x + 0.45 * width]
                axes.fill_between(
                    ends, LEAST_BAND * band, band, color=style.BAND_COLOUR, zorder=0.5
                )
            parts.append({"set": name, "distance": kind, "value": row["value"]})
    axes.set_xticks(range(len(kinds)), list(kinds.values()))
    axes.set(xlim=(-0.6, len(kinds) - 0.4), yscale="log", ylabel="distance (-)")
    axes.set_title("Distance; grey: two real halves")
    axes.grid(axis="x", visible=False)
    return stacked(parts)


def _shifts(axes: Axes, run: Evaluation, names: list[str]) -> Table:
    moved = {name: {row["name"]: row["shift"] for row in run.compared(name)["joint"]["shifts"]}
             for name in names}  # fmt: skip
    largest: dict[str, float] = {}
    for shifts in moved.values():
        for descriptor, shift in shifts.items():
            if shift is not None:
                largest[descriptor] = max(largest.get(descriptor, 0.0), abs(shift))
    shown = sorted(largest, key=lambda descriptor: -largest[descriptor])[:MOST_SHIFTS]
    parts = []
    for name in names:
        look = run.looks[name]
        known = [(place, moved[name].get(d)) for place, d in enumerate(shown)]
        known = [(place, shift) for place, shift in known if shift is not None]
        axes.plot(
            [shift for _, shift in known], [place for place, _ in known], look.marker,
            color=look.colour, label=style.label(name), markersize=6,
        )  # fmt: skip
        parts.append(
            {"set": name, "descriptor": list(moved[name]),
             "mean_rank_shift": list(moved[name].values())}
        )  # fmt: skip
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_yticks(range(len(shown)), [d.replace("_", " ") for d in shown], fontsize=7.5)
    axes.set_ylim(max(1, len(shown)) - 0.5, -0.5)
    reach = max([0.1, *(1.15 * shift for shift in largest.values())])
    axes.set(xlim=(-reach, reach), xlabel="shift of the mean rank (-), right: higher than real")
    axes.set_title(f"The {len(shown)} descriptors that moved most")
    return stacked(parts)


def correlations(figure: Figure, run: Evaluation) -> Table:
    """Which quantities go together: one matrix of rank correlations per set."""
    quantities = run.metrics["correlation_names"]
    names = [name for name in run.names if f"{name}/correlation" in run.curves]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure.set_size_inches(10.5, 0.9 + 3.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    parts, shown = [], None
    for axes in grid.ravel()[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.ravel(), names, strict=False):
        matrix = run.curves[f"{name}/correlation"]
        shown = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1)
        for (i, j), value in np.ndenumerate(matrix):
            if np.isfinite(value) and len(quantities) <= 10:
                ink = "white" if abs(value) > 0.6 else "black"
                axes.text(j, i, f"{value:+.1f}", ha="center", va="center", fontsize=6.5, color=ink)
        words = [quantity.replace("_", " ") for quantity in quantities]
        axes.set_xticks(range(len(words)), words, rotation=60, ha="right", fontsize=7)
        axes.set_yticks(range(len(words)), words, fontsize=7)
        axes.grid(visible=False)
        axes.set_title(style.label(name))
        parts += [{"set": name, "row": row, "column": quantities, "correlation": values}
                  for row, values in zip(quantities, matrix, strict=True)]  # fmt: skip
    if shown is not None:
        bar = figure.colorbar(shown, ax=grid, shrink=0.8)
        bar.set_label("Spearman correlation (-)")
    return stacked(parts)


def memorisation(figure: Figure, run: Evaluation) -> Table:
    """How like its nearest real place each tile is, beside real tiles held out."""
    figure.set_size_inches(10.5, 3.6)
    left, right = figure.subplots(1, 2)
    edges = np.linspace(-0.05, 1, 43)
    parts = []
    held_out = run.curves.get("held_out/similarity", np.empty(0))
    if len(held_out):
        parts.append(_similarities(left, run, run.reference, held_out, edges, "held out"))
    for name in run.others:
        values = run.curves.get(f"{name}/similarity", np.empty(0))
        if len(values):
            parts.append(_similarities(left, run, name, values, edges, "to the real images"))
    for name in run.names:
        values = run.curves.get(f"{name}/diversity", np.empty(0))
        if len(values):
            parts.append(_similarities(right, run, name, values, edges, "within the set"))
    limits = [run.compared(name).get("memorisation", {}).get("copy_limit") for name in run.others]
    for limit in {limit for limit in limits if limit is not None}:
        left.axvline(limit, color="#555555", linewidth=1)
        left.annotate("copies", (limit, 0.97), xycoords=("data", "axes fraction"), ha="right",
                      va="top", rotation=90, fontsize=8)  # fmt: skip
    left.set_title("Similarity to the most similar real place")
    right.set_title("Similarity to another tile of the same set")
    for axes in (left, right):
        axes.set(xlim=(edges[0], 1.02), ylabel="share of tiles (-)")
        axes.set_xlabel("normalised cross-correlation (-)")
        if axes.get_legend_handles_labels()[0]:
            # Room for the names above the highest bar.
            names = len(axes.get_legend_handles_labels()[1])
            axes.set_ylim(0, (1.02 + 0.1 * names) * axes.get_ylim()[1])
            axes.legend(fontsize=8, loc="upper left", ncols=1)
        else:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    return stacked(parts)


def _similarities(
    axes: Axes, run: Evaluation, name: str, values: np.ndarray, edges: np.ndarray, what: str
) -> Table:
    known = values[np.isfinite(values)]
    words = f"{style.label(name, most=18)}{', held out' if what == 'held out' else ''}"
    distributions.steps(axes, run, name, known, edges, label=f"{words} (n = {len(known)})")
    return {"set": name, "similarity": known, "to": what}
