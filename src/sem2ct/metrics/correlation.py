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

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.optimize import minimize_scalar

from sem2ct.runtime.refusal import Refusal

FIT_STOPS_UNDER = 0.05
FIT_LONGEST_PX = 256
FIT_LONGEST_LENGTH = 10  # times the longest lag: over the lags such an exponential falls by 10 %
ROUNDING_DOUBT = 0.25  # a count further than this from an integer is counted in float64


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


def _raw_hits(pores: NDArray[np.bool_], reach_px: int, real: type) -> NDArray:
    """Autocorrelation by Fourier transforms that skip all that is zero or not asked for.

    Rows are padded to width + reach only (a lag that wraps around further is not read);
    the column transform pads the same way; the power spectrum is real, so its inverse
    along y is a real transform of half the work, of which reach + 1 rows are kept.
    """
    height, width = pores.shape
    rows = fft.next_fast_len(height + reach_px, real=True)
    columns = fft.next_fast_len(width + reach_px, real=True)
    along_rows = fft.rfft(pores.astype(real), n=columns, axis=1)
    spectrum = np.asarray(fft.fft(along_rows, n=rows, axis=0, overwrite_x=True))
    power = np.real(spectrum) ** 2 + np.imag(spectrum) ** 2
    half = np.asarray(fft.rfft(power, axis=0))[: reach_px + 1].conj() / rows
    whole = np.asarray(fft.irfft(half, n=columns, axis=1))
    return np.concatenate([whole[:, -reach_px:], whole[:, : reach_px + 1]], axis=1)


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
    _refuse_long_reach(pores.shape, reach_px)
    raw = _raw_hits(pores, reach_px, np.float32)
    if np.abs(raw - np.rint(raw)).max() > ROUNDING_DOUBT:
        raw = _raw_hits(pores, reach_px, np.float64)
        assert np.abs(raw - np.rint(raw)).max() < ROUNDING_DOUBT, "pair counts are not integers"
    height, width = pores.shape
    dy = np.arange(reach_px + 1)
    dx = np.abs(np.arange(-reach_px, reach_px + 1))
    return np.rint(raw).astype(np.int64), (height - dy)[:, None] * (width - dx)[None, :]


def two_point(pores: NDArray[np.bool_], reach_px: int) -> NDArray[np.float64]:
    """S2 at every lag of the half plane.

    Args:
        pores: (H, W) boolean, True in pore.
        reach_px: Longest lag along an axis.

    Returns:
        (reach + 1, 2 reach + 1): hits / pairs, entry [dy, reach + dx].
    """
    hits, pairs = pair_counts(pores, reach_px)
    return hits / pairs


@lru_cache(maxsize=8)
def _radial_bins(reach_px: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """Flat indices of the lags within reach, their bins round(r), and lags per bin."""
    dy, dx = np.mgrid[0 : reach_px + 1, -reach_px : reach_px + 1]
    bins = np.rint(np.hypot(dy, dx)).astype(np.intp)
    distinct = (dy > 0) | (dx >= 0)  # on the row dy = 0 a lag and its mirror image are one
    kept = np.flatnonzero(distinct & (bins <= reach_px))
    return kept, bins.ravel()[kept], np.bincount(bins.ravel()[kept])


@lru_cache(maxsize=8)
def radial_lags(reach_px: int) -> NDArray[np.float64]:
    """Mean distance of the lags in each radial bin.

    Args:
        reach_px: Longest lag.

    Returns:
        (reach + 1,) distances in pixels: 0, 1.207, 2.157, ...
    """
    kept, bins, lags = _radial_bins(reach_px)
    dy, dx = np.mgrid[0 : reach_px + 1, -reach_px : reach_px + 1]
    distance = np.hypot(dy, dx).ravel()[kept]
    mean = np.bincount(bins, weights=distance) / lags
    mean.flags.writeable = False
    return mean


def radial(s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of S2 over all directions, in bins round(r).

    Args:
        s2: (reach + 1, 2 reach + 1) of `two_point`.

    Returns:
        (reach + 1,) means, belonging to the distances `radial_lags(reach)`.
    """
    kept, bins, lags = _radial_bins(s2.shape[0] - 1)
    return np.bincount(bins, weights=s2.ravel()[kept]) / lags


def along_x(s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """S2 along x at the lags 0, 1, ..., reach, from the map of `two_point`."""
    return s2[0, s2.shape[0] - 1 :]


def along_y(s2: NDArray[np.float64]) -> NDArray[np.float64]:
    """S2 along y at the lags 0, 1, ..., reach, from the map of `two_point`."""
    return s2[:, s2.shape[0] - 1]


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
        return float(np.sum((r - np.exp(-h / np.exp(log_length))) ** 2))

    longest = FIT_LONGEST_LENGTH * h[-1]
    bounds = (np.log(h[1] / 50), np.log(longest))
    best = minimize_scalar(squares, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    length = float(np.exp(best.x))
    if length > 0.999 * longest:
        length = float("nan")
    misfit = float(np.sqrt(best.fun / len(h)))
    return CorrelationLength(length, one_over_e, slope, misfit, len(h))
