"""SEM images prepared whole: cropped, reduced, in one grey window, as frames on disk.

The grey window needs the pixels of all training images before the first of them can be
written.  So that each file is decoded once, the reduced images are kept in memory on
the way, as many as fit.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sem2ct.data import tiling
from sem2ct.data.frames import Frames, fingerprint, write_bands_of_frame, write_manifest
from sem2ct.data.intensity import Percentiles, Window
from sem2ct.data.sem_tiles import SemImage, pooled_window, write_tiles
from sem2ct.data.store import Encoding
from sem2ct.runtime import distributed, log
from sem2ct.runtime.checkpoint import digest
from sem2ct.runtime.refusal import Refusal

KEPT_BYTES = 2**28
"""Reduced images beyond this are read a second time."""


def extract(
    folder: Path,
    images: Mapping[str, Sequence[SemImage]],
    *,
    sem_window: Percentiles,
    pixel_um: float | None,
    tile_px: int,
    stride_px: int,
    shard_patches: int,
    sem_flat_share: float = 1.0,
    encoding: Encoding = "npy",
) -> Window:
    """Writes the frames and, cut from them, the stores of tiles.

    Args:
        folder: Gets sem_frames, sem and, if images were set aside, sem_validation.
        images: Images by the store that they go to.
        sem_window: Percentiles of the pooled training pixels that become 0 and 255.
        pixel_um: Pixel size after reduction, or None.
        tile_px: Side of a tile.
        stride_px: Step from one tile to the next.
        shard_patches: Tiles in one file of a store.
        sem_flat_share: Tiles of which more is flat are left out.
        encoding: Of the stores, npy or tiff.

    Returns:
        The grey window.

    Raises:
        Refusal: If an image is constant, or the percentiles fall on one grey level.
    """
    training, validation = images["sem"], images.get("sem_validation", ())
    whole = {"training": training, "validation": validation, "percentiles": sem_window}
    steps = 2 * len(training) + len(validation)
    with log.progress(steps, unit="images", what="SEM: frames") as bar:
        frames = prepare(folder / "sem_frames", **whole, pixel_um=pixel_um, progress=bar)
    parts = {"sem": frames.training, "sem_validation": frames.validation}
    sizes: dict[str, Any] = {
        "tile_px": tile_px,
        "stride_px": stride_px,
        "shard_patches": shard_patches,
        "sem_flat_share": sem_flat_share,
        "encoding": encoding,
    }
    shapes = [image.shape for some in images.values() for image in some]
    tiles = sum(len(tiling.grid(shape, tile_px=tile_px, stride_px=stride_px)) for shape in shapes)
    with log.progress(tiles, unit="tiles", what="SEM: tiles") as bar:
        for name, some in images.items():
            write_tiles(
                folder / name,
                parts[name],
                sources=[image.describe() for image in some],
                window=frames.window,
                pixel_um=pixel_um,
                progress=bar,
                **sizes,
            )
    return frames.window


class _Images:
    """Reads reduced images by bands and keeps the first images for their second use."""

    def __init__(self) -> None:
        self._kept: dict[Path, list[NDArray[Any]]] = {}
        self._room = KEPT_BYTES

    def keep(self, image: SemImage, band: NDArray[Any]) -> None:
        height, width = image.shape
        path, size = image.scan.path, height * width * band.itemsize
        if path not in self._kept and size <= self._room:
            self._room -= size
            self._kept[path] = []
        if path in self._kept:
            self._kept[path].append(band if _read_for_this(band) else np.array(band))

    def take(self, image: SemImage) -> Iterable[NDArray[Any]]:
        kept = self._kept.pop(image.scan.path, None)
        return map(image.reduced, image.read()) if kept is None else kept


def _read_for_this(band: NDArray[Any]) -> bool:
    """Whether nothing but the band holds its memory: then to keep it takes no copy."""
    whole = band if band.base is None else band.base
    return isinstance(whole, np.ndarray) and whole.flags.owndata and whole.size == band.size


def prepare(
    folder: Path,
    *,
    training: Sequence[SemImage],
    validation: Sequence[SemImage],
    percentiles: Percentiles,
    pixel_um: float | None,
    progress: tqdm,
) -> Frames:
    """Writes all frames; what an interrupted run finished and is whole is kept.

    Args:
        folder: Where the frames will lie.
        training: Images that also give the grey window.
        validation: Images set aside.
        percentiles: Of the pooled training pixels, the two that become 0 and 255.
        pixel_um: Pixel size after reduction, or None.
        progress: Advances by two per training and by one per validation image.

    Returns:
        The frames, opened.

    Raises:
        Refusal: If an image is constant, or the percentiles fall on one grey level.
    """
    splits = ["training"] * len(training) + ["validation"] * len(validation)
    both = [*training, *validation]
    described = [
        {"split": split, "source": image.describe()}
        for split, image in zip(splits, both, strict=True)
    ]
    plain = percentiles if isinstance(percentiles, str) else list(percentiles)
    origin = {"frames": described, "percentiles": plain, "pixel_um": pixel_um}
    made_from = fingerprint(origin)
    images = _Images()
    before = _finished(folder, made_from)
    if before is None:
        window = pooled_window(training, percentiles, progress=progress, seen=images.keep)
        whole: Mapping[int, Mapping[str, Any]] = {}
    else:
        window, whole = before
        progress.update(len(training))
    written = {}
    for k in distributed.mine(len(both)):
        written[k] = whole.get(k)
        if written[k] is None:
            bands = map(window.to_uint8, images.take(both[k]))
            written[k] = write_bands_of_frame(folder, k, bands, shape=both[k].shape)
        progress.update()
    files = {k: file for part in distributed.gathered(written) for k, file in part.items()}
    entries = [{**files[k], **note} for k, note in enumerate(described)]
    how: dict[str, Any] = {"window": window, "pixel_um": pixel_um, "made_from": made_from}
    distributed.once(lambda: write_manifest(folder, entries, **how))
    return Frames(folder)


def _finished(folder: Path, made_from: str) -> tuple[Window, dict[int, dict[str, Any]]] | None:
    """Window and whole frames, by number, of an earlier run that got as far as a manifest."""
    try:
        manifest = Frames(folder).manifest
    except Refusal:
        return None
    if manifest["made_from"] != made_from:
        return None
    whole = {
        k: {name: entry[name] for name in ("file", "sha256", "shape")}
        for k, entry in enumerate(manifest["frames"])
        if digest(folder / entry["file"]) == entry["sha256"]
    }
    return Window.from_dict(manifest["window"]), whole
