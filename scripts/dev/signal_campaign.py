"""Sends SIGTERM or SIGINT, twice, to runs of all stages, restarts them, and compares.

    .venv/bin/python scripts/dev/signal_campaign.py --rounds 3 --seed 0 --folder outputs/signals

Every stage runs once undisturbed at size=tiny on the toy rock with one process and with two; the
batches or networks of the trainings are so large that a step takes seconds, which a second signal
can meet.  Then each is begun anew, and gets two signals of a kind: the first at a moment drawn
uniformly from what it does after its log has begun (some also in its start-up), the second after
one of `GAPS_S`; both go to the process, as from a scheduler, or to its group, as Ctrl-C does.
Faults are: another exit code than the signal's, a traceback, a process that stays, a file of final
name and other content, and after the same command again any difference.

Prints a table, and ends with 1 if there was a fault.
"""

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jobs
import same_runs
from jobs import PATIENCE_S, Job

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The shortest is one keystroke seen twice, the longest is meant (training.loop.SECOND_SIGNAL_S).
GAPS_S = (0.02, 0.4, 1.3)
EARLY = 1 / 6
# Of processes whose parent was ended: they hear of it, and may be in a step.
FAREWELL_S = 20.0
LARGE = ("values_images={0}", "preview_images={0}", "checkpoint_images={0}", "batch_size={0}")
LARGE += ("batch_per_device={0}", "total_images={1}")
SLOW = {
    "train-stylegan": tuple(word.format(512, 1536) for word in LARGE),
    # No more images at once than there are micro-CT patches; so its networks are large.
    "train-cyclegan": (
        *(word.format(24, 72) for word in LARGE),
        *("constant_images=48", "width=96", "blocks=8", "discriminator_width=64"),
    ),
}


@dataclass(frozen=True)
class Pair:
    """Two signals: when, how far apart, to whom."""

    number: signal.Signals
    cold: bool
    """Whether to a new interpreter, else to a copy of this process."""
    early: bool
    after_s: float
    gap_s: float
    group: bool

    def send(self, process: int) -> None:
        """Sends one of them."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if self.group else os.kill)(process, self.number)

    def __str__(self) -> str:
        """For the table."""
        when = f"{'cold, ' * self.cold}{self.after_s:.1f} s after its"
        when += " start" if self.early else " log began"
        return f"{self.number.name} {when}, again {self.gap_s} s later{' to all' * self.group}"


@dataclass(frozen=True)
class Undisturbed:
    """How long a job takes."""

    place: Path
    begun_s: float
    whole_s: float

    def pair(self, draw: random.Random, number: signal.Signals, *, cold: float) -> Pair:
        """Draws a moment, and to whom; `cold` is the chance of a new interpreter."""
        anew = draw.random() < cold
        early = anew and draw.random() < EARLY
        after_s = draw.uniform(0, self.begun_s if early else self.whole_s - self.begun_s)
        return Pair(number, anew, early, after_s, draw.choice(GAPS_S), draw.random() < 0.5)


class End(NamedTuple):
    """How a process ended."""

    code: int
    after_first_s: float
    """From the first signal; -1 if it was done before that."""
    second: bool
    """Whether it lived long enough to get the second one."""
    stays: bool
    """Whether one of its processes was there long after it."""


def main() -> int:
    """Runs the campaign; returns the number of runs with faults."""
    asked = _arguments()
    root, failed = asked.folder.resolve(), 0
    root.mkdir(parents=True, exist_ok=True)
    chosen = jobs.of_all_stages((1, 2), only=asked.only, more=SLOW)
    jobs.import_everything()
    chain, draw = jobs.chain(root), random.Random(asked.seed)
    known = {job: _undisturbed(job, root, chain) for job in chosen}
    print("| stage | signals | code | s to its end | on disk then | equal |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for number in [number for _ in range(asked.rounds) for number in SIGNALS]:
        for job in chosen:
            place = jobs.fresh(root / "trial", chain, job)
            pairs = (known[job].pair(draw, number, cold=asked.cold) for _ in itertools.count())
            pair, end, on_disk, faults = _disturbed(job, place, known[job], pairs)
            took = f"{end.after_first_s:.1f}{' (second came)' * end.second}"
            equal = "yes" if not faults else "NO: " + "; ".join(faults)
            print(
                f"| {job.name} | {pair} | {end.code} | {took} | {on_disk} | {equal} |", flush=True
            )
            if faults:
                failed += 1
                kept = root / f"fault_{job.name.replace(' ', '_')}_{failed}"
                shutil.copytree(place, kept, symlinks=True, dirs_exist_ok=True)
    print(f"{failed} runs with faults\n{same_runs.left_out()}")
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="each: every stage, both signals")
    parser.add_argument("--cold", type=float, default=0.3, help="share started from nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=".*", help="pattern of names: train.*")
    parser.add_argument("--folder", type=Path, default=Path("outputs/signals"))
    return parser.parse_args()


def _undisturbed(job: Job, root: Path, chain: Path) -> Undisturbed:
    place = jobs.fresh(root / job.name.replace(" ", "_"), chain, job)
    begun = time.monotonic()
    process = jobs.spawn(job.words, place)
    _await_log(process, job.run(place))
    begun_s = time.monotonic() - begun
    code = jobs.end_of(process, PATIENCE_S)
    if code:
        raise SystemExit(f"{job.name} ended with {code}: {jobs.last_line(place)}")
    return Undisturbed(place, begun_s, time.monotonic() - begun)


def _disturbed(
    job: Job, place: Path, known: Undisturbed, pairs: Iterator[Pair]
) -> tuple[Pair, End, str, list[str]]:
    """Signals, what came of them, what lay on disk then, and faults."""
    run, whole = job.run(place), job.run(known.place)
    pair, end = _signalled(job, place, pairs)
    number = pair.number
    said = (place / "said.txt").read_text(errors="replace")
    faults = same_runs.taken_for_whole(whole, run) if run.exists() else []
    done = (run / "done.json").exists()
    # A shell calls both 143, or 130: Python ended itself, or what no longer runs Python was ended.
    codes = {128 + number} | ({-number} if pair.early or end.second or done else set())
    # It is not ready yet, and may say so at length; or there was nothing left to stop.
    codes |= {1} if pair.early else {0} if done else set()
    if end.code not in codes:
        faults.append(f"code {end.code}: {jobs.last_line(place)}")
    if end.stays:
        faults.append(f"processes were there {FAREWELL_S:.0f} s after it")
    if "Traceback" in said and not pair.early:
        faults.append(f"a traceback: {jobs.last_line(place)}")
    on_disk = jobs.described(run)
    (place / "said.txt").rename(place / "said_then.txt")
    code = jobs.end_of(jobs.fork(job.words, place), PATIENCE_S)
    if code:
        faults.append(f"again ended with {code}: {jobs.last_line(place)}")
    return pair, end, on_disk, faults + same_runs.differences(whole, run)


def _signalled(job: Job, place: Path, pairs: Iterator[Pair]) -> tuple[Pair, End]:
    """Tries moments until one comes before the job is done."""
    for pair in pairs:
        end = _start_and_signal(job, place, pair)
        if end.after_first_s >= 0:
            return pair, end
        shutil.rmtree(job.run(place), ignore_errors=True)
    raise AssertionError("moments are endless")


def _start_and_signal(job: Job, place: Path, pair: Pair) -> End:
    process = (jobs.spawn if pair.cold else jobs.fork)(job.words, place)
    if not pair.early:
        _await_log(process, job.run(place))
    if jobs.ends_within(process, pair.after_s):
        jobs.end_of(process, 0.0)
        return End(0, -1.0, False, False)
    first = time.monotonic()
    pair.send(process)
    second = not jobs.ends_within(process, pair.gap_s)
    if second:
        pair.send(process)
    jobs.ends_within(process, PATIENCE_S)
    took = time.monotonic() - first
    stays = _stays(process)
    return End(jobs.end_of(process, 0.0), took, second, stays)


def _stays(group: int) -> bool:
    deadline = time.monotonic() + FAREWELL_S
    while jobs.group_lives(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    return jobs.group_lives(group)


def _await_log(process: int, run: Path) -> None:
    while not (run / "log.txt").exists() and not jobs.ends_within(process, 0.0):
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
