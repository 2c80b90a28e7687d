"""What several processes need to compute what one process would.

Rank r takes rows r, r + N, r + 2N, ... of the global batch; what they find is added up in
`sums`.  Without a process group all of this is the identity.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sem2ct.runtime.presence import exchange

T = TypeVar("T")


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


@exchange()
def mean_over_ranks(value: Tensor) -> Tensor:
    """Returns the mean of a tensor over all ranks, the same on each; detached."""
    value = value.detach()
    if world_size() == 1:
        return value
    total = value.to(_exchange_device(), copy=True)
    dist.all_reduce(total)
    return (total / world_size()).to(value.device)


@exchange()
def any_rank(flag: bool) -> bool:
    """Tells every rank whether the flag is set on at least one."""
    if world_size() == 1:
        return flag
    flags = torch.tensor(int(flag), device=_exchange_device())
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags)


def from_main(measure: Callable[[], Mapping[str, T]]) -> dict[str, T]:
    """Calls a function on rank 0 only and gives what it found to every rank."""
    found = dict(measure()) if is_main() else {}
    if world_size() > 1:
        parcel: list[Any] = [found]
        with exchange():
            dist.broadcast_object_list(parcel, src=0, device=_exchange_device())
        found = parcel[0]
    return found


def gathered(mine: T) -> list[T]:
    """Returns what every rank has, in their order; plain values and arrays."""
    if world_size() == 1:
        return [mine]
    found: list[Any] = [None] * world_size()
    with exchange():
        dist.all_gather_object(found, mine)
    return found


def mine(count: int) -> range:
    """Returns the numbers of the pieces, of `count`, that are this rank's to make."""
    return range(rank(), count, world_size())


def once(action: Callable[[], object]) -> None:
    """Has rank 0 do something when all ranks have come here, and lets none go on before."""
    barrier()
    if is_main():
        action()
    barrier()


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
