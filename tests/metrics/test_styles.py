import json

import numpy as np
import pytest
from scipy import ndimage

from sem2ct.data.store import Store, StoreWriter
from sem2ct.metrics import styles
from sem2ct.runtime.refusal import Refusal

SIDE = 32
CHOICE = {"styles": 1, "sem_styles": "all", "batch_size": 4}


def textured(draw, width_px: float, porosity: float) -> np.ndarray:
    """(32, 32) uint8 of dark spots of one size on bright ground."""
    field = ndimage.gaussian_filter(draw.normal(size=(SIDE, SIDE)), width_px, mode="wrap")
    return np.where(field < np.quantile(field, porosity), 60, 190).astype(np.uint8)


def store(folder, tiles, **facts):
    writer = StoreWriter(
        folder,
        tile_px=SIDE,
        domain="sem",
        pixel_um=None,
        window=None,
        shard_patches=len(tiles),
        sources=[],
        facts=facts,
    )
    places = {"seed": np.arange(len(tiles))}
    if facts:
        places["style"] = np.arange(len(tiles)) % 3
    writer.write_shard(0, np.stack(tiles), places)
    writer.finish()
    return Store(folder)


@pytest.fixture
def mixed(tmp_path):
    """Twice as many fine tiles as coarse ones, at any porosity; and which are coarse."""
    draw = np.random.default_rng(2)
    coarse = np.arange(30) % 3 == 0
    tiles = [textured(draw, 2.5 if one else 0.8, draw.uniform(0.2, 0.45)) for one in coarse]
    return store(tmp_path / "sem", tiles), coarse


def test_what_goes_with_the_porosity_is_taken_out():
    draw = np.random.default_rng(0)
    porosity, own = draw.uniform(0, 0.5, 200), draw.normal(size=200)
    explained = 3 - 2 * porosity + 5 * porosity**2
    left = styles.remainders(np.stack([explained, explained + 0.1 * own], axis=1), porosity)
    assert (left[:, 0] == 0).all()
    assert left[:, 1].std() == pytest.approx(1)
    assert np.corrcoef(left[:, 1], own)[0, 1] > 0.99
    assert abs(np.corrcoef(left[:, 1], porosity)[0, 1]) < 1e-9


def test_an_undefined_number_counts_as_the_usual_one():
    porosity = np.linspace(0, 0.5, 20)
    column = np.sin(np.arange(20.0))
    column[3] = np.nan
    left = styles.remainders(column[:, None], porosity)
    assert left[3, 0] == 0
    assert np.isfinite(left).all()


def test_coarse_and_fine_tiles_are_told_apart_at_any_porosity(mixed, tmp_path):
    sem, coarse = mixed
    kept = tmp_path / "styles.json"
    told = styles.of_store(sem, **CHOICE | {"styles": 2}, kept=kept)
    assert told is not None
    assert told.labels.tolist() == coarse.astype(int).tolist()
    record = json.loads(kept.read_text())
    assert record["tiles"] == [20, 10]
    fine, rough = record["means_px"]["log_correlation_length"]
    assert np.exp(rough) > 1.5 * np.exp(fine)


def test_styles_that_were_found_are_kept_and_not_found_again(mixed, tmp_path, monkeypatch):
    sem, _ = mixed
    kept = tmp_path / "styles.json"
    first = styles.of_store(sem, **CHOICE | {"styles": 2}, kept=kept)
    monkeypatch.setattr(styles, "_measured", None)
    again = styles.of_store(sem, **CHOICE | {"styles": 2}, kept=kept)
    assert first is not None
    assert again is not None
    assert again.labels.tolist() == first.labels.tolist()
    # Another number of styles is another question.
    with pytest.raises(TypeError):
        styles.of_store(sem, **CHOICE | {"styles": 3}, kept=kept)


def test_one_style_of_all_tiles_needs_no_labels(mixed):
    assert styles.of_store(mixed[0], **CHOICE, kept="none") is None


def test_the_labels_of_a_store_are_taken_as_they_are(tmp_path):
    sem = store(tmp_path / "sem", [np.zeros((SIDE, SIDE), np.uint8)] * 12, style={"count": 3})
    told = styles.of_store(sem, **CHOICE | {"styles": 3, "sem_styles": (2, 0)}, kept="none")
    assert told is not None
    assert told.tiles.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert told.labels.tolist() == [0, 2] * 4
    # One model for one style: the translator itself knows nothing of it.
    assert styles.of_store(sem, **CHOICE | {"sem_styles": (1,)}, kept="none").facts() == {
        "count": 3,
        "tiles": [0, 4, 0],
    }


def test_styles_that_a_store_does_not_tell_apart_are_refused(mixed, tmp_path):
    sem = store(tmp_path / "three", [np.zeros((SIDE, SIDE), np.uint8)] * 12, style={"count": 3})
    with pytest.raises(Refusal, match=r"styles=2, but sem=.*three tells 3 styles apart; set"):
        styles.of_store(sem, **CHOICE | {"styles": 2}, kept="none")
    with pytest.raises(Refusal, match=r"sem_styles=\[0\].*synthesize styles=K"):
        styles.of_store(mixed[0], **CHOICE | {"sem_styles": (0,)}, kept="none")
