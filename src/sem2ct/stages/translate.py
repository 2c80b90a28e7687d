"""`sem2ct translate`: part of a scan in, the same part with SEM detail out, as OME-Zarr.

What lies outside the CT's field of view becomes 0; `field_of_view.tif` tells it from a pore.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sem2ct.config import TranslateSettings
from sem2ct.cyclegan import core_size, demand, realisations, shown, volume
from sem2ct.cyclegan.apply import seam_contrast
from sem2ct.cyclegan.demand import Demand
from sem2ct.cyclegan.realisations import Volumes
from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data import region_export, scans
from sem2ct.data.translated import VOLUME
from sem2ct.reporting import record
from sem2ct.runtime import checkpoint, distributed
from sem2ct.runtime.run_folder import RunFolder

if TYPE_CHECKING:
    from sem2ct.metrics.streamed import Greys

LOGGER = logging.getLogger(__name__)


def inputs(settings: TranslateSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    weights = checkpoint.find(settings.cyclegan, setting="cyclegan")
    return [weights, *scans.find(settings.ct, setting="ct")]


def estimate(settings: TranslateSettings) -> dict[str, str]:
    """What a run would take, as rows of a table; one tile is translated to find out.

    Args:
        settings: Of this stage.

    Raises:
        Refusal: If the scan, the ranges or the checkpoint cannot be used.
    """
    folder = settings.run_root / "translate" / settings.run
    job = _prepare(settings, folder, keep=False)
    return demand.rows(job, _demand(settings), folder, **settings.arguments_of(demand.rows))


def run(settings: TranslateSettings, folder: RunFolder) -> None:
    """Translates, or goes on, and writes volume, field of view and previews; then exports.

    Args:
        settings: Of this stage.
        folder: The opened run folder.

    Raises:
        Refusal: If the scan, the ranges or the checkpoint cannot be used, or the disk is full.
    """
    if not folder.finished:
        _translate(settings, folder)
    if distributed.is_main():
        asked = {"kind": settings.export, "box": settings.export_range}
        region_export.export_asked(folder.path / VOLUME, **asked)


def _translate(settings: TranslateSettings, folder: RunFolder) -> None:
    job, wanted = _prepare(settings, folder.path, keep=True), _demand(settings)
    if settings.allow_partial:
        job = demand.shortened(job, wanted, folder.path)
    level = 0
    if settings.threshold != "none":
        from sem2ct.metrics import earlier  # not above: it takes a second

        level = earlier.threshold(settings.threshold)
    jobs = realisations.each(job, settings.realisations, seed=settings.seed)
    facts = {"shape": job.shape, "pixel_um": job.pixel_um, "halo_px": job.halo_px}
    if settings.statistics_only:
        read = [lambda first, count, one=one: one.slab(first, count)[0] for one in jobs]
    else:
        chosen = settings.arguments_of(Volumes)
        volumes = Volumes(jobs, folder.path, name=VOLUME, level=level, **chosen)
        finished = volumes.make(wanted.bytes_of(job.shape))
        if distributed.is_main():
            black_and_white = settings.labels == "only"
            shown.leave(job, finished[0], folder.path, black_and_white=black_and_white)
            facts["seam_contrast"] = seam_contrast(volumes.seam_steps())
        distributed.barrier()  # a volume is there when the first process has finished it
        read = [volumes.reader(k) for k in range(len(jobs))]
    for k, greys in enumerate(read if level else []):
        _count(settings, job, greys, level, folder.path / f"statistics{f'_{k}' if k else ''}.json")
    if distributed.is_main():
        folder.finish(**facts)
        LOGGER.info("%s | %s", folder.path, folder.facts())


def _count(
    settings: TranslateSettings, job: VolumeTranslator, greys: "Greys", level: int, file: Path
) -> None:
    """Writes the statistics of a volume of grey levels, read slab by slab."""
    from sem2ct.metrics import streamed, volume_facts

    how = {"threshold": level, "reach_px": settings.reach_px, "bin_px": job.generator.scale}
    cut = {"shape": job.shape, "slab": job.slab_slices(settings.chunk_px)}
    told = streamed.of_greys(greys, job.inside, kept_in=file.with_suffix(".npz"), **cut, **how)
    if distributed.is_main():
        told |= {"threshold": level, "axes": settings.axes, "voxel": job.placement["voxel"]}
        record.write_json(file, told)
        LOGGER.info("%s | %s", file, volume_facts.line(told))


def _demand(settings: TranslateSettings) -> Demand:
    return Demand(**settings.arguments_of(Demand))


def _prepare(settings: TranslateSettings, folder: Path, *, keep: bool) -> VolumeTranslator:
    scan = scans.open(settings.ct, **settings.ct_file)
    job = volume.prepare(scan, **settings.arguments_of(volume.prepare))
    if settings.core_px == "auto":
        asked = settings.arguments_of(core_size.settled)
        job = core_size.settled(job, _demand(settings), folder, keep=keep, **asked)
    return job
