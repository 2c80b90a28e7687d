import csv
import json

import numpy as np

from sem2ct.reporting import record


def test_numbers_that_json_cannot_hold_become_null(tmp_path):
    metrics = {"a": np.float64("nan"), "b": [np.int64(3), float("inf")], "c": {"d": (1.5, None)}}
    record.write_metrics(tmp_path, metrics)
    text = (tmp_path / record.METRICS).read_text()
    assert json.loads(text, parse_constant=lambda name: 1 / 0) == record.read_metrics(tmp_path)
    assert record.read_metrics(tmp_path) == {"a": None, "b": [3, None], "c": {"d": [1.5, None]}}


def test_tiles_come_back_as_they_were_written_and_undefined_ones_are_empty(tmp_path):
    columns = {
        "real": {"porosity": np.array([0.25, 1 / 3]), "length": np.array([np.nan, 12.0])},
        "other, with comma": {"porosity": np.array([0.5]), "length": np.array([7.5])},
    }
    record.write_tiles(tmp_path, columns)
    lines = (tmp_path / record.TILES).read_text().splitlines()
    assert lines[0] == "set,tile,porosity,length"
    assert lines[1] == "real,0,0.25,"
    found = record.read_tiles(tmp_path)
    assert list(found) == list(columns)
    np.testing.assert_allclose(found["real"]["porosity"], [0.25, 1 / 3], rtol=1e-8)
    assert np.isnan(found["real"]["length"][0])
    assert found["other, with comma"]["length"].tolist() == [7.5]


def test_the_data_of_a_figure_become_columns_with_undefined_cells_left_empty(tmp_path):
    columns = {
        "set": ["a, b", 'say "x"'],
        "n": np.array([3, 4]),
        "x": [1 / 3, np.nan],
        "y": [None, 2],
    }
    record.write_table(tmp_path / "data.csv", columns)
    with (tmp_path / "data.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["set", "n", "x", "y"],
        ["a, b", "3", "0.333333333", ""],
        ['say "x"', "4", "", "2"],
    ]


def test_arrays_come_back_and_absent_ones_are_none(tmp_path):
    record.write_arrays(tmp_path, record.CURVES, {"real/s2_mean": np.arange(6).reshape(3, 2)})
    assert record.read_arrays(tmp_path, record.CURVES)["real/s2_mean"].tolist() == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    assert record.read_arrays(tmp_path, record.PICTURES) == {}
