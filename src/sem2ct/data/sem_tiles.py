"""SEM images into tiles: opened, cropped, reduced, split by image, cut.

Training and validation are split by image, never by tile: neighbouring tiles share
half their pixels.  The grey window comes from the training images alone.
"""

import fnmatch
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sem2ct.data import flat_regions, scans, shards, tiling
from sem2ct.data.intensity import (
    Percentiles,
    Window,
    choose_window,
    refuse_not_finite,
    refuse_unusable,
)
from sem2ct.data.mosaic import mosaic
from sem2ct.data.store import Encoding, StoreWriter
from sem2ct.runtime import distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import numpy_generator

LOGGER = logging.getLogger(__name__)
CropBottom = int | str | Mapping[str, int]
_POOLED_PIXELS = 8_000_000
_PREVIEW_COLUMNS = 6
_BAND_PIXELS = 2**23


@dataclass(frozen=True)
class SemImage:
    """One SEM image as it is used: without its data bar, reduced."""

    scan: scans.Scan
    """The file."""
    bar_rows: int
    """Rows cut off at the bottom."""
    reduce: int
    """Side of the blocks that are averaged."""

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) after cropping and reduction."""
        _, height, width = self.scan.shape
        return (height - self.bar_rows) // self.reduce, width // self.reduce

    def read(self) -> Iterator[NDArray[Any]]:
        """Reads the image without its data bar, in bands that fit into memory.

        Yields:
            (rows, columns) grey values of the file, from top to bottom, not reduced yet;
            the last band has the rows that make no whole block.

        Raises:
            Refusal: If the image is constant, holds NaN, or cannot be decoded.
        """
        what = f"sem={self.scan.path}"
        _, height, width = self.scan.shape
        height -= self.bar_rows
        bands = 1 if self.scan.whole_only else max(1, height * width // _BAND_PIXELS)
        step = max(1, self.shape[0] // bands) * self.reduce
        ends = [*range(step, self.shape[0] * self.reduce - step + 1, step), height]
        darkest, brightest, first = [], [], 0
        for end in ends:
            grey = self.scan.window(0, slice(first, end), slice(None))
            refuse_not_finite(grey, what=what)
            darkest.append(grey.min())
            brightest.append(grey.max())
            first = end
            yield grey
        refuse_unusable(np.array([min(darkest), max(brightest)]), what=what)

    def reduced(self, band: NDArray[Any]) -> NDArray[Any]:
        """Averages blocks of what `read` gave; incomplete ones at the edges are left out.

        Returns:
            (h, W): float32 means, or the grey values themselves if nothing is reduced.
        """
        height, width = (side // self.reduce * self.reduce for side in band.shape)
        return area_mean(band[:height, :width], self.reduce)

    def describe(self) -> dict[str, Any]:
        """Returns what the store's manifest says about the image."""
        return {
            "path": str(self.scan.path),
            "shape": list(self.scan.shape[1:]),
            "dtype": str(self.scan.dtype),
            "bar_rows": self.bar_rows,
            "reduce": self.reduce,
        }


def area_mean(grey: NDArray[Any], side: int) -> NDArray[Any]:
    """Averages square blocks.

    Args:
        grey: (H, W), both multiples of `side`.
        side: Side of a block; 1 returns the image as it is.

    Returns:
        (H / side, W / side) float32.
    """
    if side == 1:
        return grey
    height, width = grey.shape
    blocks = grey.reshape(height // side, side, width // side, side)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def open_images(
    patterns: str | Sequence[str], *, crop_bottom: CropBottom, reduce: int, tile_px: int
) -> list[SemImage]:
    """Opens SEM images and checks that they can be used together; reads headers only.

    Args:
        patterns: Files, folders or globs.
        crop_bottom: Rows of data bar to cut: a number for all, a number per file pattern
            (files that match none keep all rows), or "metadata".
        reduce: Side of the blocks to average.
        tile_px: Side of the tiles that will be cut.

    Returns:
        The images, in the order of the patterns.

    Raises:
        Refusal: If a file is no single grey 8- or 16-bit image, the depths differ, a
            pattern matches no file, or an image is smaller than a tile.
    """
    paths = scans.images(patterns, setting="sem")
    rows = _bar_rows(paths, crop_bottom)
    images = []
    for path in paths:
        scan = scans.open(path, setting="sem")
        _refuse_odd_file(scan)
        cut = scan.data_bar_rows if rows is None else rows[path]
        images.append(SemImage(scan, cut, reduce))
    _refuse_different_depths(images)
    for image in images:
        _refuse_small(image, tile_px)
    return images


def _bar_rows(paths: list[Path], crop_bottom: CropBottom) -> dict[Path, int] | None:
    """Rows to cut per file; None if each file says it itself."""
    if isinstance(crop_bottom, str):
        return None
    if isinstance(crop_bottom, int):
        return dict.fromkeys(paths, crop_bottom)
    rows = dict.fromkeys(paths, 0)
    for pattern, number in crop_bottom.items():
        matched = [path for path in paths if fnmatch.fnmatchcase(path.name, pattern)]
        if not matched:
            raise Refusal(
                f"sem_crop_bottom: the pattern '{pattern}' matches none of the {len(paths)} SEM"
                f" images (the first is {paths[0].name}); correct it or leave it out"
            )
        rows |= dict.fromkeys(matched, number)
    return rows


def _refuse_odd_file(scan: scans.Scan) -> None:
    if scan.shape[0] != 1:
        raise Refusal(
            f"sem={scan.path}: the file holds {scan.shape[0]} pages, but a SEM file must hold one"
            " image; save each page as a file of its own"
        )
    if scan.dtype not in (np.uint8, np.uint16):
        raise Refusal(
            f"sem={scan.path}: grey values of type {scan.dtype}; SEM images must be 8 or 16 bit"
            " (uint8, uint16): convert it"
        )


def _refuse_different_depths(images: list[SemImage]) -> None:
    first = images[0].scan
    for image in images:
        if image.scan.dtype != first.dtype:
            raise Refusal(
                f"sem: {image.scan.path} is {image.scan.dtype}, but {first.path} is {first.dtype};"
                " one grey window cannot serve both: convert them to one type"
            )


def _refuse_small(image: SemImage, tile_px: int) -> None:
    height, width = image.shape
    if min(height, width) < tile_px:
        _, full_height, full_width = image.scan.shape
        raise Refusal(
            f"sem={image.scan.path}: {full_height}x{full_width} pixels, less {image.bar_rows} rows"
            f" of data bar and reduced {image.reduce} times, are {height}x{width}: smaller than a"
            f" tile of tile_px={tile_px}; leave the image out, or lower tile_px or sem_reduce"
        )


def split(
    images: Sequence[SemImage], *, share: float, seed: int
) -> tuple[list[SemImage], list[SemImage]]:
    """Sets whole images aside for validation.

    Args:
        images: All of them.
        share: Share for validation, [0, 1); above 0 at least one image is set aside, if
            one remains.
        seed: Start of the random stream.

    Returns:
        Training and validation images, each in the given order.
    """
    aside = min(max(round(share * len(images)), 1), len(images) - 1) if share else 0
    if share and not aside:
        LOGGER.warning("only one SEM image: none is set aside for validation")
    chosen = set(numpy_generator(seed, "validation").permutation(len(images))[:aside].tolist())
    training = [image for k, image in enumerate(images) if k not in chosen]
    return training, [images[k] for k in sorted(chosen)]


def pooled_window(
    images: Sequence[SemImage],
    percentiles: Percentiles,
    *,
    progress: tqdm,
    seen: Callable[[SemImage, NDArray[Any]], object],
) -> Window:
    """Chooses the grey window from the pixels of all training images together.

    Args:
        images: Training images.
        percentiles: The low and the high one, or keep.
        progress: Advances by one per image.
        seen: Given each of this rank's images (every N-th) and each band of it, so that it need
            not be read again.

    Returns:
        The window; percentiles of an even sample where there are very many pixels.

    Raises:
        Refusal: If an image is constant, or the percentiles fall on one grey level.
    """
    most = max(1, _POOLED_PIXELS // len(images))
    pooled = []
    for image in (images[k] for k in distributed.mine(len(images))):
        # An odd step does not fall into step with the columns of a power-of-two width.
        step, first = (prod(image.shape) // most) | 1, 0
        lowest = np.zeros((1, 1))
        for lowest in image.read():
            band = image.reduced(lowest)
            pooled.append(band.ravel()[first::step].copy())
            first = (first - band.size) % step
            seen(image, band)
        _suggest_crop(image, lowest)
        progress.update()
    everyone = [sample for samples in distributed.gathered(pooled) for sample in samples]
    return choose_window(np.concatenate(everyone), percentiles, what="sem")


def _suggest_crop(image: SemImage, lowest_band: NDArray[Any]) -> None:
    rows = suspected_bar_rows(lowest_band)
    if rows:
        LOGGER.warning(
            "%s: the last %d rows look like a data bar; if they are, set sem_crop_bottom=%d",
            image.scan.path,
            rows,
            image.bar_rows + rows,
        )


def suspected_bar_rows(grey: NDArray[Any]) -> int:
    """Guesses how many rows at the bottom are a data bar.

    In most rows of a bar more than half of the pixels have one value (which then is the
    row's median); in the rows above the bar they have not.

    Args:
        grey: (H, W) grey values.

    Returns:
        The number of rows; 0 if none look like one.  A guess, good for a question only.
    """
    # Of long rows a thousand pixels, at an odd step, tell as much.
    bottom = grey[-max(len(grey) // 4, 1) :, :: (grey.shape[1] // 1024) | 1]
    middle = np.percentile(bottom, 50, axis=1, method="lower", keepdims=True)
    flat = np.mean(bottom == middle, axis=1) > 0.5
    share_below = np.cumsum(flat[::-1])[::-1] / np.arange(len(flat), 0, -1)
    starts = np.flatnonzero(flat & (share_below > 0.6))
    if not len(starts) or len(flat) - starts[0] < 8 or starts[0] < 8:
        return 0
    return int(len(flat) - starts[0])


def count_tiles(images: Sequence[SemImage], *, tile_px: int, stride_px: int) -> int:
    """Counts the tiles that `write_tiles` will cut."""
    return len(_places([image.shape for image in images], tile_px, stride_px)["source"])


def _places(
    shapes: Sequence[tuple[int, ...]], tile_px: int, stride_px: int
) -> dict[str, NDArray[Any]]:
    grids = [
        tiling.grid((height, width), tile_px=tile_px, stride_px=stride_px)
        for height, width in shapes
    ]
    source = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])
    y, x = np.concatenate(grids).T
    return {"source": source, "z": np.zeros_like(source), "y": y, "x": x}


def draw_tiles(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draws tiles side by side, reduced so that the sheet fits on a screen.

    Args:
        tiles: (n, H, W) uint8.

    Returns:
        One picture, uint8.
    """
    side = 2 ** max(0, int(np.log2(tiles.shape[1] / 256)))
    small = [np.rint(area_mean(tile, side)).astype(np.uint8) for tile in tiles]
    return mosaic(np.stack(small), columns=_PREVIEW_COLUMNS)


def write_tiles(
    folder: Path,
    frames: Sequence[NDArray[np.uint8]],
    *,
    sources: Sequence[Mapping[str, Any]],
    window: Window,
    pixel_um: float | None,
    tile_px: int,
    stride_px: int,
    shard_patches: int,
    sem_flat_share: float = 1.0,
    encoding: Encoding = "npy",
    progress: tqdm,
) -> int:
    """Cuts prepared images into tiles and writes them as a store; whole shards are skipped.

    Args:
        folder: Where the store will lie.
        frames: (H, W) uint8 each: what to cut.
        sources: `SemImage.describe` of each frame.
        window: Raw grey levels that became 0 and 255.
        pixel_um: Pixel size after reduction, or None.
        tile_px: Side of a tile.
        stride_px: Step from one tile to the next.
        shard_patches: Tiles in one file.
        sem_flat_share: Tiles of which more is flat are left out.
        encoding: npy or tiff.
        progress: Advances by one per tile.

    Returns:
        Number of tiles.

    Raises:
        Refusal: If no tile is left.
    """
    places = _places([frame.shape for frame in frames], tile_px, stride_px)
    names = [source["path"] for source in sources]
    kept, covered = flat_regions.leave_out(
        frames, places, tile_px=tile_px, most=sem_flat_share, names=names
    )
    writer = StoreWriter(
        folder,
        tile_px=tile_px,
        domain="sem",
        pixel_um=pixel_um,
        window=window,
        shard_patches=shard_patches,
        sources=[{**source, **found} for source, found in zip(sources, covered, strict=True)],
        facts={"stride_px": stride_px, "flat_share": sem_flat_share},
        encoding=encoding,
    )
    total = len(kept["source"])
    progress.update(len(places["source"]) - total)

    def cut(rows: slice) -> tuple[tiling.Cut, dict[str, NDArray[Any]]]:
        here = {name: column[rows] for name, column in kept.items()}
        return tiling.Cut(frames, here, tile_px), here

    shards.fill(writer, total, cut, shard_patches=shard_patches, progress=progress)
    return total
