"""Where train-stylegan begins: a recipe, or the weights of another training."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sem2ct import composition, config
from sem2ct.data.store import StoreWriter
from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import train_stylegan

SHAPE = ("z_dim=5", "w_dim=6", "channel_base=64", "channel_max=8")
SHORT = ("total_images=8", "checkpoint_images=4", "values_images=4", "preview_images=8")


@pytest.fixture
def root(tmp_path):
    """A store of 16 px tiles."""
    writer = StoreWriter(
        tmp_path / "sem",
        tile_px=16,
        domain="sem",
        pixel_um=None,
        window=None,
        shard_patches=40,
        sources=[],
        facts={},
    )
    tiles = np.random.default_rng(0).integers(0, 256, (40, 16, 16)).astype(np.uint8)
    writer.write_shard(0, tiles, {name: np.arange(40) for name in ("source", "z", "y", "x")})
    writer.finish()
    return tmp_path


def settings_of(root, *overrides):
    given = ["size=tiny", "machine=cpu", *SHAPE, *SHORT, "augment=none", "evaluate_every=never"]
    given += [f"run_root={root}", f"sem={root / 'sem'}", *overrides]
    return config.build("train_stylegan", composition.settings_of("train_stylegan", given))


def train(settings, name):
    folder = RunFolder.open(settings.run_root / name, settings.model_dump(mode="json"))
    try:
        train_stylegan.run(settings, folder)
    finally:
        folder.close()
    return folder.path


def saved(path, images_seen):
    return checkpoint.load(path / f"checkpoints/{images_seen:09d}.pt")["trainer"]


def pickled(foreign, root):
    pair = foreign.networks()
    return foreign.write(root / "snapshot.pkl", foreign.content(*pair)), *pair


def distance(weights, network):
    there = {name: values.detach() for name, values in network.named_parameters()}
    return sum(float((weights[name] - there[name]).abs().sum()) for name in there)


def test_a_run_goes_on_from_a_pickle_and_resumes_without_it(root, foreign):
    path, generator, discriminator = pickled(foreign, root)
    settings = settings_of(root, f"resume_from={path}", "freeze_d=1", "ema_ramp=0.5")
    whole = train(settings, "whole")
    learned = saved(whole, 8)
    fresh = saved(train(settings_of(root), "fresh"), 8)
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        assert distance(learned[name], network) < 0.2 * distance(fresh[name], network), name
    frozen = discriminator.blocks[0].conv0.weight
    assert torch.equal(learned["discriminator"]["blocks.0.conv0.weight"], frozen)
    # A run that has a checkpoint goes on from there; what it began with may be gone.
    stopped = train(settings, "stopped")
    for gone in ("done.json", "checkpoints/000000008.pt"):
        (stopped / gone).unlink()
    path.unlink()
    again = saved(train(settings, "stopped"), 8)
    for name in ("generator", "discriminator"):
        for part, values in learned[name].items():
            assert torch.equal(again[name][part], values), part


def test_the_average_is_taken_over_and_not_replaced_at_once(root, foreign):
    path, generator, _ = pickled(foreign, root)
    run = train(settings_of(root, f"resume_from={path}", "ema_ramp=0.5"), "slow")
    learned = saved(run, 4)
    parameters = dict(generator.named_parameters())
    # After 4 images at a half-life of 16 a fifth of the way is made; a ramp would make it all.
    for name, before in parameters.items():
        expected = before.lerp(learned["generator"][name], 1 - 0.5 ** (4 / 16))
        torch.testing.assert_close(learned["ema"]["weights"][name], expected, rtol=1e-4, atol=1e-6)


def test_a_run_begins_with_another_run(root):
    first = train(settings_of(root), "first")
    second = train(settings_of(root, f"resume_from={first}", "seed=5"), "second")
    there = saved(first, 8)["generator"]
    moved = {
        name: (saved(second, 4)["generator"][name] - there[name]).abs().max() for name in there
    }
    # Adam's steps are at most lr (times 100 where the rate is 0.01), twice with the penalty.
    assert max(moved.values()) < 0.5
    assert float(sum(moved.values())) > 0


def test_weights_of_another_shape_are_refused_before_anything_is_trained(root, foreign):
    path, *_ = pickled(foreign, root)
    settings = settings_of(root, f"resume_from={path}", "mapping_layers=3")
    with pytest.raises(Refusal, match="mapping_layers 2 there, 3 here"):
        train(settings, "other")
    assert not (root / "other" / "checkpoints").exists()
    with pytest.raises(Refusal, match="mapping_layers 2 there, 3 here"):
        train_stylegan.estimate(settings)


def test_frozen_blocks_without_weights_are_refused(root):
    with pytest.raises(ValidationError, match="freeze_d=1 would keep untrained weights"):
        settings_of(root, "freeze_d=1")


def test_a_dry_run_shows_what_a_recipe_comes_to(root, monkeypatch):
    def measure(trainer, images, *, total_images, batch_size):
        return {"total_images": total_images, "batch_size": len(images["sem"])}

    monkeypatch.setattr(train_stylegan, "measure", measure)
    rows = train_stylegan.estimate(settings_of(root, "recipe=auto"))
    assert rows["recipe"] == "auto for 16 px and devices=1"
    assert (rows["  batch_size"], rows["  channel_base"]) == ("32", "16384")
    assert (rows["batch_size"], rows["total_images"]) == (32, 32)
    assert "recipe" not in train_stylegan.estimate(settings_of(root))
