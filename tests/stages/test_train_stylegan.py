import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from sem2ct import composition, config
from sem2ct.data.frames import write_frame, write_manifest
from sem2ct.data.intensity import Window
from sem2ct.data.store import StoreWriter
from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import train_stylegan

TINY = ("size=tiny", "machine=cpu", "path_length_weight=0", "augment=none", "channel_max=8")
SHORT = ("total_images=16", "checkpoint_images=8", "values_images=4", "preview_images=16")


def blobs(seed):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((56, 64)), 2)
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


FRAMES = [blobs(k) for k in range(3)]


@pytest.fixture
def root(tmp_path):
    """What extract leaves: tiles of two frames, the frames, and one set aside."""
    run = tmp_path / "extract/small"
    facts = {"window": Window(0, 255), "pixel_um": None}
    entries = [
        write_frame(run / "sem_frames", k, grey)
        | {"split": "validation" if k == 2 else "training", "source": {}}
        for k, grey in enumerate(FRAMES)
    ]
    write_manifest(run / "sem_frames", entries, **facts, made_from="")
    windows = np.lib.stride_tricks.sliding_window_view
    pieces = [windows(frame, (32, 32))[::8, ::8].reshape(-1, 32, 32) for frame in FRAMES[:2]]
    tiles = np.concatenate(pieces)
    names = {"tile_px": 32, "domain": "sem", "shard_patches": 50, "sources": [], "facts": {}}
    writer = StoreWriter(run / "sem", **names, **facts)
    writer.write_shard(0, tiles, {"y": np.arange(len(tiles))})
    writer.finish()
    return tmp_path


def settings_of(root, *overrides):
    given = [*TINY, *SHORT, f"run_root={root}", "run=small", *overrides]
    return config.build("train_stylegan", composition.settings_of("train_stylegan", given))


def train(settings, name="small"):
    path = settings.run_root / "train_stylegan" / name
    folder = RunFolder.open(path, settings.model_dump(mode="json"))
    try:
        train_stylegan.run(settings, folder)
    finally:
        folder.close()
    return path


def rows(path):
    return [json.loads(line) for line in (path / "values.jsonl").read_text().splitlines()]


def trained(path):
    return checkpoint.load(checkpoint.find(path, setting="stylegan"))["trainer"]["generator"]


def test_a_run_tells_how_near_the_rock_it_is_and_keeps_the_best(root):
    path = train(settings_of(root))
    looked = [row for row in rows(path) if "rock_distance" in row]
    assert [row["images"] for row in looked] == [8, 16]
    assert {"porosity", "similarity", "spread", "rock_distance_validation"} <= set(looked[0])
    best = checkpoint.find(path, setting="stylegan", which="best")
    nearest = min(looked, key=lambda row: row["rock_distance"])
    assert best.name == f"{nearest['images']:09d}.pt"


def test_training_on_frames_is_another_training_and_resumes_exactly(root, monkeypatch):
    stored = train(settings_of(root), "stored")
    settings = settings_of(root, "tiles=frames")
    whole = train(settings, "whole")
    assert any(
        not torch.equal(*pair)
        for pair in zip(*map(dict.values, map(trained, (stored, whole))), strict=True)
    )

    from sem2ct.training.loop import Stop

    asked = iter([False, False, True])
    with monkeypatch.context() as patched:
        patched.setattr(Stop, "asked", property(lambda self: next(asked)))
        with pytest.raises(SystemExit):
            train(settings, "halves")
    halves = train(settings, "halves")
    resumed = trained(halves)
    for name, weight in trained(whole).items():
        assert torch.equal(weight, resumed[name]), name
    assert (halves / "checkpoints/best.json").read_bytes() == (
        whole / "checkpoints/best.json"
    ).read_bytes()


def test_only_training_frames_are_trained_on(root, monkeypatch):
    seen = []
    step = train_stylegan.StyleganTrainer.step
    monkeypatch.setattr(
        train_stylegan.StyleganTrainer,
        "step",
        lambda self, images, number: seen.append(images["sem"]) or step(self, images, number),
    )
    train(settings_of(root, "tiles=frames", "symmetries=none"))
    tiles = np.rint((torch.cat(seen)[:, 0].numpy() + 1) * 127.5).astype(np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view
    known = {
        bytes(tile.copy())
        for frame in FRAMES[:2]
        for row in windows(frame, (32, 32))
        for tile in row
    }
    assert len(tiles) == 16
    assert {bytes(tile) for tile in tiles} <= known


def test_a_generator_of_one_picture_is_stopped_with_its_last_good_checkpoint(root, monkeypatch):
    tiles = train_stylegan.sample.tiles
    calls = []

    def collapsing(generator, **drawn):
        calls.append(drawn)
        real = tiles(generator, **drawn)
        return real if len(calls) < 2 else np.full_like(real, 77)

    monkeypatch.setattr(train_stylegan.sample, "tiles", collapsing)
    settings = settings_of(root, "collapse_after_images=10")
    message = r"collapsed at images=16.*000000008\.pt is the last good.*r1_gamma \(now 1\).*augment"
    with pytest.raises(Refusal, match=message):
        train(settings)
    assert checkpoint.newest(root / "train_stylegan/small/checkpoints").name == "000000008.pt"


def test_a_training_that_truly_diverges_names_what_to_change(root):
    # Weights of 1e30 overflow in the second step.
    with pytest.raises(Refusal, match=r"became (nan|-?inf) before images=\d+; raise r1_gamma"):
        train(settings_of(root, "learning_rate=1e30"))
    assert checkpoint.newest(root / "train_stylegan/small/checkpoints") is None


def test_a_dry_run_says_what_is_learned_from(root):
    rows = train_stylegan.estimate(settings_of(root, "tiles=frames"))
    # Places of 32 px in two frames of 56 x 64.
    assert rows["SEM tiles"] == f"{2 * 25 * 33} places of 32 px in 2 training frames"
    assert train_stylegan.estimate(settings_of(root))["SEM tiles"] == "40 of 32 px"


def test_the_frames_are_inputs_only_where_they_are_read(root):
    def named(*overrides):
        return [path.parent.name for path in train_stylegan.inputs(settings_of(root, *overrides))]

    assert named() == ["sem", "sem_frames"]
    assert named("evaluate_every=never") == ["sem"]
    assert named("sem_frames=none") == ["sem"]
    assert named("evaluate_every=never", "tiles=frames") == ["sem", "sem_frames"]


def test_frames_cannot_be_trained_on_where_there_are_none(root):
    with pytest.raises(ValueError, match="tiles=frames needs frames, but sem_frames=none"):
        settings_of(root, "sem_frames=none", "tiles=frames")


def test_evaluations_between_checkpoints_are_refused(root):
    with pytest.raises(ValueError, match=r"evaluate_every=12 is not a multiple.*nearest.*: 16"):
        settings_of(root, "evaluate_every=12")
