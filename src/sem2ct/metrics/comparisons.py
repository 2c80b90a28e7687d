"""One set held against the real one: every figure with its interval, its band, its verdict."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import compare, curves, descriptors, fid, joint, kid, looks, memorisation
from sem2ct.metrics.compare import Reference
from sem2ct.metrics.definitions import COMPARED, in_units, unit_of
from sem2ct.metrics.grids import Grid
from sem2ct.metrics.looks import Looked
from sem2ct.metrics.measure import DIRECTIONS, SetNumbers
from sem2ct.metrics.memorisation import Match

SPLITS, REPEATS = 100, 200
FID_SPLITS = 3
CORRELATED = (
    "porosity",
    "specific_surface",
    "log_correlation_length",
    "grey_mean",
    "grey_sd",
    "grey_mean_gradient",
)
"""Descriptors whose correlations are shown and compared."""


@dataclass(frozen=True)
class Search:
    """Where tiles were looked up."""

    frames: NDArray[np.integer]
    """(images,) the frame each whole real image is, or is a part of."""
    origin: str
    """What they are: image files, frames, tiles laid together, or mere tiles."""
    factor: int
    """The reduction."""


@dataclass(frozen=True)
class Measured:
    """One set: its numbers, and what is known of its tiles."""

    numbers: SetNumbers
    frames: NDArray[np.integer]
    """(n,) source image of each tile."""
    frames_known: bool
    facts: dict[str, Any]
    """Plain values that are passed on: kind, where, available."""
    names: list[str] = field(default_factory=list)
    """What the source images are called, if they have names."""
    looked: Looked | None = None
    """The tiles that were looked at."""
    matches: list[Match] | None = None
    """Of each tile looked at with the real images; of a real one with the others."""
    features: NDArray[np.float32] | None = None
    """(n, d) features of a network."""
    grid: Grid | None = None
    """Where the tiles stand, when they are a grid of styles and noises, or of paths."""

    @property
    def similarity(self) -> NDArray[np.float64]:
        """(m,) similarity of the tiles looked at; empty when they were not looked up."""
        return np.array([match.similarity for match in self.matches or []], float)

    def sampled(self, pixel_um: float | None) -> dict[str, tuple[NDArray, NDArray]]:
        """Numbers of a sample of tiles, in units, each with the frames of its tiles."""
        numbers = self.numbers
        found = {
            name: (values, self.frames[numbers.sampled_tiles])
            for name, values in in_units(numbers.sampled, pixel_um).items()
        }
        if self.looked is not None:
            found["grey_slope"] = (self.looked.slopes, self.looked.frames)
            found["seam"] = (self.looked.seams, self.looked.frames)
        return found

    @property
    def main(self) -> NDArray[np.float64]:
        """(n, k) the descriptors named in `CORRELATED`."""
        columns = [descriptors.NAMES.index(name) for name in CORRELATED]
        return self.numbers.descriptors[:, columns].astype(float)


@dataclass(frozen=True)
class Comparison:
    """A set against the reference."""

    facts: dict[str, Any]
    """Plain values: scalars, sampled, curves, joint, and what else could be compared."""
    splits: NDArray[np.float64]
    """(k,) joint energy distances between halves of the real frames."""


def against(
    ours: Measured,
    reference: Measured,
    *,
    pixel_um: float | None,
    seed: int,
    search: Search | None = None,
) -> Comparison:
    """Distances of one set from the reference, with intervals, bands and verdicts.

    Args:
        ours: The set.
        reference: The real set.
        pixel_um: Side of a pixel, or None.
        seed: Of the random halves and draws.
        search: Where tiles were looked up, if they were.

    Returns:
        The comparison.
    """
    together = joint.compared(
        ours.numbers.descriptors,
        Reference(reference.numbers.descriptors, reference.frames),
        names=descriptors.NAMES,
        splits=SPLITS,
        repeats=REPEATS,
        seed=seed,
    )
    facts = {
        "scalars": _scalars(ours, reference, pixel_um, seed),
        "sampled": _sampled(ours, reference, pixel_um, seed),
        "curves": _curves(ours, reference, seed),
        "joint": _joint(ours, reference, together.facts, seed),
    }
    # Slices of one volume resemble one another; that is no fault of theirs.
    volume = ours.facts.get("kind") == "translation"
    if ours.looked is not None and reference.looked is not None and not volume:
        facts["diversity"] = _diversity(ours.looked, reference.looked)
    if search is not None and ours.matches is not None:
        facts["memorisation"] = _memorisation(ours, reference, search)
    if ours.features is not None and reference.features is not None:
        real = Reference(reference.features, reference.frames)
        facts["features"] = _features(ours.features, real, seed)
    return Comparison(facts, together.splits)


def _scalars(
    ours: Measured, reference: Measured, pixel_um: float | None, seed: int
) -> dict[str, Any]:
    mine, theirs = (in_units(of.numbers.scalars, pixel_um) for of in (ours, reference))
    return {
        name: {
            "unit": unit_of(name, pixel_um),
            **_scalar(mine[name], Reference(theirs[name], reference.frames), seed),
        }
        for name in COMPARED
    }


def _sampled(
    ours: Measured, reference: Measured, pixel_um: float | None, seed: int
) -> dict[str, Any]:
    theirs = reference.sampled(pixel_um)
    return {
        name: {"unit": unit_of(name, pixel_um), **_scalar(mine, Reference(*theirs[name]), seed)}
        for name, (mine, _) in ours.sampled(pixel_um).items()
        if name in theirs
    }


def _scalar(ours: NDArray, real: Reference, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found = compare.distances(ours, real.values)
    how = {"splits": SPLITS, "most": len(ours), "rng": rng}
    bands = compare.real_vs_real(real, compare.distances, **how)
    ends = compare.interval(ours, real, compare.distances, repeats=REPEATS, rng=rng)
    covered = compare.coverage(ours, real.values)
    ranges = compare.real_vs_real_range(real, compare.coverage, **how)
    return {
        "distances": {
            name: {"value": value, "interval": list(ends[name]), "real_vs_real": bands.get(name)}
            for name, value in found.items()
        },
        "coverage": {
            name: {"value": value, "real_vs_real": list(ranges.get(name, (np.nan, np.nan)))}
            for name, value in covered.items()
        },
        **compare.judged(found["wasserstein"], bands.get("wasserstein")),
    }


def _curves(ours: Measured, reference: Measured, seed: int) -> dict[str, Any]:
    pairs: dict[str, tuple[NDArray[np.floating], Reference]] = {
        direction: (
            ours.numbers.s2[:, index],
            Reference(reference.numbers.s2[:, index], reference.frames),
        )
        for index, direction in enumerate(DIRECTIONS)
    }
    mine, theirs = ours.numbers.r[:, 0], reference.numbers.r[:, 0]
    here, there = (np.isfinite(of).all(axis=1) for of in (mine, theirs))
    if here.any() and there.any():
        pairs["r"] = (mine[here], Reference(theirs[there], reference.frames[there]))
    sampled = reference.frames[reference.numbers.sampled_tiles]
    for index, way in enumerate("xy"):
        path = (of.numbers.lineal_path[:, index] for of in (ours, reference))
        mine, theirs = path
        if len(mine) and len(theirs):
            pairs[f"lineal_path_{way}"] = (mine, Reference(theirs, sampled))
    found = {}
    for name, (mine, real) in pairs.items():
        entry = curves.compared(mine, real, splits=SPLITS, repeats=REPEATS, seed=seed)
        row = entry["distances"]["largest_difference"]
        found[name] = {**entry, **compare.judged(row["value"], row["real_vs_real"])}
    return found


def _joint(ours: Measured, reference: Measured, facts: dict[str, Any], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    real = Reference(reference.main, reference.frames)
    found = joint.correlation_distance(ours.main, real.values)["correlations"]
    how = {"splits": SPLITS, "most": len(ours.frames), "rng": rng}
    band = compare.real_vs_real(real, joint.correlation_distance, **how).get("correlations")
    ends = compare.interval(
        ours.main, real, joint.correlation_distance, repeats=REPEATS // 2, rng=rng
    )
    distances = {
        **facts["distances"],
        "correlations": {
            "value": found,
            "interval": list(ends["correlations"]),
            "real_vs_real": band,
        },
    }
    said = {}
    for name, before in (
        ("energy", ""),
        ("energy_whitened", "whitened_"),
        ("correlations", "correlations_"),
    ):
        row = distances[name]
        # Chance may push an unbiased distance below 0; that is as near as can be.
        verdict = compare.judged(max(row["value"], 0.0), row["real_vs_real"])
        said |= {before + key: value for key, value in verdict.items()}
    return {**facts, "distances": distances, **said}


def _diversity(ours: Looked, reference: Looked) -> dict[str, Any]:
    size = min(len(ours.compared), len(reference.compared))
    some = reference.compared[looks.evenly(len(reference.compared), size)]
    band = memorisation.band(reference.alike(size), reference.frames[some])
    p95 = memorisation.spread_of(ours.alike(size))["p95"]
    return {"p95": p95, "band": band, **compare.judged(max(p95, 0.0), band)}


def _memorisation(ours: Measured, reference: Measured, search: Search) -> dict[str, Any]:
    assert ours.matches is not None
    assert ours.looked is not None
    similarity, held_out = ours.similarity, reference.similarity
    found = memorisation.spread_of(similarity)
    known = np.isfinite(held_out).any()
    band = float("nan")
    if known and reference.looked is not None:
        band = memorisation.band(held_out, reference.looked.frames)
    copies, limit = memorisation.copies(similarity, held_out)
    said = compare.judged(max(found["p95"], 0.0), band)
    if copies:
        words = f"{copies} of {found['tiles']} are copies (similarity {limit:.3f} or more)"
        said = {"verdict": words, "inside": False}
    best = looks.most_similar(ours.matches)
    nearest = {}
    if best >= 0:
        match = ours.matches[best]
        frame = int(search.frames[match.image])
        nearest = {
            "tile": int(ours.looked.tiles[best]),
            "frame": reference.names[frame] if reference.names else frame,
            "similarity": match.similarity,
            "orientation": match.orientation,
        }
    return {
        **found,
        "reduction": search.factor,
        "template_px": ours.looked.reduced.shape[1],
        "frames": len(search.frames),
        "frames_from": search.origin,
        "copies": copies,
        "copy_limit": limit,
        **({"held_out": memorisation.spread_of(held_out)} if known else {}),
        "band": band,
        **said,
        "nearest": nearest,
    }


def _features(ours: NDArray, real: Reference, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    value, sd = kid.kid_of_subsets(ours, real.values, rng=rng)
    both = compare.pairs(real.units, splits=2 * FID_SPLITS, most=len(ours), rng=rng)
    between = [
        kid.kid_of_subsets(real.values[one], real.values[other], rng=rng)[0]
        for one, other in both
        if min(np.count_nonzero(one), np.count_nonzero(other)) > 1
    ]
    frechet = [
        fid.fid(real.values[one], real.values[other])
        for one, other in both[:FID_SPLITS]
        if min(np.count_nonzero(one), np.count_nonzero(other)) > 1
    ]
    band = max(between) if between else float("nan")
    return {
        "tiles": len(ours),
        "reference_tiles": len(real.values),
        "kid": {"value": value, "sd": sd, "real_vs_real": band},
        "fid": {
            "value": fid.fid(ours, real.values),
            "real_vs_real": float(np.mean(frechet)) if frechet else float("nan"),
        },
        **compare.judged(max(value, 0.0), max(band, 0.0) if between else None),
    }
