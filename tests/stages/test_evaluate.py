import csv
import json
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
import yaml
from scipy.ndimage import gaussian_filter

from sem2ct import config
from sem2ct.data import translated
from sem2ct.data.pyramid import PyramidWriter
from sem2ct.data.store import StoreWriter
from sem2ct.metrics import verdicts
from sem2ct.reporting import style
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import evaluate

SIDE, SCALE = 32, 4
OFF = ("split_by", "features", "against", "earlier", "ct", "truth", "note")


@pytest.fixture(autouse=True)
def coarse_figures(monkeypatch):
    monkeypatch.setattr(style, "DOTS_PER_INCH", 30)


def texture(shape, *, seed, level=0.0):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2, mode="wrap")
    return np.clip(128 + 60 * (noise / noise.std() + level), 0, 255).astype(np.uint8)


def stored(folder, patches, places, *, pixel_um=0.5, images=4, facts=()):
    how = {"domain": "sem", "window": None, "shard_patches": len(patches), "pixel_um": pixel_um}
    sources = [{"path": f"{i}.tif"} for i in range(images)]
    writer = StoreWriter(folder, tile_px=SIDE, sources=sources, facts=dict(facts), **how)
    writer.write_shard(0, patches, places)
    writer.finish()


def write_store(folder, *, tiles, seed, images=4, **how):
    patches = np.stack([texture((SIDE, SIDE), seed=seed + i) for i in range(tiles)])
    stored(folder, patches, {"source": np.arange(tiles) % images}, images=images, **how)


def write_translation(folder):
    """Eight slices whose first half is the truth itself and whose second half is unrelated."""
    truth = texture((8, 2 * SIDE, 3 * SIDE), seed=77)
    shown = truth.copy()
    shown[4:] = texture((4, 2 * SIDE, 3 * SIDE), seed=78)
    folder.mkdir()
    writer = PyramidWriter(
        folder / translated.VOLUME, shape=shown.shape, voxel=(0.5,) * 3, unit_um=True
    )
    for k in range(writer.slabs):
        writer.write_slab(k, shown[k * writer.slab : (k + 1) * writer.slab])
    writer.finish()
    grey = {"photometric": "minisblack"}
    field = np.full((2, 2 * SIDE // SCALE, 3 * SIDE // SCALE), 255, np.uint8)
    field[:, :, 0] = 0
    tifffile.imwrite(folder / translated.FIELD, field, **grey)
    used = {"z_range": "all", "y_range": "all", "x_range": "all", "refine_z": True}
    used |= dict.fromkeys(("ct_raw_shape", "ct_raw_dtype", "ct_raw_byte_order"), "none")
    (folder / "config.yaml").write_text(yaml.safe_dump(used | {"ct_raw_header_bytes": 0}))
    blocks = truth.reshape(2, 4, 2 * SIDE // 4, 4, 3 * SIDE // 4, 4).mean((1, 3, 5))
    tifffile.imwrite(folder / "ct.tif", (blocks * 100).astype(np.uint16), **grey)
    tifffile.imwrite(folder / "pores.tif", np.uint8(255) * (truth < 120), **grey)


def settings(tmp_path, sets, **changes):
    values = {
        "run": "here",
        "run_root": str(tmp_path),
        "seed": 0,
        "dry_run": False,
        "sets": {name: str(where) for name, where in sets.items()},
        "reference": "real",
        "threshold": "otsu",
        "pixel_um": "metadata",
        "tile_px": SIDE,
        "reach_px": 12,
        "most_tiles": 20,
        "looked_tiles": 6,
        "masks": {},
        "resample": False,
        "devices": 1,
        "figures_tiles": 3,
        "processes": 2,
    }
    return config.build("evaluate", dict.fromkeys(OFF, "none") | values | changes)


def evaluated(tmp_path, asked):
    folder = RunFolder.open(
        tmp_path / "evaluate", asked.model_dump(), inputs=evaluate.inputs(asked)
    )
    evaluate.run(asked, folder)
    return folder, json.loads((folder.path / "metrics.json").read_text())


def test_a_store_a_folder_and_a_translation_become_numbers_figures_and_a_report(tmp_path, six):
    write_store(tmp_path / "real", tiles=24, seed=0)
    (tmp_path / "png").mkdir()
    for i in range(3):
        image = imagecodecs.png_encode(texture((40, 70), seed=50 + i, level=-0.8))
        (tmp_path / "png" / f"{i}.png").write_bytes(image)
    write_translation(tmp_path / "run")
    asked = settings(
        tmp_path,
        {"real": tmp_path / "real", "darker": tmp_path / "png", "translated": tmp_path / "run"},
        threshold=120,
        ct=str(tmp_path / "run" / "ct.tif"),
        truth=str(tmp_path / "run" / "pores.tif"),
    )
    folder, metrics = evaluated(tmp_path, asked)
    assert folder.finished
    assert {name: one["tiles"] for name, one in metrics["sets"].items()} == {
        "real": 20,
        "darker": 6,
        "translated": 20,
    }
    assert metrics["sets"]["real"]["frames"] == 4
    with (folder.path / "tiles.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "darker"]
    expected = [
        (texture((40, 70), seed=50 + i, level=-0.8)[:32, x : x + 32] < 120).mean()
        for i in range(3)
        for x in (0, 32)
    ]
    assert [float(row["porosity"]) for row in rows] == pytest.approx(expected, rel=1e-8)
    slices = metrics["truth"]["translated"]["slices"]
    assert [row["slice"] for row in slices] == list(range(8))
    assert [row["agreement"] for row in slices[:4]] == [1, 1, 1, 1]
    assert all(row["agreement"] < 0.7 for row in slices[4:])
    assert {path.stem for path in (folder.path / "figures").glob("*.png")} == six
    html = (folder.path / "report.html").read_text(encoding="utf-8")
    assert all(name in html for name in metrics["sets"])


def test_images_are_enough_and_running_twice_gives_the_same_numbers(tmp_path, undrawn):
    for name, seed in (("a", 0), ("b", 40)):
        (tmp_path / name).mkdir()
        for i in range(4):
            image = imagecodecs.png_encode(texture((64, 64), seed=seed + i))
            (tmp_path / name / f"{i}.png").write_bytes(image)
    asked = settings(tmp_path, {"real": tmp_path / "a", "other": tmp_path / "b"}, most_tiles=9)
    folder, metrics = evaluated(tmp_path, asked)
    assert metrics["pixel_um"] is None
    assert metrics["sets"]["real"]["scalars"]["correlation_length"]["unit"] == "px"
    assert metrics["sets"]["real"]["tiles"] == 9
    assert 120 < metrics["threshold"]["level"] < 136  # the greys are symmetric about 128
    before = (folder.path / "tiles.csv").read_text()
    assert evaluated(tmp_path, asked)[1] == metrics
    assert (folder.path / "tiles.csv").read_text() == before


def test_an_estimate_counts_tiles_and_writes_nothing(tmp_path):
    write_store(tmp_path / "real", tiles=24, seed=0)
    asked = settings(tmp_path, {"real": tmp_path / "real"}, tile_px=16, reach_px=5)
    before = sorted(tmp_path.rglob("*"))
    rows = evaluate.estimate(asked)
    assert rows["tiles of real"] == "20 of 96"
    assert rows["pixel"] == "0.5 um"
    assert sorted(tmp_path.rglob("*")) == before


def refusing(asked, match):
    with pytest.raises(Refusal, match=match):
        evaluate.estimate(asked)


def test_sets_that_cannot_be_compared_are_refused_before_anything_is_written(tmp_path):
    write_store(tmp_path / "real", tiles=8, seed=0)
    write_store(tmp_path / "finer", tiles=8, seed=0, pixel_um=0.25)
    real = {"real": tmp_path / "real"}
    finer = {"finer": tmp_path / "finer"}
    refusing(settings(tmp_path, real | finer), "sets.finer=.*pixels of 0.25 um")
    refusing(settings(tmp_path, real, tile_px=33), "sets.real=.*32 px wide.*tile_px=33")
    missing = {"synthetic": tmp_path / "synthesize" / "here" / "sem"}
    refusing(settings(tmp_path, real | missing), "sets.synthetic=.*'sem2ct synthesize' first")
    refusing(settings(tmp_path, real, most_tiles=1), "one tile only")
    write_translation(tmp_path / "run")
    both = real | {"translated": tmp_path / "run"}
    refusing(settings(tmp_path, both, truth=str(tmp_path / "no.tif")), "truth=.*no.tif: no such")
    refusing(settings(tmp_path, both, ct=str(tmp_path / "no.tif")), "ct=.*no.tif: no such")


def test_a_constant_reference_has_no_threshold(tmp_path):
    (tmp_path / "flat").mkdir()
    for i in range(2):
        image = imagecodecs.png_encode(np.full((40, 40), 99, np.uint8))
        (tmp_path / "flat" / f"{i}.png").write_bytes(image)
    asked = settings(tmp_path, {"real": tmp_path / "flat"})
    with pytest.raises(Refusal, match="one grey level only"):
        evaluated(tmp_path, asked)


def test_settings_refuse_a_reference_that_is_no_set_and_a_reach_too_long(tmp_path):
    with pytest.raises(ValueError, match=r"reference=real is not one of the sets: other"):
        settings(tmp_path, {"other": tmp_path})
    with pytest.raises(ValueError, match=r"reach_px=16, but a tile of tile_px=32"):
        settings(tmp_path, {"real": tmp_path}, reach_px=16)


def test_the_scan_and_the_truth_that_are_shown_stand_among_the_inputs(tmp_path):
    for name in ("ct.tif", "pores.tif"):
        (tmp_path / name).write_bytes(b"only named here, not read")
    shown = {"ct": str(tmp_path / "ct.tif"), "truth": str(tmp_path / "pores.tif")}
    others = {"sets": {}, "masks": {}, "features": "none", "earlier": "none", "against": "none"}
    settings = SimpleNamespace(**others, **shown)
    assert evaluate.inputs(settings) == [tmp_path / "ct.tif", tmp_path / "pores.tif"]
    assert evaluate.inputs(SimpleNamespace(**others, ct="none", truth="none")) == []


def test_a_note_stands_first_among_the_cautions(tmp_path, undrawn):
    write_store(tmp_path / "real", tiles=24, seed=0)
    asked = settings(tmp_path, {"real": tmp_path / "real"}, note="these images are synthetic")
    metrics = evaluated(tmp_path, asked)[1]
    assert metrics["cautions"][0] == "these images are synthetic"


def test_what_the_schema_promises_is_there(tmp_path, undrawn):
    write_store(tmp_path / "real", tiles=24, seed=0)
    write_store(tmp_path / "other", tiles=12, seed=100)
    asked = settings(tmp_path, {"real": tmp_path / "real", "other": tmp_path / "other"})
    folder, metrics = evaluated(tmp_path, asked)
    assert metrics["schema"] == "sem2ct metrics 2"
    assert metrics["against"] is None
    checks = {row["check"] for row in metrics["verdicts"]}
    assert checks == set(verdicts.LABELS) - {"kid"}
    facts = metrics["comparisons"]["other"]["memorisation"]
    assert (facts["reduction"], facts["template_px"], facts["tiles"]) == (2, 16, 6)
    assert facts["frames_from"] == "tiles"
    assert metrics["sets"]["other"]["shown"] == [0, 5, 11]
    with np.load(folder.path / "pictures.npz") as pictures:
        pair = [pictures[f"memorisation/other/{part}"] for part in ("ours", "reference")]
    assert [image.shape for image in pair] == [(SIDE, SIDE)] * 2


def write_grid(folder, *, styles=5, noises=4, mode="fixed_style"):
    """Tiles whose greys hang on their style alone."""
    tiles = [texture((SIDE, SIDE), seed=9, level=0.4 * k - 1) for k in range(styles)]
    style, noise = np.divmod(np.arange(styles * noises), noises)
    places = {"style": style, "noise": noise}
    stored(folder, np.repeat(tiles, noises, axis=0), places, facts={"grid": mode})


def test_a_grid_of_tiles_says_what_its_styles_decide(tmp_path, undrawn):
    write_store(tmp_path / "real", tiles=8, seed=0)
    write_grid(tmp_path / "grid")
    asked = settings(tmp_path, {"real": tmp_path / "real", "grid": tmp_path / "grid"})
    folder, metrics = evaluated(tmp_path, asked)
    grid = metrics["sets"]["grid"]["grid"]
    assert (grid["mode"], grid["outer"], grid["inner"]) == ("fixed_style", 5, 4)
    assert grid["quantities"]["porosity"]["share_style"] == 1
    assert grid["quantities"]["porosity"]["sd_within_style"] == 0
    with np.load(folder.path / "curves.npz") as arrays:
        cells = arrays["grid/grid/porosity"]
    assert cells.shape == (5, 4)
    level = metrics["threshold"]["level"]
    tiles = [texture((SIDE, SIDE), seed=9, level=0.4 * k - 1) for k in range(5)]
    np.testing.assert_allclose(cells[:, 2], [(tile < level).mean() for tile in tiles])
    assert "grid" not in metrics["sets"]["real"]
    few = settings(tmp_path, asked.sets, most_tiles=10, run="few")
    with pytest.raises(Refusal, match=r"a grid of \d x \d tiles.*set most_tiles to"):
        evaluate.run(few, RunFolder.open(tmp_path / "few", few.model_dump(), inputs=[]))


def test_styles_are_told_apart_when_asked(tmp_path, undrawn):
    write_store(tmp_path / "real", tiles=8, seed=0)
    write_grid(tmp_path / "styles", mode="none", styles=3)
    sets = {"real": tmp_path / "real", "made": tmp_path / "styles"}
    asked = settings(tmp_path, sets, split_by="style")
    _, metrics = evaluated(tmp_path, asked)
    parts = [f"made style {k}" for k in range(3)]
    assert list(metrics["sets"]) == ["real", *parts]
    phis = [metrics["sets"][part]["scalars"]["porosity"]["mean"] for part in parts]
    assert phis == sorted(phis, reverse=True)
    assert {row["set"] for row in metrics["verdicts"]} == set(parts)
    refusing(settings(tmp_path, sets, split_by="colour"), "split_by=colour.*labels there are")


def test_copied_tiles_are_counted_and_shown(tmp_path, undrawn):
    whole = [texture((160, 160), seed=10 * k) for k in range(4)]
    for name, images in (("real", whole), ("copied", [np.rot90(whole[2][21:118, 33:130])] * 2)):
        (tmp_path / name).mkdir()
        for k, image in enumerate(images):
            encoded = imagecodecs.png_encode(np.ascontiguousarray(image))
            (tmp_path / name / f"{k}.png").write_bytes(encoded)
    asked = settings(tmp_path, {name: tmp_path / name for name in ("real", "copied")})
    folder, metrics = evaluated(tmp_path, asked)
    facts = metrics["comparisons"]["copied"]["memorisation"]
    assert facts["copies"] == facts["tiles"] == 6
    assert facts["nearest"]["frame"] == "2.png"
    assert facts["inside"] is False
    with np.load(folder.path / "pictures.npz") as pictures:
        pair = [pictures[f"memorisation/copied/{part}"] for part in ("ours", "reference")]
    np.testing.assert_array_equal(*pair)


def test_finer_tiles_are_averaged_when_asked(tmp_path, undrawn):
    write_store(tmp_path / "real", tiles=8, seed=0)
    write_store(tmp_path / "finer", tiles=8, seed=0, pixel_um=0.25)
    sets = {"real": tmp_path / "real", "finer": tmp_path / "finer"}
    asked = settings(tmp_path, sets, resample=True, tile_px=16, reach_px=6)
    metrics = evaluated(tmp_path, asked)[1]
    assert metrics["resampled"] == {"finer": {"from_um": 0.25, "to_um": 0.5}}
    assert metrics["sets"]["finer"]["tiles"] == 8
    assert metrics["sets"]["real"]["tiles"] == 20
    # Half the resolution keeps the porosity and loses surface.
    real, finer = (metrics["sets"][name]["scalars"] for name in sets)
    assert finer["porosity"]["mean"] == pytest.approx(real["porosity"]["mean"], abs=0.02)


def test_masks_take_the_place_of_the_threshold(tmp_path, undrawn):
    for name in ("real", "masks"):
        (tmp_path / name).mkdir()
    for k in range(4):
        image = texture((64, 64), seed=k)
        (tmp_path / "real" / f"{k}.png").write_bytes(imagecodecs.png_encode(image))
        pores = np.where(image < 100 + 10 * k, 255, 0).astype(np.uint8)
        (tmp_path / "masks" / f"{k}.png").write_bytes(imagecodecs.png_encode(pores))
    asked = settings(
        tmp_path,
        {"real": tmp_path / "real"},
        threshold="mask",
        masks={"real": str(tmp_path / "masks")},
    )
    metrics = evaluated(tmp_path, asked)[1]
    shares = [(texture((64, 64), seed=k) < 100 + 10 * k).mean() for k in range(4)]
    assert metrics["sets"]["real"]["scalars"]["porosity"]["mean"] == pytest.approx(np.mean(shares))
    assert metrics["threshold"]["rule"] == "pores are given by masks"


def test_two_earlier_runs_are_compared_without_measuring(tmp_path, undrawn, monkeypatch):
    write_store(tmp_path / "real", tiles=24, seed=0)
    sets = {"real": tmp_path / "real"}
    for name, level in (("a", 120), ("b", 110)):
        asked = settings(tmp_path, sets, threshold=level, run=name)
        folder = RunFolder.open(tmp_path / name, asked.model_dump(), inputs=[])
        evaluate.run(asked, folder)
    monkeypatch.setattr(evaluate.survey, "survey", None)  # nothing is measured any more
    asked = settings(tmp_path, sets, earlier=str(tmp_path / "a"), against=str(tmp_path / "b"))
    folder, metrics = evaluated(tmp_path, asked)
    assert evaluate.inputs(asked) == [tmp_path / name / "metrics.json" for name in "ab"]
    assert evaluate.estimate(asked) == {"numbers": f"taken from {tmp_path / 'a' / 'metrics.json'}"}
    assert metrics["against"]["run"] == "b"
    assert metrics["against"]["differing"] == {"threshold": [120, 110]}
    row = next(row for row in metrics["against"]["rows"] if row["quantity"] == "porosity")
    assert row["difference"] == row["here"] - row["there"] > 0
    assert (folder.path / "tiles.csv").read_text() == (tmp_path / "a" / "tiles.csv").read_text()


def test_an_unusable_other_run_or_feature_file_is_refused_by_name(tmp_path, undrawn):
    write_store(tmp_path / "real", tiles=8, seed=0)
    (tmp_path / "odd.pt").write_bytes(b"nothing of the kind")
    for changes, match in (
        ({"against": str(tmp_path / "real")}, r"against=.*no metrics.json"),
        ({"earlier": str(tmp_path / "nowhere")}, r"earlier=.*no metrics.json"),
        ({"features": str(tmp_path / "odd.pt")}, r"features=.*odd.pt: not a TorchScript file"),
    ):
        asked = settings(tmp_path, {"real": tmp_path / "real"}, **changes)
        folder = RunFolder.open(tmp_path / match[:4], asked.model_dump(), inputs=[])
        with pytest.raises(Refusal, match=match):
            evaluate.run(asked, folder)


def test_a_set_without_masks_has_no_threshold_either(tmp_path):
    sets = {"real": tmp_path, "other": tmp_path}
    with pytest.raises(ValueError, match=r"sets.other has neither masks nor a threshold; give"):
        settings(tmp_path, sets, threshold="mask", masks={"real": "masks"})
    with pytest.raises(ValueError, match=r"masks are given, but threshold=otsu"):
        settings(tmp_path, sets, masks={"real": "masks"})
    with pytest.raises(ValueError, match=r"masks.fake belongs to no set; there are: real, other"):
        settings(tmp_path, sets, masks={"fake": "masks"})
    both = {"real": "masks", "other": "masks"}
    with pytest.raises(ValueError, match=r"resample=true cannot average masks"):
        settings(tmp_path, sets, threshold="mask", masks=both, resample=True)
    with pytest.raises(ValueError, match=r"threshold"):
        settings(tmp_path, sets, threshold=None)


def test_a_constant_set_is_refused_by_its_name(tmp_path, undrawn):
    write_store(tmp_path / "real", tiles=8, seed=0)
    (tmp_path / "flat").mkdir()
    flat = imagecodecs.png_encode(np.full((80, 40), 99, np.uint8))
    (tmp_path / "flat" / "0.png").write_bytes(flat)
    asked = settings(tmp_path, {"real": tmp_path / "real", "flat": tmp_path / "flat"})
    with pytest.raises(Refusal, match=r"sets.flat=.*constant images.*grey level 99"):
        evaluated(tmp_path, asked)
