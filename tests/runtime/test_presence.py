import subprocess
import sys
from pathlib import Path

import pytest

from sem2ct.runtime import presence
from sem2ct.runtime.presence import Presence, exchange


class Memory(dict):
    """As torch's stores, in this process."""

    def set(self, key, value):
        self[key] = value.encode()

    def check(self, keys):
        return all(key in self for key in keys)


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(presence._Here, "entered", 0)
    return Memory()


def test_who_has_entered_fewer_exchanges_is_missing(store):
    here = Presence(store, 0, 4)
    with exchange():
        with exchange():
            pass
        store.set("1", "7 2 host a, process 11")
        store.set("2", "7 1 host b, process 12")
        assert list(here.missing()) == [
            "rank 0 of 4 (not here yet)",
            "rank 2 of 4 (host b, process 12)",
            "rank 3 of 4 (not here yet)",
        ]


def test_silence_lasts_until_the_next_entry(store, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(presence.time, "monotonic", lambda: clock[0])
    here = Presence(store, 0, 2)
    here._write()
    monkeypatch.setattr(presence._Here, "entered", 5)
    here._write()
    silent = []
    for now, beat in ((100.0, 1), (130.0, 1), (150.0, 2), (160.0, 2)):
        clock[0] = now
        store.set("1", f"{beat} 4 host b, process 12")
        silent.append(here.missing()["rank 1 of 2 (host b, process 12)"])
    assert silent == [0.0, 30.0, 0.0, 10.0]


@pytest.mark.parametrize(
    ("missing", "said", "left"),
    [
        ({"rank 1 of 2 (host b)": 310.0}, "rank 1 of 2 (host b) gives no sign of life", [1]),
        ({"rank 1 of 2 (host b)": 10.0}, "rank 1 of 2 (host b) is busy", []),
        ({}, "all have come; something is wrong between them", []),
    ],
)
def test_who_is_busy_is_waited_for_and_who_is_gone_is_not(
    store, monkeypatch, capfd, missing, said, left
):
    ended = []
    monkeypatch.setattr(presence.os, "_exit", ended.append)
    Presence(store, 0, 2)._tell(600.0, missing)
    assert capfd.readouterr().err == f"sem2ct: rank 0 has waited for 600 s: {said}\n"
    assert ended == left


WAITS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_presence import Memory
from sem2ct.runtime.presence import Presence, exchange
store = Memory()
store.set("1", "1 0 host b, process 12")
with Presence(store, 0, 2, beat_s=0.1, patience_s=0.6):
    time.sleep(1)  # not in an exchange: nobody is waited for
    print("now", flush=True)
    with exchange():
        time.sleep(60)
"""


def test_a_rank_that_waits_for_one_that_is_gone_ends_and_says_so():
    done = subprocess.run(
        [sys.executable, "-c", WAITS, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "now\n")
    assert done.stderr.endswith("rank 1 of 2 (host b, process 12) gives no sign of life\n")
