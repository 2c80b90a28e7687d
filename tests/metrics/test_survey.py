import pickle
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest

from sem2ct.data import image_sets
from sem2ct.metrics import measure, survey

CUT = {"tile_px": 16, "most_tiles": 100, "seed": 0}


@pytest.fixture
def real(tmp_path):
    """Three images of dark pores, grey cement and bright grains."""
    rng = np.random.default_rng(3)
    for k in range(3):
        phases = rng.choice([40, 120, 220], p=[0.2, 0.3, 0.5], size=(40, 36))
        grey = np.clip(phases + rng.normal(0, 4, phases.shape), 0, 255).astype(np.uint8)
        (tmp_path / f"{k}.png").write_bytes(imagecodecs.png_encode(grey))
    return image_sets.open_set("real", str(tmp_path), **CUT)


def test_the_threshold_is_given_found_or_that_of_masks(real):
    assert survey.threshold(77, real) == 77
    assert survey.threshold("mask", real) == 128
    assert 130 < survey.threshold("otsu", real) < 210
    assert 50 < survey.threshold("multi_otsu", real) < 110  # the pores alone


def test_the_rule_of_the_threshold_is_written_out():
    assert survey.threshold_facts(80, "multi_otsu", "real")["rule"].startswith("darkest of Otsu's")
    assert survey.threshold_facts(128, "mask", "real")["rule"] == "pores are given by masks"
    assert survey.threshold_facts(80, 80, "real")["rule"] == "given"


def test_a_large_set_is_read_by_processes_and_kept_in_chunks(real, tmp_path, monkeypatch):
    asked = {}

    def noted(read, count, **how):
        asked.update(how, read=read, count=count)
        return SimpleNamespace(grey=np.ones(256, int))

    monkeypatch.setattr(survey, "MANY_PIXELS", 1)
    monkeypatch.setattr(measure, "tiles", noted)
    how = {"level": 80, "reach_px": 5, "workers": 2, "kept": tmp_path / "kept"}
    survey.numbers(real, cut=CUT, **how)
    opener = pickle.loads(pickle.dumps(asked["read"])).opener
    for index in range(len(real)):
        np.testing.assert_array_equal(opener()(index), real.read(index))
    identity = asked["journal"].identity
    assert asked["journal"].folder == tmp_path / "kept" / "real"
    survey.numbers(real, cut=CUT | {"seed": 1}, **how)
    assert asked["journal"].identity != identity


def test_a_small_set_is_read_by_threads(real, tmp_path):
    how = {"level": 80, "reach_px": 5, "workers": 2, "kept": tmp_path / "kept"}
    found = survey.numbers(real, cut=CUT, **how)
    shares = [(real.read(index) < 80).mean() for index in range(len(real))]
    np.testing.assert_allclose(found.scalars["porosity"], shares)
    assert not (tmp_path / "kept").exists()


def test_the_nearest_real_tile_has_the_pores_of_the_middle_slice(real):
    def set_of(phi, surface, **changes):
        scalars = {"porosity": np.array(phi), "specific_surface": np.array(surface)}
        return SimpleNamespace(numbers=SimpleNamespace(scalars=scalars), **changes)

    volume = SimpleNamespace(volume=SimpleNamespace(shape=(5, 9, 9)))
    sets = {"real": real, "translated": SimpleNamespace(volume=volume, frames=np.array([0, 2, 4]))}
    phis = np.linspace(0, 1, len(real))
    measured = {
        "real": set_of(phis, np.zeros(len(real))),
        "translated": set_of([0.9, phis[4] + 0.01, 0.1], [0.0, 0.0, 0.0]),
    }
    found, shown = survey.nearest_tiles(sets, measured, "real")
    assert found["translated"]["nearest"]["tile"] == 4
    assert found["translated"]["nearest"]["distance"] == pytest.approx(0.01 / phis.std())
    np.testing.assert_array_equal(shown["slice/translated/nearest"], real.read(4))
