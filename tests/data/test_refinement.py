"""Slices between slices, against polynomials and against reading the whole scan."""

import numpy as np
import pytest

from sem2ct.data.intensity import Window
from sem2ct.data.refinement import RefinedSlices, cubic_weights
from sem2ct.data.scans import Scan
from sem2ct.runtime.refusal import Refusal


def scan_of(volume: np.ndarray, asked: list | None = None) -> Scan:
    def slice_at(z):
        if asked is not None:
            asked.append(z)
        return volume[z]

    return Scan("memory.tif", volume.shape, volume.dtype, None, 0, slice_at)


def refined(volume, first=0, last=None, scale=4, refine=True, window=(0, 255), asked=None):
    return RefinedSlices(
        scan_of(volume, asked),
        first=first,
        last=last or len(volume),
        scale=scale,
        refine=refine,
        window=Window(*window),
    )


def test_cubic_weights_repeat_polynomials_up_to_the_second_degree():
    at = np.array([-1.0, 0, 1, 2])
    for offset in (0.0, 0.125, 0.3, 0.5, 0.9):
        weights = cubic_weights(offset).astype(float)
        for power in range(3):
            assert weights @ at**power == pytest.approx(offset**power, abs=1e-6)
    assert cubic_weights(0.0).tolist() == [0, 1, 0, 0]
    # Keys 1981 at one half: -1/16, 9/16, 9/16, -1/16
    assert cubic_weights(0.5).tolist() == [-0.0625, 0.5625, 0.5625, -0.0625]


def test_a_parabola_along_z_is_interpolated_exactly_at_the_centres_of_the_fine_slices():
    z = np.arange(9, dtype=np.float32)
    volume = np.broadcast_to((3 * (z - 3) ** 2)[:, None, None], (9, 2, 3)).copy()
    slices = refined(volume)
    for i in range(8, 28):
        position = (i + 0.5) / 4 - 0.5
        assert slices.grey(i)[1, 2] == np.rint(3 * (position - 3) ** 2)


def test_the_ends_of_the_scan_are_mirrored():
    volume = np.random.default_rng(0).integers(20, 230, (3, 4, 5)).astype(np.uint8)
    padded = np.concatenate([volume[1::-1], volume, volume[:0:-1]])
    longer = refined(padded)
    short = refined(volume)
    for i in range(12):
        assert np.array_equal(short.grey(i), longer.grey(i + 8))
    one = refined(volume[:1])
    assert all(np.array_equal(one.grey(i), volume[0]) for i in range(4))


def test_a_part_of_the_scan_gives_the_slices_the_whole_scan_gives_there():
    volume = np.random.default_rng(1).integers(0, 256, (6, 4, 5)).astype(np.uint8)
    whole, part = refined(volume), refined(volume, 2, 4)
    assert len(part) == 8
    for i in range(8):
        assert np.array_equal(part.grey(i), whole.grey(8 + i))
        assert part.number(i) == whole.number(8 + i) == 8 + i
        assert part.source(i) == 2 + i // 4


def test_without_refinement_each_slice_gives_itself_at_its_middle():
    volume = np.random.default_rng(1).integers(0, 1000, (6, 4, 5)).astype(np.uint16)
    slices = refined(volume, 1, 4, refine=False, window=(100, 900))
    assert len(slices) == 3
    expected = np.clip(np.rint((volume[2].astype(float) - 100) * 255 / 800), 0, 255)
    assert np.array_equal(slices.grey(1), expected)
    assert (slices.number(1), slices.source(1)) == (2 * 4 + 2, 2)


def test_each_slice_is_read_once_on_the_way_through():
    asked = []
    volume = np.zeros((7, 4, 5), np.uint8)
    slices = refined(volume, asked=asked)
    for i in range(len(slices)):
        slices.grey(i)
        slices.field(i)
    assert sorted(asked) == list(range(7))


def test_the_field_of_view_is_that_of_the_slice_of_the_scan():
    volume = np.full((3, 40, 40), 90, np.uint8)
    y, x = np.mgrid[:40, :40]
    for z, radius in enumerate((19, 15, 11)):
        volume[z][(y - 19.5) ** 2 + (x - 19.5) ** 2 > radius**2] = 0
    slices = refined(volume, 1, 3)
    assert np.array_equal(slices.field(3), volume[1] > 0)
    assert np.array_equal(slices.field(4), volume[2] > 0)


def test_a_slice_with_nan_is_refused_by_number():
    volume = np.zeros((4, 4, 5), np.float32)
    volume[2, 1, 1] = np.nan
    with pytest.raises(Refusal, match=r"ct=memory.tif, slice 2: 1 of 20 values are NaN"):
        refined(volume, 0, 4).grey(5)
