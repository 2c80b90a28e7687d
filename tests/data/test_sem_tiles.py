import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tqdm import tqdm

from sem2ct.data import scans, sem_tiles
from sem2ct.data.intensity import Window
from sem2ct.data.store import Store
from sem2ct.runtime.refusal import Refusal

REAL = Path(os.environ.get("SEM2CT_REAL_DATA", Path(__file__).parents[3] / "shared/data"))
FEI = REAL / "sem/porous_fei_sample_1.tif"
GREY = np.random.default_rng(11).integers(20, 240, (5, 50, 64)).astype(np.uint8)


def save(folder, name, image):
    tifffile.imwrite(folder / name, image, photometric="minisblack")


@pytest.fixture
def folder(tmp_path):
    for k in range(5):
        save(tmp_path, f"place_{k}.tif", GREY[k])
    return tmp_path


def opened(folder, *, crop_bottom=0, reduce=1, tile_px=16):
    return sem_tiles.open_images(
        str(folder), crop_bottom=crop_bottom, reduce=reduce, tile_px=tile_px
    )


def quiet():
    return tqdm(disable=True)


def window_of(images, percentiles, seen=lambda image, grey: None):
    return sem_tiles.pooled_window(images, percentiles, progress=quiet(), seen=seen)


def test_blocks_are_averaged():
    grey = np.array([[0, 1, 10, 10], [2, 4, 10, 13]], np.uint8)
    assert sem_tiles.area_mean(grey, 2).tolist() == [[1.75, 10.75]]


def test_the_bar_is_cut_before_the_image_is_reduced(folder):
    image = opened(folder, crop_bottom=7, reduce=3, tile_px=14)[2]
    assert image.shape == (14, 21)  # (50 - 7) // 3, 64 // 3
    reduced = np.concatenate([image.reduced(band) for band in image.read()])
    assert reduced.shape == (14, 21)
    assert reduced[13, 20] == pytest.approx(GREY[2, 39:42, 60:63].mean())


def test_rows_are_cut_per_pattern_and_the_others_keep_theirs(folder):
    images = opened(folder, crop_bottom={"*_1*": 9, "place_[34].tif": 4})
    assert [image.bar_rows for image in images] == [0, 9, 0, 4, 4]


def test_a_pattern_that_matches_nothing_is_refused(folder):
    with pytest.raises(Refusal, match=r"sem_crop_bottom: the pattern '\*bar\*' matches none of"):
        opened(folder, crop_bottom={"*bar*": 48})


@pytest.mark.real_data
@pytest.mark.skipif(not FEI.is_file(), reason="the real images are not here")
def test_a_real_data_bar_is_cut_by_its_metadata_and_suspected_without():
    cut = sem_tiles.open_images(str(FEI), crop_bottom="metadata", reduce=1, tile_px=1024)[0]
    assert cut.shape == (1024, 1536)
    assert sem_tiles.suspected_bar_rows(*cut.read()) == 0
    assert sem_tiles.suspected_bar_rows(scans.open(FEI).slice_at(0)) == 79


def test_a_suspected_bar_is_only_a_warning(folder, caplog):
    with_bar = np.concatenate([GREY[0], GREY[1], GREY[2]])
    with_bar[-10:] = 0
    with_bar[-6:-3, 5:20] = 255
    save(folder, "place_0.tif", with_bar)
    with caplog.at_level(logging.WARNING, logger="sem2ct"):
        window_of(opened(folder), (0, 100))
    assert len(caplog.records) == 1
    assert "place_0.tif: the last 10 rows" in caplog.text
    assert "sem_crop_bottom=10" in caplog.text


def test_two_depths_are_refused(folder):
    save(folder, "place_3.tif", GREY[3].astype(np.uint16) * 250)
    with pytest.raises(Refusal, match=r"place_3\.tif is uint16, but .*place_0\.tif is uint8"):
        opened(folder)


def test_float_images_are_refused(folder):
    save(folder, "place_3.tif", GREY[3].astype(np.float32))
    with pytest.raises(Refusal, match="float32; SEM images must be 8 or 16 bit"):
        opened(folder)


def test_a_file_of_several_images_is_refused(folder):
    save(folder, "place_3.tif", GREY)
    with pytest.raises(Refusal, match=r"place_3\.tif: the file holds 5 pages"):
        opened(folder)


def test_an_image_smaller_than_a_tile_is_refused_with_all_numbers(folder):
    opened(folder, crop_bottom=2, reduce=2, tile_px=24)
    message = "50x64 pixels, less 3 rows of data bar and reduced 2 times, are 23x32.*tile_px=24"
    with pytest.raises(Refusal, match=message):
        opened(folder, crop_bottom=3, reduce=2, tile_px=24)


@pytest.mark.parametrize(("share", "aside"), [(0.0, 0), (0.01, 1), (0.4, 2), (0.99, 4)])
def test_whole_images_are_set_aside_and_one_always_remains(folder, share, aside):
    images = opened(folder)
    training, validation = sem_tiles.split(images, share=share, seed=1)
    assert len(validation) == aside
    both = sorted(image.scan.path for image in training + validation)
    assert both == [image.scan.path for image in images]


def test_the_split_depends_on_the_seed_alone(folder):
    images = opened(folder)
    splits = [sem_tiles.split(images, share=0.4, seed=seed)[1] for seed in range(12)]
    assert sem_tiles.split(images, share=0.4, seed=0)[1] == splits[0]
    assert len({tuple(image.scan.path for image in split) for split in splits}) > 3


def test_a_single_image_is_kept_for_training(folder):
    images = opened(folder)[:1]
    assert sem_tiles.split(images, share=0.5, seed=0) == (images, [])


def test_the_window_comes_from_all_training_pixels_together(folder):
    images = opened(folder, crop_bottom=5)
    window = window_of(images[:3], (2, 95))
    expected = np.percentile(GREY[:3, :45], (2, 95))
    assert (window.low, window.high) == tuple(expected)


def test_what_was_read_for_the_window_is_handed_on(folder):
    seen = {}
    images = opened(folder, crop_bottom=5, reduce=3, tile_px=15)
    window_of(images[1:3], (0, 100), seen=seen.__setitem__)
    assert list(seen) == images[1:3]
    expected = GREY[2, :45, :63].reshape(15, 3, 21, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(seen[images[2]], expected, rtol=1e-6)


def test_a_constant_image_is_refused_by_name(folder):
    save(folder, "place_1.tif", np.full((50, 64), 9, np.uint8))
    with pytest.raises(Refusal, match=r"sem=.*place_1\.tif: every pixel has the grey value 9"):
        window_of(opened(folder), (0, 100))


def write(folder):
    return sem_tiles.write_tiles(
        folder,
        list(GREY),
        sources=[{"path": f"place_{k}.tif"} for k in range(5)],
        window=Window(20, 240),
        pixel_um=0.5,
        tile_px=16,
        stride_px=10,
        shard_patches=7,
        sem_flat_share=0.9,
        encoding="npy",
        progress=quiet(),
    )


def test_each_tile_is_the_piece_of_the_image_its_place_names(folder):
    # Down 0, 10, 20, 30; across 0, 10, 20, 30, 40: 20 tiles of each image.
    assert write(folder / "store") == 100
    assert sem_tiles.count_tiles(opened(folder), tile_px=16, stride_px=10) == 100
    store = Store(folder / "store")
    places = store.places()
    assert sorted(zip(places["y"], places["x"], strict=True))[:2] == [(0, 0)] * 2
    for k in (0, 6, 7, 55, 99):
        y, x = places["y"][k], places["x"][k]
        piece = GREY[places["source"][k], y : y + 16, x : x + 16]
        np.testing.assert_array_equal(store.tiles[k], piece)
    assert store.manifest["sources"][3]["path"] == "place_3.tif"
    assert store.window == Window(20, 240)
    assert store.manifest["facts"] == {"stride_px": 10, "flat_share": 0.9}


def test_a_damaged_shard_is_made_again_and_whole_ones_are_left(folder):
    write(folder / "store")
    shards = sorted((folder / "store").glob("*.npy"))
    before = [shard.read_bytes() for shard in shards]
    times = [shard.stat().st_mtime_ns for shard in shards]
    shards[4].write_bytes(before[4][:-1])
    write(folder / "store")
    assert [shard.read_bytes() for shard in shards] == before
    assert [
        shard.stat().st_mtime_ns == time for shard, time in zip(shards, times, strict=True)
    ] == [k != 4 for k in range(len(shards))]


def test_the_sheet_is_reduced_to_fit_a_screen():
    tiles = np.zeros((7, 1024, 1024), np.uint8)
    assert sem_tiles.draw_tiles(tiles).shape == (2 * 258 - 2, 6 * 258 - 2)
