"""`sem2ct extract`: SEM images into tiles and a micro-CT scan into patches, as stores."""

import logging
import time
from pathlib import Path
from typing import Any

from sem2ct.config import ExtractSettings
from sem2ct.data import ct_patches, export, pictures, scans, sem_frames, sem_tiles, tiling, toy_rock
from sem2ct.data.brought import Brought, open_brought
from sem2ct.data.datasets import Patches
from sem2ct.data.frames import Frames
from sem2ct.data.store import Store
from sem2ct.runtime import distributed, log
from sem2ct.runtime.run_folder import RunFolder, free_space

LOGGER = logging.getLogger(__name__)


def inputs(settings: ExtractSettings) -> list[Path]:
    """Files whose digests go into the provenance; a toy rock has none."""
    if settings.source == "toy":
        return []
    _open(settings)  # most of what can be wrong is refused before the folder is made
    named = {"sem": settings.sem, "ct": settings.ct, "ct_mask": settings.ct_mask}
    if settings.ct_mask in ("found", "none"):
        del named["ct_mask"]
    return [file for name, value in named.items() for file in scans.find(value, setting=name)]


def estimate(settings: ExtractSettings) -> dict[str, str]:
    """What a run would make, name to value; of the pixels only the scan's are read."""
    if settings.source == "toy" and not Path(settings.ct).exists():
        shape = (settings.toy_sem_px, settings.toy_sem_px)
        grid = tiling.grid(shape, tile_px=settings.tile_px, stride_px=settings.stride_px)
        tiles, field = settings.toy_sem_images * len(grid), "of the toy rock, which is made first"
        pixels = settings.toy_sem_images * settings.toy_sem_px**2
    else:
        brought = _open(settings)
        share = _plan_patches(settings, brought).field.share
        tiles, field = sum(brought.tiles.values()), f"{share:.1%} of {brought.scan.shape}"
        pixels = brought.pixels
    size = _size(settings, tiles) + pixels
    free_space(settings.run_root, size, "extract")
    return {
        "SEM tiles": f"{tiles} of {settings.tile_px} px at stride {settings.stride_px}",
        "CT patches": f"{settings.ct_patches} of {settings.ct_patch_px} px",
        "field of view": field,
        "size": f"{size / 1e6:.1f} MB",
        "time": f"about {size / 2e7 + 1:.0f} s",
    }


def run(settings: ExtractSettings, folder: RunFolder) -> None:
    """Writes sem_frames and the stores sem, sem_validation and ct; what is whole is kept.

    Args:
        settings: Of this stage.
        folder: The opened run folder; a finished one is only verified and exported.

    Raises:
        Refusal: If the input cannot be used as the settings say, or a shard is damaged.
    """
    if not folder.finished:
        _extract(settings, folder)
    if not distributed.is_main():
        return
    names = ["sem", "sem_validation", "ct"] if folder.facts()["validation_tiles"] else ["sem", "ct"]
    stores = {name: Store(folder.path / name) for name in names} if settings.asks_more else {}
    if settings.verify:
        for kept in (*stores.values(), Frames(folder.path / "sem_frames")):
            kept.verify()
        LOGGER.info("%s: every checksum matches", folder.path)
    export.write_all(stores, folder.path / "export", kind=settings.export)


def _open(settings: ExtractSettings) -> Brought:
    return open_brought(**settings.arguments_of(open_brought))


def _plan_patches(settings: ExtractSettings, brought: Brought) -> ct_patches.Planned:
    arguments = settings.arguments_of(ct_patches.plan_patches)
    with log.progress(brought.scan.shape[0], unit="slices", what="micro-CT: field of view") as bar:
        return ct_patches.plan_patches(brought.scan, **arguments, progress=bar)


def _size(settings: ExtractSettings, tiles: int) -> int:
    return tiles * settings.tile_px**2 + settings.ct_patches * settings.ct_patch_px**2


def _extract(settings: ExtractSettings, folder: RunFolder) -> None:
    if settings.source == "toy":
        toy: dict[str, Any] = {"ct_shape": settings.toy_ct_shape, "sem_px": settings.toy_sem_px}
        toy |= {"sem_images": settings.toy_sem_images, **settings.arguments_of(toy_rock.make)}
        distributed.once(lambda: toy_rock.make(folder.path / "rock", **toy))
    brought = _open(settings)
    total = sum(brought.tiles.values())
    free_space(folder.path, _size(settings, total) + brought.pixels, "extract")
    planned = _plan_patches(settings, brought)
    places, shown = (folder.path / "previews" / f"{name}.png" for name in ("ct_mask", "sem_tiles"))
    distributed.once(lambda: pictures.write_png(places, ct_patches.draw_places(planned)))
    begun = time.monotonic()
    cut: dict[str, Any] = settings.arguments_of(sem_frames.extract) | {"pixel_um": brought.sem_um}
    window = sem_frames.extract(folder.path, brought.images, **cut)
    rate = total / (time.monotonic() - begun)
    tiles = Patches(Store(folder.path / "sem"), symmetries="none", seed=0).pictures(24)
    distributed.once(lambda: pictures.write_png(shown, sem_tiles.draw_tiles(tiles)))
    cut = settings.arguments_of(ct_patches.write_patches) | {"pixel_um": brought.ct_um}
    with log.progress(settings.ct_patches, unit="patches", what="micro-CT: patches") as bar:
        ct_patches.write_patches(folder.path / "ct", planned, progress=bar, **cut)
    made = {name: len(Store(folder.path / name)) for name in brought.images}
    facts: dict[str, Any] = {"tiles": made["sem"]}
    facts["validation_tiles"] = made.get("sem_validation", 0)
    facts |= {"patches": settings.ct_patches, "field_of_view": planned.field.share}
    LOGGER.info("%s | %.1f SEM tiles/s", " | ".join(f"{k} {v:g}" for k, v in facts.items()), rate)
    if brought.scan.step != 1:
        facts["ct_resampled_by"] = brought.scan.step
    greys = {"sem_window": window.as_dict(), "ct_window": planned.window.as_dict()}
    LOGGER.info("grey windows: %s | previews: %s", greys, folder.path / "previews")
    folder.finish(**facts, **greys)
