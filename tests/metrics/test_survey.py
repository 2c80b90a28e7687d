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


def test_the_nearest_real_tile_is_like_the_middle_of_the_translation_in_all_descriptors(real):
    volume, how = SimpleNamespace(), {"reference": "real", "level": 80, "tile_px": 16}
    numbers = [measure.tile(real.read(k), threshold=80, reach_px=5) for k in range(len(real))]
    described = np.stack([one.descriptors for one in numbers])
    zoom = np.full((37, 36), 255, np.uint8)
    zoom[10:26, 10:26] = real.read(4)
    zoom[12, 13] ^= 1  # nearly the same tile
    sets = {"real": real, "translated": SimpleNamespace(volume=volume), "png": real}
    measured = {"real": SimpleNamespace(numbers=SimpleNamespace(descriptors=described))}
    images = {"slice/translated/zoom": zoom}
    found, shown = survey.nearest_tiles(sets, measured, images, reach_px=5, **how)
    assert list(found) == ["translated"]
    nearest = found["translated"]["nearest"]
    assert nearest["tile"] == 4
    assert nearest["rank_distance"] < 0.1
    np.testing.assert_array_equal(shown["slice/translated/nearest"], real.read(4))
    small = {"slice/translated/zoom": zoom[:15]}
    assert survey.nearest_tiles(sets, measured, small, reach_px=5, **how) == ({}, {})


def test_the_likeness_is_that_of_ranks():
    """Of two real tiles the middle is nearer to the one that few descriptors tell apart."""
    rng = np.random.default_rng(2)
    tiles = [rng.integers(0, 256, (16, 16)).astype(np.uint8) for _ in range(9)]
    described = np.stack([measure.tile(one, threshold=80, reach_px=5).descriptors for one in tiles])
    real = SimpleNamespace(read=lambda k: tiles[k], volume=None)
    zoom = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    ours = measure.tile(zoom, threshold=80, reach_px=5).descriptors
    apart = []
    for k in range(9):
        shares = [
            (np.mean(c < x) + np.mean(c <= x)) / 2 for c, x in zip(described.T, ours, strict=True)
        ]
        own = [(np.mean(c < c[k]) + np.mean(c <= c[k])) / 2 for c in described.T]
        apart.append(np.sqrt(np.mean((np.array(shares) - own) ** 2)))
    sets = {"real": real, "translated": SimpleNamespace(volume=SimpleNamespace())}
    measured = {"real": SimpleNamespace(numbers=SimpleNamespace(descriptors=described))}
    how = {"reference": "real", "level": 80, "tile_px": 16, "reach_px": 5}
    found, _ = survey.nearest_tiles(sets, measured, {"slice/translated/zoom": zoom}, **how)
    nearest = found["translated"]["nearest"]
    assert nearest["tile"] == int(np.argmin(apart))
    assert nearest["rank_distance"] == pytest.approx(min(apart))
