"""N processes against one that takes its batch in rounds: bit for bit, and from N to M."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

SMALL = importlib.util.spec_from_file_location(
    "small_trainer", Path(__file__).with_name("test_trainer.py")
)
small = importlib.util.module_from_spec(SMALL)
SMALL.loader.exec_module(small)


def state_after(first, last, before):
    """State of this rank after steps first ... last - 1, from nothing or from a state."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as the ranks have: the order of sums hangs on it
    try:
        model = small.trainer(batch_per_device=4)
        if before:
            model.restore(copy.deepcopy(before))
        small.train(model, last - first, first)
        return copy.deepcopy(model.state())
    finally:
        torch.set_num_threads(threads)


def assert_same_bits(states, expected):
    for state in states:
        actual = small.tensors(state)
        assert actual.keys() == small.tensors(expected).keys()
        for name, value in small.tensors(expected).items():
            assert torch.equal(actual[name], value), name


@pytest.fixture(scope="module")
def in_rounds():
    """One process that takes its batch in four rounds: midway, and two steps later.

    Midway lies between two looks at the signs of the logits.
    """
    midway = state_after(0, 5, {})
    return midway, state_after(5, 7, midway)


def test_two_and_four_processes_are_one_process_bit_for_bit(two_ranks, four_ranks, in_rounds):
    for ranks in (two_ranks, four_ranks):
        assert_same_bits(ranks(state_after, 0, 7, {}), in_rounds[1])


def test_a_training_goes_on_with_any_number_of_processes(two_ranks, four_ranks, in_rounds):
    midway, end = in_rounds
    assert_same_bits(two_ranks(state_after, 5, 7, midway), end)
    by_two = two_ranks(state_after, 0, 5, {})[0]
    assert_same_bits(four_ranks(state_after, 5, 7, by_two), end)
    by_four = four_ranks(state_after, 0, 5, {})[0]
    assert_same_bits([state_after(5, 7, by_four)], end)
