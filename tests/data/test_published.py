"""Archives of the layout in which the paper's data are published, and the way back out."""

import io
import json
import tarfile
import zipfile

import imagecodecs
import numpy as np
import pytest
import tifffile
from tqdm import tqdm

from sem2ct.data import export, ready, scans
from sem2ct.data.intensity import Window, choose_window
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime.refusal import Refusal

DRAW = np.random.default_rng(8)
TILES = DRAW.integers(0, 256, (6, 32, 32)).astype(np.uint8)
PATCHES = DRAW.integers(0, 256, (12, 8, 8)).astype(np.uint8)


def nvlabs_zip(path, tiles=TILES, labels=True, colour=False):
    with zipfile.ZipFile(path, "w") as archive:
        for k, tile in enumerate(tiles):
            picture = np.dstack([tile] * 3) if colour else tile
            archive.writestr(f"00000/img{k:08d}.png", imagecodecs.png_encode(picture))
        if labels:
            archive.writestr("dataset.json", json.dumps({"labels": None}))
    return path


def patches_tar(path, patches=PATCHES):
    """Numbered in one order and packed in another, as `tar` packs a folder."""
    with tarfile.open(path, "w:gz") as archive:
        for k in np.random.default_rng(1).permutation(len(patches)):
            content = imagecodecs.png_encode(patches[k])
            entry = tarfile.TarInfo(f"LR/patch_{k}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("colour", [True, False])
def test_a_zip_of_tiles_is_read_as_it_is(tmp_path, labels, colour):
    path = nvlabs_zip(tmp_path / "LSK.zip", labels=labels, colour=colour)
    found = scans.images(str(path), setting="sem")
    read = [scans.open(image, setting="sem").slice_at(0) for image in found]
    np.testing.assert_array_equal(np.stack(read), TILES)


def test_an_archive_of_patches_is_a_scan_in_the_order_of_the_archive(tmp_path):
    scan = ready.open_patches(str(patches_tar(tmp_path / "LR.tar.gz")), 8)
    assert scan.shape == (12, 8, 8)
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_array_equal(scan.read(slice(None), slice(None), slice(None)), PATCHES[order])


def test_patches_of_another_size_are_refused(tmp_path):
    path = patches_tar(tmp_path / "LR.tar.gz")
    with pytest.raises(Refusal, match=r"8x8 uint8.* one patch of ct_patch_px=16"):
        ready.open_patches(str(path), 16)
    for name, patch in (("a.png", PATCHES[0]), ("b.png", PATCHES[1][:7])):
        (tmp_path / name).write_bytes(imagecodecs.png_encode(patch))
    scan = ready.open_patches(str(tmp_path / "?.png"), 8)
    with pytest.raises(Refusal, match=r"b\.png: 1 slices of 7x8"):
        scan.slice_at(1)


def test_keeping_greys_is_for_eight_bits():
    assert choose_window(TILES, "keep", what="sem") == Window(0.0, 255.0)
    np.testing.assert_array_equal(Window(0.0, 255.0).to_uint8(TILES), TILES)
    with pytest.raises(Refusal, match="from 0 to 300 cannot be kept"):
        choose_window(np.array([0, 300], np.uint16), "keep", what="sem")


@pytest.fixture
def store(tmp_path):
    writer = StoreWriter(
        tmp_path / "store",
        tile_px=32,
        domain="sem",
        pixel_um=0.5,
        window=None,
        shard_patches=4,
        sources=[],
        facts={},
    )
    for k in range(2):
        rows = np.arange(4 * k, min(4 * k + 4, 6))
        writer.write_shard(k, TILES[rows], {"seed": rows})
    writer.finish()
    return Store(tmp_path / "store")


def test_an_exported_archive_has_the_layout_that_foreign_trainers_read(store, tmp_path):
    bar = tqdm(disable=True)
    made = export.write(store, tmp_path / "out/sem", kind="nvlabs_zip", progress=bar)
    assert made.name == "sem.zip"
    with zipfile.ZipFile(made) as archive:
        assert archive.namelist() == [f"00000/img{k:08d}.png" for k in range(6)] + ["dataset.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(archive.read("dataset.json")) == {"labels": None}
        tile = imagecodecs.png_decode(archive.read("00000/img00000003.png"))
    np.testing.assert_array_equal(tile, TILES[3])
    back = [scans.open(image).slice_at(0) for image in scans.images(str(made), setting="sem")]
    np.testing.assert_array_equal(np.stack(back), TILES)


@pytest.mark.parametrize(("kind", "ending"), [("png", "png"), ("tiff", "tif")])
def test_an_exported_folder_holds_a_file_per_patch(store, tmp_path, kind, ending):
    made = export.write(store, tmp_path / "out/sem", kind=kind, progress=tqdm(disable=True))
    files = sorted(made.rglob("*.*"))
    assert [file.name for file in files] == [f"img{k:08d}.{ending}" for k in range(6)]
    scan = scans.open(files[4])
    np.testing.assert_array_equal(scan.slice_at(0), TILES[4])
    if kind == "tiff":
        assert scan.pixel_um == pytest.approx(0.5)
        with tifffile.TiffFile(files[4]) as tif:
            assert tif.pages.first.photometric.name == "MINISBLACK"


def test_an_export_that_is_there_is_kept(store, tmp_path):
    made = export.write(store, tmp_path / "sem", kind="nvlabs_zip", progress=tqdm(disable=True))
    before = made.stat().st_mtime_ns
    export.write(store, tmp_path / "sem", kind="nvlabs_zip", progress=tqdm(disable=True))
    assert made.stat().st_mtime_ns == before
    assert not list(tmp_path.rglob("*.tmp"))
