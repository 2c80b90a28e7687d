import threading

import numpy as np
import pytest
import torch

from sem2ct.runtime import distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import bulk, sample
from sem2ct.stylegan.generator import Generator

HOW = {"seed": 2, "psi": 0.9, "precision": "float32", "batch_per_device": 3}


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(3)
    return Generator(resolution=8, z_dim=6, w_dim=5, mapping_layers=1, channel_base=32).eval()


class Disk:
    """A store that keeps its shards in memory."""

    pairs = None

    def __init__(self, folder, full_after=99):
        self.folder, self.full_after = folder, full_after
        self.shards, self.busy, self.busiest = {}, 0, 0
        self.lock = threading.Lock()

    def has(self, k):
        return k in self.shards

    def write_shard(self, k, tiles, places):
        with self.lock:
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        if self.pairs is not None:
            self.pairs.wait()
        with self.lock:
            self.busy -= 1
        if k >= self.full_after:
            raise Refusal("the disk is full")
        self.shards[k] = (tiles, places["seed"].tolist())


def test_every_shard_holds_its_own_tiles(generator, tmp_path):
    disk = Disk(tmp_path)
    spent = bulk.fill(disk, generator, n=23, shard_patches=5, **HOW)
    assert sorted(disk.shards) == [0, 1, 2, 3, 4]
    assert [n for k in range(5) for n in disk.shards[k][1]] == list(range(23))
    expected = sample.tiles(generator, seed=2, indices=range(23), psi=0.9)
    found = np.concatenate([disk.shards[k][0] for k in range(5)])
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert spent.tiles == 23


def test_writing_goes_on_beside_the_drawing_in_few_threads(generator, tmp_path):
    disk = Disk(tmp_path)
    # No shard is done before another one is begun: one after the other would never end.
    disk.pairs = threading.Barrier(bulk.WRITERS, timeout=20)
    bulk.fill(disk, generator, n=8, shard_patches=1, **HOW)
    assert len(disk.shards) == 8
    assert disk.busiest == bulk.WRITERS


@pytest.mark.parametrize("full_after", [1, 3])
def test_a_fault_of_a_writing_thread_ends_the_run(generator, tmp_path, full_after):
    with pytest.raises(Refusal, match="the disk is full"):
        bulk.fill(Disk(tmp_path, full_after=full_after), generator, n=8, shard_patches=2, **HOW)


def test_a_process_writes_its_missing_shards_only(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    disk = Disk(tmp_path)
    disk.shards[3] = "there"
    assert bulk.fill(disk, generator, n=11, shard_patches=2, **HOW).tiles == 3
    assert disk.shards[3] == "there"
    assert {k: disk.shards[k][1] for k in (1, 5)} == {1: [2, 3], 5: [10]}
    assert len(disk.shards) == 3


@pytest.mark.parametrize(
    ("drawing", "waiting", "limit"), [(4.0, 1.0, "the generator"), (1.0, 4.0, "the disk")]
)
def test_the_log_says_what_limits_the_rate(drawing, waiting, limit):
    spent = bulk.Spent(tiles=20, drawing=drawing, writing=7.0, waiting=waiting)
    assert str(spent).startswith(f"20 tiles, 4.0 tiles/s, limited by {limit} ")
