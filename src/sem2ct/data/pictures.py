"""Single grey pictures as files, each appearing whole or not at all."""

from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from sem2ct.runtime.run_folder import writing


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes an (H, W) grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as unfinished:
        unfinished.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))


def write_tiff(path: Path, image: NDArray[np.uint8], *, pixel_um: float | None) -> None:
    """Writes an (H, W) picture, or a (z, H, W) stack, with its pixel size if that is known."""
    tags = {}
    if pixel_um is not None:
        per_cm = 1e4 / pixel_um
        tags = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    with writing(path) as unfinished:
        tifffile.imwrite(
            unfinished,
            image,
            photometric="minisblack",
            compression="zlib",
            predictor=image.ndim == 2,
            metadata=None,
            **tags,
        )


def enlarge(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Repeats the nearest pixels until the picture has the given sides."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return image[rows[:, None], columns]
