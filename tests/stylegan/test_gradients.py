"""Losses and all their parameter gradients, against networks written plainly in float64."""

import importlib.util
from pathlib import Path

import pytest
import torch

from sem2ct.stylegan import losses
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.penalty import gradient_penalty_of

SIDE, BLOCKS, LAYERS, GROUP = 16, 3, 2, 4
TOLERANCE = 2e-4


def load_slow():
    file = Path(__file__).with_name("slow_networks.py")
    specification = importlib.util.spec_from_file_location("slow_networks", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


slow = load_slow()


def disturbed(network):
    """Every parameter away from where it starts, so that none is 0 or 1."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(1)
    shape = {"resolution": SIDE, "channel_base": 160, "channel_max": 24}
    return disturbed(Generator(z_dim=12, w_dim=10, mapping_layers=LAYERS, **shape))


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(2)
    shape = {"resolution": SIDE, "channel_base": 160, "channel_max": 24}
    return disturbed(Discriminator(group=GROUP, **shape))


@pytest.fixture(scope="module")
def given(generator):
    torch.manual_seed(3)
    return {
        "real": torch.randn(8, 1, SIDE, SIDE),
        "z": torch.randn(8, 12),
        "noise": [torch.randn(8, 1, side, side) for side in generator.noise_shapes],
        "direction": torch.randn(8, 1, SIDE, SIDE),
    }


def doubles(network):
    return {
        name: value.detach().double().requires_grad_() for name, value in network.named_parameters()
    }


def slow_fake(weights, given):
    noise = [plane.double() for plane in given["noise"]]
    z = given["z"].double()
    return slow.generator(weights, z, noise, mapping_layers=LAYERS, blocks=BLOCKS)


def slow_logits(weights, images):
    return slow.discriminator(weights, images, blocks=BLOCKS - 1, group=GROUP)


def assert_same_gradients(loss, network, expected_loss, weights):
    """Value, and every tensor to a share of its largest gradient."""
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    names = [name for name, _ in network.named_parameters()]
    ours = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    truth = torch.autograd.grad(expected_loss, [weights[n] for n in names], allow_unused=True)
    moved = 0
    for name, one, other in zip(names, ours, truth, strict=True):
        if other is None or not other.abs().max() > 1e-12:
            assert one is None or one.abs().max() < 1e-6, name
            continue
        worst = (one.double() - other).abs().max() / other.abs().max()
        assert worst < TOLERANCE, f"{name}: {worst:.1e}"
        moved += 1
    assert moved >= len(names) - 4


def test_the_generator_loss_and_its_gradients_are_those_of_plain_networks(
    generator, discriminator, given
):
    fake = generator(given["z"], noise=given["noise"])
    loss = losses.generator_loss(discriminator(fake)).mean()
    weights = doubles(generator)
    logits = slow_logits(doubles(discriminator), slow_fake(weights, given)[0])
    expected = (1 + (-logits).exp()).log().mean()
    assert_same_gradients(loss, generator, expected, weights)


def test_the_discriminator_loss_and_its_gradients_are_those_of_a_plain_network(
    discriminator, given
):
    real, fake = given["real"], 0.5 * given["real"].flip(0).roll(3, 2)
    loss = losses.discriminator_loss(discriminator(real), discriminator(fake)).mean()
    weights = doubles(discriminator)
    real_logits, fake_logits = (slow_logits(weights, x.double()) for x in (real, fake))
    expected = ((1 + (-real_logits).exp()).log() + (1 + fake_logits.exp()).log()).mean()
    assert_same_gradients(loss, discriminator, expected, weights)


def slow_penalty(weights, real, change=lambda images: images):
    seen = real.double().requires_grad_()
    logits = slow_logits(weights, change(seen))
    (slope,) = torch.autograd.grad(logits.sum(), seen, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def test_the_gradient_penalty_and_its_gradients_are_those_of_a_plain_network(discriminator, given):
    seen = given["real"].clone().requires_grad_()
    penalty = losses.gradient_penalty(seen, discriminator(seen)).mean()
    weights = doubles(discriminator)
    expected = slow_penalty(weights, given["real"])
    assert_same_gradients(penalty, discriminator, expected, weights)


def blurred(images):
    """A change that mixes pixels, scales, and shifts."""
    return 0.6 * images.roll(1, 3) + 1.7 * images.flip(2) - 0.2


@pytest.mark.parametrize("change", [None, blurred])
def test_the_penalty_by_the_adjoint_is_that_of_a_plain_network(discriminator, given, change):
    penalty, logits = gradient_penalty_of(discriminator, given["real"], change)
    weights = doubles(discriminator)
    seen = given["real"] if change is None else change(given["real"])
    torch.testing.assert_close(logits, discriminator(seen))
    expected = slow_penalty(weights, given["real"], change or (lambda images: images))
    assert_same_gradients(penalty.mean(), discriminator, expected, weights)


def test_the_path_length_penalty_and_its_gradients_are_those_of_a_plain_network(generator, given):
    ws = generator.mapping(given["z"])
    images = generator.synthesis(ws, given["noise"])
    penalty, new_mean = losses.path_length_penalty(
        images, ws, torch.tensor(0.4), given["direction"]
    )
    weights = doubles(generator)
    fake, slow_ws = slow_fake(weights, given)
    along = (fake * given["direction"].double()).sum() / SIDE
    (slope,) = torch.autograd.grad(along, slow_ws, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    mean = 0.99 * 0.4 + 0.01 * lengths.mean()
    assert new_mean.item() == pytest.approx(mean.item(), rel=1e-5)
    assert_same_gradients(penalty.mean(), generator, (lengths - mean).square().mean(), weights)
