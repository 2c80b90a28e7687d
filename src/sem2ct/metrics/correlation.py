"""Two-point correlation of a segmented pore image, and the length it falls over.

S2(r) is the chance that two points a distance r apart both lie in pore.  It starts
at the porosity (r = 0) and falls to the porosity squared once r exceeds the largest
structure, so it compares the *size* of structures where the porosity compares only
their amount.  Nothing wraps around: each lag is averaged over the pairs of pixels
that both lie in the image, and the counts are exact integers.

Estimator: Torquato, Random Heterogeneous Materials (2002), chapters 2 and 12.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.optimize import minimize_scalar

from sem2ct.runtime.refusal import Refusal

if TYPE_CHECKING:
    from torch import Tensor

FIT_STOPS_UNDER = 0.05
FIT_LONGEST_PX = 256
FIT_LONGEST_LENGTH = 10  # times the longest lag: over the lags such an exponential falls by 10 %
ROUNDING_DOUBT = 0.25  # a count further than this from an integer is counted in float64
FLOAT32_COUNTS = 2**21  # above, neighbouring float32 numbers lie too far apart to show a doubt
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 128, 64  # strips of 0.7 MB at 1024 px
KEPT_BYTES = 31 * 2**20  # the largest block that glibc takes as a measure is one of 32 MB


@dataclass(frozen=True)
class CorrelationLength:
    """An exponential fitted to R, with the lengths of two other definitions beside it."""

    length_px: float
    """lambda of exp(-h / lambda); NaN when R is undefined, falls within one lag, or hardly falls
    over all lags."""
    one_over_e_px: float
    """Where R first crosses 1/e, interpolated linearly; NaN when it does not."""
    slope_px: float
    """Where the line through R at the first two lags meets 0."""
    rms_misfit: float
    """Root mean square of R minus the exponential over the lags of the fit."""
    lags: int
    """Number of lags in the fit, lag 0 included."""


UNDEFINED = CorrelationLength(np.nan, np.nan, np.nan, np.nan, 0)


def _refuse_long_reach(shape: tuple[int, ...], reach_px: int) -> None:
    if not 1 <= reach_px < min(shape):
        raise Refusal(
            f"reach_px={reach_px}, but an image of shape {shape} supports lags from 1 to"
            f" {min(shape) - 1}; lower reach_px or use larger tiles"
        )


def _padded(shape: tuple[int, int], reach_px: int) -> tuple[int, int]:
    """Rows and columns of a transform in which no lag within reach wraps around."""
    lengths: list[Any] = [fft.next_fast_len(side + reach_px, real=True) for side in shape]
    return lengths[0], lengths[1]


def _raw_hits(pores: NDArray[np.bool_], reach_px: int, real: type) -> NDArray:
    """Autocorrelation by Fourier transforms that skip all that is zero or not asked for.

    Rows are padded to width + reach only (a lag that wraps around further is not read);
    the column transform pads the same way; the power spectrum is real, so its inverse
    along y is a real transform of half the work, of which reach + 1 rows are kept.
    Strips of rows, then of columns, stay in the processor's cache.  The first transform also
    transposes, because it gathers and spreads its numbers anyway, and the zeros under the
    columns are written once for all strips.
    """
    height, width = pores.shape
    rows, columns = _padded((height, width), reach_px)
    frequencies = columns // 2 + 1
    bits = pores.view(np.uint8)  # becomes a float faster than a truth value does
    padded = np.zeros((min(ROWS_AT_ONCE, height), columns), real)
    strips = []
    for y in range(0, height, ROWS_AT_ONCE):
        strip = padded[: min(ROWS_AT_ONCE, height - y)]
        strip[:, :width] = bits[y : y + ROWS_AT_ONCE]
        strips.append(np.asarray(fft.rfft(strip.T, axis=0)))
    padded = np.zeros((COLUMNS_AT_ONCE, rows), strips[0].dtype)
    half = np.empty((frequencies, reach_px + 1), padded.dtype)
    for k in range(0, frequencies, COLUMNS_AT_ONCE):
        along_y = padded[: min(COLUMNS_AT_ONCE, frequencies - k)]
        parts = [strip[k : k + COLUMNS_AT_ONCE] for strip in strips]
        np.concatenate(parts, axis=1, out=along_y[:, :height])
        power = np.abs(np.asarray(fft.fft(along_y, axis=1)))
        power *= power
        half[k : k + len(power)] = np.asarray(fft.ihfft(power, axis=1))[:, : reach_px + 1]
    whole = np.asarray(fft.irfft(half.T, n=columns, axis=1))
    return np.concatenate([whole[:, -reach_px:], whole[:, : reach_px + 1]], axis=1)


@lru_cache(maxsize=8)
def _pairs(shape: tuple[int, int], reach_px: int) -> NDArray[np.int64]:
    height, width = shape
    dy = np.arange(reach_px + 1)
    dx = np.abs(np.arange(-reach_px, reach_px + 1))
    pairs = (height - dy)[:, None] * (width - dx)[None, :]
    pairs.flags.writeable = False
    return pairs


def pair_counts(
    pores: NDArray[np.bool_], reach_px: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts, for each lag, the pairs of pixels in the image and those both in pore.

    Args:
        pores: (H, W) boolean, True in pore.
        reach_px: Longest lag along an axis, less than H and W.

    Returns:
        (hits, pairs), each (reach + 1, 2 reach + 1) int64.  Entry [dy, reach + dx] belongs to
        the lag (dy, dx), dy from 0 to reach and dx from -reach to reach; the other half
        plane is its mirror image.

    Raises:
        Refusal: If the image does not support the reach.
    """
    height, width = pores.shape
    return _hits(pores, reach_px).astype(np.int64), _pairs((height, width), reach_px)


def _hits(pores: NDArray[np.bool_], reach_px: int) -> NDArray[np.floating]:
    """The hits of `pair_counts`: whole numbers, still as floats."""
    _refuse_long_reach(pores.shape, reach_px)
    _keep_freed_memory()
    hits = None
    if np.count_nonzero(pores) <= FLOAT32_COUNTS:
        hits = _rounded(_raw_hits(pores, reach_px, np.float32))
    if hits is None:
        hits = _rounded(_raw_hits(pores, reach_px, np.float64))
    assert hits is not None, "pair counts are not integers"
    return hits


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Has the C library keep what one image gives back, for the next one.

    glibc hands freed memory to the system beyond twice the largest block it has seen freed
    (mallopt(3), M_MMAP_THRESHOLD); an image of 1024 px then fetches its 8 MB again page by
    page, which takes two thirds as long as the count.  A block nobody touches costs nothing.
    """
    np.empty(KEPT_BYTES, np.uint8)


def _rounded(raw: NDArray) -> NDArray | None:
    """The whole numbers these are, or None where one cannot be sure."""
    near = np.rint(raw)
    raw -= near
    return None if np.abs(raw, out=raw).max() > ROUNDING_DOUBT else near


def pair_counts_batch(pores: "Tensor", reach_px: int) -> tuple["Tensor", "Tensor"]:
    """The counts of `pair_counts` for many images at once, on whatever device holds them.

    On one core of a processor image after image is faster; on a GPU the batch is.

    Args:
        pores: (N, H, W) bool, True in pore.
        reach_px: Longest lag along an axis, less than H and W.

    Returns:
        hits (N, reach + 1, 2 reach + 1) and pairs (reach + 1, 2 reach + 1), int64 on the
        same device: the integers of `pair_counts`.

    Raises:
        Refusal: If the images do not support the reach.
    """
    import torch

    height, width = pores.shape[-2:]
    _refuse_long_reach((height, width), reach_px)
    rows, columns = _padded((height, width), reach_px)
    few = int(torch.count_nonzero(pores.flatten(1), dim=1).max()) <= FLOAT32_COUNTS
    for real in (torch.float32, torch.float64)[not few :]:
        spectrum = torch.fft.fft(torch.fft.rfft(pores.to(real), n=columns), n=rows, dim=1)
        power = spectrum.real.square() + spectrum.imag.square()
        half = torch.fft.rfft(power, dim=1)[:, : reach_px + 1].conj()
        whole = torch.fft.irfft(half, n=columns) / rows
        raw = torch.cat([whole[..., -reach_px:], whole[..., : reach_px + 1]], dim=-1)
        if float((raw - raw.round()).abs().max()) <= ROUNDING_DOUBT:
            pairs = torch.from_numpy(_pairs((height, width), reach_px).copy()).to(pores.device)
            return raw.round().to(torch.int64), pairs
    raise AssertionError("pair counts are not integers")


def two_point(pores: NDArray[np.bool_], reach_px: int) -> NDArray[np.float64]:
    """S2 at every lag of the half plane.

    Args:
        pores: (H, W) boolean, True in pore.
        reach_px: Longest lag along an axis.

    Returns:
        (reach + 1, 2 reach + 1): hits / pairs, entry [dy, reach + dx].
    """
    height, width = pores.shape
    return _hits(pores, reach_px) / _pairs((height, width), reach_px)


@lru_cache(maxsize=8)
def _radial_bins(reach_px: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The bin round(r) of each lag, reach + 1 for those not to be counted, and lags per bin."""
    dy, dx = np.mgrid[0 : reach_px + 1, -reach_px : reach_px + 1]
    bins = np.rint(np.hypot(dy, dx)).astype(np.intp)
    distinct = (dy > 0) | (dx >= 0)  # on the row dy = 0 a lag and its mirror image are one
    bins[~distinct | (bins > reach_px)] = reach_px + 1
    return bins.ravel(), np.bincount(bins.ravel())[: reach_px + 1]


@lru_cache(maxsize=8)
def radial_lags(reach_px: int) -> NDArray[np.float64]:
    """Mean distance of the lags in each radial bin.

    Args:
        reach_px: Longest lag.

    Returns:
        (reach + 1,) distances in pixels: 0, 1.207, 2.157, ...
    """
    dy, dx = np.mgrid[0 : reach_px + 1, -reach_px : reach_px + 1]
    mean = radial(np.hypot(dy, dx))
    mean.flags.writeable = False
    return mean


def radial(s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of S2 over all directions, in bins round(r).

    Args:
        s2: (reach + 1, 2 reach + 1) of `two_point`.

    Returns:
        (reach + 1,) means, belonging to the distances `radial_lags(reach)`.
    """
    bins, lags = _radial_bins(s2.shape[0] - 1)
    return np.bincount(bins, weights=s2.ravel())[: len(lags)] / lags


def along_x(s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """S2 along x at the lags 0, 1, ..., reach, from the map of `two_point`."""
    return s2[0, s2.shape[0] - 1 :]


def along_y(s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """S2 along y at the lags 0, 1, ..., reach, from the map of `two_point`."""
    return s2[:, s2.shape[0] - 1]


def axis_counts(
    pores: NDArray[np.bool_], reach_px: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts pairs along the axes of an image or a volume, by comparing shifted copies.

    Args:
        pores: Boolean, (H, W) or (D, H, W), True in pore.
        reach_px: Longest lag, less than every side.

    Returns:
        (hits, pairs), each (dimensions, reach + 1) int64: along x, y and, in a volume, z.
        hits / pairs is S2 along each axis.

    Raises:
        Refusal: If the image does not support the reach.
    """
    _refuse_long_reach(pores.shape, reach_px)
    hits = np.empty((pores.ndim, reach_px + 1), np.int64)
    pairs = np.empty_like(hits)
    for row, axis in zip(range(pores.ndim), reversed(range(pores.ndim)), strict=True):
        line = np.moveaxis(pores, axis, 0)
        for lag in range(reach_px + 1):
            hits[row, lag] = np.count_nonzero(line[: len(line) - lag] & line[lag:])
            pairs[row, lag] = pores.size // len(line) * (len(line) - lag)
    return hits, pairs


def variogram(curve: NDArray[np.float64], phi: float) -> NDArray[np.float64]:
    """Variogram of the pore indicator: half the chance that two points are unlike.

    Args:
        curve: S2 at any lags.
        phi: Porosity of the same image.

    Returns:
        phi - S2: 0 at lag 0, and phi (1 - phi) beyond the largest structure.

    Source: Torquato 2002, section 2.2; Chiles & Delfiner, Geostatistics (2012), section 2.2.
    """
    return phi - curve


def normalised(curve: NDArray[np.float64], phi: float) -> NDArray[np.float64]:
    """R: S2 rescaled so that it falls from 1 to 0, whatever the porosity.

    Args:
        curve: S2 at any lags.
        phi: Porosity of the same image.

    Returns:
        (S2 - phi^2) / (phi - phi^2); NaN everywhere when phi is 0 or 1.
    """
    spread = phi - phi**2
    if spread <= 0:
        return np.full_like(curve, np.nan)
    return (curve - phi**2) / spread


def _crossing(lags_px: NDArray, curve: NDArray, level: float) -> float:
    """Where a curve first falls to a level, interpolated linearly; NaN when it does not."""
    under = np.flatnonzero(curve <= level)
    if not under.size or under[0] == 0:
        return float("nan")
    right = under[0]
    left = right - 1
    part = (curve[left] - level) / (curve[left] - curve[right])
    return float(lags_px[left] + part * (lags_px[right] - lags_px[left]))


def fit_correlation_length(
    lags_px: NDArray[np.float64], curve: NDArray[np.float64]
) -> CorrelationLength:
    """Fits exp(-h / lambda) to R by unweighted nonlinear least squares.

    The fit takes the lags from 0 until R first falls under 0.05, at most 256 px.  No
    logarithm is taken: it would let the noisy tail decide.  The choice of definition moves
    lambda by a factor of two on the same images, so it is named wherever it is printed.

    Args:
        lags_px: (n,) distances, ascending, the first 0.
        curve: (n,) R at these distances; NaN is answered by NaN.

    Returns:
        The fit, and the 1/e and slope lengths of the same curve.
    """
    if not np.isfinite(curve).all() or len(curve) < 2:
        return UNDEFINED
    under = np.flatnonzero(curve < FIT_STOPS_UNDER)
    last = under[0] if under.size else len(curve)
    used = (np.arange(len(curve)) < last) & (lags_px <= FIT_LONGEST_PX)
    h, r = lags_px[used], curve[used]
    one_over_e = _crossing(lags_px, curve, np.exp(-1))
    slope = float(lags_px[1] / (1 - curve[1])) if curve[1] < 1 else float("nan")
    if len(h) < 2:
        return CorrelationLength(float("nan"), one_over_e, slope, float("nan"), len(h))

    def squares(log_length: float) -> float:
        apart = r - np.exp(-h / np.exp(log_length))
        return float((apart * apart).sum())

    longest = FIT_LONGEST_LENGTH * h[-1]
    bounds = (np.log(h[1] / 50), np.log(longest))
    best = minimize_scalar(squares, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    length = float(np.exp(best.x))
    if length > 0.999 * longest:
        length = float("nan")
    misfit = float(np.sqrt(best.fun / len(h)))
    return CorrelationLength(length, one_over_e, slope, misfit, len(h))
