"""`sem2ct evaluate`: named sets of images in; numbers, figures and a report out."""

import logging
import shutil
from pathlib import Path
from typing import Any

from sem2ct.config import EvaluateSettings
from sem2ct.data import image_sets
from sem2ct.data.image_sets import ImageSet
from sem2ct.data.scans import find
from sem2ct.data.translated import Beside, side_by_side
from sem2ct.metrics import agreement, earlier, results, survey, verdicts
from sem2ct.reporting import record
from sem2ct.runtime import distributed
from sem2ct.runtime.run_folder import RunFolder

LOGGER = logging.getLogger(__name__)
TRUTH_SLICES = 32
SECONDS_PER_PIXEL = 6e-8  # one thread, lags to a quarter of the side, real images of 60 Mpx


def inputs(settings: EvaluateSettings) -> list[Path]:
    """Files whose digests go into the provenance."""
    others = [earlier.file(at) for at in (settings.earlier, settings.against) if at != "none"]
    found = [file for file in others if file.is_file()]
    if settings.earlier != "none":
        return found
    named = {**{f"masks.{name}": at for name, at in settings.masks.items()}, **settings.sets}
    found += [file for name, at in named.items() for file in image_sets.files(name, at)]
    shown = (("ct", settings.ct), ("truth", settings.truth), ("features", settings.features))
    return found + [file for name, at in shown if at != "none" for file in find(at, setting=name)]


def estimate(settings: EvaluateSettings) -> dict[str, str]:
    """What a run would look at, as rows of a table; refuses what `run` would."""
    if settings.earlier != "none":
        return {"numbers": f"taken from {earlier.file(settings.earlier)}"}
    sets, _, pixel_um = _open(settings)
    pixels = sum(len(one) for one in sets.values()) * settings.tile_px**2
    seconds = 10 + SECONDS_PER_PIXEL * pixels / settings.processes / settings.devices
    return {
        **{f"tiles of {name}": f"{len(one)} of {one.available}" for name, one in sets.items()},
        "pixel": "unstated" if pixel_um is None else f"{pixel_um:g} um",
        "time": f"about {seconds:.0f} s",
    }


def run(settings: EvaluateSettings, folder: RunFolder) -> None:
    """Measures every set, compares them with the reference, and writes the report.

    Raises:
        Refusal: If a set, the scan, the truth or an earlier run cannot be used.
    """
    if not distributed.is_main():
        if settings.earlier == "none":
            sets = _open(settings)[0]
            level = survey.threshold(settings.threshold, sets[settings.reference])
            how = settings.arguments_of(survey.assist) | {"sets": sets, "level": level}
            cut = settings.arguments_of(image_sets.reader)
            survey.assist(cut=cut, kept=folder.path / "measured", **how)
        return
    other = earlier.opened_if_any(settings.against, setting="against")
    if settings.earlier != "none":
        metrics = earlier.complete(settings.earlier)
        for name in (record.TILES, record.CURVES, record.PICTURES):
            shutil.copyfile(earlier.file(settings.earlier).parent / name, folder.path / name)
    else:
        metrics = _measured(settings, folder.path)
    table, metrics["against"] = verdicts.lines(metrics), None
    if other is not None:
        metrics["against"] = earlier.differences(metrics, other, where=settings.against)
        table += earlier.lines(metrics["against"])
    record.write_metrics(folder.path, metrics | {"run": settings.run})
    from sem2ct.reporting import report  # not above: drawing takes long to import

    drawn = report.draw(folder.path)
    LOGGER.info("\n".join(["numbers and verdicts:", *table, f"report: {drawn}"]))
    folder.finish(report=str(folder.path / report.REPORT))


def _measured(settings: EvaluateSettings, path: Path) -> dict[str, Any]:
    """Measures the sets, and writes all files but metrics.json."""
    sets, beside, pixel_um = _open(settings)
    level = survey.threshold(settings.threshold, sets[settings.reference])
    cut, kept = settings.arguments_of(image_sets.reader), path / "measured"
    how = settings.arguments_of(survey.survey) | {"sets": sets, "level": level}
    measured, search, pairs = survey.survey(cut=cut, kept=kept, **how)
    how = settings.arguments_of(results.collect) | {"level": level, "pixel_um": pixel_um}
    metrics, drawn = results.collect(measured, search=search, **how)
    slices, images = side_by_side(beside, zoom_px=2 * settings.tile_px)
    if settings.truth == "none":
        told = settings.arguments_of(survey.nearest_tiles) | {"sets": sets, "level": level}
        near, found = survey.nearest_tiles(measured=measured, images=images, **told)
        slices = {name: slices[name] | near.get(name, {}) for name in slices}
        images |= found
    tiles, shown = image_sets.examples(sets, settings.figures_tiles)
    for name, chosen in shown.items():
        metrics["sets"][name]["shown"] = chosen
    record.write_tiles(path, results.columns(measured, pixel_um))
    record.write_arrays(path, record.CURVES, drawn)
    record.write_arrays(path, record.PICTURES, images | tiles | pairs)
    return metrics | {
        "cautions": [settings.note] * (settings.note != "none") + metrics["cautions"],
        "resampled": image_sets.resampled(sets),
        "threshold": survey.threshold_facts(level, settings.threshold, settings.reference),
        "truth": {
            name: agreement.against_truth(place.slices(TRUTH_SLICES), threshold=level)
            for name, place in beside.items()
            if settings.truth != "none"
        },
        "slices": slices,
    }


def _open(
    settings: EvaluateSettings,
) -> tuple[dict[str, ImageSet], dict[str, Beside], float | None]:
    sets, pixel_um = image_sets.open_sets(**settings.arguments_of(image_sets.open_sets))
    return sets, image_sets.beside(sets, ct=settings.ct, truth=settings.truth), pixel_um
