import imagecodecs
import numpy as np

from sem2ct.reporting import pictures, record


def test_tiles_pores_and_slices_are_drawn_from_the_files(evaluated):
    drawn = pictures.draw(evaluated)
    assert [path.stem for path in drawn] == ["tiles", "pores", "slice_translated"]
    images = [imagecodecs.imread(path) for path in drawn]
    colourful = [float((image[..., 0] != image[..., 2]).mean()) for image in images]
    assert colourful[1] > colourful[0] + 0.1  # pores are tinted


def test_only_images_without_a_volume_need_no_slice(evaluated):
    arrays = record.read_arrays(evaluated, record.PICTURES)
    tiles = {name: array for name, array in arrays.items() if name.startswith("tiles/")}
    record.write_arrays(evaluated, record.PICTURES, tiles)
    assert [path.stem for path in pictures.draw(evaluated)] == ["tiles", "pores"]


def test_a_tint_changes_the_named_pixels_only():
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    image = pictures.tinted(grey, np.array([[True, False], [False, False]]), "#ff0000")
    np.testing.assert_allclose(image[0, 0], [pictures.PORE_TINT, 0, 0])
    np.testing.assert_allclose(image[1, 0], 200 / 255)
