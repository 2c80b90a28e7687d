import numpy as np
import pytest
import tifffile
from tqdm import tqdm

from sem2ct.data import ct_patches, scans
from sem2ct.data.store import Store
from sem2ct.runtime.refusal import Refusal

DRAW = np.random.default_rng(12)
Y, X = np.mgrid[:60, :66]
INSIDE = (Y - 29.5) ** 2 + (X - 32.5) ** 2 < 28**2
VOLUME = np.where(INSIDE, DRAW.integers(1000, 9000, (3, 60, 66)), 0).astype(np.uint16)


@pytest.fixture
def scan(tmp_path):
    tifffile.imwrite(tmp_path / "ct.tif", VOLUME, photometric="minisblack")
    return scans.open(tmp_path / "ct.tif")


def plan(scan, **changed):
    settings = {
        "ct_mask": "found",
        "ct_window": (1, 99),
        "ct_patches": 12,
        "ct_patch_px": 8,
        "seed": 3,
        "progress": tqdm(disable=True),
    }
    return ct_patches.plan_patches(scan, **settings | changed)


def test_the_field_of_view_is_found_in_every_slice(scan):
    field = ct_patches.Field(scan, "found")
    for z in range(3):
        np.testing.assert_array_equal(field[z], INSIDE)
    assert field.share == pytest.approx(INSIDE.mean())
    assert ct_patches.Field(scan, "none")[1].all()


def test_a_given_mask_counts_for_all_slices_or_for_each(scan, tmp_path):
    flat = (X > 20).astype(np.uint8) * 7
    tifffile.imwrite(tmp_path / "flat.tif", flat)
    each = np.stack([flat, 1 - flat % 2, flat])
    tifffile.imwrite(tmp_path / "each.tif", each, photometric="minisblack")
    flat_field = ct_patches.Field(scan, str(tmp_path / "flat.tif"))
    each_field = ct_patches.Field(scan, str(tmp_path / "each.tif"))
    np.testing.assert_array_equal(flat_field[2], X > 20)
    np.testing.assert_array_equal(each_field[1], X <= 20)


@pytest.mark.parametrize("shape", [(60, 65), (2, 60, 66)])
def test_a_mask_of_another_shape_is_refused(scan, tmp_path, shape):
    tifffile.imwrite(tmp_path / "mask.tif", np.ones(shape, np.uint8), photometric="minisblack")
    with pytest.raises(Refusal, match=r"ct_mask=.*mask\.tif: shape .* scan's is \(3, 60, 66\)"):
        plan(scan, ct_mask=str(tmp_path / "mask.tif"))


def test_the_window_comes_from_the_voxels_inside_the_mask(scan):
    window = plan(scan).window
    expected = np.percentile(VOLUME[:, INSIDE], (1, 99))
    assert (window.low, window.high) == tuple(expected)


def test_a_long_scan_is_sampled_from_end_to_end(tmp_path):
    ramp = np.arange(200)[:, None, None] * 50 + DRAW.integers(0, 40, (200, 8, 9))
    tifffile.imwrite(tmp_path / "ct.tif", ramp.astype(np.uint16), photometric="minisblack")
    window = plan(scans.open(tmp_path / "ct.tif"), ct_window=(0, 100), ct_mask="none").window
    assert window.low < 40
    assert window.high >= 9950


def test_patches_are_cut_where_their_places_say(scan, tmp_path):
    planned = plan(scan)
    progress = tqdm(disable=True)
    ct_patches.write_patches(
        tmp_path / "ct", planned, pixel_um=2.0, shard_patches=5, progress=progress
    )
    store = Store(tmp_path / "ct")
    places = store.places()
    assert len(store) == 12
    assert store.window == planned.window
    low, high = planned.window.low, planned.window.high
    for k in range(12):
        z, y, x = (places[axis][k] for axis in "zyx")
        assert INSIDE[y : y + 8, x : x + 8].all()
        grey = VOLUME[z, y : y + 8, x : x + 8].astype(float)
        exact = np.clip((grey - low) * 255 / (high - low), 0, 255)
        np.testing.assert_allclose(store.tiles[k], exact, atol=0.501)


def test_a_constant_scan_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "ct.tif", np.full((60, 66), 4, np.uint16))
    with pytest.raises(Refusal, match=r"ct=.*ct\.tif: every pixel has the grey value 4"):
        plan(scans.open(tmp_path / "ct.tif"))


def test_voxels_that_are_no_numbers_are_refused_with_their_slice(tmp_path):
    volume = VOLUME.astype(np.float32)
    volume[2, 30, 30] = np.nan
    tifffile.imwrite(tmp_path / "ct.tif", volume, photometric="minisblack")
    with pytest.raises(Refusal, match=r"ct\.tif, slice 2: 1 of 3960 values are NaN"):
        plan(scans.open(tmp_path / "ct.tif"))


def test_a_slice_that_was_not_sampled_is_still_checked_for_numbers(scan, tmp_path):
    planned = plan(scan, ct_patches=plan_capacity(scan))
    volume = VOLUME.astype(np.float32)
    volume[1, 30, 30] = np.inf
    tifffile.imwrite(tmp_path / "later.tif", volume, photometric="minisblack")
    later = ct_patches.Planned(
        scans.open(tmp_path / "later.tif"), planned.field, planned.window, planned.places, 8
    )
    with pytest.raises(Refusal, match=r"slice 1: 1 of 3960 values are NaN or infinite"):
        ct_patches.write_patches(
            tmp_path / "ct", later, pixel_um=None, shard_patches=99, progress=tqdm(disable=True)
        )


def plan_capacity(scan):
    with pytest.raises(Refusal, match="largest possible is ct_patches=") as refusal:
        plan(scan, ct_patches=10_000)
    return int(str(refusal.value).rpartition("=")[2])


def test_too_many_patches_are_refused_with_the_largest_number_that_works(scan):
    most = plan_capacity(scan)
    assert len(plan(scan, ct_patches=most).places) == most


def test_an_empty_mask_is_refused(scan, tmp_path):
    tifffile.imwrite(tmp_path / "mask.tif", np.zeros((60, 66), np.uint8))
    with pytest.raises(Refusal, match="mask is empty"):
        plan(scan, ct_mask=str(tmp_path / "mask.tif"))


def test_the_picture_shows_outline_and_patches(scan):
    planned = plan(scan)
    picture = ct_patches.draw_places(planned)
    assert picture.shape == (60, 66, 3)
    _, y, x = planned.places[planned.places[:, 0] == np.argmax(np.bincount(planned.places[:, 0]))][
        0
    ]
    assert (picture[y, x : x + 8] == (255, 210, 0)).all()
    assert ((picture == (255, 40, 40)).all(axis=-1)).sum() > 100
