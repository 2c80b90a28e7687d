"""One step of the trainer, and what must not change it: processes, rounds, resuming."""

import copy
import io

import pytest
import torch

from sem2ct.runtime import distributed, seeding
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan.trainer import StyleganTrainer

BATCH = 16
SIDE = 16
ALWAYS = {
    "g_loss",
    "generator_gradient",
    "d_loss",
    "discriminator_gradient",
    "real_logit",
    "fake_logit",
    "real_sign",
    "mended generator",
    "mended discriminator",
}
PATH_LENGTH = {"path_length", "mended path length"}
PENALTY = {"r1", "mended gradient penalty"}


def trainer(**options):
    given = {
        "resolution": SIDE,
        "z_dim": 8,
        "w_dim": 8,
        "mapping_layers": 2,
        "channel_base": 128,
        "channel_max": 12,
        "batch_size": BATCH,
        "batch_per_device": BATCH,
        "learning_rate": 0.003,
        "ema_half_life_images": 50,
        "ema_ramp": 0.05,
        "r1_gamma": 1.0,
        "r1_interval": 2,
        "path_length_weight": 2.0,
        "path_length_interval": 3,
        "style_mixing": 0.9,
        "augment": "sem",
        "augment_target": 0.6,
        "augment_ramp_images": 200,
        "precision": "float32",
        "seed": 5,
        "device": torch.device("cpu"),
    }
    made = StyleganTrainer(**(given | options))
    # Noise strengths start at zero, and would hide a wrong noise.
    with torch.no_grad():
        for name, parameter in made.generator.named_parameters():
            if "noise_strength" in name:
                parameter.fill_(0.1)
    return made


def smooth_trainer(**options):
    """With a larger Adam epsilon: at 1e-8 a gradient that is rounding noise moves a weight."""
    made = trainer(**options)
    for adam in (made._generator_adam, made._discriminator_adam):
        adam.param_groups[0]["eps"] = 1e-4
    return made


def real_images(first):
    random = torch.Generator().manual_seed(100 + first)
    coarse = torch.randn(BATCH, 1, 4, 4, generator=random)
    return torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear").tanh()


def train(model, steps, first_step=0):
    values = []
    for step in range(first_step, first_step + steps):
        batch = {"sem": distributed.share(real_images(step * BATCH))}
        values.append(model.step(batch, step * BATCH))
    return values


def tensors(value, name=""):
    """Every number of a nested state, by name."""
    if isinstance(value, torch.Tensor):
        return {name: value.clone()}
    if isinstance(value, float | int):
        return {name: torch.tensor(value)}
    if isinstance(value, dict):
        pairs = value.items()
    else:
        pairs = enumerate(value) if isinstance(value, list | tuple) else ()
    return {k: v for key, part in pairs for k, v in tensors(part, f"{name}/{key}").items()}


def weights(model):
    state = model.state()
    kept = ("generator", "discriminator", "ema", "mean_path_length", "strength")
    return tensors({name: state[name] for name in kept})


def assert_same_training(actual, expected):
    """Equal to 1e-5 of each tensor's size, or to 1e-6 where it has hardly left zero."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if "signs" in name or "logits" in name:
            continue  # counted per process or per device
        size = max(value.abs().max().item(), 0.1)
        difference = (actual[name] - value).abs().max().item()
        assert difference <= 1e-5 * size, f"{name}: {difference} of {size}"


STEPS = 5


@pytest.fixture(scope="module")
def whole():
    model = smooth_trainer()
    values = train(model, STEPS)
    return weights(model), values


def test_every_phase_reports_when_it_ran(whole):
    _, values = whole
    always = ALWAYS | {"augment"}
    assert set(values[0]) == always | PATH_LENGTH | PENALTY
    assert set(values[1]) == always
    assert set(values[2]) == always | PENALTY
    assert set(values[3]) == always | PATH_LENGTH
    for row in values:
        assert all(value.ndim == 0 and not value.requires_grad for value in row.values())


def test_the_strength_was_moved_after_four_steps(whole):
    _, values = whole
    moved = 4 * BATCH / 200
    assert [row["augment"].item() for row in values[:4]] == [0.0] * 4
    assert values[4]["augment"].item() in (pytest.approx(moved), 0.0)


def test_rounds_give_what_one_round_gives(whole):
    model = smooth_trainer(batch_per_device=4)
    train(model, STEPS)
    assert_same_training(weights(model), whole[0])


def trained_on_this_rank(batch_per_device):
    model = smooth_trainer(batch_per_device=batch_per_device)
    train(model, STEPS)
    return {name: value.numpy() for name, value in weights(model).items()}


@pytest.mark.parametrize("batch_per_device", [8, 4])
def test_two_processes_give_what_one_gives(two_ranks, whole, batch_per_device):
    first, second = two_ranks(trained_on_this_rank, batch_per_device)
    for rank in (first, second):
        assert_same_training({k: torch.as_tensor(v) for k, v in rank.items()}, whole[0])
    for name in first:
        if "signs" not in name:
            assert (first[name] == second[name]).all(), name


@pytest.mark.parametrize("phase", ["generator", "path_length", "discriminator", "r1"])
def test_rounds_change_no_phase_and_a_phase_moves_its_network_only(phase):
    one, two = smooth_trainer(batch_per_device=4), smooth_trainer(batch_per_device=16)
    run = {
        "generator": lambda model: model.generator_phase(0),
        "path_length": lambda model: model.path_length_phase(0),
        "discriminator": lambda model: model.discriminator_phase(real_images(0), 0),
        "r1": lambda model: model.gradient_penalty_phase(real_images(0), 0),
    }[phase]
    before = weights(two)
    values = run(one), run(two)
    for name in values[0]:
        torch.testing.assert_close(values[0][name], values[1][name], rtol=1e-5, atol=1e-6)
    assert_same_training(weights(one), weights(two))
    moved = {name for name, value in weights(two).items() if not torch.equal(value, before[name])}
    learner = "/generator" if phase in ("generator", "path_length") else "/discriminator"
    networks = {name for name in moved if name.startswith(("/generator", "/discriminator"))}
    assert networks
    assert all(name.startswith(learner) for name in networks)


def test_a_stopped_training_goes_on_bit_for_bit():
    straight, stopped = trainer(), trainer()
    expected_values = train(straight, 6)
    train(stopped, 3)
    file = io.BytesIO()
    torch.save(stopped.state(), file)
    file.seek(0)
    resumed = trainer()
    resumed.restore(torch.load(file, weights_only=True))
    values = train(resumed, 3, first_step=3)
    expected, actual = tensors(straight.state()), tensors(resumed.state())
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name
    assert [{k: v.item() for k, v in row.items()} for row in values] == [
        {k: v.item() for k, v in row.items()} for row in expected_values[3:]
    ]


def gradients(network):
    return [weight.grad for weight in network.parameters() if weight.grad is not None]


def by_hand(network, loss):
    network.requires_grad_(True)
    value = loss()
    slopes = torch.autograd.grad(value, list(network.parameters()), allow_unused=True)
    network.requires_grad_(False)
    return value.item(), [slope for slope in slopes if slope is not None]


def test_the_gradient_penalty_counts_as_often_as_it_is_left_out():
    model = trainer(r1_gamma=3.0, r1_interval=7)
    seen = real_images(0).requires_grad_()

    def loss():
        (slope,) = torch.autograd.grad(model.discriminator(seen).sum(), seen, create_graph=True)
        return 7 * 3.0 / 2 * slope.square().sum(dim=(1, 2, 3)).mean()

    value, expected = by_hand(model.discriminator, loss)
    values = model.gradient_penalty_phase(real_images(0), 0)
    torch.testing.assert_close(gradients(model.discriminator), expected, rtol=1e-4, atol=1e-7)
    assert values["r1"].item() == pytest.approx(value * 2 / 21, rel=1e-4)


def test_the_path_length_counts_as_often_as_it_is_left_out():
    model = trainer(path_length_weight=3.0, path_length_interval=7, style_mixing=0.0)
    model._mean_path_length.fill_(0.4)
    lengths = []

    def loss():
        drawn = model._draw("path length", 0, BATCH // 2)
        fake, ws, _ = model._fake("path length", drawn)
        key = seeding.mix(5, "path length direction")
        y = seeding.hashed_normal(key, drawn.number[:, None], torch.arange(SIDE**2)[None])
        along = (fake.flatten(1) * y).sum() / SIDE
        (slope,) = torch.autograd.grad(along, ws, create_graph=True)
        lengths.append(slope.square().sum(dim=2).mean(dim=1).sqrt())
        return 7 * 3.0 * (lengths[-1] - 0.4).square().mean()

    _, expected = by_hand(model.generator, loss)
    values = model.path_length_phase(0)
    torch.testing.assert_close(gradients(model.generator), expected, rtol=1e-4, atol=1e-6)
    length = lengths[0].mean().item()
    assert values["path_length"].item() == pytest.approx(length, rel=1e-5)
    assert model._mean_path_length.item() == pytest.approx(0.99 * 0.4 + 0.01 * length, rel=1e-5)


def test_the_discriminator_learns_from_real_and_fake_alike():
    model, seen = trainer(), []

    def loss():
        with torch.no_grad():
            fake, _, _ = model._fake("discriminator", model._draw("discriminator", 0, BATCH))
        real_logits, fake_logits = model.discriminator(real_images(0)), model.discriminator(fake)
        seen.extend([real_logits.mean().item(), fake_logits.mean().item()])
        return (torch.log1p((-real_logits).exp()) + torch.log1p(fake_logits.exp())).mean()

    value, expected = by_hand(model.discriminator, loss)
    values = model.discriminator_phase(real_images(0), 0)
    torch.testing.assert_close(gradients(model.discriminator), expected, rtol=1e-4, atol=1e-7)
    assert values["d_loss"].item() == pytest.approx(value, rel=1e-4)
    assert values["real_logit"].item() == pytest.approx(seen[0], rel=1e-4, abs=1e-6)
    assert values["fake_logit"].item() == pytest.approx(seen[1], rel=1e-4, abs=1e-6)
    length = sum(slope.double().square().sum() for slope in expected).sqrt().item()
    assert values["discriminator_gradient"].item() == pytest.approx(length, rel=1e-4)


def test_the_generators_gradient_is_measured_over_all_its_parameters():
    model = trainer()
    values = model.generator_phase(0)
    length = torch.cat([slope.flatten() for slope in gradients(model.generator)]).norm().item()
    assert length > 0
    assert values["generator_gradient"].item() == pytest.approx(length, rel=1e-5)


def gradient_on_this_rank():
    return smooth_trainer(batch_per_device=4).generator_phase(0)["generator_gradient"].item()


def test_every_process_reports_the_gradient_of_the_whole_batch(two_ranks):
    expected = smooth_trainer().generator_phase(0)["generator_gradient"].item()
    assert two_ranks(gradient_on_this_rank) == pytest.approx([expected, expected], rel=1e-4)


@pytest.mark.gpu
def test_a_step_on_the_gpu_is_that_of_the_cpu():
    on_cpu, on_gpu = trainer(), trainer(device=torch.device("cuda"))
    for step in range(2):
        expected = on_cpu.step({"sem": real_images(step)}, step * BATCH)
        values = on_gpu.step({"sem": real_images(step)}, step * BATCH)
        for name, value in expected.items():
            assert values[name].item() == pytest.approx(value.item(), rel=0.03, abs=0.01), name


def test_the_seed_decides_the_weights():
    one, same, other = trainer(), trainer(), trainer(seed=6)
    torch.manual_seed(0)
    assert torch.equal(
        one.generator.state_dict()["mapping.layers.0.weight"],
        same.generator.state_dict()["mapping.layers.0.weight"],
    )
    assert not torch.equal(
        one.generator.state_dict()["mapping.layers.0.weight"],
        other.generator.state_dict()["mapping.layers.0.weight"],
    )


def test_building_one_leaves_the_global_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trainer()
    assert torch.equal(torch.rand(2), expected)


def test_adam_is_corrected_for_the_extra_steps():
    model = trainer(r1_interval=16, path_length_interval=4)
    (generator,) = model._generator_adam.param_groups
    (discriminator,) = model._discriminator_adam.param_groups
    assert generator["lr"] == pytest.approx(0.003 * 4 / 5)
    assert generator["betas"] == (0.0, pytest.approx(0.99 ** (4 / 5)))
    assert discriminator["lr"] == pytest.approx(0.003 * 16 / 17)
    assert discriminator["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))
    assert discriminator["eps"] == 1e-8


def test_a_weight_of_zero_leaves_its_phase_out():
    model = trainer(r1_gamma=0.0, path_length_weight=0.0)
    assert model._generator_adam.param_groups[0]["lr"] == 0.003
    assert set(train(model, 1)[0]) == ALWAYS | {"augment"}


def test_without_augmentation_nothing_is_said_about_it():
    model = trainer(augment="none")
    train(model, 4)
    assert model._strength.value == 0.0
    assert "augment" not in train(model, 1, first_step=4)[0]


def test_the_mean_style_moves_by_half_a_percent():
    model = trainer()
    before = model.generator.mapping.w_avg.clone()
    drawn = model._draw("generator", 0, BATCH)
    expected = 0.005 * model.generator.mapping(drawn.z)[:, 0].mean(0)
    model.generator_phase(0)
    assert not before.any()
    torch.testing.assert_close(model.generator.mapping.w_avg, expected.detach())


def test_the_average_follows_the_generator():
    model = trainer(ema_ramp=0.0, ema_half_life_images=BATCH)
    start = copy.deepcopy(model.ema.state_dict())
    train(model, 1)
    name = "synthesis.blocks.1.conv0.weight"
    halfway = (start[name] + model.generator.state_dict()[name]) / 2
    torch.testing.assert_close(model.ema.state_dict()[name], halfway)


def test_half_precision_stays_finite():
    model = trainer(precision="bf16")
    values = train(model, 2)
    assert all(value.isfinite() for row in values for value in row.values())
    assert all(value.dtype == torch.float32 for value in model.generator.state_dict().values())


def test_the_generator_learns_the_mean_grey():
    model = trainer(learning_rate=0.01, augment="none", path_length_weight=0.0, r1_gamma=0.1)
    dark = {"sem": torch.full((BATCH, 1, SIDE, SIDE), -0.7)}
    noise = [torch.zeros(8, 1, side, side) for side in model.generator.noise_shapes]
    z = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    for step in range(30):
        model.step(dark, step * BATCH)
    with torch.no_grad():
        fake = model.generator.synthesis(model.generator.mapping(z), noise)
    assert fake.mean().item() == pytest.approx(-0.7, abs=0.25)


def refusal_of_one_image_each():
    with pytest.raises(Refusal) as refusal:
        trainer(batch_size=2, batch_per_device=1)
    return str(refusal.value)


def test_half_a_batch_must_be_shareable(two_ranks):
    assert "set a multiple of 4" in two_ranks(refusal_of_one_image_each)[0]
