"""Processes that can exchange tensors (gloo, CPU), kept for the whole test session.

A process is started afresh, so nothing of the test's own threads can get in its way; it
imports torch and forks into the ranks, because importing takes longer than most tests.  A
function travels as the name of its file and its own name.
"""

import contextlib
import importlib.util
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

PATIENCE = timedelta(seconds=120)


class Ranks:
    """Call it with a top-level function of a test module and its arguments."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._first: subprocess.Popen | None = None
        self._lines: list[tuple[IO[bytes], IO[bytes]]] = []
        self._desk: tempfile.TemporaryDirectory | None = None

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Returns what the function returned on each rank."""
        if self._first is None:
            self.start()
        task = pickle.dumps((function.__code__.co_filename, function.__name__, args))
        for tasks, _ in self._lines:
            tasks.write(task)
            tasks.flush()
        answers = dict(self._answers())
        return [answers[rank] for rank in range(self._count)]

    def stop(self) -> None:
        if self._first is None:
            return
        os.killpg(self._first.pid, signal.SIGKILL)
        self._first.wait()
        for line in self._lines:
            for end in line:
                # Closing flushes, which a process that is gone need not take.
                with contextlib.suppress(BrokenPipeError):
                    end.close()
        self._first, self._lines = None, []
        self._desk.cleanup()

    def start(self) -> None:
        """Starts the processes and does not wait, so that several sets of them start together."""
        self._desk = tempfile.TemporaryDirectory()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        pairs = [(os.pipe(), os.pipe()) for _ in range(self._count)]
        ours = [(tasks[1], answers[0]) for tasks, answers in pairs]
        theirs = [(tasks[0], answers[1]) for tasks, answers in pairs]
        ends = [end for line in theirs for end in line]
        self._first = subprocess.Popen(
            [sys.executable, __file__, self._desk.name, *map(str, ends)],
            env=environment,
            pass_fds=ends,
            start_new_session=True,
        )
        for end in ends:
            os.close(end)
        self._lines = [(os.fdopen(tasks, "wb"), os.fdopen(told, "rb")) for tasks, told in ours]

    def _answers(self):
        """Yields answers as they come: one rank's failure explains the other's silence."""
        with selectors.DefaultSelector() as selector:
            for rank, (_, answers) in enumerate(self._lines):
                selector.register(answers, selectors.EVENT_READ, rank)
            while selector.get_map():
                ready = selector.select(timeout=PATIENCE.total_seconds())
                if not ready:
                    self.stop()
                    raise TimeoutError("a rank did not answer")
                for key, _ in ready:
                    selector.unregister(key.fileobj)
                    try:
                        fine, answer = pickle.load(key.fileobj)
                    except EOFError:
                        fine, answer = False, "the process has ended"
                    if not fine:
                        self.stop()
                        raise AssertionError(f"on rank {key.data}: {answer}")
                    yield key.data, answer


def _all_ranks(desk: str, ends: list[int]) -> None:
    """Forks into as many ranks as there are lines; each keeps its own line."""
    import torch.distributed

    # A first optimizer imports as much again; both before the fork, once for all.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    lines = list(zip(ends[::2], ends[1::2], strict=True))
    rank = next((rank for rank in range(1, len(lines)) if os.fork() == 0), 0)
    for other, line in enumerate(lines):
        for end in line if other != rank else ():
            os.close(end)  # or nobody would hear that its rank has ended
    _one_rank(desk, rank, len(lines), *lines[rank])


def _one_rank(desk: str, rank: int, count: int, tasks_end: int, answers_end: int) -> None:
    import torch.distributed as dist

    tasks, answers = os.fdopen(tasks_end, "rb"), os.fdopen(answers_end, "wb")
    dist.init_process_group(
        "gloo", f"file://{desk}/meeting", rank=rank, world_size=count, timeout=PATIENCE
    )
    while True:
        try:
            file, name, args = pickle.load(tasks)
        except EOFError:
            return
        try:
            answer = pickle.dumps((True, getattr(_load(Path(file)), name)(*args)))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        answers.write(answer)
        answers.flush()


def _load(file: Path) -> Any:
    """Imports a test module from its file, whatever pytest calls it."""
    name = "ranked_" + "_".join(file.with_suffix("").parts[-3:])
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules[name]


if __name__ == "__main__":
    warnings.simplefilter("error")
    _all_ranks(sys.argv[1], list(map(int, sys.argv[2:])))
