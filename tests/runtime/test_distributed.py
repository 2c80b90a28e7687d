import pytest
import torch

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


def test_rows_that_do_not_divide_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="5 rows cannot be shared by 2"):
        distributed.share(torch.arange(5))
