"""Many small grey pictures as one, to look at."""

import numpy as np


def mosaic(tiles: np.ndarray, *, columns: int, gap: int = 2) -> np.ndarray:
    """Lays tiles out in rows, with white lines between them.

    Args:
        tiles: (N, H, W) uint8.
        columns: Tiles in a row; the last row is filled up with white.
        gap: Width of the lines, pixels.

    Returns:
        (rows * (H + gap) - gap, columns * (W + gap) - gap) uint8.
    """
    count, height, width = tiles.shape
    rows = -(-count // columns)
    sheet = np.full((rows, height + gap, columns, width + gap), 255, np.uint8)
    for k, tile in enumerate(tiles):
        row, column = divmod(k, columns)
        sheet[row, :height, column, :width] = tile
    flat = sheet.reshape(rows * (height + gap), columns * (width + gap))
    return flat[: flat.shape[0] - gap, : flat.shape[1] - gap]
