"""Pictures read back by other programs."""

import imagecodecs
import numpy as np
import pytest
import tifffile

from sem2ct.data import pictures


def test_a_tiff_states_its_pixel_size_only_if_that_is_known(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 17), dtype=np.uint8)
    pictures.write_tiff(tmp_path / "a.tif", image, pixel_um=0.25)
    pictures.write_tiff(tmp_path / "b.tif", image, pixel_um=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert np.array_equal(file.asarray(), image)
        pixels, per = file.pages[0].tags["XResolution"].value
        assert 1e4 * per / pixels == pytest.approx(0.25)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].tags["ResolutionUnit"].value == 1


def test_a_stack_is_read_back_slice_by_slice(tmp_path):
    stack = np.random.default_rng(0).integers(0, 2, (5, 12, 17), dtype=np.uint8)
    pictures.write_tiff(tmp_path / "a.tif", stack, pixel_um=None)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), stack)


def test_a_png_is_read_back_and_leaves_nothing_beside_it(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 17), dtype=np.uint8)
    pictures.write_png(tmp_path / "new" / "a.png", image)
    assert np.array_equal(imagecodecs.png_decode((tmp_path / "new" / "a.png").read_bytes()), image)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


def test_enlarging_repeats_pixels():
    image = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert np.array_equal(pictures.enlarge(image, 4, 9), np.kron(image, np.ones((2, 3), int)))
