"""Recipes against their published numbers and the rule of `auto`, worked out by hand."""

import pytest
from pydantic import BaseModel, ConfigDict, model_validator

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import descent, recipes
from sem2ct.stylegan.generator import Generator

# Resolution, GPUs: batch, batch per GPU, weight of R1, half-life, step size.
AUTO = {
    (64, 1): (32, 32, 0.0256, 10000, 0.0025),
    (64, 2): (64, 32, 0.0128, 20000, 0.0025),
    (128, 4): (64, 16, 0.0512, 20000, 0.0025),
    (256, 1): (16, 16, 0.8192, 5000, 0.0025),
    (256, 2): (32, 16, 0.4096, 10000, 0.0025),
    (256, 8): (64, 8, 0.2048, 20000, 0.0025),
    (512, 1): (8, 8, 6.5536, 2500, 0.0025),
    (512, 4): (32, 8, 1.6384, 10000, 0.0025),
    (1024, 1): (4, 4, 52.4288, 1250, 0.002),
    (1024, 2): (8, 4, 26.2144, 2500, 0.002),
    (1024, 4): (16, 4, 13.1072, 5000, 0.002),
    (1024, 8): (32, 4, 6.5536, 10000, 0.002),
}


@pytest.mark.parametrize(("resolution", "gpus"), AUTO)
def test_auto_follows_its_rule(resolution, gpus):
    found = recipes.resolve("auto", resolution=resolution, gpus=gpus)
    batch, per_gpu, gamma, half_life, rate = AUTO[resolution, gpus]
    assert (found.batch_size, found.batch_per_device) == (batch, per_gpu)
    assert found.r1_gamma == pytest.approx(gamma)
    assert (found.ema_half_life_images, found.ema_ramp) == (half_life, 0.05)
    assert found.learning_rate == rate
    assert (found.mapping_layers, found.deviation_group) == (2, 4)
    assert found.channel_base == (32768 if resolution >= 512 else 16384)
    assert found.augmented


def test_the_group_is_never_larger_than_a_devices_share():
    found = recipes.resolve("auto", resolution=64, gpus=32)
    assert (found.batch_size, found.batch_per_device, found.deviation_group) == (64, 2, 2)


@pytest.mark.parametrize(
    ("name", "batch", "gamma", "rate", "half_life", "base", "group"),
    [
        ("paper256", 64, 1, 0.0025, 20000, 16384, 8),
        ("paper512", 64, 0.5, 0.0025, 20000, 32768, 8),
        ("paper1024", 32, 2, 0.002, 10000, 32768, 4),
        ("stylegan2", 32, 10, 0.002, 10000, 32768, 4),
    ],
)
@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16])
def test_published_recipes_keep_their_batch(name, batch, gamma, rate, half_life, base, group, gpus):
    found = recipes.resolve(name, resolution=256, gpus=gpus)
    assert found.batch_size == batch
    assert found.batch_per_device == batch // max(gpus, 8)
    assert (found.r1_gamma, found.learning_rate) == (gamma, rate)
    assert (found.ema_half_life_images, found.ema_ramp) == (half_life, 0)
    assert (found.channel_base, found.deviation_group, found.mapping_layers) == (base, group, 8)
    assert found.augmented == (name != "stylegan2")


@pytest.mark.parametrize("name", ["auto", "paper1024"])
def test_the_lazy_rates_are_those_that_the_training_uses(name):
    found = recipes.resolve(name, resolution=1024, gpus=4)
    rate, betas = found.generator_adam
    assert (rate, *betas) == pytest.approx((0.002 * 4 / 5, 0.0, 0.99 ** (4 / 5)))
    rate, betas = found.discriminator_adam
    assert (rate, *betas) == pytest.approx((0.002 * 16 / 17, 0.0, 0.99 ** (16 / 17)))
    network = Generator(resolution=8, z_dim=2, w_dim=2, mapping_layers=1, channel_base=8)
    adam = descent.adam(network, found.learning_rate, found.r1_gamma, found.r1_interval)
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["betas"]) == (rate, betas)


def test_a_device_may_take_less_at_once_without_another_result():
    found = recipes.resolve("auto", resolution=256, gpus=2)
    assert found.settings(augment="none", batch_per_device=7)["batch_per_device"] == 4
    assert found.settings(augment="none", batch_per_device=99)["batch_per_device"] == 16


def test_a_recipe_says_whether_there_is_augmentation_and_not_which():
    found = {name: recipes.resolve(name, resolution=256, gpus=1) for name in ("auto", "stylegan2")}
    assert found["auto"].settings(augment="bgc", batch_per_device=1)["augment"] == "bgc"
    assert found["auto"].settings(augment="none", batch_per_device=1)["augment"] == "sem"
    assert found["stylegan2"].settings(augment="bgc", batch_per_device=1)["augment"] == "none"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"recipe": "cifar", "resolution": 64, "gpus": 1}, "recipe=cifar is not one of auto"),
        ({"recipe": "auto", "resolution": 96, "gpus": 1}, "resolution=96"),
        ({"recipe": "auto", "resolution": 256, "gpus": 5}, "not to be shared by devices=5"),
        ({"recipe": "paper256", "resolution": 256, "gpus": 3}, "not to be shared by devices=3"),
    ],
)
def test_what_cannot_be_resolved_is_refused(arguments, said):
    with pytest.raises(Refusal, match=said):
        recipes.resolve(**arguments)


class Lengths(BaseModel):
    """As much of the settings as a recipe knows by name."""

    model_config = ConfigDict(extra="allow")

    recipe: str = "auto"
    devices: int = 4
    augment: str = "none"
    batch_per_device: int = 2
    total_images: int = 1000
    values_images: int = 10
    preview_images: int = 40
    checkpoint_images: int = 100
    evaluate_every: int | str = 200


def test_lengths_become_multiples_of_the_recipes_batch():
    found = recipes.applied(Lengths(), resolution=1024)
    assert (found.batch_size, found.batch_per_device, found.augment) == (16, 2, "sem")
    assert (found.total_images, found.values_images, found.preview_images) == (1008, 16, 48)
    assert (found.checkpoint_images, found.evaluate_every) == (112, 224)
    assert recipes.applied(Lengths(evaluate_every="never"), resolution=64).evaluate_every == "never"


def test_no_recipe_changes_nothing():
    settings = Lengths(recipe="none")
    assert recipes.applied(settings, resolution=1024) is settings
    assert recipes.sheet(settings, resolution=1024) == {}


def test_what_the_settings_refuse_is_said_with_the_recipe():
    class Picky(Lengths):
        @model_validator(mode="after")
        def _short(self):
            if self.total_images > 1000:
                raise ValueError("total_images is too long")
            return self

    with pytest.raises(Refusal, match="recipe=auto: total_images is too long"):
        recipes.applied(Picky(), resolution=1024)


def test_the_sheet_shows_every_setting_of_the_recipe():
    rows = recipes.sheet(recipes.applied(Lengths(), resolution=1024), resolution=1024)
    assert rows["recipe"] == "auto for 1024 px and devices=4"
    assert rows["  r1_gamma"] == "13.1072"
    assert rows["  batch_per_device"] == "2"
    assert rows["  total_images"] == "1008"
    assert rows["  Adam of the generator"] == "step 0.0016, betas 0 and 0.991992"
