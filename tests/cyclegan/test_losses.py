import numpy as np
import torch

from sem2ct.cyclegan.losses import (
    consistency_loss,
    cycle_loss,
    discriminator_loss,
    grey_correlation,
    least_squares,
    raster_loss,
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


def dots(scale: int, rows: int, columns: int) -> torch.Tensor:
    """A dot in each CT pixel; variance 1/s^2 - 1/s^4."""
    dot = torch.zeros(scale, scale)
    dot[1, 2] = 1.0
    return dot.repeat(rows, columns)[None, None]


def test_one_dot_in_each_ct_pixel_is_all_raster():
    pattern = dots(4, 6, 5)
    torch.testing.assert_close(raster_loss(pattern, 4), torch.tensor(1.0))
    torch.testing.assert_close(raster_loss(0.3 - 0.5 * pattern, 4), torch.tensor(1.0))
    # A tile that is all raster, and one that has none.
    torch.testing.assert_close(
        raster_loss(torch.cat([pattern, torch.zeros_like(pattern)]), 4), torch.tensor(0.5)
    )


def test_what_repeats_in_one_half_only_is_no_raster():
    pattern = dots(4, 6, 5)
    pattern[:, :, 12:] = 0
    assert raster_loss(pattern, 4).abs() < 1e-7
    # A network that could earn something with opposite halves would paint them.
    assert raster_loss(torch.cat([dots(4, 3, 5), -dots(4, 3, 5)], 2), 4) == 0


def test_chance_is_hardly_a_raster():
    noise = torch.randn(4000, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    # 16 products of means over 32 cells each: normal with spread sqrt(15)/16/32; half of it counts.
    expected = 15**0.5 / 16 / 32 / (2 * torch.pi) ** 0.5
    torch.testing.assert_close(raster_loss(noise, 4), torch.tensor(expected), rtol=0.1, atol=0)


def test_the_raster_of_a_nearly_flat_tile_counts_as_faint():
    pattern = 0.01 * dots(4, 6, 5)
    variance = 1e-4 * (1 / 16 - 1 / 256)
    torch.testing.assert_close(raster_loss(pattern, 4), torch.tensor(variance / 1e-3))


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
