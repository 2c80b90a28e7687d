"""One step of Adam on a loss that is computed in rounds, and how often a penalty is due.

A penalty that is only computed every k-th step is lazy: it counts k-fold, and Adam takes
one step more every k steps, for which its step size and memory are corrected.

Source: Karras et al. 2020, arXiv:1912.04958, section B (lazy regularisation).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sem2ct.runtime import distributed, sums

ADAM_BETA2 = 0.99
ADAM_EPS = 1e-8


def adam(network: nn.Module, rate: float, weight: float, interval: int) -> torch.optim.Adam:
    """Adam, corrected for an extra step every `interval` steps if `weight` is not 0."""
    share = interval / (interval + 1) if weight > 0 else 1.0
    # The first beta is 0, so only the second has to be corrected.
    betas = (0.0, ADAM_BETA2**share)
    return torch.optim.Adam(
        network.parameters(), lr=rate * share, betas=betas, eps=ADAM_EPS, fused=True
    )


class Descent(NamedTuple):
    """What one step of Adam saw, detached and 0-d."""

    loss: Tensor
    """The mean loss of this process's images."""
    gradient: Tensor
    """Norm of the gradient of all parameters, over all processes."""
    mended: Tensor
    """1 if a gradient, of any round of any process, had to be made finite, else 0."""


def descend(
    network: nn.Module,
    adam: torch.optim.Adam,
    losses: Callable[[int], Iterator[Tensor]],
    rounds: int,
    count: int,
) -> Descent:
    """One step of Adam on the mean of a loss that is computed in rounds.

    Args:
        network: What learns; everything else stays as it is.
        adam: Its optimizer.
        losses: The losses of the images of round k, in parts that add up; the next part is
            asked for when this one is differentiated.
        rounds: Number of rounds of this process.
        count: Images of this process; the mean is taken over those of all.

    Returns:
        The mean loss and the norm of its gradient.
    """
    network.requires_grad_(True)
    processes = distributed.world_size()
    total = torch.zeros((), device=next(network.parameters()).device)

    def backward(k: int) -> None:
        for loss in losses(k):
            part = loss.sum() / (count * processes)
            part.backward()
            total.add_(part.detach(), alpha=processes)

    mended = sums.gradients(network.parameters(), rounds, backward)
    network.requires_grad_(False)
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    adam.step()
    sizes = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    return Descent(total, torch.linalg.vector_norm(sizes), mended)


def rounds(count: int, at_once: int) -> int:
    """How many rounds `count` images take, at most `at_once` of them in each."""
    return -(-count // at_once)


def due(steps: int, weight: float, interval: int) -> bool:
    """Whether a lazy penalty of this weight belongs to the step after `steps` steps."""
    return weight > 0 and steps % interval == 0
