import pytest
import torch
from torch import nn

from sem2ct.runtime import distributed, sums


def test_a_tree_parts_even_from_odd_pieces_first():
    """In float32 1 is lost beside 2**25, so the sum tells the order it was made in."""
    values = [2.0**25, 1.0, -(2.0**25), 1.0]
    by_tree = sums.tree(range(4), lambda k: torch.tensor(values[k]))
    assert by_tree.item() == 2.0
    assert sum(map(torch.tensor, values)).item() == 1.0


def test_a_tree_holds_few_tensors_at_a_time():
    alive = most = 0

    class Counted(torch.Tensor):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def value(k):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return torch.ones(1).as_subclass(Counted)

    assert sums.tree(range(16), value).item() == 16
    assert most <= 4 + 2


def rough(k):
    """Values of very different sizes, so that every order gives another sum."""
    draw = torch.Generator().manual_seed(k)
    return torch.randn(1001, generator=draw) * 10 ** torch.randint(-6, 6, (1001,), generator=draw)


def sum_of_eight_pieces():
    mine = range(distributed.rank(), 8, distributed.world_size())
    rounds = len(mine)
    return sums.of_rounds({k: rough(mine[k]) for k in reversed(range(rounds))})


def test_one_two_and_four_processes_add_to_the_same_bits(two_ranks, four_ranks):
    expected = sum_of_eight_pieces()
    other_order = sum(rough(k) for k in range(8))
    assert not torch.equal(expected, other_order)
    torch.testing.assert_close(expected, other_order, rtol=1e-4, atol=1.0)
    for ranks in (two_ranks, four_ranks):
        for found in ranks(sum_of_eight_pieces):
            assert torch.equal(found, expected)


def test_what_is_not_finite_is_mended_and_what_is_missing_stays_missing():
    broken, absent = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    slopes = torch.tensor([float("nan"), float("inf"), 2.0])
    for rounds, expected in ((1, [0.0, 1e5, 2.0]), (3, [0.0, 3e5, 6.0])):
        sums.gradients([broken, absent], rounds, lambda _: broken.backward(slopes))
        assert broken.grad.tolist() == expected
        assert absent.grad is None


def gradients_of_a_share(uneven):
    """Mean loss over this rank's rows; `uneven` rows pass through a second head."""
    torch.manual_seed(3)
    body, head, unused = nn.Linear(4, 5), nn.Linear(5, 1), nn.Linear(2, 2)
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))

    def backward(_):
        loss = body(distributed.share(rows)).tanh().square().mean()
        if not uneven or distributed.rank() == 0:
            loss = loss + head(body(distributed.share(rows))).mean() * (2 if uneven else 1)
        (loss / distributed.world_size()).backward()

    parameters = [*body.parameters(), *head.parameters(), *unused.parameters()]
    sums.gradients(parameters, 1, backward)
    return [None if p.grad is None else p.grad.tolist() for p in parameters]


def test_two_ranks_have_the_gradients_of_the_full_batch(two_ranks):
    whole = gradients_of_a_share("")
    for shared in two_ranks(gradients_of_a_share, ""):
        assert [grad is None for grad in shared] == [False] * 4 + [True] * 2
        for one, two in zip(whole[:4], shared[:4], strict=True):
            torch.testing.assert_close(torch.tensor(two), torch.tensor(one), atol=6e-8, rtol=0)


def test_a_gradient_that_one_rank_lacks_counts_as_zeros(two_ranks):
    """The head's bias gradient is 2 on rank 0 and missing on rank 1."""
    first, second = two_ranks(gradients_of_a_share, "half")
    assert first == second
    assert first[3] == [1.0]


@pytest.mark.parametrize("rounds", [2, 3])
def test_a_gradient_that_one_round_lacks_counts_as_zeros(rounds):
    seldom = nn.Parameter(torch.zeros(2))

    def backward(k):
        if k == 1:
            seldom.backward(torch.tensor([3.0, -1.0]))

    sums.gradients([seldom], rounds, backward)
    assert seldom.grad.tolist() == [3.0, -1.0]


def stride_of_a_sum():
    weight = nn.Parameter(torch.rand(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    mine = torch.arange(48.0).view(4, 3, 2, 2) * (1 + distributed.rank())
    sums.gradients([weight], 1, lambda _: weight.backward(mine))
    return weight.grad.stride(), weight.stride(), weight.grad


def test_a_summed_gradient_lies_in_memory_as_its_weight_does(two_ranks):
    for grad_stride, weight_stride, grad in two_ranks(stride_of_a_sum):
        assert grad_stride == weight_stride
        torch.testing.assert_close(grad, torch.arange(48.0).view(4, 3, 2, 2) * 3)
