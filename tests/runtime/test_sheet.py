"""Folders that are older than a setting."""

import pytest
import yaml

from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder

OLD = {"seed": 3, "psi": 0.5}
LATER = {"styles": 1, "kept": (2, 4)}


@pytest.fixture
def path(tmp_path):
    RunFolder.open(tmp_path / "run", OLD)
    return tmp_path / "run"


def test_a_folder_older_than_a_setting_goes_on_where_that_does_what_was_done_before(path):
    now = {**OLD, "styles": 1, "kept": (2, 4)}
    assert RunFolder.open(path, now, later=LATER).younger == {"styles": 1, "kept": [2, 4]}
    assert yaml.safe_load((path / "config.yaml").read_text()) == OLD


def test_a_folder_that_knows_the_setting_is_not_called_older(tmp_path):
    now = {**OLD, "styles": 5, "kept": (2, 4)}
    RunFolder.open(tmp_path / "new", now, later=LATER)
    assert RunFolder.open(tmp_path / "new", now, later=LATER).younger == {}
    with pytest.raises(Refusal, match=r"\n  styles: 5 \(this folder\) / 1 \(now\)$"):
        RunFolder.open(tmp_path / "new", {**now, "styles": 1}, later=LATER)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"styles": 2, "kept": (2, 4)}, "styles: 1 (this folder) / 2 (now)"),
        ({"styles": 1, "kept": (2, 5)}, "kept: [2, 4] (this folder) / [2, 5] (now)"),
        ({"styles": 1, "kept": (2, 4), "n": 7}, "n: absent (this folder) / 7 (now)"),
    ],
)
def test_a_younger_setting_that_does_anything_else_is_refused_by_name(path, now, said):
    with pytest.raises(Refusal) as refused:
        RunFolder.open(path, {**OLD, **now}, later=LATER)
    assert str(refused.value).splitlines()[1:] == [f"  {said}"]
