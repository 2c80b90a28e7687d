import json

import numpy as np
import pytest

from sem2ct.data.intensity import Window
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime.refusal import Refusal

PATCHES = np.random.default_rng(5).integers(0, 256, (11, 6, 6)).astype(np.uint8)


def writer_at(folder, **changed):
    settings = {
        "tile_px": 6,
        "domain": "ct",
        "pixel_um": 2.5,
        "window": Window(10.0, 90.0),
        "shard_patches": 4,
        "sources": [{"path": "ct.tif"}],
        "facts": {"field_of_view": 0.7},
    }
    return StoreWriter(folder, **settings | changed)


def write(writer, k):
    rows = np.arange(4 * k, min(4 * k + 4, 11))
    places = {"source": np.zeros_like(rows), "z": rows, "y": rows * 2, "x": rows * 3}
    writer.write_shard(k, PATCHES[rows], places)


def fill(folder):
    writer = writer_at(folder)
    for k in (2, 0, 1):
        write(writer, k)
    writer.finish()
    return Store(folder)


def test_what_was_written_is_read(tmp_path):
    store = fill(tmp_path / "ct")
    assert len(store) == 11
    assert store.tiles.shape == (11, 6, 6)
    np.testing.assert_array_equal(store.tiles[:], PATCHES)
    np.testing.assert_array_equal(store.tiles[7], PATCHES[7])
    np.testing.assert_array_equal(store.tiles[-1], PATCHES[10])
    np.testing.assert_array_equal(store.tiles[[9, 0, 4, 9]], PATCHES[[9, 0, 4, 9]])
    np.testing.assert_array_equal(store.tiles[3:9:2], PATCHES[3:9:2])
    np.testing.assert_array_equal(np.stack(list(store.tiles)), PATCHES)


def test_the_manifest_tells_what_the_patches_are(tmp_path):
    store = fill(tmp_path / "ct")
    assert (store.domain, store.tile_px, store.pixel_um) == ("ct", 6, 2.5)
    assert store.window == Window(10.0, 90.0)
    assert store.manifest["facts"] == {"field_of_view": 0.7}
    assert store.places()["x"].tolist() == list(range(0, 33, 3))
    assert json.loads(json.dumps(store.grey_and_size()))["window"] == {"low": 10.0, "high": 90.0}


def test_a_shard_is_an_ordinary_npy_file(tmp_path):
    fill(tmp_path / "ct")
    np.testing.assert_array_equal(np.load(tmp_path / "ct/shard_00001.npy"), PATCHES[4:8])


def test_a_place_outside_is_no_patch(tmp_path):
    store = fill(tmp_path / "ct")
    for outside in (11, -12, [0, 11]):
        with pytest.raises(IndexError):
            store.tiles[outside]


def test_what_is_read_may_be_changed(tmp_path):
    store = fill(tmp_path / "ct")
    store.tiles[3][:] = 0
    store.tiles[[3]][:] = 0
    np.testing.assert_array_equal(store.tiles[3], PATCHES[3])


def test_a_shard_is_kept_only_if_whole_and_of_the_same_description(tmp_path):
    fill(tmp_path / "ct")
    assert all(writer_at(tmp_path / "ct").has(k) for k in range(3))
    assert not writer_at(tmp_path / "ct").has(3)
    assert not writer_at(tmp_path / "ct", window=Window(10.0, 91.0)).has(0)
    shard = tmp_path / "ct/shard_00001.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert not writer_at(tmp_path / "ct").has(1)


def test_a_shard_made_again_is_the_same_file(tmp_path):
    fill(tmp_path / "ct")
    shard = tmp_path / "ct/shard_00001.npy"
    before = shard.read_bytes()
    shard.write_bytes(before[:100])
    write(writer_at(tmp_path / "ct"), 1)
    assert shard.read_bytes() == before
    assert not list((tmp_path / "ct").glob("*.tmp"))


def test_a_changed_byte_is_found(tmp_path):
    store = fill(tmp_path / "ct")
    store.verify()
    shard = tmp_path / "ct/shard_00002.npy"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 64
    shard.write_bytes(content)
    with pytest.raises(Refusal, match=r"shard_00002\.npy.* checksum"):
        store.verify()


def test_a_shard_cut_short_is_refused_when_opened(tmp_path):
    fill(tmp_path / "ct")
    shard = tmp_path / "ct/shard_00000.npy"
    shard.write_bytes(shard.read_bytes()[:140])  # of 4 patches of 36 pixels and a header of 128
    with pytest.raises(Refusal, match=r"shard_00000\.npy: 140 bytes, but its patches need 272"):
        Store(tmp_path / "ct")


def test_without_a_manifest_there_is_no_store(tmp_path):
    with pytest.raises(Refusal, match=r"sem=.*nowhere: no store there.*sem2ct extract"):
        Store(tmp_path / "nowhere", setting="sem")
    write(writer_at(tmp_path / "ct"), 0)
    with pytest.raises(Refusal, match=r"unfinished.*again"):
        Store(tmp_path / "ct")


def test_a_run_folder_is_refused_with_the_stores_in_it(tmp_path):
    fill(tmp_path / "ct")
    with pytest.raises(Refusal, match="is no store but holds some; name one: ct"):
        Store(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other"}'])
def test_a_foreign_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(Refusal, match=r"manifest\.json cannot be used"):
        Store(tmp_path)


def test_a_store_is_not_finished_with_a_shard_missing_or_of_another_run(tmp_path):
    for k in (0, 2):
        write(writer_at(tmp_path / "ct"), k)
    with pytest.raises(Refusal, match=r"shard_00001\.npy is missing"):
        writer_at(tmp_path / "ct").finish()
    write(writer_at(tmp_path / "ct"), 1)
    with pytest.raises(Refusal, match="another run"):
        writer_at(tmp_path / "ct", pixel_um=None).finish()
    assert not (tmp_path / "ct/manifest.json").exists()
