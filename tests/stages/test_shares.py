"""Stages that several processes share make the bytes of one."""

from pathlib import Path

import pytest

from sem2ct import cli, composition
from sem2ct.metrics import chunks
from sem2ct.reporting import report

WHO_AND_WHEN = {"log.txt", "provenance.json", ".lock"}


def run_here(place, stage, *overrides):
    """Runs a stage on this rank, in a folder where all relative paths are the same.

    Figures are left out: they take most of the time, and come from the files compared here.
    """
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(place)
        changed.setattr(chunks, "CHUNK_TILES", 20)
        changed.setattr(report, "draw", lambda folder: folder / report.REPORT)
        cli.work(stage, composition.settings_of(stage, ["size=tiny", *overrides]))


def files(place):
    found = [path for path in Path(place).rglob("*") if path.is_file()]
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in found
        if path.name not in WHO_AND_WHEN and "measured" not in path.parts
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    place = tmp_path_factory.mktemp("alone")
    run_here(place, "extract")
    return place


def test_two_and_four_processes_extract_the_bytes_of_one(alone, tmp_path, two_ranks, four_ranks):
    for name, ranks in (("two", two_ranks), ("four", four_ranks)):
        (tmp_path / name).mkdir()
        ranks(run_here, tmp_path / name, "extract")
        assert files(tmp_path / name) == files(alone)
    assert len(files(alone)) > 30


@pytest.mark.slow
def test_two_and_four_processes_evaluate_to_the_bytes_of_one(
    alone, tmp_path, two_ranks, four_ranks
):
    sets = ["sets.real=sem", "sets.synthetic=sem_validation", "sets.translated=none"]
    run = ("evaluate", *sets, "ct=none", "truth=none")
    ct = alone / "outputs" / "extract" / "toy_tiny"
    for name in ("one", "two", "four"):
        (tmp_path / name).mkdir()
        for store in ("sem", "sem_validation"):
            (tmp_path / name / store).symlink_to(ct / store)
    run_here(tmp_path / "one", *run)
    one = files(tmp_path / "one")
    for name, ranks in (("two", two_ranks), ("four", four_ranks)):
        ranks(run_here, tmp_path / name, *run)
        found = files(tmp_path / name)
        assert found.keys() == one.keys()
        assert [file for file in one if one[file] != found[file]] == []
        folder = tmp_path / name / "outputs" / "evaluate" / "toy_tiny" / "measured" / "real"
        # 50 tiles in chunks of 20, whoever measured them.
        assert len(list(folder.rglob("0*.npz"))) == 3
