"""What the campaigns disturb, and how they know that it has ended."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sem2ct import cli, composition

FILE = Path(__file__).parents[2] / "scripts" / "dev" / "jobs.py"


@pytest.fixture(scope="module")
def jobs():
    specification = importlib.util.spec_from_file_location("jobs", FILE)
    module = importlib.util.module_from_spec(specification)
    # A dataclass looks its own module up.
    sys.modules["jobs"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["jobs"]


def test_every_stage_is_disturbed_with_every_number_of_processes(jobs):
    names = [job.name for job in jobs.of_all_stages((1, 2))]
    assert names == [*cli.STAGES, *(f"{command} x2" for command in cli.STAGES)]
    only = jobs.of_all_stages((1, 2), only="translate.*", more={"translate": ("axes=xz",)})
    assert [job.words[1:] for job in only] == [
        ["size=tiny", "machine=cpu", "axes=xz"],
        ["size=tiny", "machine=cpu", "axes=xz", "devices=2"],
    ]


def test_styles_are_synthesized_learned_and_the_last_one_painted(jobs):
    settings = {
        job.command: composition.settings_of(job.command.replace("-", "_"), job.words[1:])
        for job in jobs.of_all_stages((1,), styles=3)
    }
    asked = [settings[name]["styles"] for name in ("synthesize", "train-cyclegan")]
    assert (*asked, settings["translate"]["style"]) == (3, 3, 2)
    assert {each["run"] for each in settings.values()} == {"toy_tiny"}


def started(program):
    return subprocess.Popen([sys.executable, "-c", program], start_new_session=True)


def test_how_a_process_ended_is_told_once_nothing_of_its_group_is_left(jobs):
    # Its child would live on for a minute.
    program = "import subprocess; subprocess.Popen(['sleep', '60']); raise SystemExit(7)"
    process = started(program)
    assert jobs.ends_within(process.pid, 20.0)
    assert jobs.group_lives(process.pid)
    assert jobs.end_of(process.pid, 0.0) == 7
    assert not jobs.group_lives(process.pid)
    process.returncode = 7  # it was waited for, which the object cannot know


def test_a_process_that_does_not_end_in_time_is_killed(jobs):
    process = started("import time; time.sleep(60)")
    assert not jobs.ends_within(process.pid, 0.05)
    assert jobs.end_of(process.pid, 0.05) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    process.returncode = -signal.SIGKILL
