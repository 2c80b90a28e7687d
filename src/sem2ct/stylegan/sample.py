"""Images from a trained generator, each one given by a seed and its number.

Image 17 of seed 3 is the same picture whatever is drawn before it, beside it, or on
another process; so a store can be made shard by shard, and a training can draw its
images instead of reading them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sem2ct.data.intensity import from_network
from sem2ct.runtime import checkpoint, seeding
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.inputs import latents, noise_planes

Row = Callable[[int], NDArray[np.uint8]]
"""Draws a row of a grid, given its number."""


def load(path: Path) -> Generator:
    """Reads the averaged generator of a training.

    Args:
        path: A checkpoint of train-stylegan.

    Returns:
        The generator on the CPU, not trainable.

    Raises:
        Refusal: If the file is no such checkpoint.
    """
    return from_bag(checkpoint.load(path), path)


def from_bag(bag: dict, path: Path) -> Generator:
    """Builds the averaged generator from the content of a checkpoint.

    Args:
        bag: Content of the checkpoint.
        path: Where it came from, for the refusal.

    Returns:
        The generator on the CPU, not trainable.

    Raises:
        Refusal: If it is not a checkpoint of train-stylegan.
    """
    remedy = "give a run folder of train-stylegan, or one of its checkpoints"
    with checkpoint.fitting(path, "holds no generator of SEM tiles", remedy=remedy):
        averaged = bag["trainer"]["ema"]
        generator = Generator(**averaged["config"])
        generator.load_state_dict(averaged["weights"])
    return generator.eval().requires_grad_(False)


@torch.no_grad()
def images(generator: Generator, *, seed: int, indices: Sequence[int], psi: float = 1.0) -> Tensor:
    """Draws images.

    Args:
        generator: Where it is, the images will be.
        seed: Of the run.
        indices: Numbers of the images.
        psi: Truncation; 1 leaves the styles as they are.

    Returns:
        (n, 1, R, R) float32, black to white about -1 to 1.
    """
    device = generator.mapping.w_avg.device
    z = latents(seed, indices, generator.config["z_dim"])
    ws = generator.mapping(z.to(device), psi)
    return generator.synthesis(ws, _noise(generator, seed, indices)).float()


def tiles(
    generator: Generator,
    *,
    seed: int,
    indices: Sequence[int],
    psi: float = 1.0,
    batch: int = 32,
    seen: Callable[[int], object] = bool,
) -> NDArray[np.uint8]:
    """Draws tiles as a store keeps them.

    Args:
        generator: On any device.
        seed: Of the run.
        indices: Numbers of the tiles.
        psi: Truncation; 1 leaves the styles as they are.
        batch: Tiles that go through the generator at once.
        seen: Told how many tiles were drawn, after each batch.

    Returns:
        (n, R, R) uint8.  Which tiles are drawn together changes no latent and no noise;
        where it changes the order of a sum, a grey value may differ by 1.
    """
    side = generator.resolution
    drawn = np.empty((len(indices), side, side), dtype=np.uint8)
    before: Callable[[], object] = bool
    for first in range(0, len(indices), batch):
        chosen = indices[first : first + batch]
        grey = images(generator, seed=seed, indices=chosen, psi=psi)
        coming = _Coming(from_network(grey)[:, 0], drawn[first : first + batch])
        # The batch before is taken only now, when the device has its next work.
        before()
        before = coming.take
        seen(len(chosen))
    before()
    return drawn


class _Coming:
    """A batch of tiles on its way from the device, which need not wait for it."""

    def __init__(self, grey: Tensor, place: NDArray[np.uint8]) -> None:
        """Starts the way of (n, R, R) uint8 to `place`."""
        self._place, self._arrived = place, None
        if grey.is_cuda:
            self._grey = torch.empty(grey.shape, dtype=grey.dtype, pin_memory=True)
            self._grey.copy_(grey, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(grey.device))
        else:
            self._grey = grey

    def take(self) -> None:
        """Waits for it and puts it into its place."""
        if self._arrived is not None:
            self._arrived.synchronize()
        self._place[:] = self._grey.numpy()


def fixed_style(generator: Generator, *, seed: int, rows: int, n: int, psi: float = 1.0) -> Row:
    """A grid with a style per row and a noise per column.

    Args:
        generator: On any device.
        seed: Of the run.
        rows: Styles.
        n: Noises.
        psi: Truncation.

    Returns:
        Draws row k when asked for it, (n, R, R) uint8.
    """
    ws = _styles(generator, seed, range(rows), psi)
    return _drawn(generator, ws[:, None].expand(-1, n, -1, -1), seed, noises=np.arange(n)[None])


def fixed_noise(generator: Generator, *, seed: int, rows: int, n: int, psi: float = 1.0) -> Row:
    """A grid with a noise per row and a style per column: `fixed_style` with its sides exchanged.

    Args:
        generator: On any device.
        seed: Of the run.
        rows: Noises.
        n: Styles.
        psi: Truncation.

    Returns:
        Draws row k when asked for it, (n, R, R) uint8.
    """
    ws = _styles(generator, seed, range(n), psi)[None].expand(rows, -1, -1, -1)
    return _drawn(generator, ws, seed, noises=np.arange(rows)[:, None])


def interpolate(generator: Generator, *, seed: int, rows: int, n: int, psi: float = 1.0) -> Row:
    """A grid with, in each row, a straight path in W from one style to another.

    Args:
        generator: On any device.
        seed: Of the run.
        rows: Paths; each has its own two ends, and one noise.
        n: Tiles along a path, ends included.
        psi: Truncation.

    Returns:
        Draws row k when asked for it, (n, R, R) uint8.
    """
    ends = _styles(generator, seed, range(2 * rows), psi)
    along = torch.linspace(0, 1, n, device=ends.device)[None, :, None, None]
    ws = torch.lerp(ends[0::2, None], ends[1::2, None], along)
    return _drawn(generator, ws, seed, noises=np.arange(rows)[:, None])


def _noise(generator: Generator, seed: int, indices: Sequence[int]) -> list[Tensor]:
    numbers = torch.tensor(list(indices), device=generator.mapping.w_avg.device)
    return noise_planes(seeding.mix(seed, "noise"), numbers, generator.noise_shapes)


@torch.no_grad()
def _styles(generator: Generator, seed: int, indices: Sequence[int], psi: float) -> Tensor:
    z = latents(seed, indices, generator.config["z_dim"])
    return generator.mapping(z.to(generator.mapping.w_avg.device), psi)


def _drawn(generator: Generator, ws: Tensor, seed: int, *, noises: NDArray[np.int64]) -> Row:
    """Rows of the tiles of ws (rows, n, layers, w_dim), with the noise of these numbers."""
    numbers = np.broadcast_to(noises, tuple(ws.shape[:2])).tolist()

    @torch.no_grad()
    def row(k: int) -> NDArray[np.uint8]:
        grey = generator.synthesis(ws[k], _noise(generator, seed, numbers[k]))
        return from_network(grey)[:, 0].cpu().numpy()

    return row
