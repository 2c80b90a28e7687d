"""One process, several on this machine, or one of those that torchrun started.

Whoever starts the processes, the target finds a ready process group and needs no
rank; what it refuses, and how it was stopped, reaches the caller as if it had run here.

torch's elastic launcher, which `scripts/launch.sh` uses between machines, is not used on
one: it ends a stopped process after 30 s (fixed before torch 2.12), and was seen to answer
a refusal with 43 lines and code 1, and a stop that had saved with code 1 instead of 143.
"""

import datetime
import multiprocessing as mp
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from sem2ct.runtime.presence import Presence
from sem2ct.runtime.refusal import Refusal

# When one process has failed, the others wait for an exchange that never comes.
GRACE_S = 10.0
# A rank may be busy for long while the others wait; `presence` says which one, and tells
# one that is busy from one that is gone.
EXCHANGE_TIMEOUT = datetime.timedelta(days=7)
REFUSED = 2
# SIGUSR2 is what submitit asks SLURM for before a job's time is up.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


def run(
    target: Callable[..., None], *, devices: int, arguments: tuple[Any, ...], device: str
) -> None:
    """Calls a function in as many processes as there are devices.

    Args:
        target: A function at the top of a module, so that another process can import it.
        devices: Processes on this machine; not looked at inside torchrun.
        arguments: What it is called with; must be picklable.
        device: "auto", "cpu" or "cuda"; decides how the processes exchange tensors.

    Raises:
        Refusal: What one of the processes refused.
        SystemExit: With 143 or 130 if they were stopped by SIGTERM or SIGINT.
        RuntimeError: If one of them failed, with its traceback.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _call_in_group(target, arguments, device, meeting="env://")
    elif devices == 1:
        target(*arguments)
    else:
        with tempfile.TemporaryDirectory(prefix="sem2ct-") as name:
            desk = Path(name)
            context = mp.get_context("spawn")
            processes = [
                context.Process(
                    target=_one_of_several,
                    args=(rank, devices, desk, target, arguments, device),
                    name=f"rank {rank}",
                )
                for rank in range(devices)
            ]
            _raise_failure(_wait_for_all(processes), desk)


def _call_in_group(
    target: Callable[..., None], arguments: tuple[Any, ...], device: str, *, meeting: str
) -> None:
    """Joins the process group, calls, and leaves it when all went well."""
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    from sem2ct.runtime.device import choose

    chosen = choose(device)
    if chosen.type == "cuda":
        import torch

        torch.cuda.set_device(chosen)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store, _, _ = next(rendezvous(meeting, rank, ranks))
    with Presence(PrefixStore("presence", store), rank, ranks):
        dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=ranks,
            timeout=EXCHANGE_TIMEOUT,
        )
        target(*arguments)
        # Not after a failure: leaving can wait for a rank that is gone.
        dist.destroy_process_group()


def _one_of_several(
    rank: int,
    devices: int,
    desk: Path,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    device: str,
) -> None:
    """What each started process does; leaves its refusal or traceback on the desk."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
    }
    if sys.platform == "linux":
        # The machine's own name need not lead anywhere; the loopback always does.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _share_cores(devices)
        _call_in_group(target, arguments, device, meeting=f"file://{desk / 'meeting'}")
    except Refusal as refusal:
        _leave(desk / f"refused_{rank}", str(refusal), code=REFUSED)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception:
        _leave(desk / f"failed_{rank}", traceback.format_exc(), code=1)


def _leave(path: Path, text: str, *, code: int) -> NoReturn:
    """Says why on the desk, and ends this process.

    Without the interpreter's farewell: threads of an unfinished exchange can abort in it,
    and the abort would be taken for the cause.
    """
    path.write_text(text)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _share_cores(devices: int) -> None:
    """Keeps the processes from taking one another's cores."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // devices))


def _end_with_parent() -> None:
    """Stops this process, saving, if the one that started it is gone."""
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_all(processes: Sequence[BaseProcess]) -> list[int]:
    """Starts them, passes signals on, and ends what is left after a failure.

    Returns:
        Exit codes in the order in which the processes ended, first 128 + n if signal n
        came to this process.
    """
    heard: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        for process in processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, number)

    before = _listen(pass_on)
    try:
        for process in processes:
            process.start()
        codes = _watch(processes)
    finally:
        for process in processes:
            if process.pid is not None and process.exitcode is None:
                process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard[:1] == [signal.SIGUSR2] and callable(before[signal.SIGUSR2]):
        before[signal.SIGUSR2](signal.SIGUSR2, None)  # has the job put back in the queue
    return [128 + number for number in heard[:1]] + codes


def _listen(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Installs a handler where signals arrive; returns those it replaced."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in STOPS}


def _watch(processes: Sequence[BaseProcess]) -> list[int]:
    """Returns exit codes in order of ending; a failure gives the others `GRACE_S`."""
    running = {process.sentinel: process for process in processes}
    codes: list[int] = []
    deadline: float | None = None
    while running:
        patience = None if deadline is None else deadline - time.monotonic()
        if patience is not None and patience <= 0:
            for process in running.values():
                process.kill()
            deadline = None
            continue
        for sentinel in multiprocessing.connection.wait(list(running), timeout=patience):
            process = running.pop(sentinel)  # type: ignore[arg-type]
            process.join()
            codes.append(process.exitcode or 0)
            if process.exitcode and deadline is None:
                deadline = time.monotonic() + GRACE_S
    return codes


def _raise_failure(codes: list[int], desk: Path) -> None:
    """Says in this process what the first one that failed has to say."""
    refused = sorted(desk.glob("refused_*"))
    if refused:
        raise Refusal(refused[0].read_text())
    stopped = {128 + number for number in STOPS}
    first = next((code for code in codes if code), 0)
    if first in stopped:
        raise SystemExit(first)
    if first < 0:
        raise RuntimeError(
            f"a process was ended by {signal.Signals(-first).name}; was the memory full?"
        )
    failed = sorted(desk.glob("failed_*"), key=lambda path: path.stat().st_mtime_ns)
    if failed:
        raise RuntimeError(f"{failed[0].name.replace('_', ' rank ')}:\n{failed[0].read_text()}")
    if first:
        raise SystemExit(first)
