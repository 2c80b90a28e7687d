"""`sem2ct evaluate`: named sets of images in; numbers, figures and a report out."""

import logging
from pathlib import Path

from sem2ct.config import EvaluateSettings
from sem2ct.data import image_sets
from sem2ct.data.image_sets import ImageSet
from sem2ct.data.scans import find
from sem2ct.data.translated import Beside, side_by_side
from sem2ct.metrics import agreement, measure, results, segmentation
from sem2ct.metrics.results import Measured
from sem2ct.reporting import record, report
from sem2ct.runtime import log
from sem2ct.runtime.run_folder import RunFolder

LOGGER = logging.getLogger(__name__)
TRUTH_SLICES = 32
SECONDS_PER_PIXEL = 2.5e-8  # one thread, lags to a quarter of the side


def inputs(settings: EvaluateSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    sets = [file for name, where in settings.sets.items() for file in image_sets.files(name, where)]
    shown = (("ct", settings.ct), ("truth", settings.truth))
    return sets + [file for name, at in shown if at != "none" for file in find(at, setting=name)]


def estimate(settings: EvaluateSettings) -> dict[str, str]:
    """What a run would look at, as rows of a table.

    Args:
        settings: Of this stage.

    Raises:
        Refusal: If a set cannot be used.
    """
    sets, _, pixel_um = _open(settings)
    pixels = sum(len(one) for one in sets.values()) * settings.tile_px**2
    seconds = 10 + SECONDS_PER_PIXEL * pixels / settings.processes
    return {
        **{f"tiles of {name}": f"{len(one)} of {one.available}" for name, one in sets.items()},
        "pixel": "unstated" if pixel_um is None else f"{pixel_um:g} um",
        "time": f"about {seconds:.0f} s",
    }


def run(settings: EvaluateSettings, folder: RunFolder) -> None:
    """Measures every set, compares them with the reference, and writes the report.

    Args:
        settings: Of this stage.
        folder: The opened run folder.

    Raises:
        Refusal: If a set, the scan or the truth cannot be used.
    """
    sets, beside, pixel_um = _open(settings)
    level = _threshold(settings, sets[settings.reference])
    measured = {name: _measured(one, settings, level) for name, one in sets.items()}
    slices, images = side_by_side(beside, zoom_px=2 * settings.tile_px)
    metrics = results.collect(
        measured,
        reference=settings.reference,
        pixel_um=pixel_um,
        tile_px=settings.tile_px,
        reach_px=settings.reach_px,
        seed=settings.seed,
    )
    metrics |= {
        "run": settings.run,
        "cautions": [settings.note] * (settings.note != "none") + metrics["cautions"],
        "threshold": segmentation.facts(level, settings.threshold, settings.reference),
        "truth": {
            name: agreement.against_truth(place.slices(TRUTH_SLICES), threshold=level)
            for name, place in beside.items()
            if settings.truth != "none"
        },
        "slices": slices,
    }
    record.write(
        folder.path,
        metrics=metrics,
        tiles=results.columns(measured, pixel_um),
        curves=results.curves(measured, settings.reference),
        pictures=images | image_sets.examples(sets, settings.figures_tiles),
    )
    LOGGER.info("\n".join([*results.lines(metrics), f"report: {report.draw(folder.path)}"]))
    folder.finish(report=str(folder.path / report.REPORT))


def _open(
    settings: EvaluateSettings,
) -> tuple[dict[str, ImageSet], dict[str, Beside], float | None]:
    how = settings.arguments_of(image_sets.open_set)
    sets = {name: image_sets.open_set(name, where, **how) for name, where in settings.sets.items()}
    image_sets.refuse_single_tile(sets[settings.reference])
    how = settings.arguments_of(image_sets.common_pixel_um)
    pixel_um = image_sets.common_pixel_um(list(sets.values()), **how)
    return sets, image_sets.beside(sets, ct=settings.ct, truth=settings.truth), pixel_um


def _threshold(settings: EvaluateSettings, real: ImageSet) -> int:
    if settings.threshold == "otsu":
        return segmentation.otsu(segmentation.histogram(map(real.read, range(len(real)))))
    return settings.threshold


def _measured(one: ImageSet, settings: EvaluateSettings, level: int) -> Measured:
    with log.progress(len(one), unit="tiles", what=f"evaluate {one.name}") as bar:
        numbers = measure.tiles(
            one.read,
            len(one),
            threshold=level,
            reach_px=settings.reach_px,
            workers=settings.processes,
            on_tile=bar.update,
        )
    return Measured(numbers, one.frames, one.frames_known, one.facts())
