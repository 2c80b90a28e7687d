"""Processes that can exchange tensors (gloo, CPU), kept for the whole test session.

The processes are started afresh, so nothing of the test's own threads can get in their
way; a function travels as the name of its file and its own name.  They are started
once, because importing torch twice takes longer than most tests.
"""

import contextlib
import importlib.util
import os
import pickle
import selectors
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

PATIENCE = timedelta(seconds=120)


class Ranks:
    """Call it with a top-level function of a test module and its arguments."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[subprocess.Popen] = []
        self._desk: tempfile.TemporaryDirectory | None = None

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Returns what the function returned on each rank."""
        if not self._processes:
            self._start()
        task = pickle.dumps((function.__code__.co_filename, function.__name__, args))
        for process in self._processes:
            process.stdin.write(task)
            process.stdin.flush()
        answers = dict(self._answers())
        return [answers[rank] for rank in range(self._count)]

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            # Closing flushes, which a process that is gone need not take.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.wait()
        self._processes = []
        if self._desk is not None:
            self._desk.cleanup()

    def _start(self) -> None:
        self._desk = tempfile.TemporaryDirectory()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, self._desk.name, str(rank), str(self._count)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for rank in range(self._count)
        ]

    def _answers(self):
        """Yields answers as they come: one rank's failure explains the other's silence."""
        with selectors.DefaultSelector() as selector:
            for rank, process in enumerate(self._processes):
                selector.register(process.stdout, selectors.EVENT_READ, rank)
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


def _one_rank(desk: str, rank: int, count: int) -> None:
    import torch.distributed as dist

    # What a test prints must not get among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    dist.init_process_group(
        "gloo", f"file://{desk}/meeting", rank=rank, world_size=count, timeout=PATIENCE
    )
    while True:
        try:
            file, name, args = pickle.load(sys.stdin.buffer)
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
    _one_rank(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
