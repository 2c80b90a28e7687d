import itertools

import numpy as np
import pytest
import torch

from sem2ct.data.crops import Crops
from sem2ct.data.datasets import turn
from sem2ct.runtime.refusal import Refusal

SIDE = 4
# Every 4 x 4 piece differs from every other, turned or mirrored or not.
FRAMES = [
    np.random.default_rng(k).integers(0, 256, shape).astype(np.uint8)
    for k, shape in enumerate([(6, 9), (5, 4)])
]
PLACES = 3 * 6 + 2 * 1


def crops_of(symmetries="none", seed=2, frames=FRAMES):
    return Crops(frames, tile_px=SIDE, symmetries=symmetries, seed=seed)


def pieces(number):
    """Every crop there is, with the symmetries of that number, by its bytes."""
    found = {}
    for k, frame in enumerate(FRAMES):
        places = itertools.product(range(frame.shape[0] - 3), range(frame.shape[1] - 3))
        for (y, x), symmetry in itertools.product(places, range(number)):
            piece = turn(frame[y : y + SIDE, x : x + SIDE], symmetry)
            found[bytes(piece.copy())] = (k, y, x, symmetry)
    return found


def test_the_places_are_counted_in_all_frames():
    assert len(crops_of()) == PLACES
    assert crops_of().frames == 2


@pytest.mark.parametrize(("symmetries", "number"), [("none", 1), ("mirror", 2), ("dihedral", 8)])
def test_every_place_and_symmetry_is_cut_about_equally_often(symmetries, number):
    known = pieces(number)
    assert len(known) == PLACES * number
    total = 60 * len(known)
    shown = [known[bytes(tile)] for tile in crops_of(symmetries).tiles(np.arange(total))]
    counts = np.array([shown.count(which) for which in known.values()])
    assert np.all(np.abs(counts - 60) < 4.5 * np.sqrt(60))


def test_a_batch_is_in_the_range_of_the_network():
    crops = crops_of("dihedral")
    batch = crops.batch(3, 5, rank=0, world_size=1)
    assert (batch.shape, batch.dtype) == ((5, 1, SIDE, SIDE), torch.float32)
    expected = crops.tiles(np.arange(3, 8)).astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(batch[:, 0].numpy(), expected, atol=1e-6)


def test_a_crop_depends_on_its_number_and_the_seed_alone():
    whole = crops_of("dihedral").batch(0, 12, rank=0, world_size=1)
    later = crops_of("dihedral").batch(7, 5, rank=0, world_size=1)
    assert torch.equal(later, whole[7:])
    assert not torch.equal(crops_of("dihedral", seed=3).batch(0, 12, rank=0, world_size=1), whole)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_cut_together_what_one_would(world_size):
    crops = crops_of("mirror")
    whole = crops.batch(6, 12, rank=0, world_size=1)
    for rank in range(world_size):
        share = crops.batch(6, 12, rank=rank, world_size=world_size)
        assert torch.equal(share, whole[rank::world_size])


def test_the_share_of_a_lone_process_is_the_whole_batch():
    crops = crops_of("dihedral")
    assert torch.equal(crops.share(6, 4), crops.batch(6, 4, rank=0, world_size=1))


def test_pictures_are_the_first_crops_of_the_training():
    crops = crops_of()
    np.testing.assert_array_equal(crops.pictures(3), crops.tiles(np.array([0, 1, 2])))


def test_flat_crops_are_drawn_anew_and_the_others_stay():
    frame = np.random.default_rng(4).integers(0, 256, (64, 96)).astype(np.uint8)
    frame[:, :48] = 255  # a charged half: every crop that lies in it is flat
    numbers = np.arange(200)
    taken = {"tile_px": 16, "symmetries": "none", "seed": 5}
    every = Crops([frame], **taken).tiles(numbers)
    crops = Crops([frame], **taken, flat_share=0.5)
    few = crops.tiles(numbers)
    flat = [(tile[:8, :8] == 255).all() and (tile[8:, :8] == 255).all() for tile in every]
    most = np.array([(tile == 255).all() for tile in every])
    assert 40 < most.sum() < 130
    assert not any((tile == 255).all() for tile in few)
    np.testing.assert_array_equal(few[~np.array(flat)], every[~np.array(flat)])
    np.testing.assert_array_equal(crops.tiles(numbers[50:]), few[50:])


def test_frames_that_are_flat_everywhere_are_taken_as_they_are():
    flat = Crops(
        [np.zeros((20, 20), np.uint8)], tile_px=16, symmetries="none", seed=1, flat_share=0
    )
    assert not flat.tiles(np.arange(2)).any()


def test_frames_smaller_than_a_crop_are_refused():
    small = [*FRAMES, np.zeros((9, 3), np.uint8)]
    with pytest.raises(Refusal, match=r"6x9, 5x4, 9x3 pixels hold no tile of 4 px"):
        crops_of(frames=small)
    with pytest.raises(Refusal, match="frames of none"):
        crops_of(frames=[])


def test_an_unknown_symmetry_is_refused():
    with pytest.raises(Refusal, match="symmetries=all; allowed are none, mirror, dihedral"):
        crops_of("all")
