from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sem2ct.data import resampled
from sem2ct.data.scans import Scan


def scan_of(volume: NDArray) -> Scan:
    return Scan(
        path=Path("made.tif"),
        shape=volume.shape,
        dtype=volume.dtype,
        pixel_um=6.4,
        data_bar_rows=0,
        slice_at=lambda z: volume[z],
    )


def whole(scan: Scan) -> NDArray:
    return scan.read(slice(None), slice(None), slice(None))


@pytest.mark.parametrize(
    ("ratio", "scale"), [(6.4, 8), (26.9 / 4.2, 8), (5.6, 4), (5.7, 8), (16, 16), (90, 32), (1, 2)]
)
def test_the_nearest_scale_is_the_nearest_factor(ratio: float, scale: int):
    # Between 4 and 8 the border is their geometric mean, 5.657.
    assert resampled.nearest_scale(ratio) == scale


def test_voxels_of_the_same_size_stay_as_they_are():
    volume = np.random.default_rng(0).integers(0, 65535, (5, 9, 7)).astype(np.uint16)
    same = resampled.resampled(scan_of(volume), from_um=6.4, to_um=6.4)
    np.testing.assert_array_equal(whole(same), volume)


@pytest.mark.parametrize(("to_um", "atol"), [(5.0, 2e-4), (8.0, 0.15), (12.9, 1e-3)])
def test_a_ramp_stays_a_ramp_in_the_frame_of_the_scan(to_um: float, atol: float):
    z, y, x = np.meshgrid(*(np.arange(n) * 6.4 + 3.2 for n in (24, 30, 36)), indexing="ij")
    ramp = (2 * z + 0.5 * y - x).astype(np.float32)
    found = resampled.resampled(scan_of(ramp), from_um=6.4, to_um=to_um)
    assert found.shape == tuple(int(n * 6.4 / to_um) for n in (24, 30, 36))
    assert found.pixel_um == to_um
    at = [np.arange(n) * to_um + to_um / 2 for n in found.shape]
    z, y, x = np.meshgrid(*at, indexing="ij")
    inner = (slice(4, -4),) * 3
    expected = (2 * z + 0.5 * y - x)[inner]
    # A widened kernel is not exact on ramps: 1 % of a voxel along z, 2 * 6.4 grey levels.
    np.testing.assert_allclose(whole(found)[inner], expected, rtol=0, atol=atol)


def test_what_is_finer_than_the_new_grid_is_averaged_away():
    stripes = np.zeros((1, 64, 64), np.float32)
    stripes[..., ::2] = 1
    found = whole(resampled.resampled(scan_of(stripes), from_um=1.0, to_um=2.5))
    # Without widening the kernel the samples would beat between 0 and 1.
    assert np.abs(found[0, :, 3:-3] - 0.5).max() < 0.02


def test_a_window_is_part_of_the_whole_bit_for_bit():
    volume = np.random.default_rng(1).normal(0, 1, (6, 40, 50)).astype(np.float32)
    found = resampled.resampled(scan_of(volume), from_um=6.4, to_um=5.0)
    together = whole(found)
    part = found.window(3, slice(11, 23), slice(30, 41))
    np.testing.assert_allclose(part, together[3, 11:23, 30:41], rtol=0, atol=1e-6)


def test_a_single_slice_is_resampled_within_its_plane():
    flat = np.full((1, 20, 30), 1000, np.int16)
    found = resampled.resampled(scan_of(flat), from_um=1.0, to_um=1.25)
    assert found.shape == (1, 16, 24)
    np.testing.assert_array_equal(whole(found), 1000)


def test_a_mask_stays_a_mask_with_the_area_it_had():
    y, x = np.mgrid[:60, :60]
    disc = ((y - 29.5) ** 2 + (x - 29.5) ** 2 < 20**2).astype(np.uint8)[None]
    found = whole(resampled.resampled_mask(scan_of(disc), step=1.25))
    assert found.shape == (1, 48, 48)
    assert set(np.unique(found)) == {0, 255}
    assert np.count_nonzero(found) * 1.25**2 == pytest.approx(np.pi * 20**2, rel=0.02)


def test_greys_beyond_the_type_are_cut_off_and_not_wrapped_around():
    edge = np.zeros((1, 24, 24), np.uint8)
    edge[..., 12:] = 255
    found = whole(resampled.resampled(scan_of(edge), from_um=1.0, to_um=0.8))
    # Cubic convolution overshoots by 7 % beside a step; 255 + 17 would wrap around to 16,
    # and 0 - 17 to 239.  The step lies at column 15.
    assert found[0, 5, 16:].min() > 230
    assert found[0, 5, :14].max() < 25
