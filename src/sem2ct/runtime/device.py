"""Where the arithmetic runs, and in which precision."""

import contextlib
import os
from contextlib import AbstractContextManager

import torch

from sem2ct.runtime.refusal import Refusal


def choose(name: str) -> torch.device:
    """Picks this process's device.

    Args:
        name: "auto" takes the GPU where there is one, "cpu", or "cuda".

    Returns:
        The CPU, or the GPU whose number is this process's number on its machine.

    Raises:
        Refusal: If a GPU is asked for that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise Refusal(f"device={name} is not one of auto, cpu, cuda")
    if count == 0:
        raise Refusal(
            f"device={name}, but torch {torch.__version__} finds no GPU on this machine; set"
            " device=cpu, or install a torch built for the GPU's driver"
        )
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= count:
        raise Refusal(
            f"process {local_rank + 1} on this machine needs a GPU of its own, but there are"
            f" {count}; set devices={count}"
        )
    return torch.device("cuda", local_rank)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Returns the context in which the networks run.

    Args:
        precision: "float32" or "bf16".
        device: Where they run.

    Raises:
        Refusal: If the device has no bf16 arithmetic.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    if precision != "bf16":
        raise Refusal(f"precision={precision} is not one of float32, bf16")
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise Refusal(
            f"precision=bf16, but {torch.cuda.get_device_name(device)} computes no bf16; set"
            " precision=float32"
        )
    return torch.autocast(device.type, dtype=torch.bfloat16)
