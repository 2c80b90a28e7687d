import math

import pytest
import torch

from sem2ct.stylegan import losses


def test_logistic_losses_follow_their_formula():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.7, 0.4])
    expected_g = [math.log(1 + math.exp(-1.7)), math.log(1 + math.exp(-0.4))]
    expected_d = [
        math.log(1 + math.exp(-0.3)) + math.log(1 + math.exp(1.7)),
        math.log(1 + math.exp(2.0)) + math.log(1 + math.exp(0.4)),
    ]
    assert losses.generator_loss(fake).tolist() == pytest.approx(expected_g)
    assert losses.discriminator_loss(real, fake).tolist() == pytest.approx(expected_d)


def test_losses_of_half_precision_logits_are_float32():
    logits = torch.tensor([5.0], dtype=torch.bfloat16)
    assert losses.generator_loss(logits).dtype == torch.float32
    assert losses.generator_loss(logits).item() == pytest.approx(math.log(1 + math.exp(-5)))


def test_gradient_penalty_of_a_quadratic_is_the_squared_slope():
    images = torch.randn(3, 1, 4, 6, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(2)).requires_grad_()
    images.requires_grad_()
    logits = 0.5 * (weight * images.square()).sum(dim=(1, 2, 3))
    penalty = losses.gradient_penalty(images, logits)
    expected = (weight * images).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(penalty, expected)
    # d/dw sum (w x)^2 = 2 w sum x^2
    (slope,) = torch.autograd.grad(penalty.sum(), weight)
    torch.testing.assert_close(slope, 2 * weight * images.square().sum(dim=(0, 1)))


def test_gradient_penalty_refuses_images_that_were_not_watched():
    with pytest.raises(ValueError, match="require gradients"):
        losses.gradient_penalty(torch.zeros(2, 1, 4, 4), torch.zeros(2))


@pytest.fixture
def linear_generator():
    """Images (2, 1, 3, 5) = sum over 4 layers of A w, with known lengths."""
    random = torch.Generator().manual_seed(3)
    matrix = torch.randn(4, 15, 7, generator=random).requires_grad_()
    ws = torch.randn(2, 4, 7, generator=random).requires_grad_()
    noise = torch.randn(2, 1, 3, 5, generator=random)
    images = torch.einsum("lpw,nlw->np", matrix, ws).view(2, 1, 3, 5)
    back = torch.einsum("lpw,np->nlw", matrix, noise.flatten(1)) / math.sqrt(15)
    lengths = back.square().sum(dim=2).mean(dim=1).sqrt()
    return matrix, ws, noise, images, lengths


def test_path_lengths_of_a_linear_generator_are_those_of_its_transpose(linear_generator):
    _, ws, noise, images, lengths = linear_generator
    torch.testing.assert_close(losses.path_lengths(images, ws, noise), lengths)


def test_path_length_penalty_is_taken_from_the_new_mean(linear_generator):
    matrix, ws, noise, images, lengths = linear_generator
    mean = torch.tensor(2.0)
    penalty, new_mean = losses.path_length_penalty(images, ws, mean, noise)
    expected_mean = 0.99 * 2.0 + 0.01 * lengths.mean()
    torch.testing.assert_close(new_mean, expected_mean.detach())
    assert not new_mean.requires_grad
    torch.testing.assert_close(penalty, (lengths - expected_mean).square())
    expected = torch.autograd.grad((lengths - expected_mean).square().sum(), matrix)
    torch.testing.assert_close(torch.autograd.grad(penalty.sum(), matrix), expected)


def test_path_length_decay_is_the_weight_of_the_batch(linear_generator):
    _, ws, noise, images, lengths = linear_generator
    _, new_mean = losses.path_length_penalty(images, ws, torch.tensor(2.0), noise, decay=0.25)
    assert new_mean.item() == pytest.approx(1.5 + 0.25 * lengths.mean().item())
