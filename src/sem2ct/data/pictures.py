"""Single grey pictures as files, each appearing whole or not at all."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from sem2ct.runtime.run_folder import writing

# Grey textures hold no repetitions but runs: four times as fast as to look for others, and on
# noise smaller.
_FILTER, _STRATEGY = imagecodecs.PNG.FILTER.AVG, imagecodecs.PNG.STRATEGY.RLE


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes an (H, W) grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as unfinished:
        packed = {"level": 1, "filter": _FILTER, "strategy": _STRATEGY}
        unfinished.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image), **packed))


def write_tiff(path: Path, image: NDArray[np.uint8], *, pixel_um: float | None) -> None:
    """Writes an (H, W) picture, or a (z, H, W) stack, with its pixel size if that is known."""
    pages = image if image.ndim == 3 else image[None]
    write_pages(path, pages, predictor=image.ndim == 2, pixel_um=pixel_um)


def write_pages(
    path: Path,
    pages: Iterable[NDArray[np.uint8]],
    *,
    predictor: bool = False,
    pixel_um: float | None,
) -> None:
    """Writes pictures (H, W) as pages of a TIFF, one at a time.

    Args:
        path: Where to.
        pages: The pictures.
        predictor: Whether differences of neighbours are compressed: for greys, not for masks.
        pixel_um: Pixel size in micrometres, if it is known.
    """
    tags: dict[str, Any] = {}
    if pixel_um is not None:
        per_cm = 1e4 / pixel_um
        tags = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    how = {"photometric": "minisblack", "compression": "zlib", "metadata": None}
    with writing(path) as unfinished, tifffile.TiffWriter(unfinished) as file:
        for page in pages:
            file.write(page, predictor=predictor, **how, **tags)


def enlarge(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Repeats the nearest pixels until the picture has the given sides."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return image[rows[:, None], columns]
