"""Every shipped YAML file composes, builds its settings, and says what it is."""

import itertools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from sem2ct import composition, config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STAGES = list(config.MODELS)


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def stages_with(group: str) -> list[tuple[str, str]]:
    return list(itertools.product(STAGES, names(group)))


def composed(stage: str, *overrides: str):
    return config.build(stage, composition.settings_of(stage, list(overrides)))


@pytest.mark.parametrize(("stage", "size"), stages_with("size"))
def test_every_size_builds_every_stage(stage, size):
    assert composed(stage, f"size={size}").run == f"toy_{size}"


@pytest.mark.parametrize(("stage", "rock"), stages_with("rock"))
def test_every_rock_builds_every_stage(stage, rock):
    assert composed(stage, f"rock={rock}").run == f"{rock}_demo"


@pytest.mark.parametrize(("stage", "machine"), stages_with("machine"))
def test_every_machine_builds_every_stage(stage, machine):
    composed(stage, f"machine={machine}", "size=paper")


@pytest.mark.parametrize(
    ("stage", "experiment"), list(itertools.product(STAGES, names("experiment")))
)
def test_every_experiment_builds_every_stage(stage, experiment):
    assert composed(stage, f"experiment={experiment}").run == experiment


@pytest.mark.parametrize("size", names("size"))
def test_both_network_sets_have_widths_in_every_size(size):
    for network in ("paper", "robust"):
        composed("train_cyclegan", f"size={size}", f"network={network}")


@pytest.mark.parametrize("stage", STAGES)
def test_the_settings_sheet_lists_every_setting_and_no_other(stage):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        values = compose(config_name=stage)
    assert set(values) - {"rock", "size", "machine"} == set(config.MODELS[stage].model_fields)


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_says_what_it_means(stage):
    for name, field in config.MODELS[stage].model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_begins_with_what_it_is(path):
    assert path.read_text().startswith("# ")


def test_size_paper_holds_the_published_numbers():
    extract, train = composed("extract", "size=paper"), composed("train_stylegan", "size=paper")
    assert (extract.tile_px, extract.stride_px, extract.ct_patch_px) == (1024, 500, 64)
    assert (extract.scale, extract.ct_patches) == (16, 200_000)
    assert composed("synthesize", "size=paper").n == 200_000
    # The auto recipe of StyleGAN2-ADA at 1024 px on 4 GPUs, worked out by hand from its rule.
    assert train.batch_size == max(min(4 * min(4096 // 1024, 32), 64), 4)
    assert train.r1_gamma == pytest.approx(0.0002 * 1024**2 / 16)
    assert train.ema_half_life_images == 16 * 10 / 32 * 1000


@pytest.mark.parametrize("stage", STAGES)
def test_what_older_runs_are_taken_for_can_be_asked_for_today(stage):
    later = dict(config.MODELS[stage].LATER)
    asked = config.build(stage, composition.settings_of(stage, []) | later)
    assert {name: getattr(asked, name) for name in later} == later
