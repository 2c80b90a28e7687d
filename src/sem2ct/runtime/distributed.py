"""What several processes need to compute what one process would.

Rank r takes rows r, r + N, r + 2N, ... of the global batch; gradients are averaged
in one flat vector.  (torch's DistributedDataParallel leaves gradients wrong in lazily
regularised steps, where some parameters have none.)  Without a process group all of
this is the identity.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    """Returns this process's number, 0 without a process group."""
    return dist.get_rank() if _grouped() else 0


def world_size() -> int:
    """Returns the number of processes, 1 without a process group."""
    return dist.get_world_size() if _grouped() else 1


def is_main() -> bool:
    """Tells whether this process is the one that writes."""
    return rank() == 0


def share(whole: Tensor) -> Tensor:
    """Takes this rank's rows of a global batch.

    Args:
        whole: (n, ...), the same on every rank.

    Returns:
        (n / N, ...): rows rank, rank + N, rank + 2N, ...; a view.

    Raises:
        ValueError: If the rows cannot be shared evenly.
    """
    if len(whole) % world_size():
        raise ValueError(f"{len(whole)} rows cannot be shared by {world_size()} processes")
    return whole[rank() :: world_size()]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the ranks, and mends what is not finite.

    A missing gradient counts as zeros where another rank has one; where no rank has
    one it stays missing, so that the optimizer leaves the parameter alone just as it
    would in one process.

    Args:
        parameters: In the same order on every rank, on one device and of one type.
    """
    parameters = list(parameters)
    if world_size() > 1:
        _average_flat(parameters)
    for parameter in parameters:
        if parameter.grad is not None:
            # One overflow must not poison Adam's moments for ever.
            torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)


def mean_over_ranks(value: Tensor) -> Tensor:
    """Returns the mean of a tensor over all ranks, the same on each; detached."""
    value = value.detach()
    if world_size() == 1:
        return value
    total = value.to(_exchange_device(), copy=True)
    dist.all_reduce(total)
    return (total / world_size()).to(value.device)


def any_rank(flag: bool) -> bool:
    """Tells every rank whether the flag is set on at least one."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(int(flag), device=_exchange_device())
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags)


def from_main(measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Calls a function on rank 0 only and gives its numbers to every rank."""
    found = dict(measure()) if is_main() else {}
    if world_size() > 1:
        parcel: list[Any] = [found]
        dist.broadcast_object_list(parcel, src=0, device=_exchange_device())
        found = parcel[0]
    return found


def barrier() -> None:
    """Waits until every rank has come here."""
    if world_size() > 1:
        any_rank(False)


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def _exchange_device() -> torch.device:
    """Where the process group can reach a tensor: nccl knows GPU memory only."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@torch.no_grad()
def _average_flat(parameters: list[nn.Parameter]) -> None:
    """Exchanges all gradients, and which of them exist, as one vector."""
    if not parameters:
        return
    missing = [parameter.grad is None for parameter in parameters]
    present = parameters[0].new_tensor([float(not absent) for absent in missing])
    pieces = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters]
    flat = torch.cat(
        [torch.nan_to_num(torch.cat(pieces), nan=0.0, posinf=1e5, neginf=-1e5), present]
    )
    dist.all_reduce(flat)
    flat /= world_size()
    # Looked at only if something is missing here: it makes a GPU wait.
    somewhere = flat[-len(parameters) :].tolist() if any(missing) else [1.0] * len(parameters)
    lengths = [parameter.numel() for parameter in parameters]
    for parameter, mean, exists in zip(
        parameters, flat[: sum(lengths)].split(lengths), somewhere, strict=True
    ):
        if exists > 0:
            # Laid out as the weight: fused Adam goes through memory without asking.
            parameter.grad = torch.empty_like(parameter).copy_(mean.view_as(parameter))
