"""`sem2ct train-cyclegan`: two stores in, a translator from micro-CT to SEM out."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from sem2ct.config import TrainCycleganSettings
from sem2ct.cyclegan.previews import look
from sem2ct.cyclegan.trainer import CycleganTrainer
from sem2ct.data import pairs
from sem2ct.data.datasets import Patches
from sem2ct.data.store import Store
from sem2ct.runtime import device
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan import trained
from sem2ct.stylegan.live import Fed, LiveTiles
from sem2ct.training import loop
from sem2ct.training.cost import measure
from sem2ct.training.loop import Trainer

LOGGER = logging.getLogger(__name__)
PREVIEWS = 6


def inputs(settings: TrainCycleganSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    ct = Store(settings.ct, setting="ct").folder / "manifest.json"
    if settings.sem != "live":
        return [ct, Store(settings.sem, setting="sem").folder / "manifest.json"]
    return [ct, trained.find(settings.stylegan, settings.checkpoint)]


def estimate(settings: TrainCycleganSettings) -> dict[str, str]:
    """What a run would take, without running it, as rows of a table: name to value.

    Raises:
        Refusal: If the stores cannot be used or do not fit each other.
    """
    domains = _Domains(settings)
    trainer = domains.fed(domains.trainer())
    return {
        "CT patches": f"{len(domains.ct_store)} of {domains.ct_store.tile_px} px",
        "SEM tiles": f"{settings.sem}, {domains.tile_px} px (scale {domains.scale})",
        "training": f"{settings.total_images} pairs in batches of {settings.batch_size}",
        **measure(trainer, domains.share(0), **settings.arguments_of(measure)),
        **({"live tiles": trainer.described()} if isinstance(trainer, Fed) else {}),
    }


def run(settings: TrainCycleganSettings, folder: RunFolder) -> None:
    """Trains, or resumes, and writes checkpoints, values and previews.

    Args:
        settings: Of this stage.
        folder: The opened run folder.

    Raises:
        Refusal: If the stores do not fit each other, or the contrast inverts.
    """
    domains = _Domains(settings)
    trainer = domains.trainer()
    here = device.choose(settings.device)
    fixed = [images[:PREVIEWS].to(here) for images in domains.share(0, live=True).values()]
    loop.run(
        domains.fed(trainer),
        batches=domains.share,
        previews=lambda images_seen: look(trainer, images_seen, *fixed),
        folder=folder,
        what="train-cyclegan",
        **settings.arguments_of(loop.run),
        extra={"ct_store": domains.ct_store.grey_and_size(), "sem_store": domains.sem_facts},
    )
    folder.finish(images=settings.total_images, scale=domains.scale)
    LOGGER.info("previews: %s", folder.path / "previews")


class _Domains:
    """The two sides as the settings name them: where images come from, and how they fit."""

    def __init__(self, settings: TrainCycleganSettings) -> None:
        self._settings = settings
        chosen = {"symmetries": settings.symmetries, "seed": settings.seed}
        self.ct_store = Store(settings.ct, setting="ct")
        size = settings.batch_size
        pairs.refuse_unfit(self.ct_store, setting="ct", batch_size=size)
        self._ct = Patches(self.ct_store, **chosen)
        if settings.sem == "live":
            source = trained.load(settings.stylegan, settings.checkpoint)
            generator = source.generator.to(device.choose(settings.device))
            self._sem = LiveTiles(generator, seed=settings.seed, psi=settings.psi)
            self.tile_px, self.sem_facts = generator.resolution, source.store
        else:
            store = Store(settings.sem, setting="sem")
            pairs.refuse_unfit(store, setting="sem", batch_size=size)
            self._sem = Patches(store, **chosen)
            self.tile_px, self.sem_facts = store.tile_px, store.grey_and_size()
        sem_um = self.sem_facts["pixel_um"]
        self.scale = pairs.scale_of(
            self.ct_store, tile_px=self.tile_px, sem_um=sem_um, sem=settings.sem
        )

    def share(self, images_seen: int, *, live: bool = False) -> dict[str, Tensor]:
        """A batch; live tiles, drawn within the step, only if asked for."""
        sides = {"ct": self._ct, "sem": self._sem}
        if self._settings.sem == "live" and not live:
            del sides["sem"]
        size = self._settings.batch_size
        return {name: side.share(images_seen, size) for name, side in sides.items()}

    def fed(self, trainer: CycleganTrainer) -> Trainer:
        size = self._settings.batch_size
        return Fed(trainer, self._sem, size) if isinstance(self._sem, LiveTiles) else trainer

    def trainer(self) -> CycleganTrainer:
        arguments: dict[str, Any] = self._settings.arguments_of(CycleganTrainer)
        arguments |= {"scale": self.scale, "patch_px": self.ct_store.tile_px}
        arguments |= {"device": device.choose(self._settings.device)}
        return CycleganTrainer(**arguments)
