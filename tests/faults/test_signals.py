"""Real signals to a real process that writes: once it leaves by itself, twice at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

# As a stage does: a folder, and one whole file after the other.
WRITES = """
import signal, sys, time
from pathlib import Path
from sem2ct.runtime import signals
from sem2ct.runtime.run_folder import RunFolder, writing

# What a script starts in the background is deaf to it, and so are its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = RunFolder.open(Path(sys.argv[1]), {"seed": 5})
with signals.leaving():
    with writing(folder.path / "shard_0.npy") as unfinished:
        unfinished.write_bytes(b"whole")
    with writing(folder.path / "shard_1.npy") as unfinished:
        unfinished.write_bytes(b"ha")
        try:
            print("half", flush=True)
            time.sleep(60)
        finally:
            print("leaving", flush=True)
            time.sleep(float(sys.argv[2]))
"""


def start(folder, farewell_s):
    command = [sys.executable, "-c", WRITES, str(folder), str(farewell_s)]
    # What measures coverage listens to SIGTERM as well.
    own = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own
    )
    assert process.stdout.readline() == "half\n"
    return process


def finish(process):
    begun = time.monotonic()
    said = process.communicate(timeout=60)[1]
    return process.returncode, said, time.monotonic() - begun


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_a_signal_leaves_whole_files_only_and_a_lock_that_says_so(tmp_path, number, code):
    # Above this, cli.py turns KeyboardInterrupt into 130.
    process = start(tmp_path / "run", 0)
    process.send_signal(number)
    ended, said, _ = finish(process)
    assert ended == code
    assert ("Traceback" in said) == (number == signal.SIGINT)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "provenance.json", ".lock", "shard_0.npy"}
    assert (tmp_path / "run" / ".lock").read_text() == ""


def test_a_second_signal_waits_for_nothing_and_leaves_nothing_that_looks_whole(tmp_path):
    process = start(tmp_path / "run", 60)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "leaving\n"
    process.send_signal(signal.SIGTERM)
    ended, said, seconds = finish(process)
    assert (ended, said) == (143, "")
    assert seconds < 30
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "provenance.json", ".lock", "shard_0.npy", "shard_1.npy.tmp"}
