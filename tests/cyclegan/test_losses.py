import numpy as np
import torch

from sem2ct.cyclegan.losses import (
    consistency_loss,
    cycle_loss,
    discriminator_loss,
    grey_correlation,
    least_squares,
)


def two_rank_correlation() -> float:
    from sem2ct.runtime.distributed import share

    first, second = correlated()
    return float(grey_correlation(share(first), share(second)))


def correlated() -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(3)
    first = draw.normal(0.3, 1.0, (6, 1, 5, 5))
    second = 40 - 2 * first + draw.normal(0, 1.5, first.shape)
    return torch.from_numpy(first).float(), torch.from_numpy(second).float()


def test_least_squares_counts_each_scale_the_same():
    # Squares of the distance from 1: mean of (4, 0) is 2, of (1,) is 1; their mean is 1.5.
    logits = [torch.tensor([3.0, 1.0]), torch.tensor([2.0])]
    assert least_squares(logits, 1.0) == 1.5


def test_the_discriminator_wants_real_at_one_and_fake_at_zero():
    real, fake = [torch.tensor([0.5])], [torch.tensor([2.0])]
    assert discriminator_loss(real, fake) == 0.5 * 0.25 + 0.5 * 4.0
    assert discriminator_loss([torch.ones(3)], [torch.zeros(3)]) == 0


def test_the_cycle_loss_is_the_mean_absolute_difference():
    assert cycle_loss(torch.tensor([1.0, -1.0]), torch.tensor([0.5, -3.0])) == 1.25


def test_a_difference_below_the_noise_floor_costs_nothing():
    real = torch.zeros(1, 1, 1, 4)
    predicted = torch.tensor([[[[0.1, -0.2, 0.5, -0.4]]]], requires_grad=True)
    loss = consistency_loss(predicted, real, torch.tensor(0.25))
    torch.testing.assert_close(loss, torch.tensor((0.25 + 0.15) / 4))
    loss.backward()
    expected = torch.tensor([[[[0.0, 0.0, 0.25, -0.25]]]])
    torch.testing.assert_close(predicted.grad, expected)


def test_grey_correlation_is_pearsons_over_all_pixels():
    first, second = correlated()
    expected = np.corrcoef(first.numpy().ravel(), second.numpy().ravel())[0, 1]
    np.testing.assert_allclose(grey_correlation(first, second), expected, rtol=1e-6)
    assert expected < -0.5


def test_grey_correlation_of_a_constant_is_zero():
    assert grey_correlation(torch.ones(2, 1, 3, 3), torch.rand(2, 1, 3, 3)) == 0


def test_grey_correlation_over_two_ranks_is_that_of_the_whole_batch(two_ranks):
    whole = float(grey_correlation(*correlated()))
    np.testing.assert_allclose(two_ranks(two_rank_correlation), [whole, whole], rtol=1e-6)
