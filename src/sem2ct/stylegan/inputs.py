"""What a generator is fed with: latents, styles to mix, and planes of noise.

Every image has a number of its own, and what it is fed with depends on the seed and
this number alone, never on which images are drawn beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from sem2ct.runtime import distributed, seeding
from sem2ct.runtime.device import send
from sem2ct.stylegan.generator import Generator


def latents(seed: int, numbers: Sequence[int], z_dim: int) -> Tensor:
    """Draws latents, each from a stream of its own.

    Args:
        seed: The run's seed.
        numbers: Which images.
        z_dim: Length of a latent.

    Returns:
        (n, z_dim) float32 on the CPU.
    """
    rows = [
        torch.randn(z_dim, generator=seeding.generator(seed, "latent", number))
        for number in numbers
    ]
    return torch.stack(rows)


def noise_planes(key: int, numbers: Tensor, sides: Sequence[int]) -> list[Tensor]:
    """Draws one plane of noise per image and layer.

    Args:
        key: Names the stream.
        numbers: (n,) int64, which images, on the device where the planes shall be.
        sides: Side of each layer's plane.

    Returns:
        Per layer (n, 1, side, side) float32, standard normal.
    """
    ends = [0]
    for side in sides:
        ends.append(ends[-1] + side**2)
    # All layers in one go: many small ones cost more than their numbers.
    places = torch.arange(ends[-1], device=numbers.device)
    flat = seeding.hashed_normal(key, numbers[:, None], places[None])
    return [
        flat[:, first:last].unflatten(1, (1, side, side))
        for side, (first, last) in zip(sides, pairwise(ends), strict=True)
    ]


@dataclass(frozen=True)
class Draw:
    """Latents of a batch of training images, with a second style for some of them."""

    number: Tensor
    """(N,) int64, place of each image in the sequence of all images ever drawn."""
    z: Tensor
    """(N, z_dim)"""
    second_z: Tensor
    """(N, z_dim), of the style that takes over."""
    crossover: Tensor
    """(N,) int64, first layer that gets the second style; the number of layers if none."""

    def share(self) -> Self:
        """Returns the part that belongs to this process."""
        return type(self)(*(distributed.share(column) for column in self._columns()))

    def part(self, k: int, parts: int) -> Self:
        """Returns every parts-th image from the k-th on."""
        return type(self)(*(column[k::parts] for column in self._columns()))

    def _columns(self) -> tuple[Tensor, ...]:
        return self.number, self.z, self.second_z, self.crossover


def draw(
    seed: int,
    stream: str,
    *,
    first: int,
    count: int,
    z_dim: int,
    style_count: int,
    style_mixing: float,
) -> Draw:
    """Draws the latents of a whole batch, over all processes.

    Args:
        seed: The run's seed.
        stream: Name of the phase of the training.
        first: Images seen before this batch.
        count: Images in the whole batch.
        z_dim: Length of a latent.
        style_count: Layers that get a style.
        style_mixing: Chance that an image mixes two styles.

    Returns:
        The whole batch, on the CPU.

    Source: Karras et al. 2019, arXiv:1812.04948, section 3.1 (style mixing).
    """
    random = seeding.generator(seed, stream, first)
    z, second_z = torch.randn(2, count, z_dim, generator=random)
    crossover = torch.randint(1, max(style_count, 2), (count,), generator=random)
    mixes = torch.rand(count, generator=random) < style_mixing
    crossover = torch.where(mixes, crossover, style_count)
    return Draw(torch.arange(first, first + count), z, second_z, crossover)


def styles(generator: Generator, drawn: Draw, device: torch.device) -> tuple[Tensor, Tensor]:
    """Maps latents to styles, mixed where two were drawn.

    Args:
        generator: Its mapping network is used.
        drawn: Latents of n images.
        device: Where the generator is.

    Returns:
        Styles of all layers, (n, layers, w_dim), and the unmixed first ones, (n, w_dim).
    """
    count = len(drawn.z)
    layer = torch.arange(generator.style_count)
    first = layer < drawn.crossover[:, None]
    if bool(first.all()):
        ws = generator.mapping(send(drawn.z, device))
        return ws, ws[:, 0]
    both = generator.mapping(send(torch.cat([drawn.z, drawn.second_z]), device))
    ws, second = both[:count], both[count:]
    return torch.where(send(first[:, :, None], device), ws, second), ws[:, 0]
