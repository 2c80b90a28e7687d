"""The six commands chained on the toy rock, as a user would run them."""

import json
import re

import numpy as np
import pytest
import tifffile
import torch

from sem2ct import cli

COMMANDS = list(cli.STAGES)


def sem2ct(command: str, *overrides: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([command, *overrides])
    return end.value.code


@pytest.fixture
def outputs(finished):
    return finished


def folder(outputs, command):
    return outputs / command.replace("-", "_") / "toy_tiny"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_run_folder_has_the_same_face(outputs, command):
    there = {path.name for path in folder(outputs, command).iterdir()}
    assert {"config.yaml", "provenance.json", "log.txt", "done.json"} <= there
    assert not list(folder(outputs, command).rglob("*.tmp"))


@pytest.mark.parametrize("command", ["train-stylegan", "train-cyclegan"])
def test_trainings_leave_values_checkpoints_previews_and_events(outputs, command):
    run = folder(outputs, command)
    rows = [json.loads(line) for line in (run / "values.jsonl").read_text().splitlines()]
    total = 32 if command == "train-stylegan" else 16
    assert [row["images"] for row in rows] == list(range(total // 4, total + 1, total // 4))
    assert (run / f"checkpoints/{total:09d}.pt").exists()
    assert list(run.glob("previews/*.png"))
    assert list(run.glob("events.out.tfevents.*"))


def test_the_report_compares_the_three_sets_and_stands_alone(outputs):
    run = folder(outputs, "evaluate")
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"real", "synthetic", "translated"} <= set(metrics["sets"])
    html = (run / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', html)


def test_the_translated_slice_has_the_finer_pixel(outputs):
    import zarr

    run = folder(outputs, "translate")
    group = zarr.open_group(run / "translation.ome.zarr", mode="r")
    multiscale = group.attrs["ome"]["multiscales"][0]
    scales = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    # Two of the four CT slices, refined along z; SEM pixels of 0.5 um, CT voxels of 2 um.
    assert group[multiscale["datasets"][0]["path"]].shape == (8, 128, 128)
    assert scales == pytest.approx([0.5, 0.5, 0.5])


def test_the_truth_of_the_volume_is_never_trained_on(outputs):
    truth = outputs / "extract/toy_tiny/rock/truth"
    used = json.loads((folder(outputs, "train-cyclegan") / "provenance.json").read_text())
    assert truth.is_dir()
    assert "truth" not in json.dumps(used["inputs"])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_again_changes_nothing(outputs, command):
    run = folder(outputs, command)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "log.txt"}
    assert sem2ct(command, "size=tiny", "machine=cpu", f"run_root={outputs}") == 0
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "log.txt"}
    assert {path for path in before if path.is_file()} == {path for path in after if path.is_file()}
    assert all(before[path] == after[path] for path in before if path.is_file())


def test_a_run_older_than_a_setting_is_complete_still(outputs, capsys):
    sheet = folder(outputs, "train-cyclegan") / "config.yaml"
    before = sheet.read_text()
    again = ["train-cyclegan", "size=tiny", "machine=cpu", f"run_root={outputs}"]
    try:
        sheet.write_text(before.replace("styles: 1\n", "").replace("sem_styles: all\n", ""))
        assert len(sheet.read_text().splitlines()) == len(before.splitlines()) - 2
        assert sem2ct(*again) == 0
        assert sem2ct(*again, "styles=2") == 2
    finally:
        sheet.write_text(before)
    said = capsys.readouterr().err
    assert "complete already" in said
    assert "  styles: 1 (this folder) / 2 (now)" in said


def test_changed_settings_are_refused_with_the_differing_line(outputs, capsys):
    code = sem2ct(
        "train-stylegan", "size=tiny", "machine=cpu", f"run_root={outputs}", "r1_gamma=2.5"
    )
    assert code == 2
    said = capsys.readouterr().err
    assert "r1_gamma" in said
    assert "2.5" in said


@pytest.mark.parametrize("command", ["train-stylegan", "train-cyclegan"])
def test_a_stopped_training_ends_as_an_undisturbed_one(outputs, command, monkeypatch, capsys):
    from sem2ct.training.loop import Stop

    overrides = ["size=tiny", "machine=cpu", f"run_root={outputs}", f"run=stopped-{command}"]
    made = {"train-stylegan": {"sem": "extract/toy_tiny/sem"}}
    made["train-cyclegan"] = {"ct": "extract/toy_tiny/ct", "sem": "synthesize/toy_tiny/sem"}
    overrides += [f"{name}={outputs / store}" for name, store in made[command].items()]
    steps = iter([False, False, True])
    with monkeypatch.context() as patched:
        # As if SIGTERM came in the third step, which is no step with a checkpoint.
        patched.setattr(Stop, "asked", property(lambda self: next(steps)))
        assert sem2ct(command, *overrides) == 143
    assert sem2ct(command, *overrides) == 0
    total = 32 if command == "train-stylegan" else 16
    name = f"checkpoints/{total:09d}.pt"
    stopped = outputs / command.replace("-", "_") / f"stopped-{command}"
    undisturbed = torch.load(folder(outputs, command) / name, weights_only=True)
    resumed = torch.load(stopped / name, weights_only=True)
    assert_same(undisturbed["trainer"], resumed["trainer"])


def assert_same(one, other):
    """Compares nested dictionaries and lists of tensors and plain values bit by bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


def test_live_tiles_train_the_translator_too(outputs):
    overrides = ["size=tiny", "machine=cpu", f"run_root={outputs}"]
    live = ["sem=live", "run=live", f"ct={outputs}/extract/toy_tiny/ct"]
    live.append(f"stylegan={outputs}/train_stylegan/toy_tiny")
    assert sem2ct("train-cyclegan", *overrides, *live) == 0


def test_the_published_network_set_runs_through_translation(outputs):
    overrides = ["size=tiny", "machine=cpu", f"run_root={outputs}", "run=published"]
    stores = [f"ct={outputs}/extract/toy_tiny/ct", f"sem={outputs}/synthesize/toy_tiny/sem"]
    assert sem2ct("train-cyclegan", *overrides, *stores, "network=paper") == 0
    scan = [f"ct={outputs}/extract/toy_tiny/rock/ct.tif", "z_range=[1,2]", "refine_z=false"]
    assert sem2ct("translate", *overrides, *scan) == 0
    assert tifffile.imread(outputs / "translate/published/translation.ome.tif").shape == (128, 128)


@pytest.mark.parametrize("mode", ["fixed_style", "fixed_noise", "interpolate"])
def test_the_other_modes_of_synthesis_draw_a_grid(outputs, mode):
    overrides = ["size=tiny", "machine=cpu", f"run_root={outputs}", f"run={mode}", f"mode={mode}"]
    trained = f"stylegan={outputs}/train_stylegan/toy_tiny"
    assert sem2ct("synthesize", *overrides, trained, "n=3", "rows=2") == 0
    from skimage import io

    pictures = list((outputs / "synthesize" / mode).rglob("*.png"))
    assert len(pictures) == 1
    grid = io.imread(pictures[0])
    assert grid.shape[0] >= 2 * 32
    assert grid.shape[1] >= 3 * 32
    assert np.ptp(grid) > 0


def test_a_finished_run_is_told_to_be_complete(outputs, capsys):
    assert sem2ct("extract", "size=tiny", "machine=cpu", f"run_root={outputs}") == 0
    said = capsys.readouterr().err
    assert "complete already" in said
    assert "tiles: 98" in said


def test_a_sweep_writes_under_the_run_root_only(outputs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sem2ct"])
    overrides = ["size=tiny", "machine=cpu", f"run_root={outputs}", "n=3", "rows=2"]
    overrides += ["seed=1,2", "run=sweep${seed}", "mode=interpolate"]
    overrides += [f"stylegan={outputs}/train_stylegan/toy_tiny"]
    assert sem2ct("synthesize", "-m", *overrides) == 0
    assert {path.name for path in (outputs / "synthesize").glob("sweep*")} == {"sweep1", "sweep2"}
    assert not list(tmp_path.iterdir())
