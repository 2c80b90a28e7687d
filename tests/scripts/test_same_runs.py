"""What the kill campaign takes for the same, and for a partial file."""

import importlib.util
import json
import zipfile
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "scripts" / "dev" / "same_runs.py"


@pytest.fixture(scope="module")
def same_runs():
    specification = importlib.util.spec_from_file_location("same_runs", FILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


REPORT = """<p>sem2ct evaluation, run <b>toy</b>, 2026-11-2{day}.
It has 3 sets.
Reference: <b>real</b>, .
</p>
<tr><td>command</td><td><code>{who} evaluate</code></td></tr>
<tr><td>date</td><td>2026-11-2{day}T10:00:00+00:00</td></tr>
<tr><td>machine</td><td>vm</td></tr>
<tr><td>commit</td><td><code>c{day}</code></td></tr>
<tr><td>porosity</td><td>0.2{figure}</td></tr>
"""
WHOLE = REPORT.format(day=1, who="x", figure=1)
DAY = ", 2026-11-21."


@pytest.fixture
def runs(tmp_path):
    """Two runs that differ in when and where only."""
    for name, clock in (("one", 1), ("other", 2)):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "log.txt").write_text(f"{clock}:00 done")
        (folder / f"events.out.tfevents.{clock}.vm").write_bytes(bytes(clock))
        row = {"images": 8, "seconds": clock, "images_per_second": clock, "loss": 0.5}
        (folder / "values.jsonl").write_text(json.dumps(row) + "\n")
        (folder / "best.json").write_text('{"images": 8, "command": "best"}')
        facts = {
            "parts": [{"seconds": clock}],
            "date": clock,
            "command": f"sem2ct {clock}",
            "commit": str(clock),
        }
        facts |= {"inputs": {"a.tif": {"sha256": "f0", "modified_ns": clock}}}
        (folder / "provenance.json").write_text(json.dumps(facts))
        (folder / "report.html").write_text(REPORT.format(day=clock, who="x" * clock, figure=1))
        (folder / "tiles.png").write_bytes(b"tiles")
        with zipfile.ZipFile(folder / "checkpoints" / "000000008.pt", "w") as archive:
            archive.writestr("data", b"w" * 99)
        notes = ['{"slab": 0}', '{"slab": 1}'][:: 1 if clock == 1 else -1]
        (folder / "volume.journal.jsonl").write_text("\n".join(notes) + '\n{"sla' * (clock - 1))
    (tmp_path / "other" / ".lock").write_text("pid 7")
    return tmp_path / "one", tmp_path / "other"


def test_runs_that_differ_in_when_and_where_are_the_same(same_runs, runs):
    assert same_runs.differences(*runs) == []
    assert same_runs.taken_for_whole(*runs) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tiles.png", "tilez"),
        ("values.jsonl", '{"images": 8, "loss": 0.25}\n'),
        ("provenance.json", '{"inputs": {"a.tif": {"sha256": "f1"}}}'),
        ("volume.journal.jsonl", '{"slab": 0}\n'),
        ("report.html", REPORT.format(day=1, who="x", figure=2)),
        ("report.html", WHOLE.replace("vm", "other")),
        ("report.html", WHOLE + "2026-11-21."),
        ("report.html", WHOLE.replace("real</b>, .", "real</b>, 2026-11-21.")),
        ("report.html", WHOLE.replace(DAY, ", .").replace("sets.", "sets2026-11-21.")),
        ("best.json", '{"images": 8, "command": "another"}'),
        ("checkpoints/000000008.pt", "another"),
    ],
)
def test_any_other_content_is_a_difference(same_runs, runs, name, content):
    (runs[1] / name).write_text(content)
    assert same_runs.differences(*runs) == [f"{name} differs"]


def test_a_file_too_few_and_one_too_many_are_differences(same_runs, runs):
    (runs[0] / "done.json").write_text("{}")
    (runs[1] / "tiles.png.tmp").write_bytes(b"ti")
    assert same_runs.differences(*runs) == ["done.json is missing", "tiles.png.tmp is one too many"]


def test_what_is_not_compared_is_told(same_runs):
    told = same_runs.left_out()
    assert all(f"not compared: {name}" in told for name in same_runs.LEFT_OUT)
    assert all(name in told for name in same_runs.TIMED | same_runs.TOLD)


def test_files_that_grow_or_are_replaced_may_be_at_an_earlier_state(same_runs, runs):
    (runs[1] / "values.jsonl").write_text("")
    (runs[1] / "volume.journal.jsonl").write_text('{"sl')
    (runs[1] / "best.json").write_text('{"images": 4}')
    assert same_runs.taken_for_whole(*runs) == []


def test_a_checkpoint_with_a_wrong_byte_is_no_whole_one(same_runs, runs):
    path = runs[1] / "checkpoints" / "000000008.pt"
    path.write_bytes(path.read_bytes().replace(b"ww", b"wx", 1))
    assert same_runs.taken_for_whole(*runs) == ["checkpoints/000000008.pt is cut short"]


def test_a_killed_run_may_lack_files_and_have_unfinished_ones_but_no_partial_ones(same_runs, runs):
    (runs[1] / "tiles.png").unlink()
    (runs[1] / "tiles.png.tmp").write_bytes(b"ti")
    assert same_runs.taken_for_whole(*runs) == []
    (runs[1] / "tiles.png").write_bytes(b"ti")
    (runs[1] / "surplus.png").write_bytes(b"")
    path = runs[1] / "checkpoints" / "000000008.pt"
    path.write_bytes(path.read_bytes()[:-30])
    assert same_runs.taken_for_whole(*runs) == [
        "checkpoints/000000008.pt is cut short",
        "surplus.png has no business there",
        "tiles.png was partial",
    ]
