import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from sem2ct.metrics import looks
from sem2ct.metrics.memorisation import Gallery, reduced


def texture(side: int, *, seed: int, blur: float = 1.5) -> np.ndarray:
    noise = gaussian_filter(
        np.random.default_rng(seed).normal(size=(side, side)), blur, mode="wrap"
    )
    return np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)


def test_the_grey_slope_is_counted():
    image = np.array([[0, 1, 5, 7], [0, 1, 5, 7], [0, 1, 5, 7]], np.uint8)
    # Along x: lag 1: (1 + 16 + 4) / 3, lag 2: (25 + 36) / 2; along y: 0.
    assert looks.grey_slope(image) == pytest.approx(np.log2((61 / 2) / 7))


def test_noise_has_slope_zero_a_ramp_two_and_one_grey_none():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (400, 400)).astype(np.uint8)
    assert looks.grey_slope(noise) == pytest.approx(0, abs=0.02)
    ramp = np.add.outer(np.arange(100), np.arange(100)).astype(np.uint8)
    assert looks.grey_slope(ramp) == pytest.approx(2)
    assert np.isnan(looks.grey_slope(np.full((9, 9), 3, np.uint8)))


def test_blur_and_enlargement_raise_the_slope():
    image = texture(200, seed=1, blur=0.8)
    sharp = looks.grey_slope(image)
    assert looks.grey_slope(gaussian_filter(image, 1)) > sharp + 0.1
    assert looks.grey_slope(zoom(image, 1.1, order=3)) > sharp + 0.02


@pytest.fixture
def real():
    return [texture(256, seed=seed, blur=3) for seed in range(3)]


def look(tiles, frames, most=10):
    return looks.look(
        lambda k: tiles[k], np.array(frames), most=most, factor=4, workers=2, on_tile=list
    )


def test_tiles_are_looked_at_from_the_first_to_the_last(real):
    tiles = [image[:64, :64] for image in (*real, *real)]
    looked = look(tiles, [4, 4, 5, 5, 6, 6], most=3)
    assert looked.tiles.tolist() == [0, 2, 5]
    assert looked.frames.tolist() == [4, 5, 6]
    assert looked.slopes[1] == looks.grey_slope(tiles[2])
    np.testing.assert_array_equal(looked.reduced[2], reduced(tiles[5], 4))


def test_a_copied_tile_is_found_in_the_image_it_was_copied_from(real):
    copied = np.rot90(real[2][70:134, 101:165])
    tiles = [texture(64, seed=50, blur=3), copied]
    looked = look(tiles, [0, 1])
    gallery = Gallery([reduced(image, 4) for image in real], 16, frames=np.arange(3))
    how = {"factor": 4, "workers": 2, "on_tile": list}
    read = {"read": lambda k: tiles[k], "read_image": lambda k: real[k]}
    matches = looks.search(looked, gallery, held_out=False, **read, **how)
    assert looks.most_similar(matches) == 1
    assert matches[1].similarity > 0.99
    assert (matches[1].image, matches[1].y, matches[1].x) == (2, 70, 101)
    assert matches[0].similarity < 0.93
    pair = looks.pair(looked, matches, **read)
    np.testing.assert_array_equal(pair["ours"], pair["reference"])


def test_held_out_tiles_are_not_found_in_their_own_image(real):
    tiles = [real[1][:64, :64]]
    looked = look(tiles, [1])
    gallery = Gallery([reduced(image, 4) for image in real], 16, frames=np.arange(3))
    how = {"factor": 4, "workers": 1, "on_tile": list}
    read = {"read": lambda k: tiles[k], "read_image": lambda k: real[k]}
    (own,) = looks.search(looked, gallery, held_out=False, **read, **how)
    (held,) = looks.search(looked, gallery, held_out=True, **read, **how)
    assert own.image == 1
    assert own.similarity == pytest.approx(1)
    assert held.image != 1
    assert held.similarity < 0.95


def test_tiles_without_contrast_have_no_pair(real):
    tiles = [np.full((64, 64), 9, np.uint8)]
    looked = look(tiles, [0])
    gallery = Gallery([reduced(image, 4) for image in real], 16, frames=np.arange(3))
    read = {"read": lambda k: tiles[k], "read_image": lambda k: real[k]}
    matches = looks.search(
        looked, gallery, held_out=False, factor=4, workers=1, on_tile=list, **read
    )
    assert looks.pair(looked, matches, **read) == {}
