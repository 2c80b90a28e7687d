"""`sem2ct synthesize`: trained generator in, store of SEM tiles out."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from sem2ct.config import SynthesizeSettings
from sem2ct.data import set_sources, styles
from sem2ct.data.intensity import Window
from sem2ct.data.mosaic import mosaic
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime import checkpoint, device, distributed
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan import bulk, grids, sample, trained
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.trained import Trained

LOGGER = logging.getLogger(__name__)
PREVIEW_SIDE = 6
FACTS = {"seed", "psi", "precision"}


def inputs(settings: SynthesizeSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    return [trained.find(settings.stylegan, settings.checkpoint)]


def estimate(settings: SynthesizeSettings) -> dict[str, str]:
    """Returns what a run would take, as a table; one batch is drawn and timed."""
    source, generator = _opened(settings)
    tiles = settings.n if settings.mode == "store" else settings.n * settings.rows
    batch = range(min(tiles, settings.batch_per_device))
    _tiles(generator, settings, batch)
    start = time.perf_counter()
    _tiles(generator, settings, batch)
    seconds = (time.perf_counter() - start) / len(batch) * tiles / settings.devices
    return {
        "generator": f"{source.path}, {source.images_seen or 'unknown'} images seen",
        "SEM tiles": f"{tiles} of {generator.resolution} px",
        "size": f"{tiles * generator.resolution**2 / 1e6:.1f} MB",
        "time": f"{seconds / 60:.1f} min",
    }


def run(settings: SynthesizeSettings, folder: RunFolder) -> None:
    """Draws tiles into a store, those of a grid with a picture; goes on where it stopped.

    Args:
        settings: Of this stage.
        folder: The opened run folder.

    Raises:
        Refusal: If there is no usable checkpoint, or not enough room.
    """
    source, generator = _opened(settings)
    writer, tiles = _writer(settings, folder.path / "sem", source), settings.n
    if settings.mode == "store":
        LOGGER.info("%s", bulk.fill(writer, generator, **settings.arguments_of(bulk.fill)))
    else:
        tiles = settings.n * settings.rows
        grids.fill(writer, generator, **settings.arguments_of(grids.fill))
    distributed.barrier()
    if distributed.is_main():
        writer.finish()
        made = Store(writer.folder)
        if settings.mode == "store":
            shown = mosaic(made.tiles[: PREVIEW_SIDE**2], columns=PREVIEW_SIDE)
            folder.picture("fake_sem", source.images_seen, shown)
        else:
            shown = grids.picture(made, rows=settings.rows, n=settings.n)
            folder.picture(settings.mode, source.images_seen, shown)
    folder.finish(tiles=tiles, store=str(writer.folder))


def _opened(settings: SynthesizeSettings) -> tuple[Trained, Generator]:
    """The generator's file and the generator, on the device that draws."""
    options = {"pixel_um": settings.pixel_um, "to_grey": settings.to_grey}
    source = trained.load(settings.stylegan, settings.checkpoint, **options)
    return source, source.generator.to(device.choose(settings.device))


def _writer(settings: SynthesizeSettings, folder: Path, source: Trained) -> StoreWriter:
    window = source.store["window"]
    digest = checkpoint.digest(source.path)
    gridded = settings.mode != "store"
    told: dict[str, Any] = {set_sources.GRID: settings.mode} if gridded else {}
    if settings.styles > 1 and not gridded:
        told[styles.COLUMN] = {"of": "w", "count": settings.styles}
    return StoreWriter(
        folder,
        tile_px=source.store["tile_px"],
        domain="sem",
        pixel_um=source.store["pixel_um"],
        window=Window.from_dict(window) if window else None,
        shard_patches=settings.n if gridded else settings.shard_patches,
        sources=[{"file": str(source.path), "images_seen": source.images_seen}],
        facts={"generator_sha256": digest, **settings.model_dump(include=FACTS), **told},
        encoding=settings.encoding,
    )


def _tiles(generator: Generator, settings: SynthesizeSettings, numbers: range) -> np.ndarray:
    arguments = {"seed": settings.seed, "indices": numbers, "psi": settings.psi}
    with device.autocast(settings.precision, generator.mapping.w_avg.device, mixed="float16"):
        return sample.tiles(generator, batch=settings.batch_per_device, **arguments)
