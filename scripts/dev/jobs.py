"""Runs of the stages at size=tiny that are disturbed by other scripts: where, started how.

Most are forked from the process that imports this and has imported everything: what is killed is
a real process that leads its own group, and whose start-up is short.
"""

import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sem2ct import cli

PATIENCE_S = 900.0
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class Job:
    """A command to be disturbed."""

    command: str
    devices: int = 1
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For the table and the folder."""
        return self.command if self.devices == 1 else f"{self.command} x{self.devices}"

    @property
    def words(self) -> list[str]:
        """What follows `sem2ct`; all paths in it are relative to where it runs."""
        several = [f"devices={self.devices}"] * (self.devices > 1)
        return [self.command, "size=tiny", "machine=cpu", *self.more, *several]

    def run(self, place: Path) -> Path:
        """The run's folder, of the name that the other stages expect."""
        return place / "outputs" / self.command.replace("-", "_") / "toy_tiny"


def of_all_stages(
    counts: Sequence[int],
    *,
    styles: int = 1,
    only: str = ".*",
    more: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> list[Job]:
    """Every stage, with so many processes each.

    Args:
        counts: Numbers of processes.
        styles: Of the synthesized tiles, of which the translator then paints one.
        only: Pattern of the names that are wanted.
        more: Further words by command.
    """
    painted = {"synthesize": f"styles={styles}", "train-cyclegan": f"styles={styles}"}
    painted["translate"] = f"style={styles - 1}"
    asked = {command: (word,) for command, word in painted.items() if styles > 1}
    made = [
        Job(command, devices, (*asked.get(command, ()), *more.get(command, ())))
        for devices in counts
        for command in cli.STAGES
    ]
    return [job for job in made if re.fullmatch(only, job.name)]


def import_everything() -> None:
    """Imports what stages need, so that what is forked starts at once."""
    for stage in cli.STAGES:
        importlib.import_module(f"sem2ct.stages.{stage.replace('-', '_')}")
    importlib.import_module("hydra")
    importlib.import_module("torch.utils.tensorboard")
    importlib.import_module("matplotlib.backends.backend_agg")


def chain(root: Path, *, styles: int = 1) -> Path:
    """The six stages undisturbed, one after the other; each is input to those after it."""
    place = root / "chain"
    place.mkdir(exist_ok=True)
    for job in of_all_stages((1,), styles=styles):
        seconds_of(job, place, fork)
    return place / "outputs"


def fresh(place: Path, chain: Path, job: Job) -> Path:
    """A place to run a job in, where the other stages can be read."""
    shutil.rmtree(place, ignore_errors=True)
    for stage in sorted(chain.iterdir()):
        folder = place / "outputs" / stage.name / "toy_tiny"
        folder.parent.mkdir(parents=True)
        if folder != job.run(place):
            folder.symlink_to(stage / "toy_tiny")
    return place


def seconds_of(job: Job, place: Path, start: Callable[[list[str], Path], int]) -> float:
    """How long a job takes, started by `fork` or `spawn`; ends this script if it fails."""
    begun = time.monotonic()
    code = end_of(start(job.words, place), PATIENCE_S)
    if code:
        raise SystemExit(f"{job.name} ended with {code}: {last_line(place)}")
    return time.monotonic() - begun


def described(run: Path) -> str:
    """What lies in a run folder, as numbers of files by kind."""
    kinds: dict[str, int] = {}
    for path in run.rglob("*") if run.exists() else []:
        if path.is_file():
            kind = "unfinished" if ".tmp" in path.as_posix() else path.suffix or path.name
            kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"


def last_line(place: Path) -> str:
    """What the run of a place said last."""
    return (place / "said.txt").read_text().strip().rpartition("\n")[2]


def spawn(words: list[str], place: Path) -> int:
    """Starts a new interpreter as the leader of its process group."""
    with (place / "said.txt").open("wb") as said:
        command = [sys.executable, "-m", "sem2ct.cli", *words]
        return subprocess.Popen(
            command, cwd=place, stdout=said, stderr=said, start_new_session=True
        ).pid


def fork(words: list[str], place: Path, *, kill_before: int = 0, count: Path | None = None) -> int:
    """Starts a copy of this process as the leader of its process group.

    Args:
        words: What follows `sem2ct`.
        place: The folder it runs in; what it says stands in said.txt there.
        kill_before: Number of the file operation before which it is killed; 0 for none.
        count: File that gets the number of its file operations.

    Returns:
        Its number.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(place)
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        operations = _Operations(kill_before)
        if kill_before or count:
            sys.addaudithook(operations)
        try:
            cli.main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        if count:
            count.write_text(str(operations.seen))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def end_of(pid: int, seconds: float) -> int:
    """Waits so long, then kills the process group; returns the exit code, -9 if killed."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() >= deadline:
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    while group_lives(pid):
        time.sleep(0.01)
    return code


def ends_within(pid: int, seconds: float) -> bool:
    """Whether a process that was started here ends in time; `end_of` can still tell how."""
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def group_lives(group: int) -> bool:
    """Whether any process of a group is more than a name that nobody has waited for."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, _, its_group = (place / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


class _Operations:
    """Counts what this process does to files below outputs/, and ends it before number n."""

    def __init__(self, kill_before: int) -> None:
        self.seen = 0
        self._kill_before = kill_before

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or "outputs/" not in str(arguments[0]):
            return
        if event == "open" and not (arguments[2] or 0) & WRITING:
            return
        self.seen += 1
        if self.seen == self._kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
