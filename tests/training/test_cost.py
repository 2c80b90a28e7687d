import time

import pytest
import torch

from sem2ct.training import cost


class Slow:
    """Takes a hundredth of a second per step, whatever it is shown."""

    def __init__(self):
        self.positions = []

    def step(self, images, images_seen):
        self.positions.append(images_seen)
        time.sleep(0.01)
        return {}

    def state(self):
        adam = {"state": {0: {"moment": torch.zeros(3 * 10**7)}}, "groups": [{"lr": 0.1}]}
        return {"networks": [torch.zeros(5 * 10**6)], "some_adam": adam, "name": "slow"}


def test_the_whole_time_is_images_over_speed():
    rows = cost.measure(Slow(), {}, total_images=80_000, batch_size=8)
    speed = float(rows["speed"].split()[1])
    minutes = float(rows["time"].split()[1])
    assert "min" in rows["time"]
    assert minutes * 60 * speed == pytest.approx(80_000, rel=0.1)


def test_no_step_in_which_penalties_are_due_is_timed():
    trainer = Slow()
    cost.measure(trainer, {}, total_images=80_000, batch_size=8)
    assert min(trainer.positions) > 0
    assert len(set(trainer.positions)) == len(trainer.positions)


def test_memory_is_told_apart_by_what_lowers_it():
    # 4 bytes each: 5 and 30 million numbers.
    rows = cost.measure(Slow(), {}, total_images=80, batch_size=8)
    assert rows["of which"].startswith("0.02 GB networks and averages, 0.12 GB optimizers")


@pytest.mark.parametrize(
    ("seconds", "said"), [(59, "59 s"), (90, "1.5 min"), (5400, "1.5 h"), (129600, "1.5 days")]
)
def test_times_are_said_in_the_unit_a_person_would_use(seconds, said):
    assert cost._duration(seconds) == said
