import types

import pytest
import torch

from sem2ct.runtime import distributed
from sem2ct.stylegan import live as live_module
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.live import TIMED_STEPS, WARM_STEPS, Fed, LiveTiles


@pytest.fixture
def generator():
    torch.manual_seed(3)
    return Generator(resolution=8, z_dim=6, w_dim=5, mapping_layers=1, channel_base=32)


def test_tiles_go_by_their_number_however_they_are_batched(generator):
    live = LiveTiles(generator, seed=5, psi=0.8)
    whole = live.share(40, 6)
    parts = torch.cat([live.share(40, 2), live.share(42, 4)])
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)


def test_two_processes_draw_the_tiles_of_one(generator, monkeypatch):
    live = LiveTiles(generator, seed=5, psi=0.8)
    whole = live.share(12, 6)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        torch.testing.assert_close(live.share(12, 6), whole[rank::2], rtol=1e-5, atol=1e-6)


def test_they_are_not_the_tiles_that_synthesize_stores(generator):
    stored = sample.images(generator, seed=5, indices=range(12, 18), psi=0.8)
    assert (LiveTiles(generator, seed=5, psi=0.8).share(12, 6) - stored).abs().max() > 0.01


class Student:
    """A trainer that keeps what it was given."""

    causes = types.MappingProxyType({})

    def __init__(self):
        self.given = []

    def step(self, images, images_seen):
        self.given.append((images_seen, images))
        return {"loss": torch.tensor(1.0)}

    def state(self):
        return {"given": len(self.given)}

    def restore(self, state):
        self.given = [None] * state["given"]


def test_a_fed_trainer_gets_the_tiles_of_its_step(generator):
    tiles, student = LiveTiles(generator, seed=5, psi=0.8), Student()
    fed = Fed(student, tiles, 3)
    patches = torch.zeros(3, 1, 2, 2)
    for step in range(WARM_STEPS + TIMED_STEPS + 2):
        assert fed.step({"ct": patches}, 3 * step)["loss"] == 1
    for step, (images_seen, images) in enumerate(student.given):
        assert images_seen == 3 * step
        assert images["ct"] is patches
        assert torch.equal(images["sem"], tiles.share(3 * step, 3))
    assert fed.state() == {"given": WARM_STEPS + TIMED_STEPS + 2}
    fed.restore({"given": 1})
    assert student.given == [None]


@pytest.mark.parametrize(("learning", "starved"), [(3.0, False), (0.5, True)])
def test_the_log_says_what_live_tiles_cost(generator, monkeypatch, caplog, learning, starved):
    clock = [0.0]

    class Slow(Student):
        def step(self, images, images_seen):
            clock[0] += learning
            return super().step(images, images_seen)

    class Tiles(LiveTiles):
        def share(self, first, count):
            clock[0] += 1.0
            return super().share(first, count)

    monkeypatch.setattr(live_module, "_now", lambda: clock[0])
    fed = Fed(Slow(), Tiles(generator, seed=0, psi=1.0), 4)
    with caplog.at_level("INFO", logger="sem2ct"):
        for step in range(WARM_STEPS + TIMED_STEPS + 1):
            fed.step({}, 4 * step)
    (line,) = caplog.messages
    share = 1 / (1 + learning)
    assert line.startswith(
        f"live tiles: 4.0 tiles/s drawn, the training takes {4 / learning:.1f} pairs/s;"
        f" drawing is {share:.0%} of the time"
    )
    assert ("do not keep up" in line) == starved
