"""Random streams that depend on where they are used, never on what was drawn before.

Every stream starts from the run's seed and a position: names, image numbers, layers.
So a resumed run draws what an uninterrupted one would, N processes draw what one
would, and no generator state is ever saved.  `hashed_normal` goes one step further
and gives every pixel its own stream: two tiles that overlap in a volume get the same
noise where they overlap, whatever their order and size.

Sources: BLAKE2 (RFC 7693); the 64-bit finaliser is Stafford's mix 13 as used by
SplitMix64, Steele, Lea, Flood, OOPSLA 2014; Box and Muller 1958.
"""

import hashlib
import math
import operator

import numpy as np
import torch
from torch import Tensor

# SplitMix64's odd increment and multipliers, written as signed 64-bit numbers.
STRIDE = 0x9E3779B97F4A7C15 - 2**64
FIRST_FACTOR = 0xBF58476D1CE4E5B9 - 2**64
SECOND_FACTOR = 0x94D049BB133111EB - 2**64


def mix(seed: int, *position: int | str) -> int:
    """Mixes a seed and a position into one number, the same everywhere and always.

    Args:
        seed: The run's seed.
        position: Names and numbers that say what the stream is for, in order.

    Returns:
        A number from 0 to 2**63 - 1.
    """
    text = "".join(_tagged(part) for part in (seed, *position))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *position: int | str) -> torch.Generator:
    """Returns a torch generator on the CPU, started at `mix(seed, *position)`."""
    return torch.Generator().manual_seed(mix(seed, *position))


def numpy_generator(seed: int, *position: int | str) -> np.random.Generator:
    """Returns a NumPy generator, started at `mix(seed, *position)`."""
    return np.random.default_rng(mix(seed, *position))


def hashed_normal(key: int, *coordinates: Tensor) -> Tensor:
    """Standard normal numbers that belong to places, not to an order of drawing.

    Coordinates that vary least should come first, unexpanded: only the last steps are
    then done at full size.

    Args:
        key: Names the field; any number, consecutive ones are as good as any.
        coordinates: One or more int64 tensors, broadcast against each other.

    Returns:
        float32 in the broadcast shape.  A value depends on `key` and on its own
        coordinates alone; CPU and GPU agree up to rounding.

    Raises:
        ValueError: If there are no coordinates or one is not int64.
    """
    if not coordinates:
        raise ValueError("hashed_normal needs at least one coordinate")
    hashed: Tensor | int = mix(key, "normal")
    for coordinate in coordinates:
        if coordinate.dtype != torch.int64:
            raise ValueError(f"coordinates must be int64, not {coordinate.dtype}")
        hashed = _avalanche(hashed + coordinate * STRIDE)
    assert isinstance(hashed, Tensor)
    return _box_muller(hashed)


def _tagged(part: int | str) -> str:
    """Text that no other sequence of parts can produce: 1, "1" and "1;" all differ."""
    if isinstance(part, str):
        return f"s{len(part)}:{part};"
    return f"i{operator.index(part)};"


def _avalanche(state: Tensor) -> Tensor:
    """Spreads every bit over all 64, in place; int64 products wrap on CPU and GPU alike."""
    state ^= _shifted(state, 30)
    state *= FIRST_FACTOR
    state ^= _shifted(state, 27)
    state *= SECOND_FACTOR
    state ^= _shifted(state, 31)
    return state


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Shifts to the right and fills with zeros; torch's own shift repeats the sign."""
    return (state >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _box_muller(hashed: Tensor) -> Tensor:
    """Turns the upper and the lower 32 bits into a radius and an angle."""
    radius = _shifted(hashed, 32).to(torch.float32)
    radius = radius.add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = hashed.bitwise_and_(2**32 - 1).to(torch.float32).mul_(2 * math.pi * 2.0**-32)
    return angle.cos_().mul_(radius)
