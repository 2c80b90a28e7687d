"""Files that vanish, shrink or change while they are read."""

import numpy as np
import pytest
import tifffile
import torch

from sem2ct.data import scans
from sem2ct.data import store as stores
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal


@pytest.fixture(params=["npy", "tiff"])
def store(tmp_path, request):
    writer = StoreWriter(
        tmp_path / "sem",
        tile_px=64,
        domain="sem",
        pixel_um=0.5,
        window=None,
        shard_patches=4,
        sources=[],
        facts={},
        encoding=request.param,
    )
    for k in range(2):
        tiles = np.random.default_rng(k).integers(0, 256, (4, 64, 64), dtype=np.uint8)
        writer.write_shard(k, tiles, {"seed": np.arange(4)})
    writer.finish()
    return Store(tmp_path / "sem")


def last_shard(store):
    return store.folder / store.manifest["shards"][1]["file"]


def test_a_shard_that_shrinks_while_it_is_read_is_named(store):
    assert store.tiles[5].shape == (64, 64)
    shard = last_shard(store)
    with shard.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(Refusal, match=rf"{shard.name} was cut short while it is read: 100 of \d+"):
        store.tiles[7]
    assert store.tiles[3].shape == (64, 64)


@pytest.mark.parametrize("read_before", [True, False])
def test_a_shard_that_is_removed_is_named(store, read_before):
    if read_before:
        store.tiles[5]
    last_shard(store).unlink()
    with pytest.raises(Refusal, match=last_shard(store).name):
        store.tiles[[1, 6]]


def test_a_flipped_bit_of_a_shard_is_never_learned_from(store):
    shard = last_shard(store)
    content = bytearray(shard.read_bytes())
    content[-20] ^= 4
    shard.write_bytes(content)
    with pytest.raises(Refusal, match=rf"{shard.name}: content does not match its checksum"):
        store.tiles[6]


def test_a_store_too_large_to_read_twice_is_verified_when_asked(store, monkeypatch):
    monkeypatch.setattr(stores, "VERIFIED_BYTES", len(store.tiles) * 64 * 64 - 1)
    shard = last_shard(store)
    content = bytearray(shard.read_bytes())
    content[-20] ^= 4
    shard.write_bytes(content)
    large = Store(store.folder)
    large.tiles[6]
    with pytest.raises(Refusal, match=rf"{shard.name}: content does not match its checksum"):
        large.verify()


@pytest.mark.parametrize("kind", ["tif", "raw", "mrc"])
@pytest.mark.parametrize("fault", ["removed", "cut short"])
def test_a_scan_that_is_lost_while_it_is_read_is_named(tmp_path, kind, fault):
    volume = np.random.default_rng(4).integers(0, 60_000, (6, 40, 40), dtype=np.uint16)
    path, described = tmp_path / f"ct.{kind}", {}
    if kind == "tif":
        tifffile.imwrite(path, volume, photometric="minisblack")
    elif kind == "mrc":
        mrcfile = pytest.importorskip("mrcfile")
        mrcfile.write(path, volume)
    else:
        volume.tofile(path)
        described = {"raw_shape": volume.shape, "raw_dtype": "uint16"}
    scan = scans.open(str(path), **described)
    np.testing.assert_array_equal(scan.slice_at(0), volume[0])
    if fault == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(Refusal, match=path.name):
        scan.slice_at(5)


def test_an_evaluation_names_the_checkpoint_whose_checksum_is_wrong(tmp_path):
    path = checkpoint.save(tmp_path / "checkpoints", 8, {"weights": torch.zeros(999)}, keep=2)
    content = bytearray(path.read_bytes())
    content[content.index(bytes(400)) + 7] = 1
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"000000008\.pt is damaged .* is not as written"):
        checkpoint.load(checkpoint.find(tmp_path, setting="stylegan"))
