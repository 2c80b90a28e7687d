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


def test_a_seam_is_the_line_across_which_greys_differ_most():
    image = np.array([[0, 2, 3, 9, 8], [0, 0, 3, 8, 9], [4, 5, 5, 7, 9]], np.uint8)
    # Columns: 3 / 3, 4 / 3, 13 / 3, 4 / 3; rows: (0 + 2 + 0 + 1 + 1) / 5, (4 + 5 + 2 + 1 + 0) / 5.
    assert looks.seam(image) == pytest.approx(np.log2(13 / 4))
    assert looks.seam(image.T.copy()) == pytest.approx(np.log2(13 / 4))
    assert np.isnan(looks.seam(np.full((9, 9), 3, np.uint8)))


def test_pieces_put_together_have_seams_and_noise_has_none():
    image = texture(128, seed=4, blur=3)
    pieces = image.reshape(4, 32, 128)[[2, 0, 3, 1]].reshape(128, 128)
    assert looks.seam(pieces) > looks.seam(image) + 1
    noise = np.random.default_rng(0).integers(0, 256, (400, 400)).astype(np.uint8)
    assert 0 < looks.seam(noise) < 0.3


@pytest.fixture
def real():
    return [texture(256, seed=seed, blur=3) for seed in range(3)]


def look(tiles, frames, *, real=(), most=10, held_out=False):
    gallery = Gallery([reduced(image, 4) for image in real], 16, frames=np.arange(len(real)))
    return looks.look(
        lambda k: tiles[k],
        np.array(frames),
        most=most,
        factor=4,
        gallery=gallery,
        held_out=held_out,
        workers=2,
        on_tile=list,
    )


def found(looked, tiles, real):
    read = {"read": lambda k: tiles[k], "read_image": lambda k: real[k]}
    matches = looks.search(looked, factor=4, **read)
    return matches, looks.pair(looked, matches, **read)


def test_tiles_are_looked_at_from_the_first_to_the_last(real):
    tiles = [image[:64, :64] for image in (*real, *real)]
    looked = look(tiles, [4, 4, 5, 5, 6, 6], most=3)
    assert looked.tiles.tolist() == [0, 2, 5]
    assert looked.frames.tolist() == [4, 5, 6]
    assert looked.slopes[1] == looks.grey_slope(tiles[2])
    np.testing.assert_array_equal(looked.reduced[2], reduced(tiles[5], 4))


def test_some_tiles_evenly_spread_are_held_against_one_another(real, monkeypatch):
    monkeypatch.setattr(looks, "COMPARED", 3)
    tiles = [image[:64, :64] for image in (*real, real[0])]
    looked = look(tiles, [4, 5, 6, 7])
    assert looked.tiles.tolist() == [0, 1, 2, 3]
    assert looked.compared.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(looked.reduced[2], reduced(tiles[3], 4))
    alike = looked.alike(3)
    assert alike[[0, 2]] == pytest.approx([1, 1], abs=1e-5)  # the first is the last
    assert alike[1] < 0.9
    assert looked.alike(1).shape == (1,)


def test_a_copied_tile_is_found_in_the_image_it_was_copied_from(real):
    copied = np.rot90(real[2][70:134, 101:165])
    tiles = [texture(64, seed=50, blur=3), copied]
    matches, pair = found(look(tiles, [0, 1], real=real), tiles, real)
    assert looks.most_similar(matches) == 1
    assert matches[1].similarity > 0.99
    assert (matches[1].image, matches[1].y, matches[1].x) == (2, 70, 101)
    assert matches[0].similarity < 0.93
    np.testing.assert_array_equal(pair["ours"], pair["reference"])


def test_every_tile_is_looked_up_in_its_place(real):
    tiles = [real[k][8:72, 16:80] for k in (2, 0, 1, 1)]
    count = []
    how = {"most": 9, "factor": 4, "held_out": False, "workers": 2}
    gallery = Gallery([reduced(image, 4) for image in real], 16, frames=np.arange(3))
    looked = looks.look(
        lambda k: tiles[k], np.arange(4), gallery=gallery, on_tile=lambda: count.append(1), **how
    )
    assert [match.image for match in looked.coarse] == [2, 0, 1, 1]
    assert {(match.y, match.x) for match in looked.coarse} == {(2, 4)}
    assert len(count) == 4


def looked_here():
    """Tiles this rank reads, first and again, images it reads, and what all ranks see."""
    real = [texture(256, seed=seed, blur=3) for seed in range(3)]
    tiles = [real[k % 3][5 * k : 5 * k + 64, 7:71] for k in range(7)]
    tiles[4] = texture(64, seed=50, blur=3)
    read_tiles, read_images = [], []

    def tile(k):
        read_tiles.append(k)
        return tiles[k]

    def image(k):
        read_images.append(k)
        return real[k]

    gallery = Gallery([reduced(one, 4) for one in real], 16, frames=np.arange(3))
    how = {"most": 7, "factor": 4, "held_out": False, "workers": 1, "on_tile": list}
    seen = looks.look(tile, np.arange(7), gallery=gallery, **how)
    mine = list(read_tiles)
    matches = looks.search(seen, read=tile, read_image=image, factor=4)
    return (
        mine,
        read_tiles[len(mine) :],
        read_images,
        (seen.slopes, seen.seams, seen.reduced, seen.coarse, matches),
    )


def test_several_processes_share_the_tiles_and_see_what_one_sees(two_ranks, four_ranks):
    tiles, again, images, alone = looked_here()
    assert (tiles, sorted(images)) == ([*range(7)], [0, 1, 2])
    assert sorted(again) == [0, 1, 2, 3, 5, 6]  # number 4 resembles nothing
    assert [match.similarity > 0.99 for match in alone[-1]] == [True] * 4 + [False, True, True]
    for count, ranks in ((2, two_ranks), (4, four_ranks)):
        found = ranks(looked_here)
        assert [one[0] for one in found] == [[*range(7)][rank::count] for rank in range(count)]
        assert sorted(k for one in found for k in one[2]) == [0, 1, 2]
        for *_, seen in found:
            for ours, theirs in zip(seen, alone, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_held_out_tiles_are_not_found_in_their_own_image(real):
    tiles = [real[1][:64, :64]]
    ((own,), _) = found(look(tiles, [1], real=real), tiles, real)
    ((held,), _) = found(look(tiles, [1], real=real, held_out=True), tiles, real)
    assert own.image == 1
    assert own.similarity == pytest.approx(1)
    assert held.image != 1
    assert held.similarity < 0.95


def test_tiles_without_contrast_have_no_pair(real):
    tiles = [np.full((64, 64), 9, np.uint8)]
    assert found(look(tiles, [0], real=real), tiles, real)[1] == {}
