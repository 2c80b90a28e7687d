import pytest
import torch
from torch import Tensor

from sem2ct.cyclegan.history import History
from sem2ct.runtime.distributed import share

BATCH = 4
CPU = torch.device("cpu")


def history(size: int, seed: int = 0) -> History:
    return History(size=size, batch_size=BATCH, side_px=2, seed=seed, name="sem", device=CPU)


def batch(step: int) -> Tensor:
    """Images of one grey level each, all different: 4 * step + index, of 255."""
    levels = torch.arange(BATCH) + BATCH * step
    return (levels.view(-1, 1, 1, 1) / 127.5 - 1).expand(-1, 1, 2, 2).clone()


def levels(images: Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def walk(one: History, steps: range) -> list[list[int]]:
    return [levels(one.exchange(share(batch(step)), BATCH * step)[0]) for step in steps]


def walk_of_one_rank() -> tuple[list[list[int]], Tensor]:
    one = history(10)
    return walk(one, range(12)), one.state()["images"]


def test_without_a_history_every_fake_is_shown():
    assert walk(history(0), range(5)) == [levels(batch(step)) for step in range(5)]


def test_a_history_that_is_not_full_shows_what_it_keeps():
    one = history(3 * BATCH)
    assert walk(one, range(3)) == [levels(batch(step)) for step in range(3)]
    assert sorted(one.images[:, :, 0, 0, 0].flatten().tolist()) == list(range(3 * BATCH))


def test_the_size_is_met_exactly_whatever_the_batch():
    assert history(10).all_depths.tolist() == [3, 3, 2, 2]
    assert history(2).all_depths.tolist() == [1, 1, 0, 0]


def test_a_lane_without_depth_always_shows_the_fresh_fake():
    shown = walk(history(2), range(30))
    assert [row[2:] for row in shown] == [levels(batch(step))[2:] for step in range(30)]
    assert [row[0] for row in shown] != [levels(batch(step))[0] for step in range(30)]


def test_images_stay_in_their_lane_and_come_back_at_most_once():
    shown = walk(history(10), range(50))
    for index in range(BATCH):
        lane = [row[index] for row in shown]
        assert all(level % BATCH == index for level in lane)
        earlier = [level for step, level in enumerate(lane) if level < BATCH * step]
        assert len(earlier) == len(set(earlier))


def test_an_earlier_fake_comes_back_with_its_own_style():
    one, other = history(10), history(10)
    for step in range(30):
        styles = (torch.arange(BATCH) + BATCH * step) * 7 % 5
        shown, shown_styles = one.exchange(batch(step), BATCH * step, styles)
        assert shown_styles.tolist() == [level * 7 % 5 for level in levels(shown)]
        assert torch.equal(shown, other.exchange(batch(step), BATCH * step)[0])
    assert min(levels(shown)) < BATCH * 29


def test_half_of_what_a_full_history_shows_is_old():
    one = history(8)
    old = total = 0
    for step in range(62):
        row = levels(one.exchange(batch(step), BATCH * step)[0])
        if step >= 2:
            old += sum(level < BATCH * step for level in row)
            total += BATCH
    # 240 coins: four standard deviations are 31.
    assert abs(old - total / 2) < 31


def test_a_restored_history_goes_on_the_same():
    one = history(10)
    walk(one, range(6))
    other = history(10)
    other.restore(one.state())
    assert walk(other, range(6, 12)) == walk(one, range(6, 12))


def test_a_history_of_another_size_is_not_taken():
    with pytest.raises(ValueError, match="history of"):
        history(10).restore(history(3).state())


def test_two_ranks_show_what_one_process_shows(two_ranks):
    one = history(10)
    whole = walk(one, range(12))
    (first, state), (second, same_state) = two_ranks(walk_of_one_rank)
    assert [row[0::2] for row in whole] == first
    assert [row[1::2] for row in whole] == second
    assert torch.equal(state, one.state()["images"])
    assert torch.equal(same_state, state)
