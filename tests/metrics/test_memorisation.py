import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sem2ct.metrics import memorisation
from sem2ct.metrics.memorisation import Gallery, reduced


def medium(side: int, *, seed: int, blur: float = 4.0) -> np.ndarray:
    noise = gaussian_filter(
        np.random.default_rng(seed).normal(size=(side, side)), blur, mode="wrap"
    )
    return np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images():
    return [medium(640, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def gallery(images):
    return Gallery([reduced(image, 8) for image in images], 32, frames=np.array([7, 8, 9]))


def found(tile, images, gallery):
    coarse = gallery.best(reduced(tile, 8))
    return memorisation.refined(tile, images[coarse.image], coarse, factor=8)


def test_the_reduction_is_eight_unless_too_little_is_left():
    assert [memorisation.reduction(side) for side in (1024, 128, 127, 64, 32, 16, 8)] == [
        8, 8, 4, 4, 2, 1, 1,
    ]  # fmt: skip


def test_blocks_are_averaged_and_incomplete_ones_left_out():
    image = np.array([[1, 3, 9], [5, 7, 9], [8, 8, 8]], np.uint8)
    assert reduced(image, 2).tolist() == [[4.0]]


@pytest.mark.parametrize("orientation", range(8))
def test_an_orientation_is_undone(orientation):
    image = np.arange(12).reshape(3, 4)
    turned = memorisation.turned(image, orientation)
    np.testing.assert_array_equal(memorisation.turned_back(turned, orientation), image)


def test_the_eight_orientations_are_all_different():
    image = np.arange(9).reshape(3, 3)
    seen = {memorisation.turned(image, k).tobytes() for k in range(8)}
    assert len(seen) == 8


@pytest.mark.parametrize("orientation", range(8))
def test_a_turned_copy_with_noise_is_found_in_its_place(images, gallery, orientation):
    y, x = 37, 203
    place = images[1][y : y + 256, x : x + 256]
    copy = memorisation.turned_back(place, orientation).astype(float)
    noisy = copy + np.random.default_rng(orientation).normal(0, 15, copy.shape)
    match = found(np.clip(noisy, 0, 255).astype(np.uint8), images, gallery)
    assert match.similarity >= 0.98
    assert (match.image, match.orientation, match.y, match.x) == (1, orientation, y, x)


def test_a_copy_with_other_contrast_is_a_copy(images, gallery):
    tile = (40 + 0.5 * images[2][8:264, 16:272]).astype(np.uint8)
    assert found(tile, images, gallery).similarity >= 0.98


def test_independent_media_are_far_from_copies(images):
    large = Gallery([reduced(image, 8) for image in images], 64, frames=np.arange(3))
    for seed in range(100, 106):
        tile = medium(640, seed=seed)[:512, :512]
        assert large.best(reduced(tile, 8)).similarity <= 0.22
        copy = images[seed % 3][100:612, 5:517]
        coarse = large.best(reduced(copy, 8))
        assert memorisation.refined(copy, images[seed % 3], coarse, factor=8).similarity >= 0.93


def test_the_similarity_is_the_plain_correlation_at_every_place():
    image, tile = medium(40, seed=3, blur=1), medium(17, seed=4, blur=1)
    best = -1.0
    for k in range(8):
        side = memorisation.turned(tile, k)
        for y in range(24):
            for x in range(24):
                place = image[y : y + 17, x : x + 17]
                best = max(best, float(np.corrcoef(side.ravel(), place.ravel())[0, 1]))
    match = Gallery([reduced(image, 1)], 17, frames=np.zeros(1, int)).best(reduced(tile, 1))
    assert match.similarity == pytest.approx(best, abs=1e-5)


def test_images_as_large_as_the_tile_are_laid_over_it_once():
    tiles = np.stack([reduced(medium(64, seed=seed), 4) for seed in range(4)])
    match = Gallery(list(tiles), 16, frames=np.arange(4)).best(np.ascontiguousarray(tiles[2].T))
    assert (match.image, match.orientation) == (2, 4)
    assert match.similarity == pytest.approx(1, abs=1e-5)


def test_the_own_image_can_be_left_out(images, gallery):
    small = reduced(images[0][:256, :256], 8)
    assert gallery.best(small).image == 0
    held_out = gallery.best(small, without=7)
    assert held_out.image != 0
    assert held_out.similarity < 0.3


def test_flat_tiles_and_flat_places_resemble_nothing(gallery):
    assert np.isnan(gallery.best(np.full((32, 32), 7, np.float32)).similarity)
    empty = Gallery([np.full((40, 40), 7, np.float32)], 32, frames=np.zeros(1, int))
    assert empty.best(reduced(medium(256, seed=5), 8)).similarity == 0


@pytest.mark.parametrize("place", [(0, 0), (39, 24), (40, 25), (41, 60), (83, 100)])
def test_large_images_are_looked_up_in_pieces_that_leave_no_place_out(monkeypatch, place):
    image = reduced(medium(1000, seed=6), 8)[:100, :117]
    template = image[place[0] : place[0] + 17, place[1] : place[1] + 17]
    whole = Gallery([image], 17, frames=np.zeros(1, int)).best(template)
    monkeypatch.setattr(memorisation, "PIECE", 57)
    assert len(memorisation._pieces(117, 17)) == 3
    found = Gallery([image], 17, frames=np.zeros(1, int)).best(template)
    assert (found.y, found.x) == (whole.y, whole.x) == place
    assert found.similarity == pytest.approx(whole.similarity, abs=1e-5)


def test_a_generator_that_repeats_itself_resembles_itself():
    tiles = np.stack([reduced(medium(128, seed=seed), 8) for seed in range(6)])
    alike = memorisation.resemblance(tiles, np.arange(6))
    assert alike.max() < 0.6
    tiles[5] = np.rot90(tiles[1]) * 0.5 + 3
    alike = memorisation.resemblance(tiles, np.arange(6))
    assert alike[[1, 5]] == pytest.approx([1, 1], abs=1e-5)
    assert memorisation.resemblance(tiles, np.array([0, 1, 2, 3, 4, 1]))[5] < 0.6
    assert np.isnan(memorisation.resemblance(tiles, np.zeros(6, int))).all()


def test_the_band_is_half_way_from_the_highest_of_any_image_to_one():
    similarity = np.array([0.1, 0.3, 0.2, 0.2, np.nan])
    assert memorisation.band(similarity, np.array([0, 0, 1, 1, 2])) == pytest.approx((1 + 0.29) / 2)
    assert np.isnan(memorisation.band(similarity[4:], np.array([2])))


def test_a_copy_must_be_half_way_nearer_to_one_than_any_held_out_tile():
    similarity = np.array([0.95, 0.97, np.nan, 0.2])
    assert memorisation.copies(similarity, np.array([0.3, np.nan])) == (2, 0.93)
    assert memorisation.copies(similarity, np.array([0.1, 0.92])) == (1, pytest.approx(0.96))
    assert memorisation.copies(similarity, np.array([0.96])) == (0, pytest.approx(0.98))
    assert memorisation.copies(similarity, np.zeros(0)) == (2, 0.93)


def test_the_spread_of_no_similarities_is_undefined():
    assert memorisation.spread_of(np.array([np.nan]))["tiles"] == 0
    facts = memorisation.spread_of(np.array([0.0, 1.0, np.nan]))
    assert (facts["tiles"], facts["p50"], facts["highest"]) == (2, 0.5, 1)
