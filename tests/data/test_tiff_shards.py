import numpy as np
import pytest
import tifffile

from sem2ct.data import tiff_shards
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime.refusal import Refusal

Y, X = np.mgrid[:40, :40]
DRAW = np.random.default_rng(2)
PATCHES = np.stack(
    [(120 + 60 * np.sin((X + 9 * k) / 6) + 3 * DRAW.standard_normal((40, 40))) for k in range(7)]
).astype(np.uint8)


def fill(folder, encoding="tiff"):
    writer = StoreWriter(
        folder,
        tile_px=40,
        domain="sem",
        pixel_um=None,
        window=None,
        shard_patches=3,
        sources=[],
        facts={},
        encoding=encoding,
    )
    for k in range(3):
        rows = np.arange(3 * k, min(3 * k + 3, 7))
        if not writer.has(k):
            writer.write_shard(k, PATCHES[rows], {"seed": rows})
    writer.finish()
    return Store(folder)


def test_both_encodings_hold_the_same_patches(tmp_path):
    packed, plain = fill(tmp_path / "a"), fill(tmp_path / "b", "npy")
    np.testing.assert_array_equal(packed.tiles[:], PATCHES)
    np.testing.assert_array_equal(packed.tiles[[5, 0, 6]], plain.tiles[[5, 0, 6]])
    assert packed.places()["seed"].tolist() == list(range(7))
    assert (packed.manifest["encoding"], plain.manifest["encoding"]) == ("tiff", "npy")


def test_a_shard_is_a_smaller_file_that_other_programs_open(tmp_path):
    fill(tmp_path)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "shard_00001.tif"), PATCHES[3:6])
    with tifffile.TiffFile(tmp_path / "shard_00001.tif") as tif:
        assert tif.is_bigtiff
        assert len(tif.pages) == 3
        assert sum(page.databytecounts[0] for page in tif.pages) < 0.8 * 3 * 40**2


def test_a_packed_shard_made_again_is_the_same_file(tmp_path):
    fill(tmp_path)
    shard = tmp_path / "shard_00001.tif"
    before, kept = shard.read_bytes(), (tmp_path / "shard_00000.tif").stat().st_mtime_ns
    shard.write_bytes(before[:-9])
    fill(tmp_path)
    assert shard.read_bytes() == before
    assert (tmp_path / "shard_00000.tif").stat().st_mtime_ns == kept


def test_a_packed_shard_that_is_damaged_or_cut_short_is_refused(tmp_path):
    store = fill(tmp_path)
    shard = tmp_path / "shard_00002.tif"
    whole = bytearray(shard.read_bytes())
    offset, length = tiff_shards.write(tmp_path / "again.tif", PATCHES[6:])[1][0]
    shard.write_bytes(whole[:offset] + bytes(length) + whole[offset + length :])
    with pytest.raises(Refusal, match=r"shard_00002\.tif.*checksum"):
        store.verify()
    with pytest.raises(Refusal, match=r"shard_00002\.tif.*checksum"):
        store.tiles[6]
    with pytest.raises(Refusal, match=r"shard_00002\.tif: patch 0 of the shard cannot"):
        tiff_shards.Pages(shard, [[offset, length]], store.tile_px)[0]
    shard.write_bytes(whole[:-1])
    with pytest.raises(Refusal, match=rf"shard_00002\.tif: {len(whole) - 1} bytes"):
        Store(tmp_path)
