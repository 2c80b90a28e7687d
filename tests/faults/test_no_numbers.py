"""A value or a gradient that is no number, on any rank, in any phase of either training."""

import itertools
import math

import numpy as np
import pytest
import torch

from sem2ct import composition, config
from sem2ct.cyclegan.trainer import CycleganTrainer
from sem2ct.runtime import checkpoint, distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan.trainer import StyleganTrainer
from sem2ct.training import loop
from sem2ct.training.watch import Watch

BATCH = 4
# In a step with all phases, after a checkpoint and before a row.
FAULT, ROW, SAVED = 4 * BATCH, 6 * BATCH, "000000016.pt"
SIDES_PX = {"sem": 32, "ct": 8}


def composed(stage, *overrides):
    given = ["size=tiny", "machine=cpu", f"batch_size={BATCH}", *overrides]
    return config.build(stage, composition.settings_of(stage, given))


@pytest.fixture(scope="module")
def arguments():
    """Of both trainers; ranks get them whole, since composing takes a second."""
    here = {"device": torch.device("cpu")}
    # Both penalties in every second step.
    often = ["r1_interval=2", "path_length_interval=2", "channel_max=8"]
    stylegan = composed("train_stylegan", *often).arguments_of(StyleganTrainer)
    cyclegan = composed("train_cyclegan").arguments_of(CycleganTrainer)
    return {
        "stylegan": {**stylegan, **here, "resolution": SIDES_PX["sem"]},
        "cyclegan": {**cyclegan, **here, "scale": 4, "patch_px": SIDES_PX["ct"]},
    }


MAKERS = {"stylegan": StyleganTrainer, "cyclegan": CycleganTrainer}


def batch(side_px, images_seen):
    draw = torch.Generator().manual_seed(images_seen)
    return distributed.share(torch.rand(BATCH, 1, side_px, side_px, generator=draw) * 1.6 - 0.8)


def both(images_seen):
    return {name: batch(px, images_seen + px) for name, px in SIDES_PX.items()}


def spoilt(network, which):
    """Makes a gradient inf in the given backward pass; of several ranks, nan on the last one."""
    passes = itertools.count(1)
    weight = next(network.parameters())
    ranks = distributed.world_size()

    def spoil(gradient):
        if next(passes) != which or distributed.rank() < ranks - 1:
            return gradient
        return torch.full_like(gradient, math.inf if ranks == 1 else math.nan)

    # A leaf keeps the hook when gradients are switched off and on.
    learns = weight.requires_grad
    weight.requires_grad_(True).register_hook(spoil)
    weight.requires_grad_(learns)


def train(path, trainer, spoil):
    """Eight steps, two to a row, four to a checkpoint; returns what was refused."""
    folder = RunFolder.open(path, {"seed": 5}, writer=distributed.is_main())
    sound = trainer.step

    def step(images, images_seen):
        if images_seen == FAULT:
            spoil(trainer)
        return sound(images, images_seen)

    trainer.step = step
    with pytest.raises(Refusal) as refused:
        loop.run(
            trainer,
            batches=both,
            total_images=8 * BATCH,
            batch_size=BATCH,
            values_images=2 * BATCH,
            preview_images=100 * BATCH,
            checkpoint_images=4 * BATCH,
            keep_checkpoints=2,
            folder=folder,
            previews=lambda images_seen: {"no": np.zeros((2, 2), np.uint8)},
            what="test",
            watch=Watch(advice="lower learning_rate"),
        )
    folder.close()
    last = checkpoint.newest(path / "checkpoints")
    bag = checkpoint.load(last)
    tensors = [t for t in flat(bag["trainer"]) if t.is_floating_point()]
    return str(refused.value), last.name, all(bool(t.isfinite().all()) for t in tensors)


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list | tuple):
        return []
    return [tensor for part in parts for tensor in flat(part)]


PHASES = {
    # Which network, in which of its backward passes of a step that has all phases, and a word.
    "generator": ("stylegan", "generator", 1, "the generator's phase"),
    "path length": ("stylegan", "generator", 2, "path_length_weight"),
    "discriminator": ("stylegan", "discriminator", 1, "raise r1_gamma"),
    "gradient penalty": ("stylegan", "discriminator", 3, "lower r1_gamma"),
    "translators": ("cyclegan", "ct_to_sem", 1, "the two translators"),
    "judges": ("cyclegan", "judges", 1, "discriminator_width"),
}


def one_case(path, arguments, case):
    name, network, which, _ = PHASES[case]
    trainer = MAKERS[name](**arguments[name])
    return train(path, trainer, lambda trainer: spoilt(getattr(trainer, network), which))


@pytest.mark.parametrize("case", PHASES)
def test_a_gradient_that_is_inf_ends_the_training_with_its_phase(tmp_path, arguments, case):
    said, last, finite = one_case(tmp_path, arguments, case)
    assert f"the gradients of the {case} became nan or inf before images={ROW}" in said
    assert PHASES[case][-1] in said
    assert f"from the last checkpoint ({SAVED})" in said
    assert (last, finite) == (SAVED, True)


@pytest.mark.parametrize("case", ["path length", "judges"])
def test_all_ranks_end_together_when_one_has_the_fault(tmp_path, arguments, two_ranks, case):
    one, other = two_ranks(one_case, tmp_path, arguments, case)
    assert one == other
    assert f"the gradients of the {case} became" in one[0]
    assert one[1:] == (SAVED, True)


def nan_images(path, arguments, name):
    """Rank 1 alone reads images that are no numbers; rank 0 never sees one itself."""
    trainer = MAKERS[name](**arguments[name])
    sound = trainer.step

    def step(images, images_seen):
        poison = images_seen >= FAULT and distributed.rank() == 1
        factor = math.nan if poison else 1.0
        return sound({name: image * factor for name, image in images.items()}, images_seen)

    trainer.step = step
    return train(path, trainer, lambda trainer: None)


@pytest.mark.parametrize("name", MAKERS)
def test_images_that_are_no_numbers_on_one_rank_end_all(tmp_path, arguments, two_ranks, name):
    one, other = two_ranks(nan_images, tmp_path, arguments, name)
    assert one == other
    assert "became nan" in one[0]
    assert one[1:] == (SAVED, True)
