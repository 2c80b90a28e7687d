"""Kills runs of all stages at random moments, restarts them, and compares what they leave.

    .venv/bin/python scripts/dev/kill_campaign.py --moments 100 --seed 0 --folder outputs/kill
    .venv/bin/python scripts/dev/kill_campaign.py --writes 200      # killed at file operations

Every stage runs once undisturbed at size=tiny on the toy rock, and once with two processes.  Then
each is begun anew, its whole process group is killed (`kill -9`) at a moment drawn uniformly from
its undisturbed duration, and the same command is given again until it is done; each further start
is killed too with a chance of 1/3.  Right after a kill no file that has its final name may differ
from the undisturbed one, and in the end no file at all.  `--writes` draws among the run's file
operations (open to write, rename, remove, mkdir) instead of among moments, and kills right before
one: each state that a file can be left in comes up.  `--styles 3` has the tiles of three styles.

Most runs are forked from this process, see `jobs.py`.  A share of `--cold` starts the interpreter
anew.

What is compared, and what not, says `same_runs.py`.  Prints a table, and ends with 1 on any
difference.
"""

import argparse
import random
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jobs
import same_runs
from jobs import PATIENCE_S, Job

AGAIN = 1 / 3


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
    # Only the process that is forked counts operations, and with several it does no more than wait.
    counts = (1,) if at_operation else (1, 2)
    chosen = jobs.of_all_stages(counts, styles=asked.styles, only=asked.only)
    jobs.import_everything()
    chain, draw = jobs.chain(root, styles=asked.styles), random.Random(asked.seed)
    kills, failed = asked.writes or asked.moments, 0
    print("| stage | killed after / before | on disk then | restarts | equal |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    known: dict[Job, Undisturbed] = {}
    done = 0
    while done < kills:
        job = chosen[done % len(chosen)]
        if job not in known:
            place = jobs.fresh(root / job.name.replace(" ", "_"), chain, job)
            known[job] = _undisturbed(job, place, cold=asked.cold > 0)
        first = known[job].kill(draw, at_operation=at_operation, cold=asked.cold)
        outcome = _disturbed(job, jobs.fresh(root / "trial", chain, job), known[job], first, draw)
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
    parser.add_argument("--styles", type=int, default=1, help="of the synthesized tiles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=".*", help="pattern of names: translate.*")
    parser.add_argument("--folder", type=Path, default=Path("outputs/kill"))
    return parser.parse_args()


def _undisturbed(job: Job, place: Path, *, cold: bool) -> Undisturbed:
    """Runs a job with its file operations counted, before that also from nothing."""
    count = place / "count"
    cold_s = jobs.seconds_of(job, place, jobs.spawn) if cold else 0.0
    shutil.rmtree(job.run(place), ignore_errors=True)
    warm_s = jobs.seconds_of(job, place, lambda words, place: jobs.fork(words, place, count=count))
    return Undisturbed(place, cold_s, warm_s, int(count.read_text()))


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
            code = jobs.end_of(jobs.fork(job.words, place), PATIENCE_S)
        if code == -signal.SIGKILL:
            kills.append(kill)
            faults += same_runs.taken_for_whole(whole, run)
            on_disk = on_disk or jobs.described(run)
        elif code:
            return Outcome(job.name, kills, on_disk, starts, [f"{code}: {jobs.last_line(place)}"])
    return Outcome(job.name, kills, on_disk, starts, faults + same_runs.differences(whole, run))


def _start_and_kill(job: Job, place: Path, kill: Kill) -> int:
    if kill.operation:
        return jobs.end_of(jobs.fork(job.words, place, kill_before=kill.operation), PATIENCE_S)
    return jobs.end_of((jobs.spawn if kill.cold else jobs.fork)(job.words, place), kill.after_s)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
