import itertools

import numpy as np
import pytest

from sem2ct.data import tiling
from sem2ct.runtime.refusal import Refusal


def test_a_grid_holds_every_tile_that_fits():
    # Down: 0, 30 (30 + 40 <= 75); across: 0, 30, 60 (60 + 40 = 100).
    places = tiling.grid((75, 100), tile_px=40, stride_px=30)
    assert places.tolist() == [[0, 0], [0, 30], [0, 60], [30, 0], [30, 30], [30, 60]]
    assert tiling.grid((39, 100), tile_px=40, stride_px=30).shape == (0, 2)


def test_the_papers_grid_on_one_frame():
    assert len(tiling.grid((1024, 1536), tile_px=1024, stride_px=500)) == 2


def disc(side, radius):
    y, x = np.mgrid[:side, :side]
    return (y - side / 2) ** 2 + (x - side / 2) ** 2 < radius**2


def ragged(shape, seed):
    holes = np.random.default_rng(seed).random(shape) < 0.004
    return ~holes


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_patches_lie_inside_the_mask_and_share_no_voxel(seed):
    mask = np.stack([disc(90, 44), ragged((90, 90), seed), disc(90, 30)])
    most = tiling.capacity(mask, patch_px=9)
    for n in (1, most // 3, most):
        taken = np.zeros(mask.shape, dtype=int)
        places = tiling.scatter(mask, patch_px=9, n=n, seed=seed)
        for z, y, x in places:
            taken[z, y : y + 9, x : x + 9] += 1
        assert taken.sum() == n * 81  # none hangs over the edge
        assert taken.max() == 1
        assert not taken[~mask].any()
        np.testing.assert_array_equal(places[:, 0], np.sort(places[:, 0]))


def test_a_free_frame_holds_rows_times_columns():
    mask = np.ones((3, 29, 50), dtype=bool)
    assert tiling.capacity(mask, patch_px=7) == 3 * 4 * 7


def most_by_trying(inside, px):
    """The most patches in rows, by trying every offset and every set of places in a row."""
    height, width = inside.shape
    best = 0
    for offset in range(px):
        total = 0
        for y in range(offset, height - px + 1, px):
            fits = [x for x in range(width - px + 1) if inside[y : y + px, x : x + px].all()]
            sizes = [
                size
                for size in range(len(fits) + 1)
                for some in itertools.combinations(fits, size)
                if all(b - a >= px for a, b in itertools.pairwise(some))
            ]
            total += max(sizes, default=0)
        best = max(best, total)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_capacity_is_the_best_of_all_rows(seed):
    inside = np.random.default_rng(seed).random((11, 14)) > 0.06
    assert tiling.capacity(inside[None], patch_px=3) == most_by_trying(inside, 3)


def test_too_many_are_refused_with_the_largest_number_that_works():
    mask = disc(60, 28)[None]
    most = tiling.capacity(mask, patch_px=8)
    with pytest.raises(Refusal, match=rf"ct_patches={most + 1} .* possible is ct_patches={most}$"):
        tiling.scatter(mask, patch_px=8, n=most + 1, seed=0)
    assert len(tiling.scatter(mask, patch_px=8, n=most, seed=0)) == most


@pytest.mark.parametrize("shape", [(2, 30, 30), (2, 5, 30)])
def test_a_mask_without_room_is_refused(shape):
    mask = np.zeros(shape, dtype=bool)
    mask[:, :7, :20] = True
    with pytest.raises(Refusal, match="no patch of 8x8 lies inside the mask in any of 2 slices"):
        tiling.scatter(mask, patch_px=8, n=1, seed=0)


def test_places_depend_on_the_seed_alone():
    mask = disc(80, 38)[None]
    first, again, other = (tiling.scatter(mask, patch_px=8, n=20, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_place_of_a_full_row_is_reached_and_neither_side_is_favoured():
    # Two of 8 fit into 22 with a slack of 6, so none stands at 7; from the left alone their
    # mean would be 7.75.
    mask = np.ones((1, 12, 22), dtype=bool)
    places = np.concatenate([tiling.scatter(mask, patch_px=8, n=2, seed=s) for s in range(400)])
    assert set(places[:, 1]) == set(range(5))
    assert set(places[:, 2]) == set(range(15)) - {7}
    assert places[:, 2].mean() == pytest.approx(7.0, abs=0.3)


@pytest.mark.parametrize(("core", "halo"), [(8, 3), (7, 0), (100, 5)])
def test_cores_cover_a_slice_once_and_are_found_again_in_what_was_read(core, halo):
    image = np.arange(19 * 26).reshape(19, 26)
    covered = np.full(image.shape, -1)
    for tile in tiling.plan(image.shape, core_px=core, halo_px=halo):
        top, bottom, left, right = tile.read
        y0, y1, x0, x1 = tile.core
        a, b, c, d = tile.kept
        assert (covered[y0:y1, x0:x1] == -1).all()
        covered[y0:y1, x0:x1] = image[top:bottom, left:right][a:b, c:d]
        assert top == max(0, y0 - halo)
        assert right == min(26, x1 + halo)
    np.testing.assert_array_equal(covered, image)
