import numpy as np
import pytest
from scipy import ndimage, stats

from sem2ct.metrics import monitor
from sem2ct.metrics.monitor import Described, Likeness, RockMonitor, describe

SIDE, THRESHOLD = 32, 110


def medium(seed, side=160, blur=2.0, shift=0.0):
    """A grey picture of blobs; `shift` brightens it."""
    noise = np.random.default_rng(seed).standard_normal((side, side))
    smooth = ndimage.gaussian_filter(noise, blur, mode="wrap")
    return np.clip(128 + 50 * smooth / smooth.std() + shift, 0, 255).astype(np.uint8)


def cut(image, n, seed):
    corners = np.random.default_rng(seed).integers(0, image.shape[0] - SIDE, (n, 2))
    return np.stack([image[y : y + SIDE, x : x + SIDE] for y, x in corners])


FRAMES = [medium(k) for k in range(3)]
REAL = np.concatenate([cut(frame, 40, 7) for frame in FRAMES])
HELD_OUT = cut(medium(9), 60, 8)


@pytest.fixture(scope="module")
def judge():
    return RockMonitor(
        training_tiles=REAL, validation_tiles=HELD_OUT, frames=FRAMES, threshold=THRESHOLD
    )


def test_a_tile_is_described_by_what_can_be_counted():
    tile = np.full((8, 8), 200, np.uint8)
    tile[:, :3] = 10  # three of eight columns are pore: one wall of eight faces
    described = describe(np.stack([tile, tile.T]), threshold=100)
    np.testing.assert_allclose(described.scalars["porosity"], 3 / 8)
    np.testing.assert_allclose(described.scalars["specific_surface"], 8 / (8 * 7))
    np.testing.assert_allclose(described.s2[:, 0], 3 / 8)
    # One of seven steps across is 190 grey levels, none along.
    np.testing.assert_allclose(described.scalars["gradient"], (190 / 7 + 0) / 2, rtol=1e-6)


def test_a_tile_of_one_phase_has_no_correlation_length():
    described = describe(np.full((2, 12, 12), 250, np.uint8), threshold=100)
    np.testing.assert_array_equal(described.scalars["correlation_length"], 0)


def described_as(porosity, surface, length, gradient, s2):
    names = ("porosity", "specific_surface", "correlation_length", "gradient")
    scalars = dict(zip(names, map(np.array, (porosity, surface, length, gradient)), strict=True))
    return Described(scalars, np.array(s2), np.zeros((len(porosity), 1, 1), np.float32))


def test_the_rock_distance_is_the_mean_of_five_terms_in_real_standard_deviations():
    real = described_as([0.1, 0.3], [1.0, 5.0], [2.0, 4.0], [6.0, 9.0], [[0.1, 0.0], [0.3, 0.1]])
    ours = described_as([0.2, 0.4], [1.0, 4.0], [7.0, 3.0], [6.0, 5.0], [[0.2, 0.3], [0.4, 0.2]])
    sd_porosity, sd_surface, sd_length, sd_gradient = (d / 2**0.5 for d in (0.2, 4, 2, 3))
    terms = [
        0.1 / sd_porosity,
        stats.wasserstein_distance([1, 4], [1, 5]) / sd_surface,
        ((3 - 2) + (7 - 4)) / 2 / sd_length,
        ((6 - 5) + (9 - 6)) / 2 / sd_gradient,
        (0.25 - 0.05) / sd_porosity,  # the mean curves differ most at lag 1
    ]
    assert monitor.rock_distance(ours, real) == pytest.approx(np.mean(terms))


def test_a_sample_of_the_rock_is_near_and_other_rocks_are_far(judge):
    own = judge.measure(cut(FRAMES[1], 60, 3))["rock_distance"]
    coarser = judge.measure(cut(medium(1, blur=4.0), 60, 3))["rock_distance"]
    brighter = judge.measure(cut(medium(1, shift=40), 60, 3))["rock_distance"]
    blurred = ndimage.gaussian_filter(cut(FRAMES[1], 60, 3), (0, 1, 1))
    assert own < 0.4
    assert judge.measure(blurred)["rock_distance"] > 2 * own
    assert coarser > 2 * own
    assert brighter > 2 * own


def test_the_images_set_aside_are_judged_as_tiles_are(judge):
    measured = judge.measure(HELD_OUT)
    real = judge.real()
    assert measured.pop("rock_distance_validation") == 0
    assert real == measured


def test_without_images_set_aside_there_is_nothing_to_say_about_them():
    none = np.zeros((0, SIDE, SIDE), np.uint8)
    judge = RockMonitor(
        training_tiles=REAL, validation_tiles=none, frames=FRAMES, threshold=THRESHOLD
    )
    assert judge.real() == {}
    assert "rock_distance_validation" not in judge.measure(HELD_OUT)


def test_the_spread_of_the_rock_itself_is_about_one(judge):
    assert judge.measure(cut(FRAMES[0], 60, 4))["spread"] == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_generator_of_few_pictures_has_little_spread(judge, kinds):
    # Noise of two grey levels hides the repetition from a comparison of bytes.
    noise = np.random.default_rng(5).integers(0, 3, (40, SIDE, SIDE))
    few = np.minimum(REAL[np.arange(40) % kinds] + noise, 255).astype(np.uint8)
    spread = judge.measure(few)["spread"]
    assert spread < (0.1, 0.9)[kinds - 1]


def test_alike_structures_at_unlike_places_have_little_spread(judge):
    """Stripes rolled around: the greys of a place differ, the correlation functions hardly."""
    stripes = np.tile(np.where(np.arange(SIDE) % 8 < 4, 60, 200), (SIDE, 1)).astype(np.uint8)
    rolled = np.stack([np.roll(stripes, k, axis=1) for k in range(8)])
    assert rolled.std(axis=0).mean() > REAL.std(axis=0).mean()
    assert judge.measure(rolled)["spread"] < 0.3


def plain_largest(tile, frame):
    """Largest correlation by its definition, place by place, over the eight symmetries."""
    best = -1.0
    for side in (tile, tile[:, ::-1]):
        for quarter in range(4):
            turned = np.rot90(side, quarter).ravel()
            for y in range(frame.shape[0] - tile.shape[0] + 1):
                for x in range(frame.shape[1] - tile.shape[1] + 1):
                    piece = frame[y : y + tile.shape[0], x : x + tile.shape[1]].ravel()
                    best = max(best, np.corrcoef(turned, piece)[0, 1])
    return best


def test_the_largest_correlation_is_the_one_of_the_definition():
    frames = [medium(4, side=58), medium(5, side=46)]
    tile = medium(6, side=SIDE)
    # Tiles of 32 px are compared as 16 px: blocks of two.
    small = [monitor.reduce(image, 2).astype(float) for image in (tile, *frames)]
    expected = max(plain_largest(small[0], frame) for frame in small[1:])
    assert Likeness(frames, tile_px=SIDE).largest(tile) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("symmetry", range(8))
def test_a_copy_is_found_however_it_is_turned(symmetry):
    piece = FRAMES[2][20 : 20 + SIDE, 64 : 64 + SIDE]
    copy = np.rot90(piece[:, ::-1] if symmetry % 2 else piece, symmetry // 2)
    likeness = Likeness(FRAMES, tile_px=SIDE)
    assert likeness.largest(copy) == pytest.approx(1, abs=1e-5)
    assert likeness.largest(255 - copy) < 0.9
    assert likeness.largest(medium(33, side=SIDE)) < 0.8


def test_flat_places_and_flat_tiles_are_like_nothing():
    frame = np.full((64, 64), 90, np.uint8)
    frame[40:, 40:] = medium(1, side=24)
    likeness = Likeness([frame], tile_px=SIDE)
    assert likeness.largest(np.full((SIDE, SIDE), 90, np.uint8)) == 0
    assert np.isfinite(likeness.largest(medium(2, side=SIDE)))


@pytest.mark.parametrize(("side", "factor"), [(1024, 8), (128, 8), (64, 4), (32, 2), (16, 1)])
def test_tiles_are_compared_at_an_eighth_or_at_16_px(side, factor):
    assert monitor.reduction(side) == factor


def test_only_the_first_tiles_are_searched_for(judge, monkeypatch):
    monkeypatch.setattr(monitor, "COMPARED_TILES", 2)
    tiles = np.concatenate([[medium(70, side=SIDE), medium(71, side=SIDE)], REAL[:5]])
    assert judge.measure(tiles)["similarity_largest"] < 0.9


def test_a_monitor_of_frames_takes_its_threshold_from_all_training_pixels(monkeypatch):
    monkeypatch.setattr(monitor, "BAND_ROWS", 50)  # 160 rows are three bands and a rest
    frames = [np.where(medium(k) < THRESHOLD, 40, 60).astype(np.uint8) for k in range(2)]
    for frame in frames:
        frame[-10:] = 220  # all that is bright lies in the rest: Otsu's rule then says 140
    rock = {"tile_px": SIDE, "seed": 3}
    judge = monitor.of_frames(frames, [], threshold="otsu", **rock)
    given = monitor.of_frames(frames, [], threshold=140, **rock)
    measured = judge.measure(REAL[:9])
    assert measured == given.measure(REAL[:9])
    assert measured["porosity"] == pytest.approx(np.mean(REAL[:9] < 140))
