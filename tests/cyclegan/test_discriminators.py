import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sem2ct.cyclegan import discriminators
from sem2ct.cyclegan.paper_networks import FineHead, PaperCtDiscriminator, PaperSemDiscriminator
from sem2ct.cyclegan.phases import FirstConv


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


def published_judge(module: PaperSemDiscriminator | PaperCtDiscriminator, kernel: int) -> nn.Module:
    """The layers that the authors' discriminators print, with the weights of ours."""
    stride = 2 if kernel == 7 else 1
    convs = [module.head, *module.steps]
    layers: list[nn.Module] = []
    for number, ours in enumerate(convs):
        out, channels = ours.weight.shape[:2]
        step = stride if number == 0 else 2 if number < 4 else 1
        conv = nn.Conv2d(channels, out, kernel, stride=step, padding=kernel // 2)
        layers += [conv, nn.InstanceNorm2d(out) if number else nn.Identity(), nn.LeakyReLU(0.2)]
        conv.load_state_dict({"weight": ours.weight, "bias": ours.bias})
    layers.append(nn.Conv2d(module.tail.in_channels, 1, 3, padding=1))
    layers[-1].load_state_dict(module.tail.state_dict())
    return nn.Sequential(*layers).double()


def test_the_papers_judge_of_sem_tiles_is_the_published_one():
    torch.manual_seed(0)
    judge = PaperSemDiscriminator(scale=16, width=2)
    # Layers 1 to 4 at stride 2, the fifth at stride 1.
    assert [layer.stride for layer in judge.steps] == [(2, 2), (2, 2), (2, 2), (1, 1)]
    images = torch.randn(2, 1, 128, 96, dtype=torch.float64)
    theirs = published_judge(judge, 7)(images).mean((1, 2, 3))
    (ours,) = judge.double()(images)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0, check_dtype=False)


def test_the_papers_judge_of_ct_patches_is_the_published_one():
    torch.manual_seed(0)
    judge = PaperCtDiscriminator(patch_px=64, width=2)
    assert [layer.stride for layer in judge.steps] == [(2, 2), (2, 2), (2, 2), (1, 1)]
    images = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    theirs = published_judge(judge, 3)(images).mean((1, 2, 3))
    (ours,) = judge.double()(images)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0, check_dtype=False)


def test_the_space_to_depth_head_equals_two_plain_convolutions():
    torch.manual_seed(0)
    head = FineHead(3, 5).double()
    images = torch.randn(2, 1, 14, 20, dtype=torch.float64)
    maps = F.conv2d(F.pad(images, (3, 3, 3, 3), mode="reflect"), head.first.weight, head.first.bias)
    maps = F.relu(F.instance_norm(maps))
    second = head.second
    plain = F.conv2d(maps, second.weight, second.bias, padding=3, stride=2)
    torch.testing.assert_close(head(images), plain, atol=1e-10, rtol=0)


@pytest.mark.parametrize("sides", [(12, 20), (10, 9), (7, 6)])
def test_the_first_layer_on_four_phases_is_the_plain_convolution(sides: tuple[int, int]):
    torch.manual_seed(0)
    layer = FirstConv(3).double()
    images = torch.randn(2, 1, *sides, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(images, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(images), plain, atol=1e-12, rtol=0)
    weights = torch.randn_like(plain)
    wanted = [images, layer.weight, layer.bias]
    ours = torch.autograd.grad((layer(images) * weights).sum(), wanted)
    theirs = torch.autograd.grad((plain * weights).sum(), wanted)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


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
