"""Sums over the pieces of a batch, whoever computed them, in one order.

N processes take every N-th row of a batch, and K rounds in a process every K-th row of
its share: N K pieces, the same ones for every N.  Their gradients are added as a tree
that parts even from odd pieces first, of which the pieces of a process are one branch.
So 1, 2, 4 or 8 processes that cut a batch into the same pieces get the same bits; any
other cut differs by the order of a sum.

(torch's DistributedDataParallel leaves gradients wrong in lazily regularised steps,
where some parameters have none.)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sem2ct.runtime.distributed import world_size
from sem2ct.runtime.presence import exchange

# Beyond one machine each piece would travel to every process of the others.
IN_ORDER_UP_TO = 8


def tree(pieces: Sequence[int], value: Callable[[int], Tensor]) -> Tensor:
    """Adds the values of pieces, even ones and odd ones apart.

    Args:
        pieces: Their numbers, at least one.
        value: Called once per piece; its tensor is added to in place.

    Returns:
        The sum.  Meanwhile no more than log2(pieces) + 2 tensors are held.
    """
    if len(pieces) == 1:
        return value(pieces[0])
    return tree(pieces[::2], value).add_(tree(pieces[1::2], value))


@exchange()
@torch.no_grad()
def over_ranks(mine: Tensor) -> Tensor:
    """Adds the tensors of all processes, in the order of `tree` where there are few.

    Args:
        mine: Of one shape and type on all ranks; not changed.

    Returns:
        The sum, the same bits on every rank; detached.
    """
    ranks = world_size()
    if ranks == 1:
        return mine.detach()
    nccl = dist.get_backend() == "nccl"
    total = mine.detach().to("cuda" if nccl else "cpu", copy=True).flatten()
    if ranks <= 2 or ranks > IN_ORDER_UP_TO:
        dist.all_reduce(total)
        return total.view(mine.shape).to(mine.device)
    # Every rank adds one part for all others: as many bytes as a ring would send.
    total = nn.functional.pad(total, (0, -len(total) % ranks))
    parts = torch.empty_like(total)
    dist.all_to_all_single(parts, total)
    part = tree(range(ranks), list(parts.view(ranks, -1)).__getitem__)
    dist.all_gather(list(total.view(ranks, -1)), part)
    return total[: mine.numel()].view(mine.shape).to(mine.device)


def of_rounds(values: Mapping[int, Tensor]) -> Tensor:
    """Adds one value per round, and those of all processes; detached.

    Args:
        values: By number of the round, of one shape and type.
    """
    return over_ranks(tree(range(len(values)), lambda k: values[k].detach().clone()))


def gradients(
    parameters: Iterable[nn.Parameter], rounds: int, backward: Callable[[int], None]
) -> Tensor:
    """Leaves in every parameter the sum of its gradients over rounds and processes.

    What is not finite in a round is mended: one overflow must not poison Adam's moments
    for ever.  A gradient that is missing counts as zeros where another round or rank has
    one; where none has one it stays missing, so that the optimizer leaves the parameter
    alone.

    Args:
        parameters: In the same order on every rank, on one device and of one type.
        rounds: Of this process.
        backward: Adds to the gradients those of round k.

    Returns:
        0-d, 1 if anything had to be mended, in any round of any process, else 0; nobody has
        waited for it.
    """
    parameters = list(parameters)
    if rounds == 1 and world_size() == 1:
        _clear(parameters)
        backward(0)
        return _mend([parameter.grad for parameter in parameters if parameter.grad is not None])
    if not parameters:
        return torch.zeros(())
    incomplete = False

    def flat(k: int) -> Tensor:
        nonlocal incomplete
        _clear(parameters)
        backward(k)
        incomplete |= any(parameter.grad is None for parameter in parameters)
        return _flat(parameters)

    total = over_ranks(tree(range(rounds), flat))
    _spread(total[:-1], parameters, incomplete)
    return total[-1].clamp(max=1.0)


def _mend(gradients: list[Tensor]) -> Tensor:
    """Makes gradients finite, in place; returns 1 if they were not, else 0."""
    broken = _broken(gradients)
    for gradient in gradients:
        torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)
    return broken


def _broken(gradients: list[Tensor]) -> Tensor:
    # The norm of anything that is no number is none, and costs one look at each element.
    norm = nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
    return (~torch.isfinite(norm)).float()


def _clear(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


@torch.no_grad()
def _flat(parameters: list[nn.Parameter]) -> Tensor:
    """All gradients, mended, which of them exist, and 1 if they had to be mended."""
    exists = [float(parameter.grad is not None) for parameter in parameters]
    pieces = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters]
    # Joined once and mended in place: copies are what this costs.
    whole = torch.cat([*pieces, pieces[0].new_tensor([*exists, 0.0])])
    whole[-1] = _mend([whole[: -len(parameters) - 1]])
    return whole


@torch.no_grad()
def _spread(flat: Tensor, parameters: list[nn.Parameter], incomplete: bool) -> None:
    """Gives every parameter its part of the vector."""
    # Looked at only if something is missing here: it makes a GPU wait.
    exists = flat[-len(parameters) :].tolist() if incomplete else [1.0] * len(parameters)
    lengths = [parameter.numel() for parameter in parameters]
    for parameter, part, anywhere in zip(
        parameters, flat[: sum(lengths)].split(lengths), exists, strict=True
    ):
        # Laid out as the weight: fused Adam goes through memory without asking.
        parameter.grad = (
            torch.empty_like(parameter).copy_(part.view_as(parameter)) if anywhere else None
        )


def woven(several: dict[int, Tensor]) -> Tensor:
    """Images of all rounds in the order of the batch.

    Args:
        several: By round k of K, the images (n, ...) of this rank's batch at k, k + K, ...

    Returns:
        (N, ...).
    """
    whole = torch.cat(list(several.values()))
    for k, images in several.items():
        whole[k :: len(several)] = images
    return whole
