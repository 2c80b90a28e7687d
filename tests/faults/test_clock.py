"""A clock that is set back in the middle of a run changes neither results nor rates."""

import itertools
import json
import time

import numpy as np
import torch

from sem2ct.runtime import checkpoint
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.training import loop


class Counter:
    causes: dict[str, str] = {}  # noqa: RUF012

    def __init__(self):
        self.seen = 0

    def step(self, images, images_seen):
        self.seen += 4
        return {"loss": torch.tensor(1.0 / self.seen)}

    def state(self):
        return {"seen": self.seen}

    def restore(self, state):
        self.seen = state["seen"]


def train(path, total_images):
    folder = RunFolder.open(path, {"seed": 5})
    loop.run(
        Counter(),
        batches=lambda images_seen: {},
        total_images=total_images,
        batch_size=4,
        values_images=8,
        preview_images=100,
        checkpoint_images=16,
        keep_checkpoints=2,
        folder=folder,
        previews=lambda images_seen: {"no": np.zeros((2, 2), np.uint8)},
        what="test",
    )
    folder.close()


def rows(path):
    return [json.loads(line) for line in (path / "values.jsonl").read_text().splitlines()]


def test_time_that_runs_backwards_is_not_noticed(tmp_path, monkeypatch):
    train(tmp_path / "sane", 32)
    back = itertools.count()
    now = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now - 3600 * next(back))
        train(tmp_path / "back", 16)
        train(tmp_path / "back", 32)
    files = [checkpoint.newest(tmp_path / name / "checkpoints") for name in ("sane", "back")]
    assert files[0].read_bytes() == files[1].read_bytes()
    seconds = [row["seconds"] for row in rows(tmp_path / "back")]
    assert seconds == sorted(seconds)
    assert all(row["images_per_second"] > 0 for row in rows(tmp_path / "back"))
    assert [row["images"] for row in rows(tmp_path / "back")] == [8, 16, 24, 32]
