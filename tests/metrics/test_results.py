from dataclasses import replace

import numpy as np
import pytest

from sem2ct.metrics import definitions, looks, measure, results, verdicts
from sem2ct.metrics.comparisons import Measured, Search
from sem2ct.metrics.memorisation import Gallery, Match

LEVEL = 110


def textures(count: int, *, seed: int, level: float = 0.0, looked: bool = False) -> Measured:
    """Random squares in tiles of 40 px, two per source image."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 12, 12)).repeat(4, axis=1).repeat(4, axis=2)[:, :40, :40]
    grey = np.clip(128 + 50 * (coarse + level), 0, 255).astype(np.uint8)
    numbers = measure.tiles(
        lambda index: grey[index], count, threshold=LEVEL, reach_px=15, workers=1, on_tile=list
    )
    facts = {"kind": "images", "where": "here", "available": count, "windowed": True}
    frames = np.arange(count) // 2
    if not looked:
        return Measured(numbers, frames, True, facts)
    nothing = Gallery([], 20, frames=np.zeros(0, int))
    how = {"most": 20, "factor": 2, "workers": 1, "on_tile": list}
    seen = looks.look(lambda k: grey[k], frames, gallery=nothing, held_out=False, **how)
    return Measured(numbers, frames, True, facts, looked=seen)


def collected(measured, **changes):
    how = {"reference": "real", "pixel_um": 0.5, "tile_px": 40, "reach_px": 15, "seed": 0}
    return results.collect(measured, **(how | {"level": LEVEL} | changes))[0]


def test_every_measured_scalar_has_a_dimension_and_a_definition():
    names = set(textures(1, seed=0).numbers.scalars)
    assert names == set(definitions.DIMENSIONS)
    lines = {name.removesuffix("_x").removesuffix("_y") for name in names}
    assert {name for name in lines if name != "faces"} <= set(definitions.DEFINITIONS)


def test_a_smaller_pixel_shortens_lengths_and_raises_the_specific_surface():
    scalars = {name: np.array([6.0]) for name in definitions.DIMENSIONS}
    found = definitions.in_units(scalars, 0.5)
    assert found["correlation_length"] == 3
    assert found["specific_surface"] == 12
    assert found["porosity"] == 6
    assert definitions.unit_of("specific_surface", 0.5) == "1/um"
    assert definitions.unit_of("specific_surface", None) == "1/px"
    assert definitions.unit_of("porosity", 0.5) == ""


def test_the_pooled_length_is_fitted_to_all_tiles_together():
    one = textures(30, seed=1)
    found = results.describe(one, pixel_um=None, tile_px=40, level=LEVEL)
    # Squares of 4 px: R along an axis falls linearly to 0 at 4 px.
    r = results.pooled_r(one)
    np.testing.assert_allclose(r[1][:5], [1, 0.75, 0.5, 0.25, 0], atol=0.06)
    assert found["fits"]["pooled"]["one_over_e"] == pytest.approx(2.6, abs=0.4)
    assert found["tiles"] == 30
    assert found["frames"] == 15


def test_lengths_of_the_fits_are_in_the_unit_they_name():
    one = textures(6, seed=1)
    um = results.describe(one, pixel_um=0.5, tile_px=40, level=LEVEL)["fits"]["mean"]
    px = results.describe(one, pixel_um=None, tile_px=40, level=LEVEL)["fits"]["mean"]
    assert (um["unit"], px["unit"]) == ("um", "px")
    assert um["length"] == pytest.approx(0.5 * px["length"])


def test_the_same_population_is_inside_and_a_darker_one_outside():
    found = collected(
        {
            "real": textures(40, seed=1),
            "same": textures(40, seed=2),
            "darker": textures(40, seed=3, level=-0.4),
        }
    )
    assert set(found["comparisons"]) == {"same", "darker"}
    same, darker = (found["comparisons"][name] for name in ("same", "darker"))
    assert same["scalars"]["porosity"]["inside"]
    assert same["curves"]["radial"]["verdict"] == "inside the real-vs-real band"
    assert darker["scalars"]["porosity"]["verdict"].startswith("outside by a factor of")
    assert darker["curves"]["radial"]["share_outside"] > 0.9
    entry = darker["scalars"]["porosity"]["distances"]["mean_difference"]
    assert entry["interval"][0] < entry["value"] < entry["interval"][1]
    assert 0 < entry["real_vs_real"] < entry["value"]


def test_few_images_few_tiles_and_undefined_tiles_are_cautioned_against():
    real = textures(6, seed=1)
    blank = textures(4, seed=1, level=9)
    blank.facts["kind"] = "translation"
    said = "\n".join(collected({"real": real, "blank": blank})["cautions"])
    assert "blank shows one place of the rock" in said
    assert "real comes from 3 source images only" in said
    assert "blank has 4 tiles only" in said
    assert "4 of 4 tiles of blank have no correlation length" in said


def test_unknown_source_images_and_raw_greys_are_cautioned_against():
    real = textures(40, seed=1)
    loose = replace(real, frames_known=False)
    raw = Measured(real.numbers, real.frames, True, real.facts | {"windowed": False})
    said = "\n".join(collected({"real": loose, "raw": raw})["cautions"])
    assert "source images of real are not told apart" in said
    assert "raw is read as it lies on disk" in said


def test_a_correlation_that_outlasts_the_reach_is_cautioned_against():
    said = collected({"real": textures(40, seed=1)}, reach_px=15)["cautions"]
    assert not any("still above 0.05" in text for text in said)
    slow = textures(40, seed=1)
    slow.numbers.scalars["fit_lags"][:] = 16
    said = collected({"real": slow}, reach_px=15)["cautions"]
    assert any("still above 0.05 at reach_px=15" in text for text in said)


def test_the_table_for_the_terminal_is_aligned_and_names_set_unit_and_verdict():
    found = collected({"real": textures(40, seed=1), "darker": textures(40, seed=3, level=-0.4)})
    header, real, darker, gap, checks, *rows = verdicts.lines(found)
    assert "correlation_length, um: mean (sd)" in header
    assert real.startswith("real    40     0.")
    assert darker.startswith("darker  40     0.")
    assert gap == ""
    assert checks.split() == ["check", "darker"]
    porosity = next(row for row in rows if row.startswith("Porosity"))
    factor = next(row["factor"] for row in found["verdicts"] if row["check"] == "porosity")
    assert porosity.endswith(f"outside x{factor:.2g}")
    starts = {row.index(words) for row in rows for words in ("inside", "outside") if words in row}
    assert starts == {checks.index("darker")}
    assert len(rows) == len(found["verdicts"])


def test_every_verdict_has_a_row_with_its_band():
    sets = {
        "real": textures(40, seed=1, looked=True),
        "darker": textures(40, seed=3, level=-0.4, looked=True),
    }
    rows = {row["check"]: row for row in collected(sets)["verdicts"]}
    assert set(rows) == set(verdicts.LABELS) - {"memorisation", "kid"}
    row = rows["porosity"]
    assert row["inside"] is False
    assert row["factor"] == pytest.approx(row["value"] / row["band"])
    assert row["verdict"] == f"outside by a factor of {row['factor']:.2g}"
    assert rows["specific_surface"]["unit"] == "1/um"
    assert rows["joint"]["inside"] is False
    assert rows["grey_slope"]["inside"] is True


def test_slices_of_a_volume_may_repeat_themselves():
    ours = textures(8, seed=3, looked=True)
    sets = {"real": textures(8, seed=1, looked=True), "ours": ours}
    assert "diversity" in collected(sets)["comparisons"]["ours"]
    sets["ours"] = replace(ours, facts=ours.facts | {"kind": "translation"})
    assert "diversity" not in collected(sets)["comparisons"]["ours"]


def test_the_means_of_the_source_images_average_to_the_mean_of_the_set():
    one = textures(10, seed=1)
    found = results.describe(one, pixel_um=0.5, tile_px=40, level=LEVEL)
    frames = found["per_frame"]
    assert frames["frame"] == [0, 1, 2, 3, 4]
    assert frames["tiles"] == [2] * 5
    for name in definitions.COMPARED:
        assert np.mean(frames[name]) == pytest.approx(found["scalars"][name]["mean"])
    assert 4 < found["scalars"]["porosity"]["effective_n"] <= 10


def test_named_source_images_are_called_by_their_names():
    one = textures(4, seed=1)
    named = Measured(one.numbers, one.frames, True, one.facts, names=["a.png", "b.png"])
    found = results.describe(named, pixel_um=None, tile_px=40, level=LEVEL)
    assert found["per_frame"]["frame"] == ["a.png", "b.png"]
    loose = Measured(one.numbers, one.frames, False, one.facts)
    found = results.describe(loose, pixel_um=None, tile_px=40, level=LEVEL)
    assert found["per_frame"] is None
    assert found["scalars"]["porosity"]["effective_n"] is None


def test_the_threshold_band_is_the_porosity_at_each_level():
    one = textures(6, seed=1)
    found = results.describe(one, pixel_um=None, tile_px=40, level=LEVEL)
    band = found["threshold_band"]
    assert band["levels"] == list(range(100, 121))
    mean = found["scalars"]["porosity"]["mean"]
    assert band["porosity"][10] == pytest.approx(mean)
    assert band["porosity"] == sorted(band["porosity"])
    assert band["porosity"][0] == pytest.approx(found["scalars"]["porosity_darker"]["mean"])


def test_copies_are_counted_and_named():
    real, ours = textures(8, seed=1, looked=True), textures(8, seed=2, looked=True)
    close, far = Match(0.99, 1, 3, 4, 5), Match(0.2, 0, 0, 0, 0)
    held_out = [Match(value, 0, 0, 0, 0) for value in (0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.4, 0.25)]
    real = replace(real, matches=held_out, names=["a", "b", "c", "d"])
    search = Search(frames=np.arange(4), origin="frames", factor=2)
    for matches, inside in (([far, close, *[far] * 6], False), ([far] * 8, True)):
        sets = {"real": real, "ours": replace(ours, matches=matches)}
        found = collected(sets, search=search)
        facts = found["comparisons"]["ours"]["memorisation"]
        assert facts["copies"] == (0 if inside else 1)
        assert facts["inside"] is inside
        row = next(row for row in found["verdicts"] if row["check"] == "memorisation")
        assert row["inside"] is inside
    nearest = {"tile": 0, "frame": "a", "similarity": 0.2, "orientation": 0}
    assert facts["nearest"] == nearest
    assert facts["held_out"]["highest"] == 0.4
    # The last two tiles are of one image: 95th percentile of 0.4 and 0.25, then half-way to 1.
    assert facts["band"] == pytest.approx((1 + 0.25 + 0.95 * 0.15) / 2)


def test_network_features_are_compared_by_kid_beside_real_against_real():
    rng = np.random.default_rng(0)
    real, ours = textures(24, seed=1), textures(20, seed=2)
    real = replace(real, features=rng.normal(size=(24, 30)).astype(np.float32))
    for shift, inside in ((0.0, True), (2.0, False)):
        drawn = rng.normal(shift, 1, size=(20, 30)).astype(np.float32)
        sets = {"real": real, "ours": replace(ours, features=drawn)}
        facts = collected(sets)["comparisons"]["ours"]["features"]
        assert facts["inside"] is inside
        assert facts["fid"]["real_vs_real"] > 5
    assert facts["kid"]["value"] > 10 * facts["kid"]["real_vs_real"]


def test_what_is_drawn_has_the_shapes_of_the_schema():
    sets = {"real": textures(12, seed=1, looked=True), "a/b": textures(6, seed=2, looked=True)}
    how = {"reference": "real", "pixel_um": 0.5, "tile_px": 40, "reach_px": 15, "seed": 0}
    drawn = results.collect(sets, level=LEVEL, **how)[1]
    assert drawn["band_r_low"].shape == (3, 16)
    assert drawn["real/frame_s2"].shape == (6, 3, 16)
    assert drawn["a/b/threshold_band"].shape == (2, 21)
    assert drawn["a/b/lineal_path_mean"].shape == (2, 16)
    assert drawn["a/b/sampled/grey_slope"].shape == (6,)
    assert drawn["a/b/diversity"].shape == (6,)
    k = len(results.CORRELATED)
    assert drawn["a/b/correlation"].shape == (k, k)
    assert drawn["joint/a/b/real_vs_real"].shape == (20,)  # 6 images in 20 pairs of halves
