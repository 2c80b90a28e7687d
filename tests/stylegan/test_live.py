import pytest
import torch

from sem2ct.runtime import distributed
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.live import LiveTiles


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
