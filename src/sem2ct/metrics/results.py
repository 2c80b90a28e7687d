"""The result of an evaluation: plain numbers per set, distances, verdicts and cautions.

Everything was measured in pixels; here lengths become micrometres.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import compare, correlation, porosity
from sem2ct.metrics.definitions import COMPARED, DEFINITIONS, in_units, unit_of
from sem2ct.metrics.measure import DIRECTIONS, SetNumbers

SCHEMA = "sem2ct metrics 1"
SPLITS, REPEATS = 100, 200
FEW_FRAMES, FEW_TILES = 8, 30


@dataclass(frozen=True)
class Measured:
    """One set: its numbers, and what is known of its tiles."""

    numbers: SetNumbers
    frames: NDArray[np.integer]
    """(n,) source image of each tile."""
    frames_known: bool
    facts: dict[str, Any]
    """Plain values that are passed on: kind, where, available."""


def pooled_r(numbers: SetNumbers) -> NDArray[np.float64]:
    """R of all tiles together, (3, reach + 1): mean S2 with the mean porosity."""
    phi = float(numbers.scalars["porosity"].mean())
    return correlation.normalised(numbers.s2.mean(axis=0), phi)


def mean_r(numbers: SetNumbers) -> NDArray[np.float64]:
    """Mean over the tiles where it is defined of R with the tile's own porosity."""
    defined = numbers.r[np.isfinite(numbers.r).all(axis=(1, 2))]
    return defined.mean(axis=0) if len(defined) else np.full(numbers.r.shape[1:], np.nan)


def describe(one: Measured, *, pixel_um: float | None, tile_px: int) -> dict[str, Any]:
    """What is said about one set on its own.

    Args:
        one: The set.
        pixel_um: Side of a pixel, or None.
        tile_px: Side of a tile.

    Returns:
        Plain values: facts, scalars with unit and summary, fits of the curves.
    """
    numbers, size = one.numbers, pixel_um or 1.0
    scalars = {
        name: {"unit": unit_of(name, pixel_um), **compare.summary(values)}
        for name, values in in_units(numbers.scalars, pixel_um).items()
    }
    lags = correlation.radial_lags(numbers.s2.shape[2] - 1)
    fits = {}
    for name, curve in (("mean", mean_r(numbers)[0]), ("pooled", pooled_r(numbers)[0])):
        fit = correlation.fit_correlation_length(lags, curve)
        fits[name] = {
            "unit": unit_of("correlation_length", pixel_um),
            "length": fit.length_px * size,
            "one_over_e": fit.one_over_e_px * size,
            "slope": fit.slope_px * size,
            "rms_misfit": fit.rms_misfit,
            "lags": fit.lags,
        }
    phi, length = float(numbers.scalars["porosity"].mean()), fits["pooled"]["length"] / size
    expected = porosity.sampling_sd(phi, correlation_length_px=length, area_px=tile_px**2)
    return {
        **one.facts,
        "tiles": len(one.frames),
        "frames": len(np.unique(one.frames)) if one.frames_known else None,
        "scalars": scalars,
        "fits": fits,
        "expected_sd": expected,
    }


def against(
    ours: Measured, reference: Measured, *, pixel_um: float | None, seed: int
) -> dict[str, Any]:
    """Distances of one set from the reference, with intervals, bands and verdicts.

    Args:
        ours: The set.
        reference: The real set.
        pixel_um: Side of a pixel, or None.
        seed: Of the random halves and draws.

    Returns:
        Plain values: "scalars" by quantity and "curves" by direction.
    """
    values = in_units(ours.numbers.scalars, pixel_um)
    real_values = in_units(reference.numbers.scalars, pixel_um)
    scalars = {}
    for name in COMPARED:
        real = compare.Reference(real_values[name], reference.frames)
        entry = _judged(values[name], real, compare.distances, seed, "wasserstein")
        scalars[name] = {"unit": unit_of(name, pixel_um), **entry}
    curves = {}
    for index, direction in enumerate(DIRECTIONS):
        mine = ours.numbers.s2[:, index]
        real = compare.Reference(reference.numbers.s2[:, index], reference.frames)
        entry = _judged(mine, real, compare.curve_distances, seed, "largest_difference")
        outside = compare.share_outside(mine.mean(axis=0), compare.frame_band(real))
        curves[direction] = {**entry, "share_outside": outside}
    return {"scalars": scalars, "curves": curves}


def _judged(
    ours: NDArray, real: compare.Reference, measure: compare.Measure, seed: int, by: str
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found = measure(ours, real.values)
    bands = compare.real_vs_real(real, measure, splits=SPLITS, rng=rng)
    ends = compare.interval(ours, real, measure, repeats=REPEATS, rng=rng)
    return {
        "distances": {
            name: {"value": value, "interval": list(ends[name]), "real_vs_real": bands.get(name)}
            for name, value in found.items()
        },
        "verdict": compare.verdict(found[by], bands.get(by)),
        "inside": compare.verdict(found[by], bands.get(by)).startswith("inside"),
    }


def collect(
    measured: dict[str, Measured],
    *,
    reference: str,
    pixel_um: float | None,
    tile_px: int,
    reach_px: int,
    seed: int,
) -> dict[str, Any]:
    """Everything that metrics.json says about the sets.

    Args:
        measured: The sets, by name.
        reference: Name of the real set.
        pixel_um: Side of a pixel, or None.
        tile_px: Side of a tile.
        reach_px: Longest lag.
        seed: Of the random halves and draws.

    Returns:
        Plain values.
    """
    sets = {
        name: describe(one, pixel_um=pixel_um, tile_px=tile_px) for name, one in measured.items()
    }
    return {
        "schema": SCHEMA,
        "reference": reference,
        "pixel_um": pixel_um,
        "tile_px": tile_px,
        "reach_px": reach_px,
        "sets": sets,
        "comparisons": {
            name: against(one, measured[reference], pixel_um=pixel_um, seed=seed)
            for name, one in measured.items()
            if name != reference
        },
        "cautions": cautions(sets, reference=reference, reach_px=reach_px),
        "definitions": DEFINITIONS,
    }


def columns(measured: dict[str, Measured], pixel_um: float | None) -> dict[str, dict[str, NDArray]]:
    """One column per scalar and set, tile by tile, in the units of `definitions.unit_of`."""
    return {
        name: {"frame": one.frames.astype(float), **in_units(one.numbers.scalars, pixel_um)}
        for name, one in measured.items()
    }


def curves(measured: dict[str, Measured], reference: str) -> dict[str, NDArray]:
    """Curves and grey histograms to be drawn; lags in pixels.

    Args:
        measured: The sets, by name.
        reference: Name of the real set.

    Returns:
        "lags_radial", "lags_axis", "band_low" and "band_high" (3, reach + 1) of the mean S2
        of the reference's source images, and for each set "<set>/s2_mean", "<set>/s2_p5",
        "<set>/s2_p95", "<set>/r_mean" (3, reach + 1: radial, x, y) and "<set>/grey" (256,).
    """
    real = measured[reference]
    reach = real.numbers.s2.shape[2] - 1
    low, high = compare.frame_band(compare.Reference(real.numbers.s2, real.frames))
    found = {
        "lags_radial": correlation.radial_lags(reach),
        "lags_axis": np.arange(reach + 1.0),
        "band_low": low,
        "band_high": high,
    }
    for name, one in measured.items():
        s2 = one.numbers.s2
        found[f"{name}/s2_mean"] = s2.mean(axis=0)
        found[f"{name}/s2_p5"], found[f"{name}/s2_p95"] = np.percentile(s2, (5, 95), axis=0)
        found[f"{name}/r_mean"] = mean_r(one.numbers)
        found[f"{name}/grey"] = one.numbers.grey
    return found


def lines(metrics: dict[str, Any]) -> list[str]:
    """A short table for the terminal: a line per set, with means, sds and verdicts."""
    said = []
    for name, one in metrics["sets"].items():
        parts = [f"{name} {one['tiles']} tiles"]
        for quantity in COMPARED:
            row = one["scalars"][quantity]
            text = f"{quantity} {row['mean']:.4g} sd {row['sd']:.2g} {row['unit']}".rstrip()
            if name in metrics["comparisons"]:
                text += f" ({metrics['comparisons'][name]['scalars'][quantity]['verdict']})"
            parts.append(text)
        said.append(" | ".join(parts))
    return said


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
