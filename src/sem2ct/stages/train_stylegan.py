"""`sem2ct train-stylegan`: store of SEM tiles in, generator of SEM tiles out."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from sem2ct.config import TrainStyleganSettings
from sem2ct.data import sem_source
from sem2ct.data.frames import Frames
from sem2ct.data.mosaic import mosaic
from sem2ct.data.store import Store
from sem2ct.metrics import rock_watch
from sem2ct.runtime import checkpoint, device, seeding
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan import recipes, sample, transfer
from sem2ct.stylegan.trainer import StyleganTrainer
from sem2ct.training import loop
from sem2ct.training.cost import measure

LOGGER = logging.getLogger(__name__)
PREVIEW_SIDE = 6


def inputs(settings: TrainStyleganSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    folders = [Store(settings.sem, setting="sem").folder]
    judged = settings.evaluate_every != "never" and settings.sem_frames != "none"
    if settings.tiles == "frames" or judged:
        folders.append(Frames(settings.sem_frames).folder)
    return [folder / "manifest.json" for folder in folders]


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
    settings = recipes.applied(settings, resolution=store.tile_px)
    tiles = sem_source.open_tiles(store, **settings.arguments_of(sem_source.open_tiles))
    batch = {"sem": tiles.share(0, settings.batch_size)}
    return {
        "SEM tiles": sem_source.described(tiles, store),
        "training": f"{settings.total_images} images in batches of {settings.batch_size}",
        **recipes.sheet(settings, resolution=store.tile_px),
        **measure(_trainer(settings, store, fresh=True), batch, **settings.arguments_of(measure)),
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
    settings = recipes.applied(settings, resolution=store.tile_px)
    for row in recipes.sheet(settings, resolution=store.tile_px).items():
        LOGGER.info("%s: %s", *row)
    tiles = sem_source.open_tiles(store, **settings.arguments_of(sem_source.open_tiles))
    fresh = checkpoint.newest(folder.path / "checkpoints") is None
    trainer = _trainer(settings, store, fresh=fresh)
    real = tiles.pictures(PREVIEW_SIDE**2)
    folder.picture("real", 0, mosaic(real, columns=PREVIEW_SIDE))

    def previews(images_seen: int) -> dict[str, np.ndarray]:
        fakes = sample.tiles(
            trainer.ema, seed=settings.seed, indices=range(PREVIEW_SIDE**2), psi=1.0
        )
        return {"fake_sem": mosaic(fakes, columns=PREVIEW_SIDE)}

    def samples(count: int) -> np.ndarray:
        seed = seeding.mix(settings.seed, "evaluate")
        return sample.tiles(trainer.ema, seed=seed, indices=range(count))

    loop.run(
        trainer,
        batches=lambda images_seen: {"sem": tiles.share(images_seen, settings.batch_size)},
        previews=previews,
        folder=folder,
        what="train-stylegan",
        **settings.arguments_of(loop.run),
        extra={"store": store.grey_and_size()},
        watch=rock_watch.watch(samples, store, **settings.arguments_of(rock_watch.watch)),
    )
    folder.finish(images=settings.total_images, tiles=len(store))
    LOGGER.info("previews: %s", folder.path / "previews")


def _trainer(settings: TrainStyleganSettings, store: Store, *, fresh: bool) -> StyleganTrainer:
    arguments: dict[str, Any] = settings.arguments_of(StyleganTrainer)
    arguments |= {"resolution": store.tile_px, "device": device.choose(settings.device)}
    if isinstance(settings.resume_from, Path):
        # At its beginning a ramp would replace the average that is taken over.
        arguments["ema_ramp"] = 0.0
    trainer = StyleganTrainer(**arguments)
    if fresh and isinstance(settings.resume_from, Path):
        transfer.begin(
            settings.resume_from,
            generator=trainer.generator,
            discriminator=trainer.discriminator,
            ema=trainer.ema,
            to_grey=settings.to_grey,
        )
    return trainer
