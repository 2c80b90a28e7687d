import numpy as np
import pytest

from sem2ct.metrics import definitions, measure, results
from sem2ct.metrics.results import Measured


def textures(count: int, *, seed: int, level: float = 0.0) -> Measured:
    """Smooth random tiles of 40 px, two per source image."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 12, 12)).repeat(4, axis=1).repeat(4, axis=2)[:, :40, :40]
    grey = np.clip(128 + 50 * (coarse + level), 0, 255).astype(np.uint8)
    numbers = measure.tiles(
        lambda index: grey[index], count, threshold=110, reach_px=15, workers=1, on_tile=list
    )
    facts = {"kind": "images", "where": "here", "available": count, "windowed": True}
    return Measured(numbers, np.arange(count) // 2, True, facts)


def collected(measured, **changes):
    how = {"reference": "real", "pixel_um": 0.5, "tile_px": 40, "reach_px": 15, "seed": 0}
    return results.collect(measured, **(how | changes))


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
    found = results.describe(one, pixel_um=None, tile_px=40)
    # Squares of 4 px: R along an axis falls linearly to 0 at 4 px.
    r = results.pooled_r(one.numbers)
    np.testing.assert_allclose(r[1][:5], [1, 0.75, 0.5, 0.25, 0], atol=0.06)
    assert found["fits"]["pooled"]["one_over_e"] == pytest.approx(2.6, abs=0.4)
    assert found["tiles"] == 30
    assert found["frames"] == 15


def test_lengths_of_the_fits_are_in_the_unit_they_name():
    one = textures(6, seed=1)
    um = results.describe(one, pixel_um=0.5, tile_px=40)["fits"]["mean"]
    px = results.describe(one, pixel_um=None, tile_px=40)["fits"]["mean"]
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
    loose = Measured(real.numbers, real.frames, False, real.facts)
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


def test_the_lines_for_the_terminal_name_set_number_unit_and_verdict():
    found = collected({"real": textures(40, seed=1), "darker": textures(40, seed=3, level=-0.4)})
    real, darker = results.lines(found)
    assert real.startswith("real 40 tiles | porosity 0.")
    assert "correlation_length" in real
    assert " um" in real
    assert "outside" not in real
    assert "(outside by a factor of" in darker
