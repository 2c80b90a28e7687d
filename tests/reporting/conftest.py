"""A small evaluation of schema 2 written by hand, with as many sets as asked, and drawn once."""

import json

import numpy as np
import pytest

from sem2ct.reporting import record, report, style

LAGS, SIDE, TILES = 13, 32, 12
SAMPLED = {
    "chord_pore_x": "um",
    "euler_number": "1/um^2",
    "largest_pore": "",
    "kozeny_carman": "um^2",
}
NAMES_OF_CORRELATION = ["porosity", "specific_surface", "grey_mean"]
CHECKS = ("Porosity", "Specific surface", "Mean S2, all directions", "All descriptors")


def summary(unit, mean):
    return {"unit": unit, "n": 9, "undefined": 0} | dict.fromkeys(
        ("mean", "sd", "p5", "p50", "p95"), mean
    )


def distance(value):
    return {"value": value, "interval": [0.01, 0.02], "real_vs_real": 0.0151}


def described(kind, frames):
    scalars = {
        "porosity": summary("", 0.31),
        "porosity_darker": summary("", 0.29),
        "porosity_brighter": summary("", 0.33),
        "specific_surface": summary("1/um", 0.77),
        "correlation_length": summary("um", 4.5) | {"effective_n": 5.25},
        "one_over_e_length": summary("um", 4.4),
        "slope_length": summary("um", None),
        "rms_misfit": summary("", 0.02),
    }
    fit = {"unit": "um", "length": 4.25, "one_over_e": 4.1, "slope": 5.0, "lags": 9}
    return {
        "kind": kind,
        "where": f"outputs/{kind}",
        "available": 20,
        "tiles": TILES,
        "frames": frames,
        "scalars": scalars,
        "fits": {"mean": fit, "pooled": fit},
        "expected_sd": 0.051,
        "sampled": {name: summary(unit, 2.25) for name, unit in SAMPLED.items()},
        "sampled_tiles": 6,
    }


def compared():
    names = ("mean_difference_sd", "wasserstein", "wasserstein_sd", "ks", "energy")
    scalar = {
        "unit": "um",
        "distances": {name: distance(0.3) for name in names},
        "verdict": "outside by a factor of 2.1",
        "inside": False,
        "coverage": {
            end: {"value": 0.84, "real_vs_real": [0.8, 0.95]} for end in ("ours", "reference")
        },
    }
    curve = {
        "distances": {"largest_difference": distance(None)},
        "verdict": "no band to judge by",
        "inside": False,
        "share_outside": 0.25,
    }
    joint = {
        "distances": {
            "energy": distance(0.4),
            "energy_whitened": distance(0.1),
            "correlations": distance(None),
        },
        "shifts": [{"name": f"descriptor_{k}", "shift": 0.3 - 0.1 * k} for k in range(5)],
        "verdict": "outside by a factor of 26",
        "inside": False,
        "whitened_verdict": "no band to judge by",
        "whitened_inside": None,
        "correlations_verdict": "no band to judge by",
        "correlations_inside": None,
    }
    copies = {
        "tiles": 6, "reduction": 4, "template_px": 8, "frames": 5, "frames_from": "images",
        "p50": 0.2, "p95": 0.3, "highest": 0.97, "copies": 1, "copy_limit": 0.93, "band": 0.35,
        "held_out": {"tiles": 6, "p50": 0.2, "p95": 0.3, "highest": 0.34},
        "verdict": "outside by a factor of 2.8", "inside": False,
        "nearest": {"tile": 3, "frame": 2, "similarity": 0.97, "orientation": 5},
    }  # fmt: skip
    quantities = ("porosity", "specific_surface", "correlation_length")
    return {
        "scalars": dict.fromkeys(quantities, scalar),
        "curves": dict.fromkeys(("radial", "x", "y"), curve),
        "joint": joint,
        "memorisation": copies,
        "diversity": {
            "p95": 0.4,
            "band": 0.5,
            "verdict": "inside the real-vs-real band",
            "inside": True,
        },
    }


def verdicts(name):
    factors = (0.5, 2.1, 4.0, None)
    return [
        {
            "set": name, "check": label, "label": label, "value": 0.3, "unit": "", "factor": factor,
            "band": None if factor is None else 0.3 / factor,
            "inside": None if factor is None else factor <= 1,
            "verdict": "no band to judge by" if factor is None else f"factor {factor}",
        }
        for label, factor in zip(CHECKS, factors, strict=True)
    ]  # fmt: skip


def metrics_of(names, translated):
    row = {"porosity": 0.3, "truth_porosity": 0.28, "agreement": 0.9, "chance": 0.6, "overlap": 0.5}
    sets = {name: described("store", None) for name in names} | {names[0]: described("store", 4)}
    for name in translated:
        sets[name]["kind"] = "translation"
    return {
        "schema": "sem2ct metrics 2",
        "run": "a <run>",
        "reference": names[0],
        "rule": "Inside when two real halves differ as much.",
        "pixel_um": 0.5,
        "tile_px": SIDE,
        "reach_px": LAGS - 1,
        "threshold": {"level": 90, "rule": "given", "band_levels": 10},
        "sets": sets,
        "verdicts": [row for name in names[1:] for row in verdicts(name)],
        "comparisons": {name: compared() for name in names[1:]},
        "cautions": ["Few images."],
        "definitions": {"porosity": "share of pixels that are pore"},
        "correlation_names": NAMES_OF_CORRELATION,
        "truth": {
            one: {**row, "slices": [{"slice": k, **row} for k in (1, 2)]} for one in translated
        },
        "slices": {
            one: {"slice": 3, "whole": [0, 0, 128, 192], "zoom": [32, 64, 80, 80]}
            for one in translated
        },
    }


def curves_of(names):
    rng = np.random.default_rng(0)
    lags = np.arange(LAGS * 1.0)
    fall = np.exp(-lags / 4.0)
    curves = {"lags_radial": lags * 1.01, "lags_axis": lags}
    curves |= {"band_low": np.stack([0.05 + 0.2 * fall] * 3)}
    curves |= {"band_high": np.stack([0.15 + 0.2 * fall] * 3)}
    curves["held_out/similarity"] = rng.uniform(0.1, 0.34, 6)
    for index, name in enumerate(names):
        mean = np.stack([0.1 + 0.2 * fall, 0.1 + 0.21 * fall, 0.1 + 0.18 * fall]) + 0.01 * index
        curves |= {f"{name}/s2_{what}": mean for what in ("mean", "p5", "p95")}
        curves[f"{name}/r_mean"] = np.stack([fall] * 3)
        curves[f"{name}/grey"] = rng.integers(0, 99, 256)
        curves[f"{name}/correlation"] = np.array(
            [[1, 0.5, np.nan], [0.5, 1, -0.2], [np.nan, -0.2, 1]]
        )
        curves[f"{name}/lineal_path_mean"] = np.stack([0.3 * fall, 0.3 * fall**2])
        curves[f"{name}/diversity"] = rng.uniform(0, 0.6, 6)
        if index:
            curves[f"{name}/similarity"] = rng.uniform(0.1, 0.97, 6)
        for quantity in SAMPLED:
            curves[f"{name}/sampled/{quantity}"] = rng.normal(2, 0.5, 6)
    return curves


def pictures_of(names, translated):
    rng = np.random.default_rng(1)
    pictures = {
        f"tiles/{name}": rng.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8) for name in names
    }
    for name in names[1:]:
        for which in ("ours", "reference"):
            tile = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
            pictures[f"memorisation/{name}/{which}"] = tile
    for name in translated:
        for part, side in (("whole", (128, 192)), ("zoom", (80, 80))):
            for what, factor in (("", 1), ("/ct", 8), ("/truth", 1)):
                shape = tuple(n // factor for n in side)
                image = rng.integers(0, 256, shape, dtype=np.uint8)
                pictures[f"slice/{name}/{part}{what}"] = image
    return pictures


def columns_of(names):
    rng = np.random.default_rng(2)
    return {
        name: {
            "frame": np.repeat(np.arange(4.0), 3),
            "porosity": rng.normal(0.3, 0.05, TILES),
            "specific_surface": rng.normal(0.8, 0.1, TILES),
            "correlation_length": rng.normal(2, 0.2, TILES),
        }
        for name in names
    }


def write(folder, names, translated):
    record.write(
        folder,
        metrics=metrics_of(names, translated),
        tiles=columns_of(names),
        curves=curves_of(names),
        pictures=pictures_of(names, translated),
    )
    provenance = {
        "command": "sem2ct evaluate",
        "date": "2026-01-02T03:04:05+00:00",
        "host": "here",
        "commit": "abc",
        "versions": {"sem2ct": "0.1.0", "numpy": "2"},
        "inputs": {"outputs/x/manifest.json": {"sha256": "f00d", "bytes": 1, "modified_ns": 1}},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


@pytest.fixture
def write_run():
    """write_run(folder, names, translated): the first name is the reference."""
    return write


@pytest.fixture
def evaluated(tmp_path):
    """The files of an evaluation of two sets, not yet drawn."""
    return write(tmp_path, ["real", "translated"], ["translated"])


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """An evaluation with its figures and its report, coarsely drawn; not to be changed."""
    folder = write(tmp_path_factory.mktemp("drawn"), ["real", "translated"], ["translated"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DOTS_PER_INCH", 40)
        report.draw(folder)
    return folder
