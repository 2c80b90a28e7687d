"""`sem2ct train-stylegan`: store of SEM tiles in, generator of SEM tiles out."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from sem2ct.config import TrainStyleganSettings
from sem2ct.data.datasets import Patches
from sem2ct.data.mosaic import mosaic
from sem2ct.data.store import Store
from sem2ct.runtime import device
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan import sample
from sem2ct.stylegan.trainer import StyleganTrainer
from sem2ct.training import loop
from sem2ct.training.cost import measure

LOGGER = logging.getLogger(__name__)
PREVIEW_SIDE = 6


def inputs(settings: TrainStyleganSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    return [Store(settings.sem, setting="sem").folder / "manifest.json"]


def estimate(settings: TrainStyleganSettings) -> dict[str, str]:
    """What a run would take, without running it.

    Args:
        settings: Of this stage.

    Returns:
        Rows of a table, name to value.

    Raises:
        Refusal: If the store cannot be used.
    """
    store = Store(settings.sem, setting="sem")
    tiles = Patches(store, symmetries=settings.symmetries, seed=settings.seed)
    batch = {"sem": tiles.share(0, settings.batch_size)}
    return {
        "SEM tiles": f"{len(store)} of {store.tile_px} px",
        "training": f"{settings.total_images} images in batches of {settings.batch_size}",
        **measure(_trainer(settings, store), batch, **settings.arguments_of(measure)),
    }


def run(settings: TrainStyleganSettings, folder: RunFolder) -> None:
    """Trains, or resumes, and writes checkpoints, values and previews.

    Args:
        settings: Of this stage.
        folder: The opened run folder.

    Raises:
        Refusal: If the store cannot be used or the training diverges.
    """
    store = Store(settings.sem, setting="sem")
    tiles = Patches(store, symmetries=settings.symmetries, seed=settings.seed)
    trainer = _trainer(settings, store)
    real = tiles.pictures(PREVIEW_SIDE**2)
    folder.picture("real", 0, mosaic(real, columns=PREVIEW_SIDE))

    def previews(images_seen: int) -> dict[str, np.ndarray]:
        fakes = sample.tiles(
            trainer.ema, seed=settings.seed, indices=range(PREVIEW_SIDE**2), psi=1.0
        )
        return {"fake_sem": mosaic(fakes, columns=PREVIEW_SIDE)}

    loop.run(
        trainer,
        batches=lambda images_seen: {"sem": tiles.share(images_seen, settings.batch_size)},
        previews=previews,
        folder=folder,
        what="train-stylegan",
        **settings.arguments_of(loop.run),
        extra={"store": store.grey_and_size()},
    )
    folder.finish(images=settings.total_images, tiles=len(store))
    LOGGER.info("previews: %s", folder.path / "previews")


def _trainer(settings: TrainStyleganSettings, store: Store) -> StyleganTrainer:
    arguments: dict[str, Any] = settings.arguments_of(StyleganTrainer)
    arguments |= {"resolution": store.tile_px, "device": device.choose(settings.device)}
    return StyleganTrainer(**arguments)
