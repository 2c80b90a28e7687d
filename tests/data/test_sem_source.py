import numpy as np
import pytest

from sem2ct.data import sem_source
from sem2ct.data.crops import Crops
from sem2ct.data.datasets import Patches
from sem2ct.data.frames import write_frame, write_manifest
from sem2ct.data.intensity import Window
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime.refusal import Refusal

GREYS = np.random.default_rng(2).integers(0, 255, (2, 24, 40)).astype(np.uint8)
GREYS[0, :, :20] = 255  # flat
CHOSEN = {"symmetries": "none", "seed": 3}


@pytest.fixture
def store(tmp_path):
    facts = {"window": Window(0, 200), "pixel_um": 0.5}
    entries = [
        write_frame(tmp_path / "sem_frames", k, grey)
        | {"split": ("training", "validation")[k], "source": {}}
        for k, grey in enumerate(GREYS)
    ]
    write_manifest(tmp_path / "sem_frames", entries, **facts, made_from="")
    names = {"tile_px": 16, "domain": "sem", "shard_patches": 50, "sources": []}
    writer = StoreWriter(tmp_path / "sem", **names, **facts, facts={"flat_share": 0.4})
    writer.write_shard(0, GREYS[:1, :16, 24:], {"y": np.zeros(1, int)})
    writer.finish()
    return Store(tmp_path / "sem")


def opened(store, tiles):
    folder = store.folder.parent / "sem_frames"
    return sem_source.open_tiles(store, tiles=tiles, sem_frames=folder, **CHOSEN)


def test_stored_tiles_are_the_store_itself(store):
    source = opened(store, "stored")
    assert isinstance(source, Patches)
    assert sem_source.described(source, store) == "1 of 16 px"
    np.testing.assert_array_equal(source.pictures(1), store.tiles[:1])


def test_frames_give_pieces_of_the_training_images_as_flat_as_the_tiles_may_be(store):
    source = opened(store, "frames")
    assert isinstance(source, Crops)
    assert sem_source.described(source, store) == "225 places of 16 px in 1 training frames"
    tiles = source.pictures(60)
    windows = np.lib.stride_tricks.sliding_window_view(GREYS[0], (16, 16)).reshape(-1, 16, 16)
    assert {bytes(tile) for tile in tiles} <= {bytes(piece.copy()) for piece in windows}
    # Two of the four blocks of such a tile would be flat: more than 0.4.
    assert not any((tile[:, :8] == 255).all() for tile in tiles)


def test_without_frames_they_cannot_be_cut(store, tmp_path):
    with pytest.raises(Refusal, match="sem_frames=none: no finished frames there"):
        sem_source.open_tiles(store, tiles="frames", sem_frames="none", **CHOSEN)
    (tmp_path / "sem_frames/manifest.json").unlink()
    assert opened(store, "stored")
