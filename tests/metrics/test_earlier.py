import json

import pytest

from sem2ct.metrics import earlier, results
from sem2ct.metrics.definitions import COMPARED
from sem2ct.runtime.refusal import Refusal


def run(name, *, porosity, unit="um", level=120):
    scalars = {
        "porosity": {"unit": "", "mean": porosity, "sd": 0.05},
        "correlation_length": {"unit": unit, "mean": 2.0, "sd": 0.5},
        "rms_misfit": {"unit": "", "mean": None, "sd": None},
    }
    return {
        "schema": results.SCHEMA,
        "run": name,
        "reference": "real",
        "pixel_um": 0.5,
        "tile_px": 64,
        "reach_px": 30,
        "threshold": {"level": level},
        "sets": {"real": {"scalars": scalars}},
    }


def test_differences_are_here_minus_there_over_the_others_sd():
    found = earlier.differences(run("a", porosity=0.3), run("b", porosity=0.2), where="b")
    row = next(row for row in found["rows"] if row["quantity"] == "porosity")
    assert (row["here"], row["there"]) == (0.3, 0.2)
    assert row["difference"] == pytest.approx(0.1)
    assert row["difference_sd"] == pytest.approx(2)
    assert found["run"] == "b"
    assert found["differing"] == {}
    missing = next(row for row in found["rows"] if row["quantity"] == "rms_misfit")
    assert missing["difference"] is missing["difference_sd"] is None


def test_quantities_of_other_units_are_not_subtracted_and_conditions_are_named():
    here, there = run("a", porosity=0.3, level=121), run("b", porosity=0.3, unit="px")
    here["sets"]["new"] = here["sets"]["real"]
    found = earlier.differences(here, there, where="b")
    assert "correlation_length" not in {row["quantity"] for row in found["rows"]}
    assert found["differing"] == {"threshold": [121, 120]}
    assert found["only_here"] == ["new"]
    said = "\n".join(earlier.lines(found))
    assert "threshold is 121 here, 120 there" in said
    assert "only here: new" in said


def test_the_table_is_aligned():
    found = earlier.differences(run("a", porosity=0.3), run("b", porosity=0.2), where="there")
    title, header, row, *_ = earlier.lines(found)
    assert title == "against there:"
    assert row.index("0.3") == header.index("here")
    assert row.index("0.2") == header.index("there")


def test_a_folder_and_its_file_are_the_same_run(tmp_path):
    content = run("a", porosity=0.3)
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    for where in (tmp_path, tmp_path / "metrics.json"):
        assert earlier.opened(where, setting="against") == content


def test_what_is_no_run_of_this_version_is_refused_by_name(tmp_path):
    with pytest.raises(Refusal, match=r"against=.*no metrics.json there"):
        earlier.opened(tmp_path, setting="against")
    (tmp_path / "metrics.json").write_text("cut sho")
    with pytest.raises(Refusal, match=r"says 'None'.*'sem2ct metrics 2'"):
        earlier.opened(tmp_path, setting="against")
    old = json.dumps({"schema": "sem2ct metrics 1", "sets": {}})
    (tmp_path / "metrics.json").write_text(old)
    with pytest.raises(Refusal, match=r"against=.*'sem2ct metrics 1'.*'sem2ct metrics 2'.*again"):
        earlier.opened(tmp_path, setting="against")


def whole():
    scalars = {name: {"unit": "", "mean": 0.3, "sd": 0.05} for name in COMPARED}
    verdict = {"label": "S2", "set": "new", "inside": False, "verdict": "outside", "factor": 1.7}
    return run("a", porosity=0.3) | {
        "sets": {"real": {"tiles": 9, "scalars": scalars}},
        "comparisons": {"new": {}},
        "verdicts": [verdict],
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("verdicts"),
        lambda content: content["verdicts"].append(True),
        lambda content: content["verdicts"][0].pop("factor"),
        lambda content: content["sets"]["real"].pop("tiles"),
    ],
)
def test_numbers_that_are_told_again_must_all_be_there(tmp_path, change):
    content = whole()
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert earlier.complete(tmp_path) == content
    change(content)
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(Refusal, match=r"earlier=.*was damaged or changed"):
        earlier.complete(tmp_path)
