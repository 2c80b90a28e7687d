import imagecodecs
import numpy as np
import tifffile

from sem2ct.data import frames, set_sources
from sem2ct.data.intensity import Window
from sem2ct.data.store import StoreWriter

WINDOW = Window(0, 255)


def pictures(count=2, height=20, width=26):
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (count, height, width)).astype(np.uint8)


def write_store(folder, images, *, places=("source", "y", "x"), side=8, stride=6):
    writer = StoreWriter(
        folder,
        tile_px=side,
        domain="sem",
        pixel_um=0.5,
        window=WINDOW,
        shard_patches=100,
        sources=[{"path": f"scans/place {k}.tif"} for k in range(len(images))],
        facts={},
    )
    rows = [
        (k, y, x)
        for k, image in enumerate(images)
        for y in range(0, image.shape[0] - side + 1, stride)
        for x in range(0, image.shape[1] - side + 1, stride)
    ]
    tiles = np.stack([images[k][y : y + side, x : x + side] for k, y, x in rows])
    columns = dict(zip(("source", "y", "x"), np.array(rows).T, strict=True))
    writer.write_shard(0, tiles, {name: columns[name] for name in places})
    writer.finish()


def opened(where, opener=set_sources.from_store, **changes):
    how = {"tile_px": 8, "most": 1000, "draw": np.random.default_rng(0)} | changes
    return opener("real", str(where), **how)


def test_tiles_of_a_store_are_laid_together_to_images(tmp_path):
    images = pictures()
    write_store(tmp_path / "sem", images)
    whole = opened(tmp_path / "sem").whole
    assert (whole.origin, whole.count) == ("reassembled", 2)
    assert whole.names == ["place 0.tif", "place 1.tif"]
    for k in range(2):
        np.testing.assert_array_equal(whole.read(k), images[k])


def write_frames(folder, images, *, splits, window=WINDOW):
    entries = []
    for k, (image, split) in enumerate(zip(images, splits, strict=True)):
        entries.append({**frames.write_frame(folder, k, image), "split": split, "source": {}})
    frames.write_manifest(folder, entries, window=window, pixel_um=0.5, made_from="test")


def test_frames_beside_a_store_are_its_images(tmp_path):
    images = pictures(3, 30, 30)
    write_store(tmp_path / "sem", images[:2, :20, :26])
    write_store(tmp_path / "sem_validation", images[2:, :20, :26])
    splits = ("training", "training", "validation")
    write_frames(tmp_path / "sem_frames", images, splits=splits)
    training, validation = opened(tmp_path / "sem").whole, opened(tmp_path / "sem_validation").whole
    assert (training.origin, training.count, validation.count) == ("frames", 2, 1)
    np.testing.assert_array_equal(training.read(1), images[1])
    np.testing.assert_array_equal(validation.read(0), images[2])


def test_frames_of_another_grey_window_are_not_its_images(tmp_path):
    images = pictures()
    write_store(tmp_path / "sem", images)
    other = Window(0, 200)
    write_frames(tmp_path / "sem_frames", images, splits=("training",) * 2, window=other)
    assert opened(tmp_path / "sem").whole.origin == "reassembled"


def test_tiles_that_know_no_place_are_images_of_their_own(tmp_path):
    images = pictures()
    write_store(tmp_path / "sem", images, places=("y",))
    found = opened(tmp_path / "sem")
    assert (found.whole.origin, found.whole.count) == ("tiles", len(found))
    np.testing.assert_array_equal(found.whole.read(int(found.frames[4])), found.read(4))


def test_tiles_that_know_only_their_image_are_its_parts(tmp_path):
    write_store(tmp_path / "sem", pictures(), places=("source",))
    found = opened(tmp_path / "sem")
    assert (found.whole.origin, found.whole.count) == ("tiles", len(found))
    np.testing.assert_array_equal(found.whole.frames, found.frames)
    assert found.whole.names == ["place 0.tif", "place 1.tif"]


def test_patches_of_a_volume_are_not_laid_together(tmp_path):
    writer = StoreWriter(
        tmp_path / "ct",
        tile_px=8,
        domain="ct",
        pixel_um=2.0,
        window=WINDOW,
        shard_patches=9,
        sources=[{"path": "scan.tif"}],
        facts={},
    )
    columns = {"source": [0, 0], "z": [0, 5], "y": [0, 0], "x": [0, 0]}
    places = {name: np.array(column) for name, column in columns.items()}
    writer.write_shard(0, pictures(2, 8, 8), places)
    writer.finish()
    whole = opened(tmp_path / "ct").whole
    assert (whole.origin, whole.count) == ("tiles", 2)
    assert whole.frames.tolist() == [0, 0]


def test_image_files_are_whole_and_called_by_their_names(tmp_path):
    images = pictures()
    for k, image in enumerate(images):
        (tmp_path / f"b{k}.png").write_bytes(imagecodecs.png_encode(image))
    whole = opened(tmp_path, set_sources.from_images).whole
    assert (whole.origin, whole.names) == ("images", ["b0.png", "b1.png"])
    assert whole.shapes == ((20, 26), (20, 26))
    np.testing.assert_array_equal(whole.read(1), images[1])


def test_slices_of_a_stack_are_called_by_file_and_number(tmp_path):
    tifffile.imwrite(tmp_path / "s.tif", pictures(), photometric="minisblack")
    whole = opened(tmp_path / "s.tif", set_sources.from_images).whole
    assert whole.names == ["s.tif [0]", "s.tif [1]"]
