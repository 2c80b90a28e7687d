import numpy as np
import pytest
import tifffile
from tqdm import tqdm

from sem2ct.data import sem_frames, sem_tiles
from sem2ct.data.frames import Frames
from sem2ct.data.store import Store
from sem2ct.runtime.refusal import Refusal

GREY = np.random.default_rng(12).integers(30, 200, (4, 47, 61)).astype(np.uint16)
GREY[2] //= 2  # set aside: its greys must not move the window
GREY[3] *= 3


@pytest.fixture
def images(tmp_path):
    for k, grey in enumerate(GREY):
        tifffile.imwrite(tmp_path / f"place_{k}.tif", grey, photometric="minisblack")
    return sem_tiles.open_images(str(tmp_path), crop_bottom=5, reduce=2, tile_px=8)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were decoded, in order."""
    names = []
    read = sem_tiles.SemImage.read
    monkeypatch.setattr(
        sem_tiles.SemImage, "read", lambda image: names.append(image.scan.path.name) or read(image)
    )
    return names


def prepare(folder, images, **changed):
    given = {"training": images[:2] + images[3:], "validation": images[2:3]}
    given |= {"percentiles": (1, 99), "pixel_um": 0.25, "progress": tqdm(disable=True)}
    return sem_frames.prepare(folder, **given | changed)


def area_means():
    return GREY[:, :42, :60].reshape(4, 21, 2, 30, 2).mean(axis=(2, 4))


def test_a_frame_is_the_cropped_reduced_image_in_the_window_of_the_training(tmp_path, images):
    frames = prepare(tmp_path / "frames", images)
    means = area_means()
    low, high = np.percentile(means[[0, 1, 3]], (1, 99))
    assert (frames.window.low, frames.window.high) == pytest.approx((low, high))
    expected = np.clip((means - low) * 255 / (high - low), 0, 255)
    assert [frame.shape for frame in frames.training] == [(21, 30)] * 3
    for frame, k in zip(frames.training + frames.validation, (0, 1, 3, 2), strict=True):
        np.testing.assert_allclose(frame, expected[k], atol=0.501)
    assert frames.pixel_um == 0.25


def test_the_manifest_says_where_each_frame_comes_from_and_what_it_is_for(tmp_path, images):
    entries = prepare(tmp_path / "frames", images).manifest["frames"]
    assert [entry["split"] for entry in entries] == ["training"] * 3 + ["validation"]
    assert entries[3]["source"]["path"].endswith("place_2.tif")
    assert entries[3]["source"]["bar_rows"] == 5


def test_every_image_is_decoded_once(tmp_path, images, reads):
    prepare(tmp_path / "frames", images)
    assert sorted(reads) == [f"place_{k}.tif" for k in range(4)]


def test_images_that_do_not_fit_in_memory_are_decoded_again(tmp_path, images, reads, monkeypatch):
    whole = prepare(tmp_path / "whole", images).manifest["frames"]
    reads.clear()
    # Room for one reduced image: 21 x 30 float32.
    monkeypatch.setattr(sem_frames, "KEPT_BYTES", 4 * 21 * 30)
    assert prepare(tmp_path / "frames", images).manifest["frames"] == whole
    assert sorted(reads) == [f"place_{k}.tif" for k in (0, 1, 1, 2, 3, 3)]


def test_finished_frames_are_not_made_again(tmp_path, images, reads):
    prepare(tmp_path / "frames", images)
    files = sorted((tmp_path / "frames").glob("*.npy"))
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    reads.clear()
    prepare(tmp_path / "frames", images)
    assert not reads
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before


def test_a_damaged_frame_alone_is_made_again(tmp_path, images, reads):
    prepare(tmp_path / "frames", images)
    damaged = tmp_path / "frames" / "frame_00001.npy"
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    reads.clear()
    prepare(tmp_path / "frames", images).verify()
    assert reads == ["place_1.tif"]
    assert damaged.read_bytes() == before


def test_an_interrupted_preparation_ends_as_an_undisturbed_one(tmp_path, images):
    prepare(tmp_path / "whole", images)
    prepare(tmp_path / "frames", images)
    for lost in ("manifest.json", "frame_00002.npy"):
        (tmp_path / "frames" / lost).unlink()
    prepare(tmp_path / "frames", images)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "frames" / path.name).read_bytes() == path.read_bytes()


def test_frames_made_otherwise_are_made_anew(tmp_path, images):
    first = prepare(tmp_path / "frames", images).window
    second = prepare(tmp_path / "frames", images, percentiles=(5, 95)).window
    assert second.low > first.low
    assert Frames(tmp_path / "frames").window == second


def test_a_damaged_frame_is_found_by_verifying(tmp_path, images):
    frames = prepare(tmp_path / "frames", images)
    frames.verify()
    path = tmp_path / "frames" / "frame_00003.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"frame_00003\.npy.*checksum"):
        frames.verify()


def test_tiles_and_frames_hold_the_same_pixels(tmp_path, images):
    parts = {"sem": images[:3], "sem_validation": images[3:]}
    cut = {"sem_window": (0, 100), "pixel_um": None, "tile_px": 8, "stride_px": 5}
    cut |= {"sem_flat_share": 1.0, "encoding": "npy"}
    sem_frames.extract(tmp_path / "run", parts, shard_patches=10, **cut)
    frames = Frames(tmp_path / "run" / "sem_frames")
    for name, some in (("sem", frames.training), ("sem_validation", frames.validation)):
        store = Store(tmp_path / "run" / name)
        places = store.places()
        # Rows 0, 5, 10 and columns 0, 5, 10, 15, 20 hold tiles; the rest fits none.
        assert len(store) == 15 * len(some)
        k, y, x = (int(places[column][7]) for column in ("source", "y", "x"))
        np.testing.assert_array_equal(store.tiles[7], some[k][y : y + 8, x : x + 8])
        assert store.window == frames.window
