"""Recipes of one stage compose, and say what they read and run."""

from pathlib import Path

import pytest

from sem2ct import composition, config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = sorted(CONFIGS.glob("experiment/*/*.yaml"))


def composed(path: Path, *overrides: str):
    stage = path.parent.name
    asked = [f"experiment={stage}/{path.stem}", *overrides]
    return config.build(stage, composition.settings_of(stage, asked))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_of_one_stage_composes_for_every_rock_and_has_a_run_of_its_own(path):
    for rock in ("toy", "carbonate"):
        settings = composed(path, f"rock={rock}")
        assert settings.run == f"{rock}_demo_{path.stem}"
    assert f"experiment={path.parent.name}/{path.stem}" in path.read_text()


def test_a_recipe_leaves_out_the_sets_it_does_not_compare():
    recipe = CONFIGS / "experiment/evaluate/real_vs_synthetic.yaml"
    assert list(composed(recipe).sets) == ["real", "synthetic"]
    recipe = CONFIGS / "experiment/evaluate/ct_translated_real.yaml"
    settings = composed(recipe)
    assert list(settings.sets) == ["real", "translated", "ct"]
    assert settings.resample
    assert settings.tile_px == 16
