"""The result of an evaluation: plain numbers per set, distances, verdicts and cautions.

Everything was measured in pixels; here lengths become micrometres.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import (
    compare,
    comparisons,
    correlation,
    curves,
    descriptors,
    grids,
    joint,
    memorisation,
    porosity,
    segmentation,
    verdicts,
)
from sem2ct.metrics.comparisons import CORRELATED, Measured, Search
from sem2ct.metrics.definitions import COMPARED, DEFINITIONS, in_units, unit_of

SCHEMA = "sem2ct metrics 2"
FEW_FRAMES, FEW_TILES = 8, 30
MOST_FRAMES = 200
"""Source images that are told apart one by one in figures and tables."""


def pooled_r(one: Measured) -> NDArray[np.float64]:
    """R of all tiles together, (3, reach + 1): mean S2 with the mean porosity."""
    phi = float(one.numbers.scalars["porosity"].mean())
    return correlation.normalised(one.numbers.mean_s2, phi)


def describe(one: Measured, *, pixel_um: float | None, tile_px: int, level: int) -> dict[str, Any]:
    """What is said about one set on its own.

    Args:
        one: The set.
        pixel_um: Side of a pixel, or None.
        tile_px: Side of a tile.
        level: The threshold.

    Returns:
        Plain values: facts, scalars and sampled with unit and summary, fits of the curves,
        means per source image, porosity around the threshold, repetitions.
    """
    numbers = one.numbers
    scalars = {
        name: {
            "unit": unit_of(name, pixel_um),
            **compare.summary(values),
            "effective_n": compare.effective_n(values, one.frames) if one.frames_known else None,
        }
        for name, values in in_units(numbers.scalars, pixel_um).items()
    }
    sampled = {
        name: {"unit": unit_of(name, pixel_um), **compare.summary(values)}
        for name, (values, _) in one.sampled(pixel_um).items()
    }
    fits = _fits(one, pixel_um)
    phi = float(numbers.scalars["porosity"].mean())
    length = fits["pooled"]["length"] / (pixel_um or 1.0)
    expected = porosity.sampling_sd(phi, correlation_length_px=length, area_px=tile_px**2)
    levels, phis = _threshold_band(one, level)
    found = {
        **one.facts,
        "tiles": len(one.frames),
        "frames": len(np.unique(one.frames)) if one.frames_known else None,
        "scalars": scalars,
        "sampled": sampled,
        "sampled_tiles": len(numbers.sampled_tiles),
        "fits": fits,
        "expected_sd": expected,
        "per_frame": _per_frame(one, pixel_um),
        "threshold_band": {"levels": levels.tolist(), "porosity": phis.tolist()},
    }
    if one.looked is not None:
        found["diversity"] = memorisation.spread_of(_resemblance(one))
    if one.grid is not None:
        units = {name: unit_of(name, pixel_um) for name in grids.QUANTITIES}
        found["grid"] = grids.described(one.grid, in_units(numbers.scalars, pixel_um), units)
    return found


def _fits(one: Measured, pixel_um: float | None) -> dict[str, dict[str, Any]]:
    size, reach = pixel_um or 1.0, one.numbers.s2.shape[2] - 1
    fits = {}
    for name, curve in (("mean", one.numbers.mean_r[0]), ("pooled", pooled_r(one)[0])):
        fit = correlation.fit_correlation_length(correlation.radial_lags(reach), curve)
        fits[name] = {
            "unit": unit_of("correlation_length", pixel_um),
            "length": fit.length_px * size,
            "one_over_e": fit.one_over_e_px * size,
            "slope": fit.slope_px * size,
            "rms_misfit": fit.rms_misfit,
            "lags": fit.lags,
        }
    return fits


def _threshold_band(one: Measured, level: int) -> tuple[NDArray[np.int64], NDArray]:
    band = segmentation.BAND_LEVELS
    levels = np.clip(np.arange(level - band, level + band + 1), 0, segmentation.LEVELS)
    return levels, segmentation.porosity_at(one.numbers.grey, levels)


def _per_frame(one: Measured, pixel_um: float | None) -> dict[str, list] | None:
    """Number of tiles and mean of the compared scalars for each source image."""
    numbers = np.unique(one.frames)
    if not one.frames_known or len(numbers) > MOST_FRAMES:
        return None
    values = in_units({name: one.numbers.scalars[name] for name in COMPARED}, pixel_um)
    named = bool(one.names)
    return {
        "frame": [one.names[k] if named else int(k) for k in numbers.tolist()],
        "tiles": [int(np.count_nonzero(one.frames == k)) for k in numbers],
        **{
            name: [compare.summary(column[one.frames == k])["mean"] for k in numbers]
            for name, column in values.items()
        },
    }


def _resemblance(one: Measured) -> NDArray[np.float64]:
    assert one.looked is not None
    return one.looked.alike(len(one.looked.compared))


def collect(
    measured: dict[str, Measured],
    *,
    reference: str,
    pixel_um: float | None,
    tile_px: int,
    reach_px: int,
    level: int,
    seed: int,
    search: Search | None = None,
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Everything that metrics.json says about the sets, and what is drawn of them.

    Args:
        measured: The sets, by name.
        reference: Name of the real set.
        pixel_um: Side of a pixel, or None.
        tile_px: Side of a tile.
        reach_px: Longest lag.
        level: The threshold.
        seed: Of the random halves and draws.
        search: Where tiles were looked up, if they were.

    Returns:
        Plain values, and arrays as `arrays` describes them.
    """
    real = measured[reference]
    sets = {
        name: describe(one, pixel_um=pixel_um, tile_px=tile_px, level=level)
        for name, one in measured.items()
    }
    compared = {
        name: comparisons.against(one, real, pixel_um=pixel_um, seed=seed, search=search)
        for name, one in measured.items()
        if name != reference
    }
    facts = {name: one.facts for name, one in compared.items()}
    metrics = {
        "schema": SCHEMA,
        "reference": reference,
        "pixel_um": pixel_um,
        "tile_px": tile_px,
        "reach_px": reach_px,
        "rule": verdicts.RULE,
        "verdicts": verdicts.rows(facts, pixel_um),
        "sets": sets,
        "comparisons": facts,
        "descriptors": list(descriptors.NAMES),
        "correlation_names": list(CORRELATED),
        "cautions": cautions(sets, reference=reference, reach_px=reach_px),
        "definitions": DEFINITIONS,
    }
    drawn = arrays(measured, reference=reference, pixel_um=pixel_um, level=level)
    drawn |= {f"joint/{name}/real_vs_real": one.splits for name, one in compared.items()}
    return metrics, drawn


def columns(measured: dict[str, Measured], pixel_um: float | None) -> dict[str, dict[str, NDArray]]:
    """One column per scalar and set, tile by tile, in the units of `definitions.unit_of`."""
    return {
        name: {"frame": one.frames.astype(float), **in_units(one.numbers.scalars, pixel_um)}
        for name, one in measured.items()
    }


def arrays(
    measured: dict[str, Measured], *, reference: str, pixel_um: float | None, level: int
) -> dict[str, NDArray]:
    """Curves, grey histograms and samples to be drawn; lags in pixels.

    Args:
        measured: The sets, by name.
        reference: Name of the real set.
        pixel_um: Side of a pixel, or None.
        level: The threshold.

    Returns:
        "lags_radial", "lags_axis", "band_low", "band_high", "band_r_low", "band_r_high"
        (3, reach + 1) of the mean S2 and R of the reference's source images,
        "held_out/similarity", and for each set what `_drawn` gives.
    """
    real = measured[reference]
    reach = real.numbers.s2.shape[2] - 1
    low, high = curves.frame_band(compare.Reference(real.numbers.s2, real.frames))
    found = {
        "lags_radial": correlation.radial_lags(reach),
        "lags_axis": np.arange(reach + 1.0),
        "band_low": low,
        "band_high": high,
    }
    defined = np.isfinite(real.numbers.r).all(axis=(1, 2))
    if defined.any():
        some = compare.Reference(real.numbers.r[defined], real.frames[defined])
        found["band_r_low"], found["band_r_high"] = curves.frame_band(some)
    for name, one in measured.items():
        drawn = _drawn(one, pixel_um, level)
        found |= {f"{name}/{key}": array for key, array in drawn.items()}
        if one.matches is not None:
            key = "held_out" if name == reference else name
            found[f"{key}/similarity"] = one.similarity
    return found


def _drawn(one: Measured, pixel_um: float | None, level: int) -> dict[str, NDArray]:
    """What is drawn of one set: s2_mean, s2_p5, s2_p95, r_mean, frame_s2 and so on."""
    numbers = one.numbers
    low, high = np.percentile(numbers.s2, (5, 95), axis=0)
    drawn = {
        "s2_mean": numbers.mean_s2,
        "s2_p5": low,
        "s2_p95": high,
        "r_mean": numbers.mean_r,
        "grey": numbers.grey,
        "threshold_band": np.stack(_threshold_band(one, level)),
        "correlation": joint.rank_correlations(one.main),
        "descriptor_correlation": joint.rank_correlations(numbers.descriptors.astype(float)),
    }
    if one.frames_known and len(np.unique(one.frames)) <= MOST_FRAMES:
        drawn["frame_s2"] = curves.frame_means(compare.Reference(numbers.s2, one.frames))
    path = numbers.lineal_path
    if len(path):
        drawn["lineal_path_mean"] = path.mean(axis=0)
        drawn["lineal_path_p5"], drawn["lineal_path_p95"] = np.percentile(path, (5, 95), axis=0)
    for name, (values, _) in one.sampled(pixel_um).items():
        drawn[f"sampled/{name}"] = values
    if one.looked is not None:
        drawn["diversity"] = _resemblance(one)
    if one.grid is not None:
        values = in_units(numbers.scalars, pixel_um)
        drawn |= {f"grid/{name}": one.grid.cells(values[name]) for name in grids.QUANTITIES}
    return drawn


def cautions(sets: dict[str, dict[str, Any]], *, reference: str, reach_px: int) -> list[str]:
    """What a reader must know before believing the numbers.

    Args:
        sets: Answers of `describe` by name; `facts` may hold "windowed".
        reference: Name of the real set.
        reach_px: Longest lag.

    Returns:
        Sentences.
    """
    said = []
    frames = sets[reference]["frames"]
    if frames is None or frames < 2:
        said.append(
            f"The source images of {reference} are not told apart, so tiles are resampled"
            " instead: intervals and real-vs-real bands are too narrow."
        )
    elif frames < FEW_FRAMES:
        said.append(
            f"{reference} comes from {frames} source images only: intervals and real-vs-real bands"
            f" are rough (they ask for {FEW_FRAMES} or more)."
        )
    for name, one in sets.items():
        if one["tiles"] < FEW_TILES:
            said.append(f"{name} has {one['tiles']} tiles only; its spread is uncertain.")
        if one["kind"] == "translation":
            said.append(
                f"{name} shows one place of the rock, in slices that resemble one another: it"
                " differs from the mean of the rock as any one place does."
            )
        if "grid" in one:
            said.append(
                f"{name} is a grid ({one['grid']['mode']}): its tiles resemble one another on"
                " purpose, so the checks say little of it; the section on style and noise does."
            )
        undefined = one["scalars"]["correlation_length"]["undefined"]
        if undefined:
            said.append(
                f"{undefined} of {one['tiles']} tiles of {name} have no correlation length (all"
                " pore, all grain, or R falls within one lag or hardly at all); they are left out."
            )
        if one["scalars"]["fit_lags"]["p50"] > reach_px:
            said.append(
                f"R of half the tiles of {name} is still above 0.05 at reach_px={reach_px}; their"
                " correlation lengths are extrapolated."
            )
        band = [one["scalars"][f"porosity_{end}"]["mean"] for end in ("darker", "brighter")]
        phi = one["scalars"]["porosity"]["mean"]
        if band[1] - band[0] > 0.4 * phi:
            said.append(
                f"The porosity of {name} depends on the threshold: {band[0]:.3f} to {band[1]:.3f}"
                " within 10 grey levels of it."
            )
        if sets[reference].get("windowed") and not one.get("windowed", True):
            said.append(
                f"{name} is read as it lies on disk, {reference} went through a grey window: one"
                " threshold may mean two things."
            )
    return said
