"""What a training will take, from a few steps of it: for dry runs."""

import resource
import time
from typing import Any

import torch
from torch import Tensor

from sem2ct.training.loop import Trainer

# The first steps allocate memory and, on a GPU, choose kernels; they are not timed.
WARM_STEPS = 2
TIMED_STEPS = 3


def measure(
    trainer: Trainer, images: dict[str, Tensor], *, total_images: int, batch_size: int
) -> dict[str, str]:
    """Runs a few steps and says what the whole training takes on this machine.

    The trainer has learned from `images` afterwards and must not be used further.

    Args:
        trainer: As it would begin.
        images: One batch of this process.
        total_images: Length of the training.
        batch_size: Images per step.

    Returns:
        Rows of a table: images per second, whole time, memory and what needs it.
    """
    for step in range(1, 1 + WARM_STEPS):
        trainer.step(images, step * batch_size)
    _wait()
    start = time.perf_counter()
    for step in range(1 + WARM_STEPS, 1 + WARM_STEPS + TIMED_STEPS):
        trainer.step(images, step * batch_size)
    _wait()
    rate = TIMED_STEPS * batch_size / (time.perf_counter() - start)
    return {
        "speed": f"about {rate:.1f} images/s here (penalties every few steps come on top)",
        "time": f"about {_duration(total_images / rate)} for {total_images} images",
        "memory": _memory(),
        "of which": _shares(trainer.state()),
    }


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _memory() -> str:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB on the GPU"
    # Linux counts in kilobytes.
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"


def _shares(state: dict[str, Any]) -> str:
    """What of the memory a smaller network would save, and what a smaller batch would."""
    optimizers = {name for name in state if "adam" in name or "optimizer" in name}
    held = {True: 0.0, False: 0.0}
    for name, part in state.items():
        held[name in optimizers] += _bytes(part)
    return (
        f"{held[False] / 1e9:.2f} GB networks and averages, {held[True] / 1e9:.2f} GB optimizers;"
        " the rest is activations, which batch_per_device lowers, and the program"
    )


def _bytes(value: Any) -> int:
    """Of all tensors in a nested state."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, dict) else value
    return sum(map(_bytes, parts)) if isinstance(value, dict | list | tuple) else 0


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
