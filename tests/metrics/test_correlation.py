import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sem2ct.metrics import correlation
from sem2ct.runtime.refusal import Refusal


def counted(pores: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits and pairs by looking at every pair of pixels."""
    height, width = pores.shape
    hits = np.zeros((reach + 1, 2 * reach + 1), np.int64)
    pairs = np.zeros_like(hits)
    for dy in range(reach + 1):
        for dx in range(-reach, reach + 1):
            for y in range(height - dy):
                for x in range(max(0, -dx), min(width, width - dx)):
                    pairs[dy, reach + dx] += 1
                    hits[dy, reach + dx] += pores[y, x] and pores[y + dy, x + dx]
    return hits, pairs


def line_mosaic(side: int, *, intensity: float, phi: float, seed: int) -> np.ndarray:
    """Cells of a Poisson line process, each pore with probability phi.

    Lines of length `intensity` per area hit a segment of length h 2 intensity h / pi times on
    average, so the chance of no hit, which is R, falls with lambda = pi / (2 intensity).
    """
    rng = np.random.default_rng(seed)
    radius = side / np.sqrt(2)
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    cell = np.zeros((side, side), np.uint64)
    # Lines that hit a disc are uniform in angle and distance; their number is width x length.
    for _ in range(rng.poisson(2 * radius * intensity)):
        angle, distance = rng.uniform(0, np.pi), rng.uniform(-radius, radius)
        above = x * np.cos(angle) + y * np.sin(angle) > distance
        cell = cell * np.uint64(6364136223846793005) + above.astype(np.uint64) + np.uint64(1)
    names, cell = np.unique(cell, return_inverse=True)
    return (rng.random(len(names)) < phi)[cell.reshape(side, side)]


@pytest.mark.parametrize(("height", "width", "reach"), [(9, 14, 8), (13, 7, 5), (2, 11, 1)])
def test_every_lag_of_a_small_image_is_counted_exactly(height, width, reach):
    pores = np.random.default_rng(height).random((height, width)) < 0.37
    hits, pairs = correlation.pair_counts(pores, reach)
    expected_hits, expected_pairs = counted(pores, reach)
    assert hits.dtype == pairs.dtype == np.int64
    np.testing.assert_array_equal(hits, expected_hits)
    np.testing.assert_array_equal(pairs, expected_pairs)


def test_float32_counts_of_a_large_image_are_those_of_integer_arithmetic():
    pores = np.random.default_rng(3).random((700, 900)) < 0.8
    hits, _ = correlation.pair_counts(pores, 60)
    for dy, dx in ((0, 0), (0, -60), (17, 0), (60, 60), (31, -7), (60, -60)):
        one = pores[: 700 - dy, max(0, -dx) : 900 - max(0, dx)]
        other = pores[dy:, max(0, dx) : 900 - max(0, -dx)]
        assert hits[dy, 60 + dx] == np.count_nonzero(one & other)


def test_an_image_of_nothing_but_pore_hits_with_every_pair():
    hits, pairs = correlation.pair_counts(np.ones((1100, 1000), bool), 40)
    np.testing.assert_array_equal(hits, pairs)


def test_counts_beyond_what_float32_can_hold_are_exact():
    # 9.3 million pairs: float32 has only every second number there, all of them whole.
    hits, pairs = correlation.pair_counts(np.ones((3000, 3100), bool), 8)
    np.testing.assert_array_equal(hits, pairs)


@pytest.mark.parametrize(("height", "width"), [(130, 300), (129, 40), (600, 131)])
def test_strips_join_without_a_gap(height, width):
    pores = np.random.default_rng(height).random((height, width)) < 0.3
    reach = 30
    hits, _ = correlation.pair_counts(pores, reach)
    for dy, dx in ((0, 0), (1, 0), (0, 1), (30, -30), (11, 29), (30, 30)):
        one = pores[: height - dy, max(0, -dx) : width - max(0, dx)]
        other = pores[dy:, max(0, dx) : width - max(0, -dx)]
        assert hits[dy, reach + dx] == np.count_nonzero(one & other)


def test_a_batch_has_the_integers_of_its_images():
    torch = pytest.importorskip("torch")
    pores = np.random.default_rng(7).random((3, 70, 90)) < np.array([0.2, 0.6, 1.1])[:, None, None]
    hits, pairs = correlation.pair_counts_batch(torch.from_numpy(pores), 25)
    assert hits.dtype == pairs.dtype == torch.int64
    for one, image in zip(hits.numpy(), pores, strict=True):
        expected, expected_pairs = correlation.pair_counts(image, 25)
        np.testing.assert_array_equal(one, expected)
        np.testing.assert_array_equal(pairs.numpy(), expected_pairs)


def test_a_batch_of_large_counts_takes_double_precision(monkeypatch):
    torch = pytest.importorskip("torch")
    pores = torch.ones(1, 60, 50, dtype=torch.bool)
    monkeypatch.setattr(correlation, "FLOAT32_COUNTS", 100)
    kinds = []
    once = torch.fft.rfft
    monkeypatch.setattr(torch.fft, "rfft", lambda x, **how: kinds.append(x.dtype) or once(x, **how))
    hits, pairs = correlation.pair_counts_batch(pores, 5)
    assert set(kinds) == {torch.float64}
    assert torch.equal(hits[0], pairs)


@pytest.mark.gpu
def test_a_batch_on_the_gpu_has_the_integers_of_the_processor():
    import torch

    pores = np.random.default_rng(8).random((4, 512, 640)) < 0.35
    hits, pairs = correlation.pair_counts_batch(torch.from_numpy(pores).cuda(), 128)
    for one, image in zip(hits.cpu().numpy(), pores, strict=True):
        np.testing.assert_array_equal(one, correlation.pair_counts(image, 128)[0])
    assert pairs.is_cuda


def test_doubtful_rounding_is_counted_again_in_float64(monkeypatch):
    pores = np.random.default_rng(5).random((20, 30)) < 0.5
    expected = counted(pores, 4)[0]
    once = correlation._raw_hits

    def coarse(pores, reach_px, real):
        off = 0.4 if real is np.float32 else 0.0
        return once(pores, reach_px, real) + off

    monkeypatch.setattr(correlation, "_raw_hits", coarse)
    np.testing.assert_array_equal(correlation.pair_counts(pores, 4)[0], expected)


PAGES = """
import resource, numpy as np
from sem2ct.metrics import correlation
pores = np.random.default_rng(0).integers(0, 10, (1024, 1024), dtype=np.uint8) < 3
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    correlation.pair_counts(pores, 256)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_an_image_is_counted_in_the_memory_of_the_one_before():
    default = {name: of for name, of in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", PAGES], env=default, capture_output=True, text=True, check=True
    )
    fetched = [int(line) for line in found.stdout.split()]
    assert fetched[0] > 1000
    assert max(fetched[2:]) < 200


def test_stripes_have_a_triangular_correlation_across_and_none_along():
    pores = np.zeros((40, 120), bool)
    pores[:, np.arange(120) % 8 < 3] = True
    s2 = correlation.two_point(pores, 8)
    across = [3, 2, 1, 0, 0, 0, 1, 2, 3]  # lag 6 is lag -2 of the next stripe
    x = np.arange(120)
    stripe = x % 8 < 3
    exact = [np.mean(stripe[: 120 - lag] & stripe[lag:]) for lag in range(9)]
    np.testing.assert_allclose(correlation.along_x(s2), exact, atol=1e-12)
    np.testing.assert_allclose(correlation.along_x(s2), np.array(across) / 8, atol=0.03)
    np.testing.assert_allclose(correlation.along_y(s2), 3 / 8, atol=1e-12)


def test_a_checkerboard_alternates_along_both_axes_and_not_along_the_diagonal():
    y, x = np.mgrid[0:30, 0:42]
    s2 = correlation.two_point((y + x) % 2 == 0, 4)
    np.testing.assert_allclose(correlation.along_x(s2), [0.5, 0, 0.5, 0, 0.5], atol=0.02)
    np.testing.assert_allclose(correlation.along_y(s2), [0.5, 0, 0.5, 0, 0.5], atol=0.02)
    assert s2[1, 4 + 1] == pytest.approx(0.5, abs=0.02)
    assert s2[1, 4 - 1] == pytest.approx(0.5, abs=0.02)


def test_one_disc_has_the_intersection_area_of_two_discs():
    radius, side, h = 40.0, 200, 25
    y, x = np.mgrid[0:side, 0:side] - 99.3
    hits, _ = correlation.pair_counts(y**2 + x**2 < radius**2, 30)
    lens = 2 * radius**2 * np.arccos(h / (2 * radius)) - h / 2 * np.sqrt(4 * radius**2 - h**2)
    for entry in (hits[0, 30 + h], hits[h, 30], hits[15, 30 - 20], hits[20, 30 + 15]):
        assert entry == pytest.approx(lens, rel=0.01)


def test_radial_bins_lie_at_the_mean_distance_of_their_lags():
    lags = correlation.radial_lags(3)
    assert lags[:2] == pytest.approx([0, (1 + 1 + 2 * np.sqrt(2)) / 4])
    bin_two = [2, 2, *[np.sqrt(5)] * 4]  # and sqrt(8) rounds to 3
    assert lags[2] == pytest.approx(np.mean(bin_two))


def test_the_radial_mean_weighs_each_lag_of_the_half_plane_once():
    reach = 3
    s2 = np.random.default_rng(0).random((reach + 1, 2 * reach + 1))
    rows = [
        s2[dy, reach + dx]
        for dy in range(reach + 1)
        for dx in range(-reach, reach + 1)
        if (dy > 0 or dx >= 0) and round(np.hypot(dy, dx)) == 2
    ]
    assert correlation.radial(s2)[2] == pytest.approx(np.mean(rows))
    assert correlation.radial(s2)[0] == s2[0, reach]


@pytest.mark.parametrize("phi", [0.0, 1.0])
def test_r_is_undefined_without_two_phases_and_the_fit_says_so(phi):
    pores = np.full((20, 30), bool(phi))
    r = correlation.normalised(correlation.radial(correlation.two_point(pores, 6)), phi)
    assert np.isnan(r).all()
    fit = correlation.fit_correlation_length(correlation.radial_lags(6), r)
    assert np.isnan([fit.length_px, fit.one_over_e_px, fit.slope_px, fit.rms_misfit]).all()
    assert fit.lags == 0


def test_r_is_one_at_lag_zero_and_zero_at_the_square_of_the_porosity():
    r = correlation.normalised(np.array([0.3, 0.2, 0.09]), 0.3)
    np.testing.assert_allclose(r, [1, 0.11 / 0.21, 0], atol=1e-12)


def test_an_exact_exponential_is_fitted_exactly_up_to_the_lag_before_five_percent():
    lags = np.arange(60.0)
    fit = correlation.fit_correlation_length(lags, np.exp(-lags / 7.3))
    assert fit.length_px == pytest.approx(7.3, rel=1e-6)
    assert fit.rms_misfit < 1e-7
    assert fit.lags == 22  # exp(-21 / 7.3) = 0.056, exp(-22 / 7.3) = 0.049
    assert fit.one_over_e_px == pytest.approx(7.3, rel=0.01)
    assert fit.slope_px == pytest.approx(1 / (1 - np.exp(-1 / 7.3)), rel=1e-9)


def test_what_lies_beyond_five_percent_does_not_change_the_fit():
    lags = np.arange(60.0)
    curve = np.exp(-lags / 7.3)
    with_tail = np.where(np.arange(60) > 22, 0.6, curve)
    before = correlation.fit_correlation_length(lags, curve)
    assert correlation.fit_correlation_length(lags, with_tail).length_px == before.length_px


def test_the_fit_is_unweighted_least_squares_and_not_a_line_through_logarithms():
    lags = np.arange(12.0)
    curve = 0.5 * np.exp(-lags / 2) + 0.5 * np.exp(-lags / 9)
    trial = np.linspace(1, 12, 22001)
    last = np.flatnonzero(curve < 0.05)
    used = slice(0, last[0] if len(last) else None)
    squares = ((curve[used] - np.exp(-lags[used] / trial[:, None])) ** 2).sum(axis=1)
    fit = correlation.fit_correlation_length(lags, curve)
    assert fit.length_px == pytest.approx(trial[squares.argmin()], abs=5e-4)
    assert fit.rms_misfit == pytest.approx(np.sqrt(squares.min() / fit.lags), rel=1e-4)


def test_no_lag_beyond_256_px_enters_the_fit():
    lags = np.arange(400.0)
    assert correlation.fit_correlation_length(lags, np.exp(-lags / 500)).lags == 257


def test_a_curve_that_does_not_fall_has_no_length():
    lags = np.arange(30.0)
    fit = correlation.fit_correlation_length(lags, np.full(30, 1.0))
    assert np.isnan(fit.length_px)
    noise = correlation.fit_correlation_length(lags, np.array([1.0, *[0.01] * 29]))
    assert np.isnan(noise.length_px)
    assert noise.lags == 1


def test_a_poisson_line_mosaic_has_its_known_correlation_length():
    intensity = 0.1
    known = np.pi / (2 * intensity)
    lags = correlation.radial_lags(60)
    curves = []
    for seed in range(6):
        pores = line_mosaic(400, intensity=intensity, phi=0.4, seed=seed)
        s2 = correlation.radial(correlation.two_point(pores, 60))
        curves.append(s2)
    mean = np.mean(curves, axis=0)
    fit = correlation.fit_correlation_length(lags, correlation.normalised(mean, mean[0]))
    assert fit.length_px == pytest.approx(known, rel=0.12)


def test_boolean_discs_have_their_closed_form():
    side, radius, density, reach = 500, 9.0, 0.002, 30
    rng = np.random.default_rng(8)
    y, x = np.mgrid[0:side, 0:side]
    found = []
    for _ in range(4):
        grain = np.zeros((side, side), bool)
        count = rng.poisson(density * (side + 2 * radius) ** 2)
        for cy, cx in rng.uniform(-radius, side + radius, (count, 2)):
            y0, y1 = max(0, int(cy) - 10), int(cy) + 11
            x0, x1 = max(0, int(cx) - 10), int(cx) + 11
            box = np.s_[y0 : max(y0, y1), x0 : max(x0, x1)]
            grain[box] |= (y[box] - cy) ** 2 + (x[box] - cx) ** 2 < radius**2
        found.append(correlation.radial(correlation.two_point(~grain, reach)))
    s2 = np.mean(found, axis=0)
    h = np.minimum(correlation.radial_lags(reach), 2 * radius)
    lens = 2 * radius**2 * np.arccos(h / (2 * radius)) - h / 2 * np.sqrt(4 * radius**2 - h**2)
    expected = np.exp(-density * (2 * np.pi * radius**2 - lens))
    phi = np.exp(-density * np.pi * radius**2)
    assert s2[0] == pytest.approx(phi, abs=0.03)
    r = correlation.normalised(s2, s2[0])
    np.testing.assert_allclose(r, correlation.normalised(expected, phi), atol=0.03)


@pytest.mark.parametrize("reach", [0, 20, 31])
def test_a_reach_the_image_does_not_support_is_refused_with_the_longest_allowed(reach):
    with pytest.raises(Refusal, match=r"reach_px=\d+, but an image of shape \(20, 30\).*1 to 19"):
        correlation.pair_counts(np.zeros((20, 30), bool), reach)


def test_pairs_along_the_axes_of_a_volume_are_counted_exactly():
    pores = np.random.default_rng(4).random((8, 9, 11)) < 0.45
    hits, pairs = correlation.axis_counts(pores, 6)
    for row, axis in enumerate((2, 1, 0)):
        for lag in range(7):
            one = np.take(pores, range(pores.shape[axis] - lag), axis)
            other = np.take(pores, range(lag, pores.shape[axis]), axis)
            assert hits[row, lag] == (one & other).sum()
            assert pairs[row, lag] == one.size


def test_the_axes_of_an_image_are_those_of_its_map():
    pores = np.random.default_rng(5).random((40, 33)) < 0.3
    hits, pairs = correlation.axis_counts(pores, 12)
    s2 = correlation.two_point(pores, 12)
    np.testing.assert_allclose(hits[0] / pairs[0], correlation.along_x(s2))
    np.testing.assert_allclose(hits[1] / pairs[1], correlation.along_y(s2))


def test_the_variogram_is_half_the_chance_of_two_unlike_points():
    # On a ring of pixels every lag sees the same pores, so the identity is exact.
    ring = np.random.default_rng(6).random(500) < 0.3
    s2 = np.array([np.mean(ring & np.roll(ring, lag)) for lag in range(20)])
    unlike = [np.mean(ring != np.roll(ring, lag)) / 2 for lag in range(20)]
    np.testing.assert_allclose(correlation.variogram(s2, ring.mean()), unlike, atol=1e-12)


def test_an_anisotropic_gaussian_level_set_has_the_arcsine_of_its_covariance():
    # Cut at its median, R = (2 / pi) arcsin(rho); noise filtered with sigma has
    # rho = exp(-h^2 / (4 sigma^2)).
    found = []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(size=(460, 460))
        pores = gaussian_filter(noise, (2.5, 6), truncate=6)[30:-30, 30:-30] < 0
        s2 = correlation.two_point(pores, 25)
        found.append([correlation.along_x(s2), correlation.along_y(s2)])
    h = np.arange(26)
    for curve, sigma in zip(np.mean(found, axis=0), (6, 2.5), strict=True):
        rho = np.exp(-(h**2) / (4 * sigma**2))
        np.testing.assert_allclose(curve, 0.25 + np.arcsin(rho) / (2 * np.pi), atol=0.015)


def test_porespy_agrees_at_every_distance_of_its_bins():
    porespy = pytest.importorskip("porespy", minversion="3.1", reason="porespy is not installed")
    pores = np.random.default_rng(9).random((60, 80)) < 0.4
    reach = 20
    s2 = correlation.two_point(pores, reach)
    porespy.settings.tqdm["disable"] = True
    theirs = porespy.metrics.two_point_correlation(pores, bins=np.arange(reach + 1) + 0.5)
    # There it is the chance given that the first point is pore.
    found = theirs.probability * pores.mean()
    np.testing.assert_allclose(found, correlation.radial(s2)[1:], atol=1e-9)
