"""What the counts of a volume say: porosity, S2, chords, and z against x and y.

Sources: as for `correlation` and `chords`.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.metrics import correlation

DIRECTIONS = ("x", "y", "z")


def facts(counts: dict[str, NDArray[np.int64]], *, bin_px: int) -> dict[str, Any]:
    """What the counts say.

    Args:
        counts: Of the whole volume, as from `PoreStream.counts`.
        bin_px: Voxels that share an entry of the porosity along an axis.

    Returns:
        Plain values: porosity; for x, y and z S2, its integers, the correlation length of the
        named definitions, chords and the porosity along the axis; S2 over all directions of
        the slices; and lengths along z over the mean of x and y.
    """
    phi = _share(int(counts["pore_z"].sum()), int(counts["inside_z"].sum()))
    reach = counts["hits"].shape[0] - 1
    along = {
        "x": (counts["hits"][0, reach:], counts["pairs"][0, reach:]),
        "y": (counts["hits"][:, reach], counts["pairs"][:, reach]),
        "z": (counts["z_hits"], counts["z_pairs"]),
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        radial = correlation.radial(counts["hits"] / counts["pairs"])
    told = {name: _axis(counts, name, *along[name], phi, bin_px) for name in DIRECTIONS}
    return {
        "porosity": phi,
        "voxels": int(counts["inside_z"].sum()),
        **told,
        "radial": {
            "lags_px": correlation.radial_lags(reach).tolist(),
            "s2": radial.tolist(),
            **_length(correlation.radial_lags(reach), radial, phi),
        },
        "z_over_xy": _ratios(told),
    }


def _axis(
    counts: dict[str, NDArray[np.int64]],
    name: str,
    hits: NDArray[np.int64],
    pairs: NDArray[np.int64],
    phi: float,
    bin_px: int,
) -> dict[str, Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        s2 = hits / pairs
    chords = counts[f"chords_{name}"]
    lengths = np.arange(len(chords))
    starts = np.arange(0, len(counts[f"pore_{name}"]), bin_px)
    pore, inside = (
        np.add.reduceat(counts[f"{what}_{name}"], starts) for what in ("pore", "inside")
    )
    return {
        "s2": s2.tolist(),
        "hits": hits.tolist(),
        "pairs": pairs.tolist(),
        **_length(np.arange(len(s2), dtype=np.float64), s2, phi),
        "chords": chords.tolist(),
        "mean_chord_px": _share(int(chords @ lengths), int(chords.sum())),
        "porosity": [_share(*both) for both in zip(pore.tolist(), inside.tolist(), strict=True)],
    }


def _length(
    lags_px: NDArray[np.float64], s2: NDArray[np.float64], phi: float
) -> dict[str, dict[str, Any]]:
    fit = correlation.fit_correlation_length(lags_px, correlation.normalised(s2, phi))
    return {"correlation_length": asdict(fit)}


def _ratios(told: dict[str, dict[str, Any]]) -> dict[str, float]:
    """1 where the volume is alike along all axes; NaN where one of them says nothing."""
    lengths = {name: told[name]["correlation_length"]["one_over_e_px"] for name in DIRECTIONS}
    chords = {name: told[name]["mean_chord_px"] for name in DIRECTIONS}
    return {
        what: 2 * of["z"] / (of["x"] + of["y"])
        for what, of in (("one_over_e_length", lengths), ("mean_chord", chords))
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def line(told: dict[str, Any]) -> str:
    """One line for the log.

    Args:
        told: As from `facts`.
    """
    lengths = ", ".join(
        f"{name} {told[name]['correlation_length']['one_over_e_px']:.1f}" for name in DIRECTIONS
    )
    ratios = told["z_over_xy"]
    return (
        f"porosity {told['porosity']:.4f} | 1/e length {lengths} px (z over x and y:"
        f" {ratios['one_over_e_length']:.3f}) | mean chord z over x and y:"
        f" {ratios['mean_chord']:.3f}"
    )
