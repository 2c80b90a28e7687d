import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sem2ct.cyclegan import discriminators
from sem2ct.cyclegan.paper_networks import FineHead, PaperCtDiscriminator, PaperSemDiscriminator


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def seen_px(module: nn.Module, side: int) -> int:
    """Side of the square of pixels that one logit in the middle depends on."""
    images = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    (logits,) = module(images)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], images)
    rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
    return int(rows.max() - rows.min()) + 1


def test_the_papers_discriminators_have_the_published_number_of_parameters():
    assert parameters(PaperSemDiscriminator(scale=16, width=8)) == 534_913
    assert parameters(PaperCtDiscriminator(patch_px=64, width=8)) == 99_393


@pytest.mark.parametrize("patch_px", [8, 16, 64])
def test_the_papers_discriminators_give_one_scalar_per_image(patch_px: int):
    sem, ct = discriminators.pair(network="paper", scale=4, patch_px=patch_px, width=4)
    assert [logits.shape for logits in sem(torch.zeros(3, 1, 4 * patch_px, 4 * patch_px))] == [(3,)]
    assert [logits.shape for logits in ct(torch.zeros(3, 1, patch_px, patch_px))] == [(3,)]


@pytest.mark.parametrize("norm", [True, False])
def test_the_space_to_depth_head_equals_two_plain_convolutions(norm: bool):
    torch.manual_seed(0)
    head = FineHead(3, 5, leak=0.2, norm=norm).double()
    images = torch.randn(2, 1, 14, 20, dtype=torch.float64)
    maps = F.conv2d(images, head.first.weight, head.first.bias, padding=3)
    if norm:
        maps = F.instance_norm(maps)
    plain = head.second(F.leaky_relu(maps, 0.2))
    torch.testing.assert_close(head(images), plain, atol=1e-10, rtol=0)


def test_the_robust_discriminators_judge_every_place_at_two_scales():
    sem, ct = discriminators.pair(network="robust", scale=4, patch_px=16, width=4)
    shapes = [tuple(logits.shape) for logits in sem(torch.zeros(2, 1, 64, 64))]
    assert shapes == [(2, 1, 8, 8), (2, 1, 4, 4)]
    assert [tuple(logits.shape) for logits in ct(torch.zeros(2, 1, 16, 16))] == [(2, 1, 4, 4)]


def test_a_small_tile_is_judged_at_one_scale():
    sem, _ = discriminators.pair(network="robust", scale=4, patch_px=8, width=4)
    assert len(sem(torch.zeros(2, 1, 32, 32))) == 1


def test_the_ct_discriminator_sees_less_than_34_pixels():
    # 3x3, then 4x4 at stride 1 and 2, then 3x3 at stride 4: 1 + 2 + 3 + 6 + 8.
    assert seen_px(discriminators.CtDiscriminator(width=4), 64) == 20


def test_grey_level_reaches_the_robust_discriminators():
    torch.manual_seed(0)
    judge = discriminators.CtDiscriminator(width=8)
    images = torch.rand(1, 1, 16, 16)

    def answer(grey: Tensor) -> Tensor:
        return judge(grey)[0].mean()

    assert (answer(images) - answer(images + 0.5)).abs() > 1e-3


def test_an_unknown_network_is_named():
    with pytest.raises(ValueError, match="no network pix2pix"):
        discriminators.pair(network="pix2pix", scale=4, patch_px=16, width=4)
