"""Where the arithmetic runs, and in which precision."""

import contextlib
import os
from contextlib import AbstractContextManager

import torch

from sem2ct.runtime import memory
from sem2ct.runtime.refusal import Refusal


def choose(name: str) -> torch.device:
    """Picks this process's device; on a CPU the process then keeps the memory that it frees.

    Args:
        name: "auto" takes the GPU where there is one, "cpu", or "cuda".

    Returns:
        The CPU, or the GPU whose number is this process's number on its machine.

    Raises:
        Refusal: If a GPU is asked for that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        memory.keep_freed()
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


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that this process may still take on a device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory.free_bytes()


def send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copies values from the host without making it wait for what the device still does."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.contiguous().pin_memory()
    return values.to(device, non_blocking=True)


def autocast(
    precision: str, device: torch.device, *, mixed: str = "bf16"
) -> AbstractContextManager[object]:
    """Returns the context in which the networks run.

    On a GPU float32 and tf32 also set, for the whole process and so for the derivatives
    taken later, whether convolutions may round their inputs to 10 bits; matrix products,
    which carry styles, geometry and penalties, never do.

    Args:
        precision: "float32", "tf32", "bf16" or "mixed".
        device: Where they run.
        mixed: What mixed means for these networks on a GPU: "bf16", or "float16" for
            those that keep their values in its range.  A CPU computes bf16 in any case.

    Raises:
        Refusal: If the precision is none of these or the device has no bf16 arithmetic.
    """
    if precision in ("float32", "tf32"):
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
        return contextlib.nullcontext()
    if precision not in ("bf16", "mixed"):
        raise Refusal(f"precision={precision} is not one of float32, tf32, bf16, mixed")
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise Refusal(
            f"precision={precision}, but {torch.cuda.get_device_name(device)} computes no bf16;"
            " set precision=float32"
        )
    float16 = precision == "mixed" and mixed == "float16" and device.type == "cuda"
    return torch.autocast(device.type, dtype=torch.float16 if float16 else torch.bfloat16)
