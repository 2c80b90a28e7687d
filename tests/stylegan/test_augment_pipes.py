import typing

import pytest
from pydantic import TypeAdapter

from sem2ct.runtime.refusal import Refusal
from sem2ct.settings.stylegan import TrainStyleganSettings
from sem2ct.stylegan.augment_pipes import PIPES, DiffAugment, Pipe, multipliers, pipe, within


def active(name, **options):
    built = pipe(name, **options)
    return {multiplier for multiplier in multipliers() if getattr(built, multiplier) > 0}


def test_the_published_pipe_has_eighteen_transformations():
    assert len(multipliers()) == 18
    assert active("bgcfnc") == set(multipliers())


def test_the_settings_name_the_pipes():
    annotation = TrainStyleganSettings.model_fields["augment"].annotation
    assert set(typing.get_args(annotation)) == set(PIPES)


def test_no_strengths_are_said_with_a_word():
    field = TrainStyleganSettings.model_fields["augment_strengths"]
    adapter = TypeAdapter(typing.Annotated[field.annotation, *field.metadata])
    assert adapter.validate_python("none") == {}
    assert adapter.validate_python({"noise": 1}) == {"noise": 1.0}


def test_the_published_constants_are_the_defaults():
    # Karras et al. 2020, appendix B: the parameters of the distributions.
    made = Pipe()
    assert (made.integer_translation_max, made.fractional_translation_sd) == (0.125, 0.125)
    assert (made.scale_sd, made.anisotropic_scale_sd, made.rotation_max) == (0.2, 0.2, 1.0)
    assert (made.brightness_sd, made.contrast_sd) == (0.2, 0.5)
    assert (made.hue_max, made.saturation_sd) == (1.0, 1.0)
    assert (made.filter_sd, made.noise_sd, made.cutout_side) == (1.0, 0.1, 0.5)


def test_each_pipe_adds_to_the_one_before():
    assert active("none") == set()
    assert active("blit") == {"x_flip", "rotate_90", "integer_translation"}
    geometry = {"scale", "rotation", "anisotropic_scale", "fractional_translation"}
    assert active("sem") == active("blit") | geometry | {"brightness", "contrast"}
    assert active("bgc") == active("sem") | {"luma_flip", "hue", "saturation"}
    corruptions = {"noise", "cutout", *(f"filter_band_{k}" for k in (1, 2, 3, 4))}
    assert active("bgcfnc") == active("bgc") | corruptions


def test_only_pipes_with_a_chance_have_a_controller():
    assert not PIPES["none"].adaptive
    assert not PIPES["diffaugment"].adaptive
    assert all(PIPES[name].adaptive for name in ("blit", "sem", "bgc", "bgcfnc"))
    assert pipe("none", strengths={"cutout": 0.5}).adaptive


def test_images_with_a_direction_are_not_turned():
    sem = PIPES["sem"]
    mirrored = within(sem, "mirror")
    assert (mirrored.x_flip, mirrored.rotate_90, mirrored.rotation) == (1, 0, 0)
    assert within(sem, "none").x_flip == 0
    assert within(sem, "dihedral") == sem
    assert active("sem", symmetries="none") == active("sem") - {"x_flip", "rotate_90", "rotation"}


def test_published_pipes_stay_as_published():
    assert active("bgc", symmetries="none") == active("bgc")


def test_strengths_replace_those_of_the_pipe_and_no_others():
    changed = pipe("sem", strengths={"scale_sd": 0.1, "luma_flip": 0.5, "contrast": 0.0})
    assert (changed.scale_sd, changed.luma_flip, changed.contrast) == (0.1, 0.5, 0.0)
    restored = pipe("sem", strengths={"scale_sd": 0.2})
    assert restored == PIPES["sem"]
    assert pipe("diffaugment", strengths={"cutout_side": 0.25}) == DiffAugment(cutout_side=0.25)


def test_what_is_asked_for_by_name_overrules_the_symmetries():
    asked = pipe("sem", symmetries="none", strengths={"x_flip": 1.0})
    assert (asked.x_flip, asked.rotate_90) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "strengths", "said"),
    [
        ("sem", {"scale_std": 0.1}, "unknown 'scale_std' for augment=sem; did you mean 'scale_sd'"),
        ("sem", {"zzz": 1.0}, "unknown 'zzz' for augment=sem; there are: x_flip, rotate_90"),
        ("diffaugment", {"scale_sd": 0.1}, "unknown 'scale_sd' for augment=diffaugment"),
        ("sem", {"noise": 1.5}, "noise=1.5 is not allowed; set 0 to 1"),
        ("sem", {"cutout_side": -0.1}, "cutout_side=-0.1 is not allowed; set 0 to 1"),
        ("sem", {"noise_sd": -1.0}, "noise_sd=-1.0 is not allowed; set 0 or more"),
        ("sem", {"noise_sd": float("nan")}, "noise_sd=nan is not allowed"),
        ("sem", {"noise_sd": float("inf")}, "noise_sd=inf is not allowed"),
    ],
)
def test_a_strength_that_cannot_be_is_refused_by_name(name, strengths, said):
    with pytest.raises(Refusal) as refusal:
        pipe(name, strengths=strengths)
    assert f"augment_strengths: {said}" in str(refusal.value)
