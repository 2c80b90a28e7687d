import numpy as np
import pytest
import torch

from sem2ct.stylegan import augment_filter
from sem2ct.stylegan.augment_filter import SYM2, amplify_bands, band_filters


def images(count, side, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, side, side, generator=random, dtype=dtype)


def response(taps, frequency):
    """Of a symmetric filter at frequencies in periods per pixel."""
    place = np.arange(len(taps)) - len(taps) // 2
    return np.cos(2 * np.pi * np.outer(frequency, place)) @ taps


def test_sym2_is_an_orthonormal_wavelet_with_two_vanishing_moments():
    h, n = np.array(SYM2), np.arange(4)
    assert h.sum() == pytest.approx(np.sqrt(2))
    assert h @ h == pytest.approx(1)
    assert h[:2] @ h[2:] == pytest.approx(0)
    assert ((-1) ** n) @ h == pytest.approx(0)
    assert ((-1) ** n * n) @ h == pytest.approx(0)


def low(f):
    """The half-band low-pass in closed form, at a frequency in periods per pixel."""
    return np.cos(np.pi * f) ** 4 * (1 + 2 * np.sin(np.pi * f) ** 2)


def bands(f):
    """Split the lower half again, twice: the spread filter has twice the frequency."""
    return np.stack(
        [
            low(f) * low(2 * f) * low(4 * f),
            low(f) * low(2 * f) * (1 - low(4 * f)),
            low(f) * (1 - low(2 * f)),
            1 - low(f),
        ]
    )


def test_the_bands_are_those_of_the_half_band_filters_spread_octave_by_octave():
    frequency = np.linspace(0, 0.5, 57)
    for taps, band in zip(band_filters(), bands(frequency), strict=True):
        assert response(taps, frequency) == pytest.approx(band, abs=1e-12)


def test_the_bands_add_up_to_everything():
    centre = np.eye(43)[21]
    assert band_filters().sum(axis=0) == pytest.approx(centre, abs=1e-12)


def test_equal_gains_scale_along_both_axes():
    batch = images(2, 24)
    gains = torch.tensor([[1.5] * 4, [1.0] * 4], dtype=torch.float64)
    expected = batch * torch.tensor([2.25, 1.0])[:, None, None, None]
    torch.testing.assert_close(amplify_bands(batch, gains), expected)


def test_it_is_the_separable_filter_of_the_mirrored_image():
    side, gains = 26, np.array([0.5, 2.0, 1.3, 0.7])
    image = images(1, side)
    taps = gains @ band_filters()
    padded = np.pad(image[0, 0].numpy(), 21, mode="reflect")
    rows = np.apply_along_axis(np.convolve, 1, padded, taps, "valid")
    expected = np.apply_along_axis(np.convolve, 0, rows, taps, "valid")
    result = amplify_bands(image, torch.from_numpy(gains)[None])[0, 0].numpy()
    assert result == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("periods", [3, 23, 40, 90, 128])
def test_a_wave_is_amplified_as_the_bands_say(periods):
    x = torch.arange(256, dtype=torch.float64)
    gains = np.array([0.5, 3.0, 1.2, 0.8])
    wave = torch.cos(2 * np.pi * x * periods / 256).expand(1, 1, 256, 256)
    # Along y the image is constant, and gets the gain of the lowest band.
    expected = gains @ bands(periods / 256) * 0.5 * wave[0, 0, 128, 30:-30].numpy()
    result = amplify_bands(wave, torch.from_numpy(gains)[None])[0, 0, 128, 30:-30]
    assert result.numpy() == pytest.approx(expected, abs=1e-12)


def test_the_length_of_the_blocks_changes_nothing(monkeypatch):
    batch = images(2, 50)
    gains = torch.tensor([[0.5, 2.0, 1.3, 0.7], [1.0, 0.2, 2.0, 1.0]], dtype=torch.float64)
    before = amplify_bands(batch, gains)
    monkeypatch.setattr(augment_filter, "_BLOCK", 7)
    augment_filter._blocks.cache_clear()
    after = amplify_bands(batch, gains)
    augment_filter._blocks.cache_clear()
    torch.testing.assert_close(after, before)


def test_images_smaller_than_the_filter_are_mirrored_as_often_as_needed():
    gains = torch.tensor([[2.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    flat = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    torch.testing.assert_close(amplify_bands(flat, gains), 4 * flat)


def test_float32_stays_float32():
    batch = images(1, 16, dtype=torch.float32)
    gains = torch.tensor([[0.5, 2.0, 1.3, 0.7]], dtype=torch.float64)
    result = amplify_bands(batch, gains)
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result.double(), amplify_bands(batch.double(), gains), atol=1e-5, rtol=0
    )
