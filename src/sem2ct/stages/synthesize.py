"""`sem2ct synthesize`: trained generator in, store of SEM tiles or picture grid out."""

import logging
import time
from pathlib import Path

import numpy as np

from sem2ct.config import SynthesizeSettings
from sem2ct.data.intensity import Window
from sem2ct.data.mosaic import mosaic
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime import checkpoint, device, distributed
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan import bulk, sample, trained
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.trained import Trained

LOGGER = logging.getLogger(__name__)
PREVIEW_SIDE = 6
FACTS = {"seed", "psi", "precision"}
GRIDS = {
    grid.__name__: grid for grid in (sample.fixed_style, sample.fixed_noise, sample.interpolate)
}


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
    """Draws tiles into a store, or a picture grid; goes on where it stopped.

    Args:
        settings: Of this stage.
        folder: The opened run folder.

    Raises:
        Refusal: If there is no usable checkpoint, or not enough room.
    """
    source, generator = _opened(settings)
    if settings.mode == "store":
        writer = _writer(settings, folder.path / "sem", source)
        spent = bulk.fill(writer, generator, **settings.arguments_of(bulk.fill))
        LOGGER.info("%s", spent)
        distributed.barrier()
        if distributed.is_main():
            writer.finish()
            first = Store(writer.folder).tiles[: PREVIEW_SIDE**2]
            folder.picture("fake_sem", source.images_seen, mosaic(first, columns=PREVIEW_SIDE))
        folder.finish(tiles=settings.n, store=str(writer.folder))
        return
    draw = GRIDS[settings.mode]
    with device.autocast(settings.precision, generator.mapping.w_avg.device, mixed="float16"):
        grid = draw(generator, **settings.arguments_of(draw))
    folder.finish(picture=str(folder.picture(settings.mode, source.images_seen, grid)))


def _opened(settings: SynthesizeSettings) -> tuple[Trained, Generator]:
    """The generator's file and the generator, on the device that draws."""
    options = {"pixel_um": settings.pixel_um, "to_grey": settings.to_grey}
    source = trained.load(settings.stylegan, settings.checkpoint, **options)
    return source, source.generator.to(device.choose(settings.device))


def _writer(settings: SynthesizeSettings, folder: Path, source: Trained) -> StoreWriter:
    window = source.store["window"]
    digest = checkpoint.digest(source.path)
    return StoreWriter(
        folder,
        tile_px=source.store["tile_px"],
        domain="sem",
        pixel_um=source.store["pixel_um"],
        window=Window.from_dict(window) if window else None,
        shard_patches=settings.shard_patches,
        sources=[{"file": str(source.path), "images_seen": source.images_seen}],
        facts={"generator_sha256": digest, **settings.model_dump(include=FACTS)},
    )


def _tiles(generator: Generator, settings: SynthesizeSettings, numbers: range) -> np.ndarray:
    arguments = {"seed": settings.seed, "indices": numbers, "psi": settings.psi}
    with device.autocast(settings.precision, generator.mapping.w_avg.device, mixed="float16"):
        return sample.tiles(generator, batch=settings.batch_per_device, **arguments)
