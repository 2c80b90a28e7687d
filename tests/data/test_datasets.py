import itertools

import numpy as np
import pytest
import torch

from sem2ct.data.datasets import Patches, turn
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime.refusal import Refusal

TILES = np.random.default_rng(6).integers(0, 256, (9, 5, 5)).astype(np.uint8)


def store_of(folder, domain="sem"):
    writer = StoreWriter(
        folder,
        tile_px=5,
        domain=domain,
        pixel_um=None,
        window=None,
        shard_patches=4,
        sources=[],
        facts={},
    )
    for k, first in enumerate(range(0, 9, 4)):
        tiles = TILES[first : first + 4]
        writer.write_shard(k, tiles, {"seed": np.arange(len(tiles))})
    writer.finish()
    return Store(folder)


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "sem")


def greys(batch):
    return np.rint((batch[:, 0].numpy() + 1) * 127.5).astype(np.uint8)


def test_a_pass_shows_every_tile_unchanged_in_the_range_of_the_network(store):
    patches = Patches(store, symmetries="none", seed=2)
    batch = torch.cat([patches.batch(0, 6, rank=0, world_size=1)])
    batch = torch.cat([batch, patches.batch(6, 3, rank=0, world_size=1)])
    assert batch.shape == (9, 1, 5, 5)
    assert batch.dtype == torch.float32
    assert sorted(map(bytes, greys(batch))) == sorted(map(bytes, TILES))


@pytest.mark.parametrize("symmetries", ["none", "mirror", "dihedral"])
def test_ranks_together_show_what_one_process_shows(store, symmetries):
    patches = Patches(store, symmetries=symmetries, seed=2)
    whole = patches.batch(12, 6, rank=0, world_size=1)
    shares = [patches.batch(12, 6, rank=rank, world_size=3) for rank in range(3)]
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), whole)
    assert not torch.equal(patches.batch(18, 6, rank=0, world_size=1), whole)


def test_the_symmetries_are_the_eight_of_the_square():
    tile = TILES[0]
    turned = {bytes(turn(tile, k).copy()) for k in range(8)}
    expected = {
        bytes(np.rot90(side, quarter).copy())
        for side, quarter in itertools.product((tile, tile.T), range(4))
    }
    assert turned == expected
    np.testing.assert_array_equal(turn(tile, 0), tile)
    np.testing.assert_array_equal(turn(tile, 1), tile[:, ::-1])


@pytest.mark.parametrize(("symmetries", "number"), [("mirror", 2), ("dihedral", 8)])
def test_each_symmetry_is_drawn_about_equally_often(store, symmetries, number):
    patches = Patches(store, symmetries=symmetries, seed=0)
    shown = greys(patches.batch(0, 1800, rank=0, world_size=1))
    known = {bytes(turn(tile, k).copy()): k for tile in TILES for k in range(number)}
    counts = np.bincount([known[bytes(tile)] for tile in shown], minlength=number)
    spread = np.sqrt(1800 / number)
    assert np.all(np.abs(counts - 1800 / number) < 4.5 * spread)


def test_the_two_domains_are_shuffled_independently(tmp_path):
    batches = [
        Patches(store_of(tmp_path / domain, domain), symmetries="none", seed=1).batch(
            0, 9, rank=0, world_size=1
        )
        for domain in ("sem", "ct")
    ]
    assert not torch.equal(*batches)


def test_pictures_are_spread_over_the_store(store):
    shown = Patches(store, symmetries="dihedral", seed=1).pictures(3)
    np.testing.assert_array_equal(shown, TILES[[0, 4, 8]])


def test_an_unknown_symmetry_is_refused(store):
    with pytest.raises(Refusal, match="symmetries=all; allowed are none, mirror, dihedral"):
        Patches(store, symmetries="all", seed=1)


def test_the_share_of_a_lone_process_is_the_whole_batch(store):
    patches = Patches(store, symmetries="dihedral", seed=5)
    torch.testing.assert_close(patches.share(6, 4), patches.batch(6, 4, rank=0, world_size=1))


def test_shares_of_two_processes_are_its_even_and_odd_images(store, monkeypatch):
    patches = Patches(store, symmetries="dihedral", seed=5)
    whole = patches.share(6, 4)
    monkeypatch.setattr("sem2ct.runtime.distributed.world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("sem2ct.runtime.distributed.rank", lambda rank=rank: rank)
        torch.testing.assert_close(patches.share(6, 4), whole[rank::2])
