import json

import numpy as np
import pytest

from sem2ct.reporting import record, style

LAGS = 13


def summary(unit: str, mean: float) -> dict:
    keys = ("mean", "sd", "p5", "p50", "p95")
    return {"unit": unit, "n": 9, "undefined": 0} | dict.fromkeys(keys, mean)


def distance(value: float | None) -> dict:
    return {"value": value, "interval": [0.01, 0.02], "real_vs_real": 0.0151}


def described(kind: str, frames: int | None) -> dict:
    scalars = {
        "porosity": summary("", 0.31),
        "porosity_darker": summary("", 0.29),
        "porosity_brighter": summary("", 0.33),
        "specific_surface": summary("1/um", 0.77),
        "correlation_length": summary("um", 4.5),
        "one_over_e_length": summary("um", 4.4),
        "slope_length": summary("um", None),
        "rms_misfit": summary("", 0.02),
    }
    fit = {"unit": "um", "length": 4.25, "one_over_e": 4.1, "slope": 5.0, "lags": 9}
    return {
        "kind": kind,
        "where": f"outputs/{kind}",
        "available": 20,
        "tiles": 9,
        "frames": frames,
        "scalars": scalars,
        "fits": {"mean": fit, "pooled": fit},
        "expected_sd": 0.051,
    }


def compared(verdict: str) -> dict:
    names = ("mean_difference_sd", "wasserstein_sd", "ks", "energy")
    scalar = {
        "distances": {name: distance(0.3) for name in names},
        "verdict": verdict,
        "inside": verdict.startswith("inside"),
    }
    curve = {
        "distances": {"largest_difference": distance(None)},
        "verdict": "no band to judge by",
        "inside": False,
        "share_outside": 0.25,
    }
    quantities = ("porosity", "specific_surface", "correlation_length")
    return {
        "scalars": dict.fromkeys(quantities, scalar),
        "curves": dict.fromkeys(("radial", "x", "y"), curve),
    }


def metrics() -> dict:
    row = {"porosity": 0.3, "truth_porosity": 0.28, "agreement": 0.9, "chance": 0.6, "overlap": 0.5}
    return {
        "schema": "test",
        "run": "a <run>",
        "reference": "real",
        "pixel_um": 0.5,
        "tile_px": 32,
        "reach_px": LAGS - 1,
        "threshold": {"level": 90, "rule": "given", "band_levels": 10},
        "sets": {"real": described("store", 5), "translated": described("translation", None)},
        "comparisons": {"translated": compared("outside by a factor of 2.1")},
        "cautions": ["Few images."],
        "definitions": {"porosity": "share of pixels that are pore"},
        "truth": {"translated": {**row, "slices": [{"slice": k, **row} for k in (1, 2)]}},
        "slices": {
            "translated": {"slice": 3, "whole": [0, 0, 64, 96], "zoom": [16, 32, 32, 32]},
        },
    }


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """The files of an evaluation, written by hand; figures are drawn coarsely."""
    monkeypatch.setattr(style, "DOTS_PER_INCH", 40)
    rng = np.random.default_rng(0)
    curves = {"lags_radial": np.arange(LAGS) * 1.01, "lags_axis": np.arange(LAGS * 1.0)}
    fall = np.exp(-np.arange(LAGS) / 4.0)
    curves |= {"band_low": np.stack([0.05 + 0.2 * fall] * 3)}
    curves |= {"band_high": np.stack([0.15 + 0.2 * fall] * 3)}
    columns = {}
    for name in ("real", "translated"):
        curves[f"{name}/s2_mean"] = np.stack([0.1 + 0.2 * fall] * 3)
        curves[f"{name}/r_mean"] = np.stack([fall] * 3)
        curves[f"{name}/grey"] = rng.integers(0, 99, 256)
        columns[name] = {
            quantity: rng.normal(2, 0.2, 9)
            for quantity in ("porosity", "specific_surface", "correlation_length")
        }
    pictures = {
        f"tiles/{name}": rng.integers(0, 256, (n, 32, 32), dtype=np.uint8)
        for name, n in (("real", 3), ("translated", 2))
    }
    for part, side in (("whole", (64, 96)), ("zoom", (32, 32))):
        for what, factor in (("", 1), ("/ct", 4), ("/truth", 1)):
            shape = tuple(n // factor for n in side)
            image = rng.integers(0, 256, shape, dtype=np.uint8)
            pictures[f"slice/translated/{part}{what}"] = image
    record.write(tmp_path, metrics=metrics(), tiles=columns, curves=curves, pictures=pictures)
    provenance = {
        "command": "sem2ct evaluate",
        "date": "2026-01-02T03:04:05+00:00",
        "host": "here",
        "commit": "abc",
        "versions": {"sem2ct": "0.1.0", "numpy": "2"},
        "inputs": {"outputs/x/manifest.json": {"sha256": "f00d", "bytes": 1, "modified_ns": 1}},
    }
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    return tmp_path
