import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from skimage.filters import threshold_otsu
from torch import Tensor, nn

from sem2ct.cyclegan import monitors


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Averaging(nn.Module):
    """An honest way back: the mean over each CT pixel."""

    def forward(self, sem: Tensor) -> Tensor:
        return F.avg_pool2d(sem, 4)


class Reading(nn.Module):
    """A cheating way back: it reads what lies below the last grey level."""

    def forward(self, sem: Tensor) -> Tensor:
        level = (sem[:, :, ::4, ::4] + 1) * 127.5
        return (level - level.round()) * 4


def test_a_cycle_that_hides_the_ct_below_the_last_grey_level_is_found_out():
    ct = random(3, 1, 8, 8)
    hidden = torch.zeros(3, 1, 32, 32)
    # The sum 127 + ct / 4 rounds to 127: everything about the CT is in the rest.
    hidden[:, :, ::4, ::4] = (127 + ct / 4) / 127.5 - 1
    clean = (Reading()(hidden) - ct).abs().mean()
    found = monitors.disturbed_cycles(
        Reading(), ct, hidden, noise_key=1, numbers=torch.tensor([5, 6, 7])
    )
    assert clean < 1e-3
    torch.testing.assert_close(found["disturbed_by_rounding"], ct.abs().mean(), atol=1e-3, rtol=0)
    for disturbed in found.values():
        assert monitors.hidden_information(clean, disturbed) > 100


def test_an_honest_cycle_hardly_minds_noise_and_rounding():
    sem = 0.8 * random(3, 1, 32, 32)
    ct = F.avg_pool2d(sem, 4) + 0.1
    found = monitors.disturbed_cycles(
        Averaging(), ct, sem, noise_key=1, numbers=torch.tensor([5, 6, 7])
    )
    clean = (F.avg_pool2d(sem, 4) - ct).abs().mean()
    for disturbed in found.values():
        # Noise of 2 levels averaged over 16 pixels is half a level, on an error of 13 levels.
        assert monitors.hidden_information(clean, disturbed) == pytest.approx(1, abs=0.03)


def test_the_noise_belongs_to_the_image_and_not_to_its_place_in_the_batch():
    ct, sem = random(2, 1, 4, 4), random(2, 1, 16, 16, seed=1)

    def error(order: list[int]) -> Tensor:
        numbers = torch.tensor([3, 9])[order]
        return monitors.disturbed_cycles(
            Averaging(), ct[order], sem[order], noise_key=1, numbers=numbers
        )["disturbed_by_noise"]

    torch.testing.assert_close(error([0, 1]), error([1, 0]), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, -1.0)])
def test_porosity_transfer_tells_darker_from_brighter(sign: int, expected: float):
    share = torch.tensor([0.1, 0.3, 0.4, 0.8])
    ct = (-sign * share).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    places = torch.linspace(0, 1, 1000)[:, None].expand(1000, 1)
    tiles = torch.stack([torch.where(places < part, -0.7, 0.5) for part in share])[:, None]
    real = torch.cat([torch.full((1, 1, 10, 10), -0.7), torch.full((1, 1, 10, 10), 0.5)])
    found = monitors.porosity_transfer(ct, tiles, real)
    assert found == pytest.approx(expected, abs=1e-4)


def test_porosity_that_does_not_follow_the_ct_gives_none():
    tiles = torch.full((4, 1, 8, 8), -0.9)
    assert monitors.porosity_transfer(random(4, 1, 2, 2), tiles, random(4, 1, 8, 8)) == 0


def test_the_threshold_is_otsus():
    drawn = np.random.default_rng(0)
    levels = np.concatenate([drawn.normal(60, 15, 4000), drawn.normal(170, 25, 9000)])
    levels = levels.round().clip(0, 255)
    ours = (monitors.otsu(torch.from_numpy(levels / 127.5 - 1)) + 1) * 127.5
    # skimage gives the last level of the dark class; ours lies between it and the next.
    assert float(ours) == pytest.approx(threshold_otsu(levels.astype(np.uint8)) + 0.5, abs=1.01)


def test_right_answers_are_counted_on_both_sides_and_all_scales():
    real = [torch.tensor([0.9, 0.1]), torch.tensor([[0.6, 0.7], [0.8, 0.9]])]
    fake = [torch.tensor([0.2, 0.4]), torch.tensor([[0.4, 0.6], [0.7, 0.8]])]
    # 1/2 and 1 of the real ones, 1 and 1/4 of the fakes.
    assert monitors.judged_right(real, fake) == pytest.approx((0.5 + 1 + 1 + 0.25) / 4)


def test_the_correlation_is_that_of_averaged_greys():
    sem = random(2, 1, 16, 16)
    ct = F.avg_pool2d(sem, 4)
    assert monitors.correlation(ct, sem) == pytest.approx(1, abs=1e-5)
    assert monitors.correlation(-3 * ct, sem) == pytest.approx(-1, abs=1e-5)


def test_a_pattern_that_repeats_in_every_ct_pixel_is_its_share_of_the_variance():
    ct = random(2, 1, 24, 32)
    dot = torch.zeros(4, 4)
    dot[1, 2] = 1.0  # variance 1/16 - 1/256
    pattern = dot.repeat(24, 32).expand(2, 1, 96, 128)
    assert monitors.raster(ct, pattern).item() == pytest.approx(1)
    noise = random(2, 1, 96, 128, seed=1)  # variance 1/3
    share = (15 / 256) / (15 / 256 + 1 / 3)
    assert monitors.raster(ct, pattern + noise).item() == pytest.approx(share, rel=0.02)
    # 2 * 24 * 32 cells: independent pixels have 1/1536 of their variance left in the mean.
    assert monitors.raster(ct, noise).item() == pytest.approx(1 / 1536, rel=0.6)
    enlarged = F.interpolate(ct, scale_factor=4, mode="nearest")
    assert monitors.raster(ct, enlarged).item() < 1e-6
