"""How far a generator's tiles are from the rock, cheap enough to ask during a training.

A few numbers of a few dozen tiles: means of porosity, specific surface, correlation
length and grey gradient (which tells a blurred tile); one distance that sums up how they
and the correlation functions differ from the real tiles; how much the tiles differ among
themselves (a collapsed generator's hardly do); and how alike each is to the place of the
training images that it resembles most (a generator that copies is as alike as a copy).

Sources: Wasserstein-1 as in scipy.stats; normalised cross-correlation, Lewis 1995, Fast
Normalized Cross-Correlation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

from sem2ct.data.crops import Crops
from sem2ct.metrics import correlation, porosity, segmentation, surface

SCALARS = ("porosity", "specific_surface", "correlation_length", "gradient")
LONGEST_REACH_PX = 256
LARGEST_REDUCTION = 8
LEAST_REDUCED_PX = 16
REAL_TILES = 256
"""Tiles cut from the real images to compare with."""
COMPARED_TILES = 32
"""Tiles that are searched for in the training images; the search is the dear part."""
BAND_ROWS = 1024
_FLAT = 1e-3  # of the largest local contrast: below it a place has no pattern to compare


@dataclass(frozen=True)
class Described:
    """Numbers of n tiles; lengths in pixels."""

    scalars: dict[str, NDArray[np.float64]]
    """(n,) each: porosity, specific_surface (1/px), correlation_length (px), gradient (mean
    difference of neighbours, grey levels)."""
    s2: NDArray[np.float64]
    """(n, reach + 1): radial two-point correlation."""
    reduced: NDArray[np.float32]
    """(n, h, w): the tiles' greys, averaged over blocks."""


def describe(tiles: NDArray[np.uint8], *, threshold: int) -> Described:
    """Measures tiles.

    Args:
        tiles: (n, H, W) uint8.
        threshold: Grey level under which a pixel is pore.

    Returns:
        Their numbers.  The correlation length counts as 0 where it is undefined: a tile of
        one phase, or of white noise, has no structure.
    """
    reach_px = min(min(tiles.shape[1:]) // 2 - 1, LONGEST_REACH_PX)
    lags = correlation.radial_lags(reach_px)
    rows, curves = [], []
    for tile in tiles:
        pores = segmentation.segment(tile, threshold=threshold)
        phi = porosity.porosity(pores)
        s2 = correlation.radial(correlation.two_point(pores, reach_px))
        fit = correlation.fit_correlation_length(lags, correlation.normalised(s2, phi))
        length = fit.length_px if np.isfinite(fit.length_px) else 0.0
        rows.append(
            (phi, surface.specific_surface(pores, pixel_size_um=1), length, _gradient(tile))
        )
        curves.append(s2)
    columns = np.array(rows).T
    scalars: dict[str, NDArray[np.float64]] = dict(zip(SCALARS, columns, strict=True))
    return Described(scalars, np.stack(curves), reduce(tiles, reduction(tiles.shape[1])))


def rock_distance(ours: Described, real: Described) -> float:
    """How far one set of tiles is from another, in standard deviations of the other.

    The mean of five terms: for porosity, specific surface, correlation length and gradient
    the Wasserstein-1 distance over the real standard deviation; for the correlation function
    the largest |mean S2 - mean real S2| over the real standard deviation of the porosity,
    which is its value at lag 0.

    Args:
        ours: Tiles to judge.
        real: Real tiles.

    Returns:
        0 for the same tiles; two samples of one rock are at about 1 / sqrt(tiles).
    """
    terms = [
        stats.wasserstein_distance(ours.scalars[name], real.scalars[name])
        / _spread_of(real.scalars[name])
        for name in SCALARS
    ]
    largest = np.abs(ours.s2.mean(axis=0) - real.s2.mean(axis=0)).max()
    return float(np.mean([*terms, largest / _spread_of(real.scalars["porosity"])]))


def spread(ours: Described, real: Described) -> float:
    """How much tiles differ among themselves, as a share of what real ones do.

    Args:
        ours: Tiles to judge.
        real: Real tiles.

    Returns:
        The smaller of two ratios of root-mean-square deviations from the mean tile: of the
        correlation functions, and of the reduced greys, place by place.  0 for a generator
        that always gives the same tile, about 1 for the rock itself.
    """
    ratios = [
        float(_deviation(mine) / (_deviation(theirs) or np.inf))
        for mine, theirs in ((ours.s2, real.s2), (ours.reduced, real.reduced))
        if _deviation(theirs) > 0
    ]
    return min(ratios, default=1.0)


def reduction(side_px: int) -> int:
    """Side of the blocks that tiles are averaged over: 8, or what leaves 16 px."""
    factor = LARGEST_REDUCTION
    while factor > 1 and side_px // factor < LEAST_REDUCED_PX:
        factor //= 2
    return factor


def reduce(images: NDArray[np.uint8], factor: int) -> NDArray[np.float32]:
    """Averages blocks.

    Args:
        images: (..., H, W).
        factor: Side of a block; rows and columns that fill none are left out.

    Returns:
        (..., H // factor, W // factor).
    """
    *front, height, width = images.shape
    h, w = height // factor, width // factor
    blocks = images[..., : h * factor, : w * factor].reshape(*front, h, factor, w, factor)
    return blocks.mean(axis=(-3, -1), dtype=np.float32)


class Likeness:
    """Finds in whole images the place that a tile resembles most."""

    def __init__(self, frames: Sequence[NDArray[np.uint8]], *, tile_px: int) -> None:
        """Transforms the reduced frames once.

        Args:
            frames: (H, W) uint8 each, not smaller than a tile.
            tile_px: Side of the tiles.
        """
        self._factor = reduction(tile_px)
        self._side = tile_px // self._factor
        self._frames = [self._prepared(reduce(frame, self._factor)) for frame in frames]

    def largest(self, tile: NDArray[np.uint8]) -> float:
        """Largest normalised cross-correlation of a tile with any place of any frame.

        Args:
            tile: (H, W) uint8; all eight turns and mirrors of it are tried.

        Returns:
            Between -1 and 1; 1 for a copy.  0 for a tile of one grey.
        """
        small = reduce(tile, self._factor)
        small = small - small.mean()
        norm = float(np.sqrt(np.sum(small**2)))
        if norm == 0:
            return 0.0
        turned = np.stack(
            [np.rot90(side, quarter) for side in (small, small[:, ::-1]) for quarter in range(4)]
        )
        best = -1.0
        for spectrum, shape, scale in self._frames:
            found = np.asarray(fft.rfft2(turned / norm, s=shape))
            products = np.asarray(fft.irfft2(spectrum * found.conj(), s=shape))
            inside = products[:, : scale.shape[0], : scale.shape[1]]
            best = max(best, float((inside * scale).max()))
        return min(best, 1.0)

    def _prepared(
        self, frame: NDArray[np.float32]
    ) -> tuple[NDArray[np.complex64], tuple[int, int], NDArray[np.float32]]:
        """Spectrum, its size, and one over the contrast of every place (0 where flat)."""
        height, width = (int(fft.next_fast_len(side, real=True) or 0) for side in frame.shape)
        shape = (height, width)
        centred = frame - frame.mean()
        mean, mean_square = (_window_means(values, self._side) for values in (centred, centred**2))
        contrast = np.sqrt(np.maximum(mean_square - mean**2, 0)) * self._side
        flat = contrast <= _FLAT * contrast.max()
        scale = np.where(flat, 0, 1 / np.where(flat, 1, contrast)).astype(np.float32)
        return np.asarray(fft.rfft2(centred, s=shape)), shape, scale


class RockMonitor:
    """Compares generated tiles with the rock they were learned from."""

    def __init__(
        self,
        *,
        training_tiles: NDArray[np.uint8],
        validation_tiles: NDArray[np.uint8],
        frames: Sequence[NDArray[np.uint8]],
        threshold: int,
    ) -> None:
        """Measures the real tiles once.

        Args:
            training_tiles: (n, H, W) uint8, n > 1, cut from the training images.
            validation_tiles: (m, H, W) uint8, cut from images set aside; m may be 0.
            frames: The training images whole, (H, W) uint8 each.
            threshold: Grey level under which a pixel is pore.
        """
        self._threshold = threshold
        self._training = describe(training_tiles, threshold=threshold)
        self._likeness = Likeness(frames, tile_px=training_tiles.shape[1])
        self._validation: Described | None = None
        if len(validation_tiles):
            self._validation = describe(validation_tiles, threshold=threshold)
        self._held_out = validation_tiles

    def real(self) -> dict[str, float]:
        """The same numbers for the images set aside; empty if there are none.

        Returns:
            As `measure`, without the distance to themselves.
        """
        if self._validation is None:
            return {}
        return self._numbers(self._held_out, self._validation)

    def measure(self, tiles: NDArray[np.uint8]) -> dict[str, float]:
        """Judges generated tiles.

        Args:
            tiles: (n, H, W) uint8.

        Returns:
            Means porosity, specific_surface (1/px), correlation_length (px) and gradient
            (grey levels); rock_distance and, with validation tiles,
            rock_distance_validation; spread; similarity and similarity_largest, mean and
            largest over the first 32 tiles of the largest correlation with the training
            images.
        """
        described = describe(tiles, threshold=self._threshold)
        values = self._numbers(tiles, described)
        if self._validation is not None:
            values["rock_distance_validation"] = rock_distance(described, self._validation)
        return values

    def _numbers(self, tiles: NDArray[np.uint8], described: Described) -> dict[str, float]:
        alike = [self._likeness.largest(tile) for tile in tiles[:COMPARED_TILES]]
        return {
            **{name: float(column.mean()) for name, column in described.scalars.items()},
            "rock_distance": rock_distance(described, self._training),
            "spread": spread(described, self._training),
            "similarity": float(np.mean(alike)),
            "similarity_largest": max(alike),
        }


def of_frames(
    training: Sequence[NDArray[np.uint8]],
    validation: Sequence[NDArray[np.uint8]],
    *,
    tile_px: int,
    threshold: int | str,
    seed: int,
) -> RockMonitor:
    """Builds a monitor from real images.

    Args:
        training: Images that are trained on, (H, W) uint8 each.
        validation: Images set aside; may be empty.
        tile_px: Side of the generated tiles.
        threshold: Grey level under which a pixel is pore, or otsu: from the pooled
            training images.
        seed: Of the places where real tiles are cut.

    Returns:
        The monitor.
    """
    if isinstance(threshold, str):
        # In bands, because counting takes eight bytes a pixel.
        bands = (
            frame[y : y + BAND_ROWS] for frame in training for y in range(0, len(frame), BAND_ROWS)
        )
        threshold = segmentation.otsu(segmentation.histogram(bands))
    cut = [
        Crops(frames, tile_px=tile_px, symmetries="none", seed=seed).tiles(np.arange(REAL_TILES))
        if len(frames)
        else np.zeros((0, tile_px, tile_px), np.uint8)
        for frames in (training, validation)
    ]
    return RockMonitor(
        training_tiles=cut[0], validation_tiles=cut[1], frames=training, threshold=threshold
    )


def _window_means(values: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Mean over every place of a square window: (H - side + 1, W - side + 1)."""
    sums = np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows = sums[side:] - sums[:-side]
    return (rows[:, side:] - rows[:, :-side]) / side**2


def _gradient(tile: NDArray[np.uint8]) -> float:
    grey = tile.astype(np.float32)
    steps = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    return float(np.mean(steps))


def _spread_of(values: NDArray[np.float64]) -> float:
    """Standard deviation; 1 where all values are the same, so that it can divide."""
    return float(values.std(ddof=1)) or 1.0


def _deviation(rows: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean((rows - rows.mean(axis=0)) ** 2)))
