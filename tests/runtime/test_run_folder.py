import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sem2ct.runtime import run_folder
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder, free_space, writing

SETTINGS = {
    "run": "berea",
    "run_root": Path("outputs"),
    "total_images": 3200,
    "learning_rate": 2.5e-5,
    "window": (0.1, 99.9),
    "sets": {"real": "a/*.tif", "fake": "b"},
    "device": "cpu",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outputs" / "berea"


def test_a_new_folder_says_what_was_asked_and_where_it_comes_from(path, tmp_path):
    scan = tmp_path / "ct.tif"
    scan.write_bytes(b"grey")
    RunFolder.open(path, SETTINGS, inputs=[scan])
    written = yaml.safe_load((path / "config.yaml").read_text())
    assert written == SETTINGS | {"run_root": "outputs", "window": [0.1, 99.9]}
    told = json.loads((path / "provenance.json").read_text())
    assert told["inputs"][str(scan)]["sha256"] == hashlib.sha256(b"grey").hexdigest()
    assert told["host"] == socket.gethostname()
    assert told["versions"]["numpy"] == np.__version__
    assert len(told["commit"].split("+")[0]) in (4, 40)


def test_the_same_settings_resume_whatever_the_machine(path):
    RunFolder.open(path, SETTINGS)
    before = (path / "provenance.json").read_text()
    RunFolder.open(path, SETTINGS | {"device": "cuda", "devices": 4, "dry_run": False})
    assert (path / "provenance.json").read_text() == before


def test_other_settings_are_refused_with_the_differing_lines(path):
    RunFolder.open(path, SETTINGS)
    now = SETTINGS | {"total_images": 6400, "seed": 1, "sets": {"real": "a/*.tif", "fake": "c"}}
    with pytest.raises(Refusal) as refused:
        RunFolder.open(path, now)
    first, *lines = str(refused.value).splitlines()
    assert "choose another name with run=, or delete the folder" in first
    assert lines == [
        "  total_images: 3200 (this folder) / 6400 (now)",
        "  sets.fake: b (this folder) / c (now)",
        "  seed: absent (this folder) / 1 (now)",
    ]


@pytest.mark.parametrize("change", ["content", "length", "gone", "more"])
def test_other_inputs_are_refused_until_the_run_is_done(path, tmp_path, change):
    scans = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for scan in scans:
        scan.write_bytes(b"grey")
    folder = RunFolder.open(path, {}, inputs=scans)
    os.utime(scans[1], (1, 1))
    RunFolder.open(path, {}, inputs=scans)
    if change == "gone":
        scans = scans[:1]
    elif change == "more":
        scans.append(tmp_path / "c.tif")
    else:
        scans[1].write_bytes(b"gray" if change == "content" else b"greyer")
    with pytest.raises(Refusal, match=r"[bc]\.tif is not what it was when .*berea was begun \(1 "):
        RunFolder.open(path, {}, inputs=scans)
    folder.finish()
    RunFolder.open(path, {}, inputs=scans)


def test_done_is_said_once_with_its_facts(path):
    folder = RunFolder.open(path, {})
    assert not folder.finished
    folder.finish(tiles=np.int64(1225), store=Path("sem"))
    again = RunFolder.open(path, {})
    assert again.finished
    assert again.facts() == {"tiles": 1225, "store": "sem"}


def test_rewinding_drops_what_a_resumed_run_will_write_again(path):
    folder = RunFolder.open(path, {})
    for images in (8, 16, 24):
        folder.values(images, {"seconds": images / 2, "loss": 1 / images})
    folder.close()
    with (path / "values.jsonl").open("a") as file:
        file.write('{"images": 32, "lo')
    again = RunFolder.open(path, {})
    assert again.rewind(16) == 8.0
    again.values(24, {"seconds": 12.0, "loss": 7.0})
    again.close()
    rows = [json.loads(line) for line in (path / "values.jsonl").read_text().splitlines()]
    assert rows == [
        {"images": 8, "seconds": 4.0, "loss": 0.125},
        {"images": 16, "seconds": 8.0, "loss": 0.0625},
        {"images": 24, "seconds": 12.0, "loss": 7.0},
    ]
    events = EventAccumulator(str(path))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(8, 0.125), (16, 0.0625), (24, 7.0)]


def test_a_run_that_shows_no_values_leaves_no_tensorboard(path):
    folder = RunFolder.open(path, {})
    folder.picture("grid", 0, np.zeros((4, 4), np.uint8))
    folder.finish()
    assert not list(path.glob("events*"))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_picture_is_written_as_it_is(path, shape):
    image = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    folder = RunFolder.open(path, {})
    folder.rewind(0)
    written = folder.picture("tiles", 3200, image)
    folder.close()
    assert written == path / "previews" / "tiles_000003200.png"
    assert np.array_equal(imagecodecs.png_decode(written.read_bytes()), image)
    events = EventAccumulator(str(path))
    events.Reload()
    assert [event.step for event in events.Images("tiles")] == [3200]


def test_ranks_above_0_write_nothing(path):
    folder = RunFolder.open(path, SETTINGS, writer=False)
    folder.rewind(0)
    folder.values(8, {"loss": 1.0})
    folder.picture("tiles", 8, np.zeros((2, 2), np.uint8))
    folder.finish()
    assert not path.exists()


HOLD = """
import sys
from pathlib import Path
from sem2ct.runtime.run_folder import RunFolder
RunFolder.open(Path(sys.argv[1]), {})
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_never_share_a_folder(path):
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(Refusal, match=rf"in use by process {first.pid} on .*run="):
            RunFolder.open(path, {})
        first.stdin.close()
    RunFolder.open(path, {})


def test_a_run_knows_which_process_broke_off_before_it(path):
    path.mkdir(parents=True)
    (path / ".lock").write_text("process 7 on node12\n")
    assert RunFolder.open(path, {}).left_by == "process 7 on node12"


def test_a_row_that_the_disk_spoilt_ends_what_is_read(path):
    folder = RunFolder.open(path, {})
    path.joinpath("values.jsonl").write_bytes(b'{"images": 8, "loss": 1}\n\0\0\0\n{"images": 24}\n')
    assert folder.rows() == [{"images": 8, "loss": 1}]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "outputs").write_text("a file where a folder should be")
    with pytest.raises(Refusal, match=r"could not be written: not a directory.*run_root="):
        RunFolder.open(tmp_path / "outputs" / "berea", {})


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "table.txt"
    with writing(target) as unfinished:
        unfinished.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    with pytest.raises(ZeroDivisionError), writing(target) as unfinished:  # noqa: PT012
        unfinished.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "whole"
    assert [file.name for file in tmp_path.iterdir()] == ["table.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_takes_nothing_is_named(tmp_path, code):
    with pytest.raises(Refusal, match=r"table\.txt could not be written"):  # noqa: SIM117
        with writing(tmp_path / "table.txt"):
            raise OSError(code, os.strerror(code))


def test_what_is_not_the_disks_fault_is_not_blamed_on_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ct\.tif"), writing(tmp_path / "table.txt"):
        (tmp_path / "ct.tif").read_bytes()


def test_a_result_that_would_not_fit_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    usage = run_folder.shutil.disk_usage(tmp_path)._replace(free=12_100_000_000)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda place: usage)
    free_space(tmp_path / "not" / "yet", 12_000_000_000, "translate")
    with pytest.raises(Refusal, match=r"translate needs 46\.0 GB in .*yet, 12\.1 GB are free"):
        free_space(tmp_path / "not" / "yet", 46_000_000_000, "translate")


def test_a_run_refused_before_its_first_result_binds_nobody(tmp_path):
    folder = RunFolder.open(tmp_path / "run", {"n": 9})
    (folder.path / "log.txt").write_text("it was refused")
    folder.forget()
    assert RunFolder.open(tmp_path / "run", {"n": 3}).path == tmp_path / "run"


def test_a_run_that_has_made_something_keeps_its_settings(tmp_path):
    folder = RunFolder.open(tmp_path / "run", {"n": 9})
    (folder.path / "sem").mkdir()
    folder.forget()
    with pytest.raises(Refusal, match="n: 9"):
        RunFolder.open(tmp_path / "run", {"n": 3})
