import numpy as np
import torch
from scipy import ndimage

from sem2ct.cyclegan.degrade import (
    Degradation,
    blur_and_average,
    matched_greys,
    noise_spread,
    soft_counts,
)
from sem2ct.runtime.distributed import share

CPU = torch.device("cpu")


def images() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    ct = torch.rand(8, 1, 6, 6, generator=draw) - 0.5
    return ct, torch.rand(8, 1, 24, 24, generator=draw) * 1.8 - 0.9


def learned_by_one_rank() -> dict[str, torch.Tensor]:
    one = Degradation(scale=4, patch_px=6, half_life_images=16, device=CPU)
    for _ in range(2):
        ct, sem = images()
        one.observe(share(ct), share(sem))
    return one.state()


def test_blur_and_average_is_a_gaussian_filter_and_area_means():
    tile = np.random.default_rng(1).normal(size=(64, 64))
    # Each SEM pixel stands for a square; sampled on a four times finer grid.
    fine = ndimage.gaussian_filter(np.kron(tile, np.ones((4, 4))), 0.5 * 8 * 4, truncate=6)
    expected = fine.reshape(8, 32, 8, 32).mean((1, 3))
    rows = blur_and_average(8, 8).double().numpy()
    inner = slice(2, -2)
    np.testing.assert_allclose(
        (rows @ tile @ rows.T)[inner, inner], expected[inner, inner], atol=0.01 * expected.std()
    )


def test_a_flat_tile_stays_flat_to_its_edges():
    torch.testing.assert_close(blur_and_average(5, 4).sum(1), torch.ones(5))


def test_soft_counts_share_a_value_between_its_neighbours():
    # 129.25 of 256 levels: three quarters on 129, one quarter on 130.
    counts = soft_counts(torch.tensor([129.25 / 128 - 1, -1.0, 1.0, 5.0]))
    assert counts[129] == 0.75
    assert counts[130] == 0.25
    assert counts[0] == 1
    assert counts[256] == 2
    assert counts.sum() == 4


def test_noise_spread_is_that_of_white_noise_on_a_ramp():
    draw = torch.Generator().manual_seed(2)
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    ramp = (0.003 * y - 0.002 * x).expand(2, 1, -1, -1)
    noisy = ramp + 0.07 * torch.randn(2, 1, 200, 200, generator=draw)
    torch.testing.assert_close(noise_spread(noisy), torch.full((2,), 0.07), rtol=0.05, atol=0)
    assert noise_spread(ramp).max() < 1e-5


def test_matched_greys_recover_a_monotone_map():
    greys = torch.rand(200_000, generator=torch.Generator().manual_seed(3)) * 1.6 - 0.8

    def bent(grey: torch.Tensor) -> torch.Tensor:
        return 0.5 * grey + 0.25 * grey**3 - 0.1

    table = matched_greys(soft_counts(greys), soft_counts(bent(greys)))
    levels = torch.linspace(-1, 1, 257)
    inner = levels.abs() < 0.78
    torch.testing.assert_close(table[inner], bent(levels)[inner], atol=0.01, rtol=0)
    assert (table[1:] > table[:-1]).all()


def test_the_map_rises_everywhere_even_between_two_peaks():
    two_greys = torch.tensor([-0.5] * 70 + [0.4] * 30)
    table = matched_greys(soft_counts(two_greys), soft_counts(-two_greys))
    slopes = (table[1:] - table[:-1]) * 128
    assert slopes.min() >= 0.2 - 1e-4
    assert slopes.max() <= 5 + 1e-4


def test_unpaired_images_teach_the_grey_map():
    degradation = Degradation(scale=4, patch_px=16, half_life_images=1e6, device=CPU)
    draw = torch.Generator().manual_seed(4)

    def tiles() -> torch.Tensor:
        coarse = torch.rand(64, 1, 16, 16, generator=draw) * 1.6 - 0.8
        return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)

    ct = 0.5 * degradation.averaged(tiles()) + 0.3
    degradation.observe(ct, tiles())
    fresh = tiles()
    expected = 0.5 * degradation.averaged(fresh) + 0.3
    assert (degradation(fresh) - expected).abs().mean() < 0.01


def test_linear_gives_equal_mean_and_spread():
    degradation = Degradation(scale=4, patch_px=6, half_life_images=1e6, device=CPU)
    ct, sem = images()
    degradation.observe(ct, sem)
    gain, bias = degradation.linear()
    averaged = degradation.averaged(sem)
    np.testing.assert_allclose(gain * ct.mean() + bias, averaged.mean(), atol=1e-3)
    np.testing.assert_allclose(gain * ct.std(correction=0), averaged.std(correction=0), rtol=0.02)


def test_the_gradient_is_that_of_finite_differences():
    degradation = Degradation(scale=4, patch_px=6, half_life_images=1e6, device=CPU)
    ct, sem = images()
    degradation.observe(ct, sem)
    tile = (0.5 * sem[:1]).requires_grad_()
    degradation(tile).square().sum().backward()
    direction = torch.randn(tile.shape, generator=torch.Generator().manual_seed(5))
    step = 1e-2
    with torch.no_grad():
        ends = [degradation(tile + s * step * direction).square().sum() for s in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close((tile.grad * direction).sum(), expected, rtol=0.1, atol=0.02)


def test_old_images_fade_with_their_half_life():
    degradation = Degradation(scale=4, patch_px=6, half_life_images=8, device=CPU)
    ct, sem = images()
    degradation.observe(ct, sem)
    degradation.observe(ct, sem)
    np.testing.assert_allclose(degradation.counts[1].sum().item(), 1.5 * ct.numel())


def test_two_ranks_learn_what_one_process_learns(two_ranks):
    expected = learned_by_one_rank()
    for state in two_ranks(learned_by_one_rank):
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6)
