import logging

import numpy as np
import pytest

from sem2ct.data.frames import Frames, write_frame, write_manifest
from sem2ct.data.intensity import Window
from sem2ct.data.store import Store, StoreWriter
from sem2ct.metrics import rock_watch
from sem2ct.runtime.refusal import Refusal

GREYS = np.random.default_rng(8).integers(0, 256, (3, 40, 50)).astype(np.uint8)
SETTINGS = {
    "evaluate_every": 64,
    "evaluate_tiles": 5,
    "threshold": "otsu",
    "collapse_share": 0.2,
    "collapse_after_images": 640,
    "r1_gamma": 4.0,
    "learning_rate": 0.003,
    "augment": "none",
    "seed": 1,
}


@pytest.fixture
def run(tmp_path):
    """A store with frames beside it: two to train, one set aside."""
    entries = [
        write_frame(tmp_path / "sem_frames", k, grey)
        | {"split": "training" if k < 2 else "validation", "source": {}}
        for k, grey in enumerate(GREYS)
    ]
    facts = {"window": Window(0, 255), "pixel_um": 0.5}
    write_manifest(tmp_path / "sem_frames", entries, **facts, made_from="")
    pieces = [grey[y : y + 16, x : x + 16] for grey in GREYS[:2] for y in (0, 16) for x in (0, 16)]
    names = {"tile_px": 16, "domain": "sem", "shard_patches": 50, "sources": [], "facts": {}}
    writer = StoreWriter(tmp_path / "sem", **names, **facts)
    writer.write_shard(0, np.stack(pieces), {"y": np.arange(8)})
    writer.finish()
    return tmp_path


def watch_of(run, draw, **changed):
    settings = SETTINGS | {"sem_frames": run / "sem_frames"} | changed
    return rock_watch.watch(draw, Store(run / "sem"), **settings)


def drawn(n):
    return GREYS[0, :16, :16][None].repeat(n, axis=0)


def test_generated_tiles_are_measured_when_it_is_time(run):
    asked = []
    watch = watch_of(run, lambda n: asked.append(n) or drawn(n))
    assert watch.values(32, at_end=False) == {}
    values = watch.values(128, at_end=False)
    assert asked == [5]
    # Every one of the tiles is one place of the first frame.
    assert values["similarity"] == pytest.approx(1, abs=1e-5)
    assert values["spread"] == pytest.approx(0, abs=1e-6)
    assert values["porosity"] == pytest.approx(np.mean(drawn(1) < 128), abs=0.03)


def test_a_collapse_names_the_settings_as_they_are(run, tmp_path):
    watch = watch_of(run, drawn)
    values = watch.values(640, at_end=False)
    watch.require_spread(values, 639, tmp_path)
    with pytest.raises(Refusal, match=r"raise r1_gamma \(now 4\), lower learning_rate \(now 0.003"):
        watch.require_spread(values, 640, tmp_path)


def test_the_best_is_the_nearest_to_the_rock(run):
    assert watch_of(run, drawn).best_by == "rock_distance"


def test_never_needs_no_frames_and_measures_nothing(run, tmp_path):
    watch = watch_of(run, drawn, evaluate_every="never", sem_frames=tmp_path / "nowhere")
    assert watch.values(640, at_end=True) == {}
    assert "r1_gamma (now 4)" in watch.advice


def test_without_frames_the_stored_tiles_stand_for_the_rock(run):
    watch = watch_of(run, lambda n: Store(run / "sem").tiles[:n], sem_frames="none")
    values = watch.values(64, at_end=False)
    assert values["similarity"] == pytest.approx(1, abs=1e-5)
    assert "rock_distance_validation" not in values


def test_the_images_set_aside_are_told_once(run, caplog):
    logging.getLogger("sem2ct").propagate = True
    with caplog.at_level(logging.INFO, logger="sem2ct"):
        watch = watch_of(run, drawn)
        assert not caplog.records
        for images_seen in (64, 128):
            watch.values(images_seen, at_end=False)
    # The same record comes twice where an earlier test left a handler of its own.
    assert len(set(map(id, caplog.records))) == 1
    assert "images set aside, against the training images: porosity 0.5" in caplog.text


def test_frames_of_another_extraction_are_refused(run):
    entries = Frames(run / "sem_frames").manifest["frames"]
    write_manifest(run / "sem_frames", entries, window=Window(1, 255), pixel_um=0.5, made_from="")
    with pytest.raises(Refusal, match="window"):
        watch_of(run, drawn)
