"""`sem2ct train-cyclegan`: two stores in, a translator from micro-CT to SEM out."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from sem2ct.config import TrainCycleganSettings
from sem2ct.cyclegan.activations import prepared
from sem2ct.cyclegan.previews import look
from sem2ct.cyclegan.trainer import CycleganTrainer
from sem2ct.data import pairs
from sem2ct.data.datasets import Patches
from sem2ct.data.store import Store
from sem2ct.metrics import styles
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
    domains = _Domains(settings, kept=folder.path / "styles.json")
    trainer = domains.trainer()
    shown = domains.share(0, live=True)
    fixed = [shown[side][:PREVIEWS].to(trainer.device) for side in ("ct", "sem")]
    loop.run(
        domains.fed(trainer),
        batches=domains.share,
        previews=lambda images_seen: look(trainer, images_seen, *fixed),
        folder=folder,
        what="train-cyclegan",
        **settings.arguments_of(loop.run),
        extra=domains.facts(),
    )
    folder.finish(images=settings.total_images, scale=domains.scale)
    LOGGER.info("previews: %s", folder.path / "previews")


class _Domains:
    """The two sides as the settings name them: where images come from, and how they fit."""

    def __init__(self, settings: TrainCycleganSettings, *, kept: Path | str = "none") -> None:
        self._settings = settings
        self.ct_store = pairs.opened(settings.ct, setting="ct", batch_size=settings.batch_size)
        self._ct = Patches(self.ct_store, **settings.arguments_of(Patches))
        if settings.sem == "live":
            source = trained.load(settings.stylegan, settings.checkpoint, to_grey=settings.to_grey)
            generator = source.generator.to(device.choose(settings.device))
            self._sem = LiveTiles(generator, **settings.arguments_of(LiveTiles))
            self.tile_px, self._sem_facts = generator.resolution, source.store
        else:
            store = pairs.opened(settings.sem, setting="sem", batch_size=settings.batch_size)
            pairs.hold_greys_together(self.ct_store, store, greys=settings.greys)
            told = styles.of_store(store, kept=kept, **settings.arguments_of(styles.of_store))
            self._sem = Patches(store, told=told, **settings.arguments_of(Patches))
            self.tile_px, self._sem_facts = store.tile_px, store.grey_and_size()
        self.scale = pairs.scale_of(self.ct_store, self._sem_facts, sem=settings.sem)

    def share(self, images_seen: int, *, live: bool = False) -> dict[str, Tensor]:
        """A batch; live tiles, drawn within the step, only if asked for."""
        size, stored = self._settings.batch_size, self._settings.sem != "live"
        ct = self._ct.named(images_seen, size)
        return ct | self._sem.named(images_seen, size) if stored or live else ct

    def facts(self) -> dict[str, Any]:
        """What translation must know of the images that were learned from."""
        told = {} if self._sem.told is None else {"styles": self._sem.told.facts()}
        return {"ct_store": self.ct_store.grey_and_size(), "sem_store": self._sem_facts, **told}

    def fed(self, trainer: CycleganTrainer) -> Trainer:
        size = self._settings.batch_size
        return Fed(trainer, self._sem, size) if isinstance(self._sem, LiveTiles) else trainer

    def trainer(self) -> CycleganTrainer:
        given: dict[str, Any] = {"device": device.choose(self._settings.device)}
        given |= {"scale": self.scale, "patch_px": self.ct_store.tile_px}
        trainer = CycleganTrainer(**self._settings.arguments_of(CycleganTrainer) | given)
        return prepared(trainer, recomputed=self._settings.checkpoint_activations)
