"""Kills runs of all stages at random moments, restarts them, and compares what they leave.

    .venv/bin/python scripts/dev/kill_campaign.py --moments 100 --seed 0 --folder outputs/kill
    .venv/bin/python scripts/dev/kill_campaign.py --writes 200      # killed at file operations

Every stage runs once undisturbed at size=tiny on the toy rock, those that compute also with two
processes.  Then each is begun anew, its whole process group is killed (`kill -9`) at a moment
drawn uniformly from its undisturbed duration, and the same command is given again until it is
done; each further start is killed too with a chance of 1/3.  Right after a kill no file that has
its final name may differ from the undisturbed one, and in the end no file at all.  `--writes`
draws among the run's file operations (open to write, rename, remove, mkdir) instead of among
moments, and kills right before one: each state that a file can be left in comes up.

Most runs are forked from this process, which has imported everything: what is killed is a real
process of its own group, whose start-up is short.  A share of `--cold` starts the interpreter anew.

What is compared, and what not, says `same_runs.py`.  Prints a table, and ends with 1 on any
difference.
"""

import argparse
import contextlib
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import same_runs

from sem2ct import cli

AGAIN = 1 / 3
PATIENCE_S = 900.0
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class Job:
    """A command to be disturbed."""

    command: str
    devices: int = 1

    @property
    def name(self) -> str:
        """For the table and the folder."""
        return self.command if self.devices == 1 else f"{self.command} x{self.devices}"

    @property
    def words(self) -> list[str]:
        """What follows `sem2ct`; all paths in it are relative to where it runs."""
        several = [f"devices={self.devices}"] * (self.devices > 1)
        return [self.command, "size=tiny", "machine=cpu", *several]

    def run(self, place: Path) -> Path:
        """The run's folder, of the name that the other stages expect."""
        return place / "outputs" / self.command.replace("-", "_") / "toy_tiny"


JOBS = [
    *(Job(command) for command in cli.STAGES),
    *(Job(command, 2) for command in ("train-stylegan", "synthesize", "train-cyclegan")),
    Job("translate", 2),
]


@dataclass(frozen=True)
class Kill:
    """When a run is killed: after so many seconds, or right before a file operation."""

    after_s: float = 0.0
    operation: int = 0
    cold: bool = False

    def __str__(self) -> str:
        """For the table."""
        if self.operation:
            return f"operation {self.operation}"
        return f"{self.after_s:.2f} s{' cold' * self.cold}"


@dataclass(frozen=True)
class Undisturbed:
    """What a job does when nobody kills it."""

    place: Path
    cold_s: float
    warm_s: float
    operations: int

    def kill(self, draw: random.Random, *, at_operation: bool, cold: float) -> Kill:
        """Draws a moment; `cold` is the chance of a new interpreter."""
        if at_operation:
            return Kill(operation=draw.randint(1, self.operations))
        if draw.random() < cold:
            return Kill(after_s=draw.uniform(0, self.cold_s), cold=True)
        return Kill(after_s=draw.uniform(0, self.warm_s))


class Outcome(NamedTuple):
    """One row of the table."""

    job: str
    kills: list[Kill]
    on_disk: str
    starts: int
    faults: list[str]

    def __str__(self) -> str:
        """The row."""
        equal = "yes" if not self.faults else "NO: " + "; ".join(self.faults)
        kills = ", ".join(map(str, self.kills))
        return f"| {self.job} | {kills} | {self.on_disk} | {self.starts - 1} | {equal} |"


def main() -> int:
    """Runs the campaign; returns the number of disturbed runs that ended otherwise."""
    asked = _arguments()
    root, at_operation = asked.folder.resolve(), asked.writes > 0
    root.mkdir(parents=True, exist_ok=True)
    jobs = [job for job in JOBS if re.fullmatch(asked.only, job.name)]
    if at_operation:
        # Only the process that is forked counts, and with several it does no more than wait.
        jobs = [job for job in jobs if job.devices == 1]
    _import_everything()
    chain, draw = _chain(root), random.Random(asked.seed)
    kills, failed = asked.writes or asked.moments, 0
    print("| stage | killed after / before | on disk then | restarts | equal |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    known: dict[Job, Undisturbed] = {}
    done = 0
    while done < kills:
        job = jobs[done % len(jobs)]
        if job not in known:
            place = _fresh(root / job.name.replace(" ", "_"), chain, job)
            known[job] = _undisturbed(job, place, cold=asked.cold > 0)
        first = known[job].kill(draw, at_operation=at_operation, cold=asked.cold)
        outcome = _disturbed(job, _fresh(root / "trial", chain, job), known[job], first, draw)
        if not outcome.kills and not outcome.faults:
            # It was done before its moment came; another one is drawn.
            continue
        done += 1
        print(outcome, flush=True)
        if outcome.faults:
            failed += 1
            kept = root / f"fault_{job.name.replace(' ', '_')}_{failed}"
            shutil.copytree(root / "trial", kept, symlinks=True, dirs_exist_ok=True)
    print(f"{kills} runs killed, {failed} ended otherwise than an undisturbed one")
    print(same_runs.left_out())
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--moments", type=int, default=100, help="runs to kill, stage after stage")
    parser.add_argument("--writes", type=int, default=0, help="so many, at file operations")
    parser.add_argument("--cold", type=float, default=0.1, help="share started from nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=".*", help="pattern of names: translate.*")
    parser.add_argument("--folder", type=Path, default=Path("outputs/kill"))
    return parser.parse_args()


def _import_everything() -> None:
    for stage in cli.STAGES:
        importlib.import_module(f"sem2ct.stages.{stage.replace('-', '_')}")
    importlib.import_module("hydra")
    importlib.import_module("torch.utils.tensorboard")
    importlib.import_module("matplotlib.backends.backend_agg")


def _chain(root: Path) -> Path:
    """The six stages undisturbed, one after the other; each is input to those after it."""
    place = root / "chain"
    place.mkdir(exist_ok=True)
    for command in cli.STAGES:
        words = [command, "size=tiny", "machine=cpu"]
        code = _end_of(_fork(words, place), PATIENCE_S)
        if code:
            raise SystemExit(f"{command} ended with {code}: {_last_line(place)}")
    return place / "outputs"


def _fresh(place: Path, chain: Path, job: Job) -> Path:
    """A place to run a job in, where the other stages can be read."""
    shutil.rmtree(place, ignore_errors=True)
    for stage in sorted(chain.iterdir()):
        folder = place / "outputs" / stage.name / "toy_tiny"
        folder.parent.mkdir(parents=True)
        if folder != job.run(place):
            folder.symlink_to(stage / "toy_tiny")
    return place


def _undisturbed(job: Job, place: Path, *, cold: bool) -> Undisturbed:
    """Runs a job with its file operations counted, before that also from nothing."""
    count = place / "count"
    cold_s = _seconds_of(job, place, _spawn) if cold else 0.0
    shutil.rmtree(job.run(place), ignore_errors=True)
    warm_s = _seconds_of(job, place, lambda words, place: _fork(words, place, count=count))
    return Undisturbed(place, cold_s, warm_s, int(count.read_text()))


def _seconds_of(job: Job, place: Path, start: Callable[[list[str], Path], int]) -> float:
    begun = time.monotonic()
    code = _end_of(start(job.words, place), PATIENCE_S)
    if code:
        raise SystemExit(f"{job.name} ended with {code}: {_last_line(place)}")
    return time.monotonic() - begun


def _disturbed(
    job: Job, place: Path, known: Undisturbed, kill: Kill, draw: random.Random
) -> Outcome:
    """Starts and kills a job, then starts it until it is done; now and then kills that too."""
    run, whole = job.run(place), job.run(known.place)
    kills: list[Kill] = []
    faults: list[str] = []
    on_disk, starts, code = "", 0, 1
    while code:
        starts += 1
        if starts == 1 or draw.random() < AGAIN:
            if starts > 1:
                kill = known.kill(draw, at_operation=kill.operation > 0, cold=0.0)
            code = _start_and_kill(job, place, kill)
        else:
            code = _end_of(_fork(job.words, place), PATIENCE_S)
        if code == -signal.SIGKILL:
            kills.append(kill)
            faults += same_runs.taken_for_whole(whole, run)
            on_disk = on_disk or _described(run)
        elif code:
            return Outcome(job.name, kills, on_disk, starts, [f"{code}: {_last_line(place)}"])
    return Outcome(job.name, kills, on_disk, starts, faults + same_runs.differences(whole, run))


def _start_and_kill(job: Job, place: Path, kill: Kill) -> int:
    if kill.operation:
        return _end_of(_fork(job.words, place, kill_before=kill.operation), PATIENCE_S)
    return _end_of((_spawn if kill.cold else _fork)(job.words, place), kill.after_s)


def _described(run: Path) -> str:
    """What lies in a run folder, as numbers of files by kind."""
    kinds: dict[str, int] = {}
    for path in run.rglob("*") if run.exists() else []:
        if path.is_file():
            kind = "unfinished" if ".tmp" in path.as_posix() else path.suffix or path.name
            kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"


def _last_line(place: Path) -> str:
    return (place / "said.txt").read_text().strip().rpartition("\n")[2]


def _spawn(words: list[str], place: Path) -> int:
    """Starts a new interpreter as the leader of its process group."""
    with (place / "said.txt").open("wb") as said:
        command = [sys.executable, "-m", "sem2ct.cli", *words]
        return subprocess.Popen(
            command, cwd=place, stdout=said, stderr=said, start_new_session=True
        ).pid


def _fork(words: list[str], place: Path, *, kill_before: int = 0, count: Path | None = None) -> int:
    """Starts a copy of this process as the leader of its process group."""
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


def _end_of(pid: int, seconds: float) -> int:
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
    while _group_lives(pid):
        time.sleep(0.01)
    return code


def _group_lives(group: int) -> bool:
    """Whether any process of a group is more than a name that nobody has waited for."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, _, its_group = (place / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
