import time

import pytest

from sem2ct.training import cost


class Slow:
    """Takes a hundredth of a second per step, whatever it is shown."""

    def __init__(self):
        self.positions = []

    def step(self, images, images_seen):
        self.positions.append(images_seen)
        time.sleep(0.01)
        return {}


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


@pytest.mark.parametrize(
    ("seconds", "said"), [(59, "59 s"), (90, "1.5 min"), (5400, "1.5 h"), (129600, "1.5 days")]
)
def test_times_are_said_in_the_unit_a_person_would_use(seconds, said):
    assert cost._duration(seconds) == said
