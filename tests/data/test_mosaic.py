import numpy as np

from sem2ct.data.mosaic import mosaic


def test_tiles_stand_row_by_row_with_white_between_them():
    tiles = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    expected = [
        [0, 0, 0, 255, 1, 1, 1],
        [0, 0, 0, 255, 1, 1, 1],
        [255] * 7,
        [2, 2, 2, 255, 255, 255, 255],
        [2, 2, 2, 255, 255, 255, 255],
    ]
    np.testing.assert_array_equal(mosaic(tiles, columns=2, gap=1), expected)
