import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest

from sem2ct.runtime import lock
from sem2ct.runtime.refusal import Refusal

HERE = socket.gethostname()
HOLD = """
import sys
from pathlib import Path
from sem2ct.runtime import lock
print(lock.take(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def hold(folder):
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def no_locks(monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_killed_owner_is_named_to_the_next_one_and_one_that_ended_is_not(tmp_path):
    with hold(tmp_path) as killed:
        assert killed.stdout.readline() == "\n"
        with pytest.raises(Refusal, match=rf"in use by process {killed.pid} on {HERE}; wait"):
            lock.take(tmp_path)
        killed.send_signal(signal.SIGKILL)
    with hold(tmp_path) as ended:
        assert ended.stdout.readline() == f"process {killed.pid} on {HERE}\n"
        ended.stdin.close()
    assert lock.take(tmp_path) == ""
    # This very process may open the folder as often as it likes.
    assert lock.take(tmp_path) == ""
    assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {HERE}\n"


def test_a_disk_without_locks_is_used_where_nobody_was(tmp_path, no_locks):
    assert lock.take(tmp_path) == ""


def test_without_locks_a_dead_process_of_this_machine_is_known_to_be_gone(tmp_path, no_locks, dead):
    (tmp_path / ".lock").write_text(f"process {dead} on {HERE}\n")
    assert lock.take(tmp_path) == f"process {dead} on {HERE}"


@pytest.mark.parametrize("owner", [f"process {os.getppid()} on {HERE}", "process 7 on node12"])
def test_without_locks_who_may_be_at_work_is_named_with_the_remedy(tmp_path, no_locks, owner):
    (tmp_path / ".lock").write_text(f"{owner}\n")
    with pytest.raises(Refusal, match=rf"may be in use by {owner}: .* delete .*\.lock"):
        lock.take(tmp_path)
    assert (tmp_path / ".lock").read_text() == f"{owner}\n"


def test_what_is_not_about_locks_is_not_taken_for_it(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="input/output"):
        lock.take(tmp_path)
