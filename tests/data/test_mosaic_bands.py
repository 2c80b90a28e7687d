"""A SEM mosaic is read by bands, and nothing depends on where one ends."""

import numpy as np
import pytest
import tifffile
from tqdm import tqdm

from sem2ct.data import sem_frames, sem_tiles, tiling
from sem2ct.data.scans import Scan

GREY = np.random.default_rng(4).integers(500, 60000, (83, 61)).astype(np.uint16)


def image_at(tmp_path, reduce):
    tifffile.imwrite(tmp_path / "mosaic.tif", GREY, photometric="minisblack")
    return sem_tiles.open_images(
        str(tmp_path / "mosaic.tif"), crop_bottom=3, reduce=reduce, tile_px=8
    )


@pytest.mark.parametrize("reduce", [1, 2, 3])
def test_bands_make_the_same_frame_as_the_whole_image(tmp_path, monkeypatch, reduce):
    images = image_at(tmp_path, reduce)
    given = {"training": images, "validation": [], "percentiles": (2, 98), "pixel_um": None}
    # A sample of the pixels gives the window, so its phase must go on from band to band.
    monkeypatch.setattr(sem_tiles, "_POOLED_PIXELS", 97)
    monkeypatch.setattr(sem_frames, "KEPT_BYTES", 0)
    made = []
    for pixels, name in ((10**9, "whole"), (61 * 7, "bands")):
        monkeypatch.setattr(sem_tiles, "_BAND_PIXELS", pixels)
        read = list(images[0].read())
        np.testing.assert_array_equal(np.concatenate(read), GREY[:80])
        assert (len(read) > 5) == (name == "bands")
        frames = sem_frames.prepare(tmp_path / name, **given, progress=tqdm(disable=True))
        made.append(frames)
    assert made[0].window == made[1].window
    np.testing.assert_array_equal(made[0].training[0], made[1].training[0])


def test_of_a_mosaic_no_more_than_a_band_is_read_at_once(tmp_path, monkeypatch):
    image = image_at(tmp_path, 2)[0]
    monkeypatch.setattr(sem_tiles, "_BAND_PIXELS", 61 * 10)
    rows = []
    window = Scan.window
    monkeypatch.setattr(
        Scan,
        "window",
        lambda scan, z, y, x: rows.append(y.stop - y.start) or window(scan, z, y, x),
    )
    for _ in image.read():
        pass
    assert sum(rows) == 80
    assert max(rows) <= 20


def test_a_large_frame_mapped_anew_has_the_same_pixels(tmp_path, monkeypatch):
    np.save(tmp_path / "frame.npy", GREY)
    frame = np.load(tmp_path / "frame.npy", mmap_mode="r")
    assert tiling.mapped_anew(frame) is frame
    monkeypatch.setattr(tiling, "_LARGE_BYTES", 100)
    assert tiling.mapped_anew(frame) is not frame
    np.testing.assert_array_equal(tiling.mapped_anew(frame), GREY)
    places = {"source": np.array([0, 0]), "y": np.array([0, 70]), "x": np.array([52, 3])}
    first, second = tiling.Cut([frame], places, 8)
    np.testing.assert_array_equal(first, GREY[:8, 52:60])
    np.testing.assert_array_equal(second, GREY[70:78, 3:11])
