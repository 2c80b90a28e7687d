"""Beginning a training from other weights, and layers that stay as they are."""

import pytest
import torch

from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import transfer
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.trainer import StyleganTrainer


def trainer(seed=0, **options):
    given = {
        "resolution": 16,
        "z_dim": 5,
        "w_dim": 6,
        "mapping_layers": 2,
        "channel_base": 64,
        "channel_max": 8,
        "batch_size": 4,
        "batch_per_device": 4,
        "learning_rate": 0.01,
        "ema_half_life_images": 100,
        "ema_ramp": 0.0,
        "r1_gamma": 1.0,
        "r1_interval": 2,
        "path_length_weight": 2.0,
        "path_length_interval": 2,
        "style_mixing": 0.9,
        "augment": "sem",
        "augment_target": 0.6,
        "augment_ramp_images": 1000,
        "precision": "float32",
        "device": torch.device("cpu"),
    }
    return StyleganTrainer(seed=seed, **given | options)


def networks(made):
    return {"generator": made.generator, "discriminator": made.discriminator, "ema": made.ema}


def trained(made, steps, images_seen=0):
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        images = {"sem": torch.rand(4, 1, 16, 16, generator=generator) * 2 - 1}
        made.step(images, images_seen + 4 * step)
    return made


def copies(network):
    return {name: values.clone() for name, values in network.state_dict().items()}


def same(network, state):
    return all(torch.equal(values, state[name]) for name, values in network.state_dict().items())


@pytest.fixture(scope="module")
def teacher():
    """Nothing of it is what another training begins with."""
    return trained(trainer(seed=3), 2)


@pytest.mark.parametrize("as_a_run", [True, False])
def test_a_training_begins_with_the_networks_of_a_run_of_ours(teacher, tmp_path, as_a_run):
    path = checkpoint.save(tmp_path / "checkpoints", 8, {"trainer": teacher.state()}, keep=1)
    student = trainer(seed=4)
    transfer.begin(tmp_path if as_a_run else path, **networks(student))
    for name, network in networks(student).items():
        assert same(network, networks(teacher)[name].state_dict()), name
    assert not same(student.ema, student.generator.state_dict())
    assert not student.state()["generator_adam"]["state"]


def test_a_training_begins_with_the_networks_of_a_pickle(foreign, tmp_path):
    pair = foreign.networks()
    path = foreign.write(tmp_path / "snapshot.pkl", foreign.content(*pair))
    student = trainer()
    transfer.begin(path, **networks(student))
    assert same(student.ema, pair[0].state_dict())
    assert same(student.generator, pair[0].state_dict())
    assert same(student.discriminator, pair[1].state_dict())
    trained(student, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 8}, "resolution 16 there, 8 here"),
        ({"mapping_layers": 3}, "mapping_layers 2 there, 3 here"),
        ({"channel_max": 4}, r"generator synthesis\S+ \(8, .*\) there, \(4, .*\) here"),
        ({"z_dim": 4, "w_dim": 4}, "z_dim 5 there, 4 here, w_dim 6 there, 4 here.* and .* more"),
    ],
)
def test_networks_of_other_shapes_are_refused_by_what_differs(teacher, tmp_path, options, said):
    path = checkpoint.save(tmp_path, 8, {"trainer": teacher.state()}, keep=1)
    student = trainer(**options)
    before = copies(student.generator)
    with pytest.raises(Refusal, match=said):
        transfer.begin(path, **networks(student))
    assert same(student.generator, before)


def test_a_file_without_networks_is_refused(tmp_path):
    path = checkpoint.save(tmp_path, 8, {"trainer": {"ct_to_sem": {}}}, keep=1)
    with pytest.raises(Refusal, match="holds no networks of train-stylegan"):
        transfer.begin(path, **networks(trainer()))
    with pytest.raises(Refusal, match=r"resume_from=.*gone\.pkl does not exist"):
        transfer.begin(tmp_path / "gone.pkl", **networks(trainer()))


@pytest.mark.parametrize("blocks", [0, 1])
def test_frozen_blocks_do_not_learn_and_the_others_do(blocks):
    made = trainer(freeze_d=blocks)
    before = copies(made.discriminator)
    trained(made, 2)
    still = ["from_image.", *(f"blocks.{k}." for k in range(blocks))] if blocks else []
    for name, values in made.discriminator.state_dict().items():
        assert torch.equal(values, before[name]) == name.startswith(tuple(still)), name


def test_freezing_changes_no_answer_and_no_name():
    torch.manual_seed(0)
    made = Discriminator(resolution=16, channel_base=64, channel_max=8)
    images = torch.randn(4, 1, 16, 16)
    answer, names = made(images), set(made.state_dict())
    transfer.freeze(made, 1)
    assert torch.equal(made(images), answer)
    assert set(made.state_dict()) == names
    with pytest.raises(Refusal, match="freeze_d=2, but at 16 px the discriminator has 2 blocks"):
        transfer.freeze(made, 2)


def test_gradients_pass_through_frozen_blocks_to_the_image():
    torch.manual_seed(0)
    made = Discriminator(resolution=32, channel_base=64, channel_max=8)
    images = torch.randn(4, 1, 32, 32, requires_grad=True)
    (expected,) = torch.autograd.grad(made(images).sum(), images)
    transfer.freeze(made, 2)
    (found,) = torch.autograd.grad(made(images).sum(), images)
    assert torch.equal(found, expected)


def test_a_training_with_frozen_blocks_resumes_exactly():
    whole = trained(trainer(freeze_d=1), 4)
    first = trainer(freeze_d=1)
    stream = torch.Generator().manual_seed(1)
    batches = [{"sem": torch.rand(4, 1, 16, 16, generator=stream) * 2 - 1} for _ in range(4)]
    for k in (0, 1):
        first.step(batches[k], 4 * k)
    second = trainer(freeze_d=1, seed=0)
    second.restore(first.state())
    for k in (2, 3):
        second.step(batches[k], 4 * k)
    assert same(second.discriminator, whole.discriminator.state_dict())
    assert same(second.generator, whole.generator.state_dict())
