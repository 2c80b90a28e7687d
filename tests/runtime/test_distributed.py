import pytest
import torch
from torch import nn

from sem2ct.runtime import distributed


def test_one_process_is_the_identity():
    whole = torch.arange(5)
    assert distributed.world_size() == 1
    assert distributed.is_main()
    assert torch.equal(distributed.share(whole), whole)
    assert torch.equal(distributed.mean_over_ranks(whole), whole)
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)
    distributed.barrier()


def test_what_is_not_finite_is_mended_and_what_is_missing_stays_missing():
    broken, absent = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    broken.grad = torch.tensor([float("nan"), float("inf"), 2.0])
    distributed.average_gradients([broken, absent])
    assert broken.grad.tolist() == [0.0, 1e5, 2.0]
    assert absent.grad is None


def shares_and_means():
    rank = distributed.rank()
    return (
        distributed.share(torch.arange(6)).tolist(),
        distributed.mean_over_ranks(torch.tensor([10.0 * rank, 3.0])).tolist(),
        distributed.any_rank(rank == 1),
        distributed.any_rank(False),
    )


def test_two_ranks_take_every_second_row_and_agree(two_ranks):
    first, second = two_ranks(shares_and_means)
    assert first == ([0, 2, 4], [5.0, 3.0], True, False)
    assert second == ([1, 3, 5], [5.0, 3.0], True, False)


def gradients_of_a_share(uneven):
    """Mean loss over this rank's rows; `uneven` rows pass through a second head."""
    torch.manual_seed(3)
    body, head, unused = nn.Linear(4, 5), nn.Linear(5, 1), nn.Linear(2, 2)
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
    loss = body(distributed.share(rows)).tanh().square().mean()
    if not uneven or distributed.rank() == 0:
        loss = loss + head(body(distributed.share(rows))).mean() * (2 if uneven == "half" else 1)
    loss.backward()
    parameters = [*body.parameters(), *head.parameters(), *unused.parameters()]
    distributed.average_gradients(parameters)
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


def test_rows_that_do_not_divide_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="5 rows cannot be shared by 2"):
        distributed.share(torch.arange(5))


def stride_of_an_averaged_gradient():
    weight = nn.Parameter(torch.rand(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    weight.grad = torch.arange(48.0).view(4, 3, 2, 2) * (1 + distributed.rank())
    distributed.average_gradients([weight])
    return weight.grad.stride(), weight.stride(), weight.grad


def test_an_averaged_gradient_lies_in_memory_as_its_weight_does(two_ranks):
    for grad_stride, weight_stride, grad in two_ranks(stride_of_an_averaged_gradient):
        assert grad_stride == weight_stride
        torch.testing.assert_close(grad, torch.arange(48.0).view(4, 3, 2, 2) * 1.5)
