import numpy as np
import pytest
from matplotlib.figure import Figure

from sem2ct.reporting import evaluation, figures, grids, record, report

QUANTITIES = ("porosity", "specific_surface", "correlation_length")


@pytest.fixture
def gridded(evaluated):
    """The written run, whose second set is a grid of 5 x 3 tiles; asked for its mode."""

    def made(mode):
        metrics = record.read_metrics(evaluated)
        shares = {"styles": 5, "sd_within_style": 0.02, "sd_within_noise": 0.05}
        shares |= {"share_style": 0.25, "share_noise": 0.375, "share_rest": 0.375}
        shares |= {"share_style_error": 0.0625}
        walk = {"paths": 5, "even_step": 0.5, "change": 0.1, "largest_step": 0.66, "detour": 1.25}
        facts = walk if mode == "interpolate" else shares
        rows = {name: {"unit": "", **facts} for name in QUANTITIES}
        rows["porosity"] = {"unit": "", **dict.fromkeys(facts)}
        metrics["sets"]["translated"]["grid"] = {
            "mode": mode, "outer": 5, "inner": 3, "quantities": rows,
        }  # fmt: skip
        record.write_metrics(evaluated, metrics)
        arrays = record.read_arrays(evaluated, record.CURVES)
        cells = (np.arange(15.0).reshape(5, 3) ** 2)[[3, 1, 0, 4, 2]]
        cells[1] = np.nan
        arrays |= {f"translated/grid/{name}": cells for name in QUANTITIES}
        record.write_arrays(evaluated, record.CURVES, arrays)
        return evaluated, evaluation.read(evaluated), cells

    return made


def test_each_style_is_a_column_of_its_noises_in_the_order_of_their_means(gridded):
    _, run, cells = gridded("fixed_style")
    figure = Figure(layout="constrained")
    table = grids.grid(figure, run, name="translated")
    axes = figure.axes[1]
    columns = [line.get_ydata() for line in axes.lines]
    np.testing.assert_array_equal(columns, cells[[2, 4, 0, 3]])  # the undefined style is left out
    assert axes.get_title() == "style decides 25% (± 6%) of the variance"
    assert figure.axes[0].get_title() == "not decided"
    assert list(table) == ["quantity", "style", "noise", "value"]
    assert len(table["value"]) == 3 * 15
    assert (table["style"][19], table["noise"][19], table["value"][19]) == (1, 1, pytest.approx(
        np.nan, nan_ok=True))  # fmt: skip
    assert table["value"][22] == 1


def test_each_path_is_a_line_from_one_style_to_another(gridded):
    _, run, cells = gridded("interpolate")
    figure = Figure(layout="constrained")
    table = grids.grid(figure, run, name="translated")
    axes = figure.axes[2]
    np.testing.assert_array_equal(axes.lines[4].get_ydata(), cells[4])
    assert axes.lines[4].get_xdata().tolist() == [0, 0.5, 1]
    assert axes.get_title() == "largest step 66% of the way (even: 50%)"
    assert list(table) == ["quantity", "path", "step", "value"]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fixed_noise", ["5 styles, each with the same 3 noises", ">25 %<", ">38 %<", "0.0500"]),
        ("interpolate", ["5 straight paths in W of 3 tiles", "steps 50 % each", ">66 %<", "1.25"]),
    ],
)
def test_the_report_says_in_a_table_what_a_grid_decides(gridded, mode, words):
    folder, run, _ = gridded(mode)
    assert "grid_translated" in [chart.name for chart in figures.charts(run)]
    (folder / "figures").mkdir(exist_ok=True)
    text = report.write(folder).read_text(encoding="utf-8")
    section = text[text.index('id="styles"') : text.index('id="copies"')]
    assert all(word in section for word in words)


def test_a_run_without_grids_has_no_such_section(evaluated):
    assert not [c for c in figures.charts(evaluation.read(evaluated)) if c.section == "styles"]
