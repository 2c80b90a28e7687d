import csv
import math

import imagecodecs
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from sem2ct.reporting import distributions, evaluation, figures, record

SUMMARY = ["verdicts", "tiles", "pores", "slice_translated", "microstructure"]
STRUCTURE = ["s2", "directions", "r", "lineal_path", "distributions", "quantiles"]
SPREAD = ["porosity_surface", "frames", "sampled", "threshold", "joint", "correlations"]
NAMES = [*SUMMARY, *STRUCTURE, *SPREAD, "memorisation", "pairs", "truth"]


def sketch(run):
    """Draws every chart without saving: (chart, figure, table)."""
    for chart in figures.charts(run):
        if not chart.absent:
            figure = Figure(layout="constrained")
            yield chart, figure, chart.draw(figure, run)


def table(folder, name):
    with (folder / "figures" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def test_every_figure_is_there_as_pixels_as_a_page_and_as_numbers(drawn):
    for kind in ("png", "pdf", "csv"):
        assert {path.stem for path in (drawn / "figures").glob(f"*.{kind}")} == set(NAMES)
    for name in NAMES:
        assert imagecodecs.imread(drawn / "figures" / f"{name}.png")[..., :3].std() > 5
        assert (drawn / "figures" / f"{name}.pdf").read_bytes().rstrip().endswith(b"%%EOF")
        rows = table(drawn, name)
        assert rows
        assert all(None not in row.values() and None not in row for row in rows)


def test_the_tables_hold_what_the_figures_show(drawn):
    run = evaluation.read(drawn)
    s2 = [row for row in table(drawn, "s2") if row["set"] == "translated"]
    np.testing.assert_allclose(column(s2, "s2"), run.curves["translated/s2_mean"][0], rtol=1e-8)
    np.testing.assert_allclose(column(s2, "lag"), 0.5 * 1.01 * np.arange(13), rtol=1e-8)
    r = [row for row in table(drawn, "r") if row["set"] == "real"]
    np.testing.assert_allclose(
        column(r, "exponential_fit"), np.exp(-column(r, "lag") / 4.25), rtol=1e-8
    )
    path = [row for row in table(drawn, "lineal_path") if row["set"] == "real"]
    assert float(path[0]["length"]) == 0.5  # one pixel, not none
    shares = column(table(drawn, "distributions"), "share")
    assert shares.sum() == pytest.approx(2 * 3)  # two sets, three quantities
    middle = [
        row for row in table(drawn, "quantiles")
        if row["quantity"] == "porosity" and row["percentile"] == "50"
    ]  # fmt: skip
    assert float(middle[0]["set_value"]) == pytest.approx(
        np.median(run.tiles["translated"]["porosity"])
    )
    grey = [row for row in table(drawn, "threshold") if row["set"] == "real"]
    counts = run.curves["real/grey"]
    assert float(grey[90]["porosity_when_threshold"]) == pytest.approx(
        counts[:90].sum() / counts.sum()
    )


def test_source_images_are_drawn_one_by_one_with_their_own_means(drawn):
    rows = [row for row in table(drawn, "frames") if row["quantity"] == "porosity"]
    assert [row["source_image"] for row in rows] == ["0", "1", "2", "3", ""]
    values = evaluation.read(drawn).tiles["real"]["porosity"]
    np.testing.assert_allclose(
        column(rows[:4], "mean"), [values[3 * k : 3 * k + 3].mean() for k in range(4)], rtol=1e-8
    )


def test_every_axis_states_its_unit(evaluated):
    for chart, figure, _ in sketch(evaluation.read(evaluated)):
        labels = [
            text
            for axes in figure.axes
            if axes.axison
            for text in (axes.get_xlabel(), axes.get_ylabel())
            if text
        ]
        assert all("(" in text and ")" in text for text in labels), (chart.name, labels)
        if chart.section != "images" and chart.name != "pairs":
            assert labels, chart.name
        for axes in figure.axes:
            shared = axes.get_shared_x_axes().get_siblings(axes)
            named = [text.get_text() for one in shared for text in one.get_xticklabels()]
            of_names = any(text.strip() and not is_number(text) for text in named)
            if axes.axison and not of_names and axes.get_label() != "<colorbar>":
                assert any(other.get_xlabel() for other in shared), chart.name


def is_number(text):
    try:
        float(text.replace("\N{MINUS SIGN}", "-") or 0)
    except ValueError:
        return False
    return True


def test_an_ellipse_covers_nine_tenths_of_a_normal_cloud():
    figure = Figure()
    axes = figure.subplots()
    rng = np.random.default_rng(3)
    x = rng.normal(2, 0.5, 4000)
    y = 0.3 * x + rng.normal(0, 0.1, 4000)
    look = next(iter(distributions.style.looks(["real"], "real").values()))
    distributions._covering(axes, x, y, look)
    ellipse = axes.patches[0]
    angle = math.radians(ellipse.angle)
    along = (x - x.mean()) * math.cos(angle) + (y - y.mean()) * math.sin(angle)
    across = (y - y.mean()) * math.cos(angle) - (x - x.mean()) * math.sin(angle)
    inside = (2 * along / ellipse.width) ** 2 + (2 * across / ellipse.height) ** 2 < 1
    assert inside.mean() == pytest.approx(0.9, abs=0.015)
    # Its half axes follow from the chi-square distribution of two degrees of freedom.
    longest = np.sqrt(stats.chi2(2).ppf(0.9) * np.linalg.eigvalsh(np.cov(x, y))[-1])
    assert max(ellipse.width, ellipse.height) / 2 == pytest.approx(longest, rel=1e-6)


def test_histograms_leave_no_tile_out():
    samples = [np.array([0.0, 1, 2, 3, 400.0]), np.array([5.0, 5.0])]
    edges = distributions.bins(samples)
    for values in samples:
        inside = np.clip(values, edges[0], edges[-1])
        assert np.histogram(inside, edges)[0].sum() == len(values)
    flat = distributions.bins([np.array([2.0, 2.0])])
    assert flat[0] < 2 < flat[-1]
    assert len(distributions.bins([np.empty(0)])) == 7


def test_few_tiles_are_counted_in_few_bins():
    # 2 n^(1/3) of the smallest set: 20 for 1000 tiles, 10 for 125.
    for sizes, count in (((1000, 5000), 20), ((125, 5000), 10), ((8, 5000), 6), ((9000,), 24)):
        samples = [np.linspace(0, 1, size) for size in sizes]
        assert len(distributions.bins(samples)) == count + 1


def test_one_set_alone_is_drawn_and_says_what_is_left_out(tmp_path, write_run):
    run = evaluation.read(write_run(tmp_path, ["real"], []))
    names = [chart.name for chart, _, _ in sketch(run)]
    assert {"tiles", "microstructure", "s2", "distributions", "frames", "threshold"} <= set(names)
    absent = {chart.name: chart.absent for chart in figures.charts(run) if chart.absent}
    assert set(absent) == {"verdicts", "quantiles", "joint", "memorisation", "pairs", "truth"}
    assert all(text.endswith(".") for text in absent.values())


def test_six_sets_with_long_and_strange_names_find_room(tmp_path, write_run):
    names = ["<script>alert(1)</script>", "a/b $x^{", "_hidden", 12 * "very long ", "µ ∫ 漢", "f"]
    names[4] = "µ-structure ± ²"
    run = evaluation.read(write_run(tmp_path, names, [names[1]]))
    for chart, figure, rows in sketch(run):
        if chart.name in ("verdicts", "tiles", "microstructure", "distributions", "sampled"):
            figure.set_dpi(20)
            figure.draw_without_rendering()  # a warning would say that something collapsed
        assert figure.get_size_inches()[1] < 14, chart.name
        shown = rows.get("set", [])
        assert set(shown) <= set(names)
    assert len({chart.name for chart in figures.charts(run)}) == len(NAMES)


def test_a_run_of_nothing_but_undefined_numbers_is_drawn_too(evaluated):
    metrics = record.read_metrics(evaluated)
    metrics["pixel_um"] = None
    for facts in metrics["sets"].values():
        facts["fits"]["mean"]["length"] = None
    for row in metrics["comparisons"]["translated"]["joint"]["shifts"]:
        row["shift"] = None
    record.write_metrics(evaluated, metrics)
    columns = record.read_tiles(evaluated)
    for name in ("correlation_length", "specific_surface"):
        columns["translated"][name][:] = np.nan
    columns["real"]["correlation_length"][:] = np.nan
    columns["real"]["porosity"][:] = columns["translated"]["porosity"][:] = 0
    record.write_tiles(evaluated, columns)
    curves = record.read_arrays(evaluated, record.CURVES)
    undefined = ("r_mean", "similarity", "diversity", "correlation", "sampled/euler_number")
    for key, values in curves.items():
        if key.endswith(undefined) or key == "held_out/similarity":
            curves[key] = np.full(values.shape, np.nan)
        if key.endswith(("lineal_path_mean", "/grey")):
            curves[key] = np.zeros_like(values)
    record.write_arrays(evaluated, record.CURVES, curves)
    drawn = [chart.name for chart, _, _ in sketch(evaluation.read(evaluated))]
    assert drawn == NAMES


def test_a_run_of_the_first_schema_is_drawn_with_less(evaluated):
    metrics = record.read_metrics(evaluated)
    for key in ("verdicts", "rule", "correlation_names"):
        del metrics[key]
    del metrics["sets"]["real"]["sampled"]
    for key in ("joint", "memorisation", "diversity"):
        del metrics["comparisons"]["translated"][key]
    metrics["truth"] = {}
    record.write_metrics(evaluated, metrics)
    curves = record.read_arrays(evaluated, record.CURVES)
    old = ("/s2_mean", "/s2_p5", "/s2_p95", "/r_mean", "/grey", "axis", "radial", "_low", "_high")
    kept = {key: values for key, values in curves.items() if key.endswith(old)}
    record.write_arrays(evaluated, record.CURVES, kept)
    pictures = record.read_arrays(evaluated, record.PICTURES)
    kept = {key: image for key, image in pictures.items() if not key.startswith("memorisation/")}
    record.write_arrays(evaluated, record.PICTURES, kept)
    run = evaluation.read(evaluated)
    assert "verdicts" not in [chart.name for chart, _, _ in sketch(run)]
    assert len([chart for chart in figures.charts(run) if chart.absent]) == 8
