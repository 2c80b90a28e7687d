import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sem2ct import launch

# Started processes import their target by name, so the targets live in a script that
# launches them as the command line would; like it, it leaves torch to the processes.
TARGETS = '''
import sys, time
from pathlib import Path
from sem2ct import launch
from sem2ct.runtime.refusal import Refusal

def tell(desk, word):
    import torch
    from sem2ct.runtime import distributed
    total = distributed.mean_over_ranks(torch.tensor([distributed.rank() * 1.0]))
    facts = f"{distributed.world_size()} {float(total)} {word} {torch.get_num_threads()}"
    (desk / f"rank_{distributed.rank()}").write_text(facts)

def refuse(desk):
    from sem2ct.runtime import distributed
    if distributed.rank() == 1:
        raise Refusal("sem=nowhere does not exist")
    distributed.barrier()

def fail(desk):
    from sem2ct.runtime import distributed
    if distributed.rank() == 1:
        raise KeyError("pores")
    distributed.barrier()

def work(desk):
    """As the training loop does: ranks agree to stop, rank 0 saves, all leave together."""
    from sem2ct.runtime import distributed
    from sem2ct.training.loop import Stop
    with Stop() as stop:
        (desk / f"ready_{distributed.rank()}").touch()
        while not distributed.any_rank(stop.asked):
            time.sleep(0.05)
        if distributed.is_main():
            time.sleep(0.5)
            (desk / "saved").touch()
        stop.leave(8)

if __name__ == "__main__":
    launch.GRACE_S = 2.0
    desk = Path(sys.argv[2])
    extra = ("word",) if sys.argv[1] == "tell" else ()
    try:
        launch.run(globals()[sys.argv[1]], devices=2, arguments=(desk, *extra), device="cpu")
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
'''


def start(tmp_path, name):
    script = tmp_path / "targets.py"
    script.write_text(TARGETS)
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    return subprocess.Popen(
        [sys.executable, str(script), name, str(tmp_path)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    complaint = process.communicate(timeout=120)[1]
    return process.returncode, complaint


def test_two_devices_are_two_processes_that_can_exchange(tmp_path):
    code, complaint = finish(start(tmp_path, "tell"))
    assert code == 0, complaint
    assert complaint == ""
    told = [(tmp_path / f"rank_{rank}").read_text() for rank in range(2)]
    assert told == ["2 0.5 word 1", "2 0.5 word 1"]


def test_what_one_process_refuses_is_one_line_here(tmp_path):
    code, complaint = finish(start(tmp_path, "refuse"))
    assert (code, complaint) == (2, "sem=nowhere does not exist\n")


def test_a_failure_shows_the_traceback_of_the_one_that_failed(tmp_path):
    code, complaint = finish(start(tmp_path, "fail"))
    assert code == 1
    assert "failed rank 1" in complaint
    assert "KeyError: 'pores'" in complaint


def test_a_process_that_is_killed_is_the_cause_not_those_that_missed_it(tmp_path):
    (tmp_path / "failed_0").write_text("Connection closed by peer")
    with pytest.raises(RuntimeError, match="SIGKILL; was the memory full"):
        launch._raise_failure([-9, 1], tmp_path)
    with pytest.raises(SystemExit) as left:
        launch._raise_failure([143, 1], tmp_path)
    assert left.value.code == 143
    launch._raise_failure([0, 0], tmp_path / "nothing")


@pytest.mark.parametrize(
    ("number", "whole_group", "code"),
    [(signal.SIGTERM, False, 143), (signal.SIGINT, True, 130), (signal.SIGUSR2, True, 140)],
)
def test_a_stop_lets_every_process_save(tmp_path, number, whole_group, code):
    """A batch system signals the parent; Ctrl-C and submitit reach the whole group at once."""
    process = start(tmp_path, "work")
    wait_for(tmp_path / "ready_0", tmp_path / "ready_1")
    (os.killpg if whole_group else os.kill)(process.pid, number)
    assert finish(process)[0] == code
    assert (tmp_path / "saved").exists()


def test_processes_whose_starter_is_gone_save_and_leave(tmp_path):
    process = start(tmp_path, "work")
    wait_for(tmp_path / "ready_0", tmp_path / "ready_1")
    process.kill()
    wait_for(tmp_path / "saved")
    process.communicate(timeout=60)


def wait_for(*files):
    end = time.monotonic() + 180
    while not all(file.exists() for file in files):
        assert time.monotonic() < end, f"waited in vain for {files}"
        time.sleep(0.02)


def append(word, words):
    words.append((word, torch.distributed.is_initialized()))


def test_one_device_is_this_very_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    words = []
    launch.run(append, devices=1, arguments=("here", words), device="cpu")
    assert words == [("here", False)]


def test_a_process_of_torchrun_joins_its_group(monkeypatch, tmp_path):
    """torchrun sets these five; a group of one needs no partner."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "LOCAL_RANK": "0"}
    for name, value in (address | {"RANK": "0", "WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    words = []
    launch.run(append, devices=4, arguments=("joined", words), device="cpu")
    assert words == [("joined", True)]
    assert not torch.distributed.is_initialized()


def test_launching_needs_no_torch_in_the_parent():
    code = "import sys, sem2ct.launch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
