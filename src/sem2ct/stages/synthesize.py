"""`sem2ct synthesize`: trained generator in, store of SEM tiles or picture grid out."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from sem2ct.config import SynthesizeSettings
from sem2ct.data.intensity import Window
from sem2ct.data.mosaic import mosaic
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime import checkpoint, device, distributed, log
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder, free_space
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator

PREVIEW_SIDE = 6
FACTS = {"seed", "psi", "precision"}
GRIDS = {
    grid.__name__: grid for grid in (sample.fixed_style, sample.fixed_noise, sample.interpolate)
}


def inputs(settings: SynthesizeSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    return [checkpoint.find(settings.stylegan, setting="stylegan")]


def estimate(settings: SynthesizeSettings) -> dict[str, str]:
    """Returns what a run would take, as a table; one batch is drawn and timed."""
    path, generator, _ = _opened(settings)
    tiles = settings.n if settings.mode == "store" else settings.n * settings.rows
    batch = range(min(tiles, settings.batch_per_device))
    _tiles(generator, settings, batch)
    start = time.perf_counter()
    _tiles(generator, settings, batch)
    seconds = (time.perf_counter() - start) / len(batch) * tiles / settings.devices
    return {
        "generator": str(path),
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
    path, generator, bag = _opened(settings)
    if settings.mode == "store":
        writer = _writer(settings, folder.path / "sem", path, bag)
        _write_shards(settings, writer, generator)
        if distributed.is_main():
            writer.finish()
            first = Store(writer.folder).tiles[: PREVIEW_SIDE**2]
            folder.picture("fake_sem", bag["images_seen"], mosaic(first, columns=PREVIEW_SIDE))
        folder.finish(tiles=settings.n, store=str(writer.folder))
        return
    draw = GRIDS[settings.mode]
    with device.autocast(settings.precision, generator.mapping.w_avg.device):
        grid = draw(generator, **settings.arguments_of(draw))
    folder.finish(picture=str(folder.picture(settings.mode, bag["images_seen"], grid)))


def _opened(settings: SynthesizeSettings) -> tuple[Path, Generator, dict]:
    path = checkpoint.find(settings.stylegan, setting="stylegan")
    bag = checkpoint.load(path)
    generator = sample.from_bag(bag, path).to(device.choose(settings.device))
    if "store" not in bag:
        raise Refusal(
            f"stylegan={path} says nothing about the store it was trained on, so grey window and"
            " pixel size are unknown; give a run folder of train-stylegan"
        )
    return path, generator, bag


def _writer(settings: SynthesizeSettings, folder: Path, path: Path, bag: dict) -> StoreWriter:
    store, window = bag["store"], bag["store"]["window"]
    facts = {"generator_sha256": checkpoint.digest(path), **settings.model_dump(include=FACTS)}
    return StoreWriter(
        folder,
        tile_px=store["tile_px"],
        domain="sem",
        pixel_um=store["pixel_um"],
        window=Window.from_dict(window) if window else None,
        shard_patches=settings.shard_patches,
        sources=[{"file": str(path), "images_seen": bag["images_seen"]}],
        facts=facts,
    )


def _write_shards(settings: SynthesizeSettings, writer: StoreWriter, generator: Generator) -> None:
    size, shards = settings.shard_patches, -(-settings.n // settings.shard_patches)
    mine = range(distributed.rank(), shards, distributed.world_size())
    numbers = {k: range(k * size, min((k + 1) * size, settings.n)) for k in mine}
    missing = {k: numbers[k] for k in mine if not writer.has(k)}
    to_do, total = (sum(map(len, part.values())) for part in (missing, numbers))
    free_space(writer.folder, to_do * generator.resolution**2, "synthesize")
    with log.progress(total, done=total - to_do, unit="tiles", what="synthesize") as bar:
        for k, chosen in missing.items():
            tiles = _tiles(generator, settings, chosen, seen=bar.update)
            writer.write_shard(k, tiles, {"seed": np.asarray(chosen)})
    distributed.barrier()


def _tiles(
    generator: Generator, settings: SynthesizeSettings, numbers: range, **options: Any
) -> np.ndarray:
    arguments = {"seed": settings.seed, "indices": numbers, "psi": settings.psi, **options}
    with device.autocast(settings.precision, generator.mapping.w_avg.device):
        return sample.tiles(generator, batch=settings.batch_per_device, **arguments)
