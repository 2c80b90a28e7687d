"""The picture that shows a translation while it is learned."""

import logging

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from sem2ct.cyclegan.trainer import CycleganTrainer

LOGGER = logging.getLogger(__name__)
GAP_PX = 2
WHITE = 255


def look(
    trainer: CycleganTrainer, images_seen: int, ct_patches: Tensor, sem_tiles: Tensor
) -> dict[str, np.ndarray]:
    """Shows how far a training is, and warns when its translation hardly follows the CT.

    Args:
        trainer: What learns.
        images_seen: How far it is.
        ct_patches: Always the same, as for `grid`; so are the tiles.
        sem_tiles: See `ct_patches`.

    Returns:
        The picture, by its name.
    """
    doubt = trainer.doubt(images_seen)
    if doubt:
        LOGGER.warning("%s", doubt)
    return {"translation": grid(trainer.ema, trainer.sem_to_ct, ct_patches, sem_tiles)}


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
    here = torch.zeros(len(ct_patches), dtype=torch.int64, device=ct_patches.device)
    side = sem_tiles.shape[-1]
    slices = torch.arange(len(ct_patches), device=ct_patches.device) * (
        side // len(ct_patches[0, 0])
    )
    fake_sem = ct_to_sem(ct_patches, noise_key, (slices, here, here))
    rows = [ct_patches, fake_sem, sem_to_ct(fake_sem), sem_tiles, sem_to_ct(sem_tiles)]
    return np.concatenate([_row(images, side) for images in rows])[:-GAP_PX, :-GAP_PX]


def _row(images: Tensor, side_px: int) -> np.ndarray:
    """Images beside one another, pixels repeated up to a side, a white gap after each."""
    repeats = side_px // images.shape[-1]
    grey = images.float().repeat_interleave(repeats, 2).repeat_interleave(repeats, 3)
    grey = ((grey + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    grey = F.pad(grey, (0, GAP_PX, 0, GAP_PX), value=WHITE)
    return np.concatenate(list(grey[:, 0].cpu().numpy()), axis=1)
