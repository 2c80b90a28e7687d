"""The picture that shows a translation while it is learned."""

import logging

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from sem2ct.cyclegan import monitors
from sem2ct.cyclegan.trainer import CycleganTrainer

LOGGER = logging.getLogger(__name__)
GAP_PX = 2
WHITE = 255
MOST_RASTER = 0.1


def look(
    trainer: CycleganTrainer, images_seen: int, ct_patches: Tensor, sem_tiles: Tensor
) -> dict[str, np.ndarray]:
    """Shows how far a training is, and warns when its translation cannot be right.

    Args:
        trainer: What learns.
        images_seen: How far it is.
        ct_patches: Always the same, as for `grid`; so are the tiles.
        sem_tiles: See `ct_patches`.

    Returns:
        The picture, by its name; with several styles also "styles", as from `in_styles`.
    """
    doubt = trainer.inversion.doubt(images_seen)
    if doubt:
        LOGGER.warning("%s", doubt)
    if images_seen >= trainer.inversion.guard_images:
        _doubt_raster(trainer.ema, ct_patches, images_seen)
    pictures = {"translation": grid(trainer.ema, trainer.sem_to_ct, ct_patches, sem_tiles)}
    if trainer.styles > 1:
        pictures["styles"] = in_styles(trainer.ema, ct_patches, styles=trainer.styles)
    return pictures


@torch.no_grad()
def grid(
    ct_to_sem: nn.Module,
    sem_to_ct: nn.Module,
    ct_patches: Tensor,
    sem_tiles: Tensor,
    *,
    noise_key: int = 0,
) -> np.ndarray:
    """Shows patches, their translations and what comes back.

    Args:
        ct_to_sem: A translator, best the averaged one.
        sem_to_ct: The way back.
        ct_patches: (n, 1, h, w) in [-1, 1], on the networks' device.
        sem_tiles: (n, 1, h * scale, w * scale) in [-1, 1].
        noise_key: Which realisation is shown.

    Returns:
        uint8 (rows, columns): one column per patch; rows are CT, fake SEM, cycled CT, and real
        SEM, fake CT. CT pixels are shown as squares.
    """
    side = sem_tiles.shape[-1]
    origin = _origin(ct_patches, side // ct_patches.shape[-1])
    fake_sem = ct_to_sem(ct_patches, noise_key, origin)
    rows = [ct_patches, fake_sem, sem_to_ct(fake_sem), sem_tiles, sem_to_ct(sem_tiles)]
    return np.concatenate([_row(images, side) for images in rows])[:-GAP_PX, :-GAP_PX]


@torch.no_grad()
def in_styles(
    ct_to_sem: nn.Module, ct_patches: Tensor, *, styles: int, noise_key: int = 0
) -> np.ndarray:
    """Shows patches and their translations in each style, all with the same noise.

    Args:
        ct_to_sem: A translator that knows the styles.
        ct_patches: (n, 1, h, w) in [-1, 1], on the network's device.
        styles: How many are shown.
        noise_key: Which realisation is shown.

    Returns:
        uint8 (rows, columns): one column per patch; rows are CT, and style 0, 1, and so on.
    """
    scale = int(ct_to_sem.scale)  # pyright: ignore[reportArgumentType]
    origin = _origin(ct_patches, scale)
    painted = [
        ct_to_sem(ct_patches, noise_key, origin, torch.full_like(origin[0], style))
        for style in range(styles)
    ]
    rows = [_row(images, painted[0].shape[-1]) for images in (ct_patches, *painted)]
    return np.concatenate(rows)[:-GAP_PX, :-GAP_PX]


@torch.no_grad()
def _doubt_raster(ct_to_sem: nn.Module, ct_patches: Tensor, images_seen: int) -> None:
    scale = int(ct_to_sem.scale)  # pyright: ignore[reportArgumentType]
    share = monitors.raster(ct_patches, ct_to_sem(ct_patches, 0, _origin(ct_patches, scale)))
    if share > MOST_RASTER:
        LOGGER.warning(
            "raster is %.2f at %d images (over %g): so much of the translation's variance is one"
            " pattern that repeats in every CT pixel; train longer, or raise raster_weight",
            *(float(share), images_seen, MOST_RASTER),
        )


def _origin(ct_patches: Tensor, scale: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places for the noise of patches: each in a CT slice of its own."""
    numbers = torch.arange(len(ct_patches), device=ct_patches.device)
    here = torch.zeros_like(numbers)
    return numbers * scale, here, here


def _row(images: Tensor, side_px: int) -> np.ndarray:
    """Images beside one another, pixels repeated up to a side, a white gap after each."""
    repeats = side_px // images.shape[-1]
    grey = images.float().repeat_interleave(repeats, 2).repeat_interleave(repeats, 3)
    grey = ((grey + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    grey = F.pad(grey, (0, GAP_PX, 0, GAP_PX), value=WHITE)
    return np.concatenate(list(grey[:, 0].cpu().numpy()), axis=1)
