"""`sem2ct translate`: part of a scan in, the same part with SEM detail out, as OME-Zarr.

What lies outside the CT's field of view becomes 0; `field_of_view.tif` tells it from a pore.
"""

import logging
from pathlib import Path

import numpy as np

from sem2ct.config import TranslateSettings
from sem2ct.cyclegan import volume
from sem2ct.cyclegan.apply import seam_contrast
from sem2ct.cyclegan.realisations import Volumes, size_bytes
from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data import pictures
from sem2ct.data.pyramid import read_level
from sem2ct.data.scans import find, open_scan
from sem2ct.data.translated import FIELD, VOLUME
from sem2ct.runtime import checkpoint, distributed, log
from sem2ct.runtime.run_folder import RunFolder, free_space

LOGGER = logging.getLogger(__name__)
LARGEST_PREVIEW_PX = 2048


def inputs(settings: TranslateSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    weights = checkpoint.find(settings.cyclegan, setting="cyclegan")
    return [weights, *find(settings.ct, setting="ct")]


def estimate(settings: TranslateSettings) -> dict[str, str]:
    """What a run would take; one tile is translated to find out.

    Args:
        settings: Of this stage.

    Returns:
        Rows of a table, name to value.

    Raises:
        Refusal: If the scan, the ranges or the checkpoint cannot be used.
    """
    job = _prepare(settings)
    minutes = job.seconds() * settings.realisations / settings.devices / 60
    return {
        "volume (z, y, x)": " x ".join(map(str, job.shape)),
        "pixel": "unstated" if job.pixel_um is None else f"{job.pixel_um:g} um",
        "tiles": f"{job.tiles}, cores of {job.core_px} and halos of {job.halo_px} CT px",
        "size": f"{size_bytes(job.shape, settings.realisations) / 1e6:.1f} MB at most",
        "time": f"{minutes:.1f} min on {settings.devices} x {job.device}, judged from one tile",
    }


def run(settings: TranslateSettings, folder: RunFolder) -> None:
    """Translates, or goes on translating, and writes volume, field of view and previews.

    Args:
        settings: Of this stage.
        folder: The opened run folder.

    Raises:
        Refusal: If the scan, the ranges or the checkpoint cannot be used, or the disk is full.
    """
    job = _prepare(settings)
    chosen = {"version": settings.ome_zarr_version, **settings.arguments_of(Volumes)}
    volumes = Volumes(job, folder.path, name=VOLUME, **chosen)
    missing = volumes.missing()
    space = size_bytes(job.shape, settings.realisations) * len(missing) // len(volumes.mine or [0])
    free_space(folder.path, space, "translate")
    left, mine = volumes.voxels(missing), volumes.voxels(volumes.mine)
    with log.progress(mine, done=mine - left, unit="voxels", what="translate") as bar:
        bar.unit_scale = True
        volumes.write(missing, on_tile=bar.update)
    finished = volumes.finish()
    if not distributed.is_main():
        return
    _pictures(job, finished[0], folder.path)
    facts = {"shape": job.shape, "pixel_um": job.pixel_um, "halo_px": job.halo_px}
    folder.finish(**facts, seam_contrast=seam_contrast(volumes.seam_steps()))
    LOGGER.info("%s | %s", folder.path / VOLUME, folder.facts())


def _prepare(settings: TranslateSettings) -> VolumeTranslator:
    scan = open_scan(
        settings.ct,
        raw_shape=settings.ct_raw_shape,
        raw_dtype=settings.ct_raw_dtype,
        raw_byte_order=settings.ct_raw_byte_order,
        raw_header_bytes=settings.ct_raw_header_bytes,
        dataset=settings.ct_dataset,
    )
    return volume.prepare(scan, **settings.arguments_of(volume.prepare))


def _pictures(job: VolumeTranslator, finished: Path, folder: Path) -> None:
    step = job.generator.scale if job.slices.refine else 1
    field = np.stack([job.field(i) for i in range(0, job.shape[0], step)])
    pictures.write_tiff(folder / FIELD, field * np.uint8(255), pixel_um=job.ct_pixel_um)
    i = job.shape[0] // 2
    preview = read_level(finished, i, largest_px=LARGEST_PREVIEW_PX)
    pictures.write_png(folder / "previews" / "translation.png", preview)
    ct = pictures.enlarge(job.grey(i), *preview.shape)
    pictures.write_png(folder / "previews" / "ct.png", ct)
    if job.shape[0] == 1:
        whole = read_level(finished, 0)
        pictures.write_png(folder / "translation.png", whole)
        pictures.write_tiff(folder / "translation.tif", whole, pixel_um=job.pixel_um)
