"""OME-TIFF written by us, read by tifffile, Pillow, libtiff and our own reader."""

import shutil
import subprocess

import numpy as np
import pytest
import tifffile
from PIL import Image

from sem2ct.data import ome_tiff, scans
from sem2ct.runtime.refusal import Refusal

DRAW = np.random.default_rng(4)
SLICE = DRAW.integers(0, 256, (1, 1300, 1111), dtype=np.uint8)
LEVELS = [SLICE, SLICE[:, ::2, ::2], SLICE[:, ::4, ::4]]
STACK = DRAW.integers(0, 256, (5, 20, 26), dtype=np.uint8)


@pytest.fixture
def slice_file(tmp_path):
    ome_tiff.write_slice(tmp_path / "a.ome.tif", LEVELS, pixel_um=0.25)
    return tmp_path / "a.ome.tif"


def pixels_of(described: str) -> dict[str, str]:
    return tifffile.xml2dict(described)["OME"]["Image"]["Pixels"]


def test_a_slice_holds_its_coarser_levels(slice_file):
    with tifffile.TiffFile(slice_file) as file:
        assert file.is_ome
        (series,) = file.series
        assert [level.shape for level in series.levels] == [level.shape[1:] for level in LEVELS]
        for found, level in zip(series.levels, LEVELS, strict=True):
            np.testing.assert_array_equal(found.asarray(), level[0])
        page = file.pages[0]
        assert page.is_tiled
        assert page.tile == (512, 512)
        assert page.compression == tifffile.COMPRESSION.ZSTD
        assert page.predictor == tifffile.PREDICTOR.HORIZONTAL


def test_the_pixel_size_of_a_slice_is_stated_in_ome_xml_and_per_level_in_the_tags(slice_file):
    with tifffile.TiffFile(slice_file) as file:
        pixels = pixels_of(file.ome_metadata)
        for axis in "XY":
            assert pixels[f"PhysicalSize{axis}"] == 0.25
            assert pixels[f"PhysicalSize{axis}Unit"] == "µm"
        for k, page in enumerate([file.pages[0], *file.pages[0].pages]):
            per_cm, per = page.tags["XResolution"].value
            assert 1e4 * per / per_cm == pytest.approx(0.25 * 2**k)
    assert scans.open(slice_file).pixel_um == 0.25


def test_a_slice_is_read_by_programs_that_know_nothing_of_ome(slice_file):
    np.testing.assert_array_equal(scans.open(slice_file).slice_at(0), SLICE[0])
    with Image.open(slice_file) as image:
        np.testing.assert_array_equal(image, SLICE[0])


@pytest.mark.skipif(shutil.which("tiffinfo") is None, reason="needs tiffinfo of libtiff-tools")
def test_libtiff_decodes_every_tile(slice_file):
    # -d reads the pixels of all pages; warnings and errors go to stderr.
    asked = ["tiffinfo", "-d", str(slice_file)]
    said = subprocess.run(asked, capture_output=True, check=True)
    assert said.stderr == b""
    assert b"SubIFD Offsets" in said.stdout


def test_the_same_slice_gives_the_same_bytes(slice_file, tmp_path):
    (tmp_path / "again").mkdir()
    ome_tiff.write_slice(tmp_path / "again" / "a.ome.tif", LEVELS, pixel_um=0.25)
    assert (tmp_path / "again" / "a.ome.tif").read_bytes() == slice_file.read_bytes()


def test_an_unstated_pixel_size_stays_unstated(tmp_path):
    ome_tiff.write_slice(tmp_path / "a.ome.tif", LEVELS[:1], pixel_um=None)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert "PhysicalSizeX" not in pixels_of(file.ome_metadata)
        assert len(file.series[0].levels) == 1
    assert scans.open(tmp_path / "a.ome.tif").pixel_um is None


def test_a_stack_is_read_back_with_its_voxels(tmp_path):
    path = tmp_path / "b.ome.tif"
    ome_tiff.write_stack(path, iter(STACK), shape=STACK.shape, voxel_um=(2.0, 0.5, 0.25))
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), STACK)
        pixels = pixels_of(file.ome_metadata)
        assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == [2.0, 0.5, 0.25]
    with Image.open(path) as image:
        for z, page in enumerate(STACK):
            image.seek(z)
            np.testing.assert_array_equal(image, page)


@pytest.mark.parametrize(("bytes_above", "big"), [(0, False), (1, True)])
def test_only_what_exceeds_four_gigabytes_is_a_bigtiff(tmp_path, monkeypatch, bytes_above, big):
    monkeypatch.setattr(ome_tiff, "CLASSIC_BYTES", STACK.nbytes - bytes_above)
    path = tmp_path / "b.ome.tif"
    ome_tiff.write_stack(path, iter(STACK), shape=STACK.shape, voxel_um=None)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big


def test_what_cannot_be_finished_leaves_no_file(tmp_path):
    def stopped():
        yield STACK[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(Refusal, match=r"b\.ome\.tif could not be written: no space left"):
        ome_tiff.write_stack(tmp_path / "b.ome.tif", stopped(), shape=STACK.shape, voxel_um=None)
    assert not list(tmp_path.iterdir())
