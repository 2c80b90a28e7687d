"""Network pickles of StyleGAN2-ADA, read without running anything in them.

The constructors that such a file may call stand below by name; the machine of
`pickle_machine` calls these and nothing else.

The networks of such a file carry the source text of their classes; it is dropped unread.
Sizes are checked against the bytes that are there before memory is taken.

Source of the layout of storages: torch's serialization before its zip archives.
"""

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan.pickle_machine import FaultError, Machine, Name, NumberType, said

LARGEST_FILE = 8 * 2**30
MOST_AXES = 8

# What torch writes at the beginning of every file of its old layout, and its version.
TORCH_MAGIC, TORCH_LAYOUT = 0x1950A86A20F9469CFC6C, 1001

ELEMENTS = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
}
SCALARS = {"f8": "<f8", "f4": "<f4", "i8": "<i8", "i4": "<i4", "b1": "|b1"}


@dataclass(frozen=True)
class Saved:
    """A network as it lies in the file: data without code."""

    class_name: str
    """Name of its class."""
    state: dict[str, Any]
    """Its attributes: tensors in _parameters and _buffers, its parts in _modules."""


@dataclass(frozen=True)
class _Storage:
    """Numbers without a shape."""

    numbers: Tensor


def read(path: Path) -> Any:
    """Reads a pickle of networks.

    Args:
        path: The file.

    Returns:
        Plain values (dict, list, tuple, set, str, bytes, numbers, None), CPU tensors, and
        `Saved` for every network.

    Raises:
        Refusal: If the file cannot be read, is no pickle, is cut short, refers to anything
            but the known constructors, or declares more numbers than it holds.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FaultError(f"is larger than {LARGEST_FILE / 2**30:.0f} GiB")
        content = path.read_bytes()
        if content[:4] == b"PK\x03\x04":
            raise FaultError("is a zip archive of torch.save, not a pickle of networks")
        value = Machine(ALLOWED).run(io.BytesIO(content))
        if isinstance(value, int):
            raise FaultError("is a file of torch.save, not a pickle of networks")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Refusal(f"{path} could not be read: {reason}") from error
    except FaultError as fault:
        raise Refusal(
            f"{path} {fault}; wanted is a network pickle of StyleGAN2-ADA"
            " (network-snapshot-*.pkl), and nothing in this file was run"
        ) from fault
    return value


def _saved(meta: Any) -> Saved:
    """A network of the file; the source text beside it is left where it is."""
    fits = type(meta) is dict and meta.get("type") == "class"
    if not fits or type(meta.get("state")) is not dict or type(meta.get("class_name")) is not str:
        raise FaultError("holds an object that is no network of StyleGAN2-ADA")
    return Saved(meta["class_name"], meta["state"])


def _empty(kind: type[dict[Any, Any]] | type[set[Any]]) -> Callable[..., Any]:
    """The constructor of an empty container; a set may be given a list of words."""

    def make(*given: Any) -> Any:
        words = given[0] if given else []
        if len(given) > 1 or type(words) is not list or (words and kind is dict):
            raise FaultError(f"makes a {kind.__name__} of {said(words)}")
        if not all(type(word) is str for word in words):
            raise FaultError(f"makes a {kind.__name__} of what is no word")
        return kind(words)

    return make


def _scalar_type(kind: Any, *_: Any) -> NumberType:
    if type(kind) is not str or kind not in SCALARS:
        raise FaultError(f"holds numbers of the type {said(kind)}; known are {', '.join(SCALARS)}")
    return NumberType(SCALARS[kind])


def _scalar(kind: Any, content: Any) -> Any:
    if type(kind) is not NumberType or type(content) is not bytes:
        raise FaultError("holds a NumPy number without its type")
    if len(content) != np.dtype(kind.kind).itemsize:
        raise FaultError(f"holds a NumPy number of {len(content)} bytes as {kind.kind}")
    return np.frombuffer(content, kind.kind)[0].item()


def _parameter(tensor: Any, trainable: Any, hooks: Any) -> Tensor:
    if not isinstance(tensor, Tensor) or hooks:
        raise FaultError(f"makes a parameter of {said(tensor)}")
    return tensor


def _tensor(
    storage: Any, first: Any, shape: Any, stride: Any, trainable: Any, hooks: Any, *_: Any
) -> Tensor:
    """A tensor on numbers of the file, never on more than there are."""
    if type(storage) is not _Storage or type(shape) is not tuple or type(stride) is not tuple:
        raise FaultError("makes a tensor without numbers or shape")
    there, numbers = storage.numbers.numel(), (first, *shape, *stride)
    fits = len(shape) == len(stride) <= MOST_AXES and 0 not in shape
    if not fits or not all(type(number) is int and 0 <= number <= there for number in numbers):
        raise FaultError(f"makes a tensor of a shape that {there} numbers do not have")
    last = first + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if math.prod(shape) > there or last >= there:
        raise FaultError(f"makes a tensor of {math.prod(shape)} numbers from {there}")
    return storage.numbers.as_strided(shape, stride, first)


def _storage(content: Any) -> _Storage:
    """Numbers as torch before its zip archives writes them: four pickles, then the bytes."""
    if type(content) is not bytes:
        raise FaultError(f"makes numbers of {said(content)}")
    stream = io.BytesIO(content)
    if Machine({}).run(stream) != TORCH_MAGIC or Machine({}).run(stream) != TORCH_LAYOUT:
        raise FaultError("holds numbers in a layout that is not torch's old one")
    system = Machine({}).run(stream)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise FaultError("holds numbers with the highest byte first")
    declared = Machine(dict.fromkeys(ELEMENTS), persistent=_declared).run(stream)
    keys = Machine({}).run(stream)
    if type(declared) is not tuple or keys != [declared[0]]:
        raise FaultError("holds numbers that are not one storage")
    _, kind, count = declared
    head = stream.read(8)
    size, left = kind.itemsize * count, len(content) - stream.tell()
    if len(head) < 8 or struct.unpack("<q", head)[0] != count or size != left:
        raise FaultError(
            f"declares {count} numbers of {kind.itemsize} bytes where {left} bytes lie"
        )
    return _Storage(torch.frombuffer(bytearray(stream.read()), dtype=kind, count=count))


def _declared(given: Any) -> tuple[str, torch.dtype, int]:
    """Key, type and length of a storage; where it once lay is of no interest."""
    fits = type(given) is tuple and len(given) in (5, 6) and given[0] == "storage"
    if not fits or type(given[1]) is not Name or type(given[2]) is not str:
        raise FaultError("holds numbers that are no storage of torch")
    if type(given[4]) is not int or given[4] <= 0 or given[5:] not in ((), (None,)):
        raise FaultError("holds a storage without numbers, or a part of one")
    return given[2], ELEMENTS[given[1].text], given[4]


ALLOWED: dict[str, Callable[..., Any] | None] = {
    "__builtin__.set": _empty(set),
    "builtins.set": _empty(set),
    "collections.OrderedDict": _empty(dict),
    "dnnlib.util.EasyDict": _empty(dict),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.dtype": _scalar_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
    "torch_utils.persistence._reconstruct_persistent_obj": _saved,
}
