"""Has the generator copied its training images? Each tile against the whole real images.

No distance between distributions can tell: a perfect copy of the training set is at
distance zero.  So every tile is laid over every place of every real image, in the
eight orientations of a square, and the highest normalised cross-correlation is kept.
This is done at an eighth of the scale, where fine noise that the generator draws
anew is averaged away and a copied place stays recognisable.  A place that lies
between the points of that coarse grid is then found by shifting it by single pixels.
What is high for images that were *not* copied depends on the rock; real images held
out one at a time say it.

Source: Lewis, Fast Normalized Cross-Correlation, Vision Interface (1995), 120-123.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float32]

ORIENTATIONS = 8
REDUCTION = 8
LEAST_PX = 16
"""Least side of a reduced tile; fewer pixels look alike by chance."""
COPY = 0.93
"""Similarity that a copy reaches."""
PIECE = 512
"""Side of the pieces that larger reduced images are looked up in: they stay in the cache."""
PROMISING = 0.6
"""Similarity on the coarse grid from which a place is looked at pixel by pixel."""
FLAT = 0.25
"""Variance in grey levels squared, after reduction, under which a place shows nothing."""
INNER = 95


def reduction(tile_px: int) -> int:
    """By how much tiles are reduced: 8, or less where too few pixels would be left.

    Args:
        tile_px: Side of a tile.

    Returns:
        The largest of 8, 4, 2, 1 that leaves at least 16 pixels; 1 for smaller tiles.
    """
    factor = REDUCTION
    while factor > 1 and tile_px // factor < LEAST_PX:
        factor //= 2
    return factor


def reduced(image: NDArray[np.uint8], factor: int) -> Floats:
    """Averages square blocks; incomplete ones at the lower and right edge are left out.

    Args:
        image: (H, W) grey.
        factor: Side of the blocks, at most 257.

    Returns:
        (H // factor, W // factor) float32.
    """
    height, width = (side // factor for side in image.shape)
    cut = image[: height * factor, : width * factor]
    # Whole numbers, first down the columns: 6 times as fast as means of blocks, and exact.
    rows = cut.reshape(height, factor, width * factor).sum(axis=1, dtype=np.uint16)
    sums = rows.reshape(height, width, factor).sum(axis=2, dtype=np.uint32)
    return sums.astype(np.float32) / np.float32(factor**2)


def turned(image: NDArray, orientation: int) -> NDArray:
    """One of the eight orientations of an image.

    Args:
        image: (H, W).
        orientation: 0 to 3: quarter turns; 4 to 7: the same after swapping rows and columns.

    Returns:
        A view.
    """
    return np.rot90(image.T if orientation >= 4 else image, orientation % 4)


def turned_back(image: NDArray, orientation: int) -> NDArray:
    """Undoes `turned`."""
    upright = np.rot90(image, -(orientation % 4))
    return upright.T if orientation >= 4 else upright


@dataclass(frozen=True)
class Match:
    """The place that resembles a tile most."""

    similarity: float
    """Normalised cross-correlation, -1 to 1; NaN when tile or places are flat."""
    image: int
    """Number of the image in the gallery."""
    orientation: int
    """The tile turned so (`turned`) lies on the place."""
    y: int
    """Corner of the place: in reduced pixels from `Gallery.best`, else in pixels."""
    x: int


_NOWHERE = Match(float("nan"), -1, 0, 0, 0)


class Gallery:
    """Reduced real images, prepared for looking tiles up in them."""

    def __init__(
        self, images: Sequence[Floats], template_px: int, *, frames: NDArray[np.integer]
    ) -> None:
        """Prepares the images.

        Args:
            images: Reduced, (H, W) float32 each, no side under `template_px`.
            template_px: Side of the reduced tiles that will be looked up.
            frames: Which frame each image is, or is a part of.
        """
        self._frames = frames
        self._pieces = [
            (number, y, x, _Image(image[ys, xs], template_px))
            for number, image in enumerate(images)
            for y, ys in _pieces(image.shape[0], template_px)
            for x, xs in _pieces(image.shape[1], template_px)
        ]

    def best(self, template: Floats, *, without: int = -1) -> Match:
        """Finds the place that resembles a tile most.

        Args:
            template: (px, px) reduced tile.
            without: A frame to leave out, the tile's own; -1 for none.

        Returns:
            The match.
        """
        centred = template - template.mean()
        length = float(np.linalg.norm(centred))
        if length**2 <= FLAT * centred.size:
            return _NOWHERE
        unit = (centred / length).astype(np.float32)
        sides = np.stack([turned(unit, k) for k in range(ORIENTATIONS)])
        spectra: dict[tuple[int, int], NDArray] = {}
        best = _NOWHERE
        for number, top, left, image in self._pieces:
            if self._frames[number] == without:
                continue
            if image.fast not in spectra:
                spectra[image.fast] = np.asarray(fft.rfft2(sides, s=image.fast)).conj()
            found = image.overlaid(sides, spectra[image.fast])
            place = int(found.argmax())
            orientation, y, x = (int(k) for k in np.unravel_index(place, found.shape))
            value = float(found[orientation, y, x])
            if not value <= best.similarity:  # true against NaN, too
                best = Match(value, number, orientation, top + y, left + x)
        return best


def _pieces(side: int, px: int) -> list[tuple[int, slice]]:
    """Corners and ranges of overlapping pieces in which every place lies whole exactly once."""
    places = side - px + 1
    count = -(-places // max(PIECE - px + 1, px))
    edges = [places * k // count for k in range(count + 1)]
    return [(edges[k], slice(edges[k], edges[k + 1] + px - 1)) for k in range(count)]


class _Image:
    """One reduced image, or a piece of it: its spectrum and the spread of each of its places."""

    def __init__(self, image: Floats, px: int) -> None:
        centred = (image - image.mean()).astype(np.float32)
        self._px = px
        self._shape = tuple(side - px + 1 for side in image.shape)
        height, width = (int(fft.next_fast_len(side, real=True) or 0) for side in image.shape)
        self.fast = (height, width)
        self._alone = self._shape == (1, 1)
        self._spectrum = np.asarray(fft.rfft2(centred, s=self.fast))
        self._pixels = centred.ravel()
        sums, squares = (_window_sums(centred.astype(float) ** power, px) for power in (1, 2))
        scatter = squares - sums**2 / px**2
        flat = scatter <= FLAT * px**2
        self._inverse = np.where(flat, 0, 1 / np.sqrt(np.where(flat, 1, scatter))).astype("f4")

    def overlaid(self, sides: Floats, spectra: NDArray) -> Floats:
        """Similarity of 8 orientations with every place, (8, rows, columns)."""
        if self._alone:  # an image of the tile's own size: nothing to shift
            return (sides.reshape(len(sides), -1) @ self._pixels)[:, None, None] * self._inverse
        rows, columns = self._shape
        # First along y, and then along x those rows alone that are places: half of the work.
        along_y = np.asarray(fft.ifft(spectra * self._spectrum, axis=1, overwrite_x=True))
        crossed = np.asarray(fft.irfft(along_y[:, :rows], n=self.fast[1], axis=2))[:, :, :columns]
        return np.multiply(crossed, self._inverse, out=crossed)


def _window_sums(values: NDArray[np.float64], px: int) -> NDArray[np.float64]:
    """Sums over all squares of a side, (H - px + 1, W - px + 1)."""
    total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return total[px:, px:] - total[:-px, px:] - total[px:, :-px] + total[:-px, :-px]


def in_pixels(coarse: Match, *, factor: int) -> Match:
    """A match on the reduced grid, its place in pixels."""
    return replace(coarse, y=coarse.y * factor, x=coarse.x * factor)


def refined(
    tile: NDArray[np.uint8], image: NDArray[np.uint8], coarse: Match, *, factor: int
) -> Match:
    """Shifts a promising place by single pixels to where the tile resembles it most.

    Args:
        tile: (px, px) grey.
        image: (H, W) grey: the whole image that `coarse` found.
        coarse: The best match on the reduced grid.
        factor: The reduction.

    Returns:
        The match in pixels, found at the reduced scale among all shifts of less than one
        reduced pixel.
    """
    top, left = coarse.y * factor, coarse.x * factor
    template = reduced(turned(tile, coarse.orientation), factor)
    side = template.shape[0] * factor
    y0, x0 = max(top - factor + 1, 0), max(left - factor + 1, 0)
    near = image[y0 : top + side + factor - 1, x0 : left + side + factor - 1].astype(float)
    means = _window_sums(near, factor) / factor**2
    best = replace(coarse, similarity=-1.0)
    for dy in range(near.shape[0] - side + 1):
        for dx in range(near.shape[1] - side + 1):
            place = means[dy::factor, dx::factor][: template.shape[0], : template.shape[1]]
            value = _correlation(template, place)
            if value > best.similarity:
                best = Match(value, coarse.image, coarse.orientation, y0 + dy, x0 + dx)
    return best


def _correlation(one: NDArray, other: NDArray) -> float:
    one, other = one - one.mean(), other - other.mean()
    length = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / length if length > 0 else -1.0


def resemblance(templates: Floats, frames: NDArray[np.integer]) -> NDArray[np.float64]:
    """Similarity of each tile with the most similar tile of another image of its set.

    Tiles are laid exactly over one another, in eight orientations: this finds a generator
    that gives the same picture again and again.

    Args:
        templates: (n, px, px) reduced tiles.
        frames: (n,) image each tile comes from; tiles of one image are not compared.

    Returns:
        (n,) -1 to 1; NaN for a flat tile, or where there is no other image.
    """
    flat_size = templates.shape[1] * templates.shape[2]
    centred = templates - templates.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((centred**2).sum(axis=(1, 2)))
    telling = length**2 > FLAT * flat_size
    unit = centred / np.where(telling, length, 1)[:, None, None]
    rows = unit.reshape(len(unit), flat_size)
    best = np.full((len(unit), len(unit)), -np.inf, np.float32)
    for k in range(ORIENTATIONS):
        sides = np.stack([turned(one, k) for one in unit]).reshape(rows.shape)
        best = np.maximum(best, sides @ rows.T)
    apart = (frames[:, None] != frames[None, :]) & telling[:, None] & telling[None, :]
    highest = np.where(apart, best, -np.inf).max(axis=1).astype(float)
    return np.where(np.isfinite(highest), highest, np.nan)


def spread_of(similarity: NDArray[np.float64]) -> dict[str, Any]:
    """Number, median, 95th percentile and highest of similarities; NaN is left out."""
    defined = similarity[np.isfinite(similarity)]
    if not len(defined):
        return {"tiles": 0, **dict.fromkeys(("p50", "p95", "highest"), float("nan"))}
    low, high = np.percentile(defined, (50, INNER))
    return {
        "tiles": len(defined),
        "p50": float(low),
        "p95": float(high),
        "highest": float(defined.max()),
    }


def band(similarity: NDArray[np.float64], frames: NDArray[np.integer]) -> float:
    """How similar tiles may be before they are nearer to copies than to independent images.

    Args:
        similarity: (m,) of real tiles to other real images.
        frames: (m,) image each tile comes from.

    Returns:
        Half-way from h to 1, with h the highest over the images of the 95th percentile over the
        tiles of an image; NaN when there is none.
    """
    highest = [spread_of(similarity[frames == name])["p95"] for name in np.unique(frames)]
    finite = [value for value in highest if np.isfinite(value)]
    return (1 + max(finite)) / 2 if finite else float("nan")


def copies(similarity: NDArray[np.float64], held_out: NDArray[np.float64]) -> tuple[int, float]:
    """Counts tiles that are copies of a real image.

    Args:
        similarity: (n,) of the tiles to the real images.
        held_out: (m,) of real tiles to the other real images, possibly none.

    Returns:
        Number of copies, and the limit: 0.93, or half-way from the highest held-out
        similarity to 1 where that is higher (small or smooth tiles resemble one another by
        chance, and among as many others one may do so a little more).
    """
    known = held_out[np.isfinite(held_out)]
    limit = max(COPY, (1 + float(known.max())) / 2 if len(known) else 0.0)
    return int(np.count_nonzero(similarity >= limit)), limit
