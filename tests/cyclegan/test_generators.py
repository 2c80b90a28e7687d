import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sem2ct.cyclegan import generators
from sem2ct.cyclegan.paper_networks import PaperCtToSem, PaperSemToCt
from sem2ct.cyclegan.robust_networks import (
    EvenPhases,
    PlacedNoise,
    RobustCtToSem,
    RobustSemToCt,
)
from sem2ct.runtime.refusal import Refusal


def patches(n: int, side: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def plain_norm(maps: Tensor) -> Tensor:
    mean = maps.mean((2, 3), keepdim=True)
    variance = (maps - mean).square().mean((2, 3), keepdim=True)
    return (maps - mean) / (variance + 1e-5).sqrt()


def mirrored(maps: Tensor, by: int) -> Tensor:
    """Mirrors without repeating the edge, by indices."""
    for axis in (2, 3):
        length = maps.shape[axis]
        index = torch.arange(-by, length + by).abs()
        index = torch.minimum(index, 2 * (length - 1) - index)
        maps = maps.index_select(axis, index)
    return maps


def plain_conv(maps: Tensor, layer: nn.Conv2d, **options: int) -> Tensor:
    return F.conv2d(maps, layer.weight, layer.bias, **options)


def plain_trunk(network: PaperCtToSem | PaperSemToCt, maps: Tensor) -> Tensor:
    for block in network.blocks:
        inner = plain_norm(plain_conv(mirrored(maps, 1), block.first)).relu()
        maps = maps + plain_norm(plain_conv(mirrored(inner, 1), block.second))
    return maps


def plain_ct_to_sem(network: PaperCtToSem, ct: Tensor) -> Tensor:
    """As the paper's layers are ordered: convolution, nearest x2, norm, ReLU, four times."""
    maps = plain_norm(plain_conv(mirrored(ct, 1), network.head)).relu()
    maps = plain_trunk(network, maps)
    for layer in [network.coarse, *network.steps]:
        maps = plain_conv(maps, layer, padding=3)
        maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
        maps = plain_norm(maps).relu()
    return plain_conv(mirrored(maps, 3), network.tail).tanh()


def plain_sem_to_ct(network: PaperSemToCt, sem: Tensor) -> Tensor:
    maps = plain_norm(plain_conv(mirrored(sem, 3), network.head.first)).relu()
    maps = plain_norm(plain_conv(maps, network.head.second, padding=3, stride=2)).relu()
    for layer in network.steps:
        maps = plain_norm(plain_conv(maps, layer, padding=3, stride=2)).relu()
    return plain_conv(mirrored(plain_trunk(network, maps), 1), network.tail).tanh()


def gradients(module: nn.Module, loss: Tensor) -> list[Tensor]:
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss, learned))


def test_the_papers_translators_have_the_published_number_of_parameters():
    assert parameters(PaperCtToSem(scale=16)) == 1_420_417
    assert parameters(PaperSemToCt(scale=16)) == 1_420_417


@pytest.mark.parametrize(("scale", "side"), [(4, 6), (8, 5), (2, 7)])
def test_the_rewritten_way_to_sem_equals_the_plain_one(scale: int, side: int):
    torch.manual_seed(1)
    network = PaperCtToSem(scale=scale, width=16, blocks=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    network.double()
    ct = patches(2, side).double()
    weigh = torch.randn(2, 1, side * scale, side * scale).double()
    fast = network(ct)
    slow = plain_ct_to_sem(network, ct)
    torch.testing.assert_close(fast, slow.float(), atol=1e-5, rtol=0, check_dtype=False)
    for ours, plain in zip(
        gradients(network, (fast * weigh).sum()),
        gradients(network, (slow * weigh).sum()),
        strict=True,
    ):
        assert (ours - plain).norm() <= 1e-4 * plain.norm() + 1e-6


@pytest.mark.parametrize(("scale", "side"), [(2, 8), (4, 5)])
def test_the_rewritten_way_back_equals_the_plain_one(scale: int, side: int):
    torch.manual_seed(2)
    network = PaperSemToCt(scale=scale, width=16, blocks=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    network.double()
    sem = patches(2, side * scale).double()
    weigh = torch.randn(2, 1, side, side).double()
    fast = network(sem)
    slow = plain_sem_to_ct(network, sem)
    torch.testing.assert_close(fast, slow.float(), atol=1e-5, rtol=0, check_dtype=False)
    for ours, plain in zip(
        gradients(network, (fast * weigh).sum()),
        gradients(network, (slow * weigh).sum()),
        strict=True,
    ):
        assert (ours - plain).norm() <= 1e-4 * plain.norm() + 1e-6


class PublishedBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*published_pair(width), nn.ReLU(), *published_pair(width))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.conv_block(maps)


def published_pair(width: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)]


def published_ct_to_sem(width: int, blocks: int, doublings: int) -> nn.ModuleDict:
    """The layers that the authors' network prints, under the names of its state dictionary."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(1), nn.Conv2d(1, width, 3)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU()]
    layers += [PublishedBlock(width) for _ in range(blocks)]
    for step in range(doublings):
        wide, narrow = width >> step, width >> (step + 1)
        layers += [nn.Conv2d(wide, narrow, 7, padding=3), nn.Upsample(scale_factor=2)]
        layers += [nn.InstanceNorm2d(narrow), nn.ReLU()]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(width >> doublings, 1, 7), nn.Tanh()]
    return nn.ModuleDict({"model": nn.Sequential(*layers)})


def published_sem_to_ct(width: int, blocks: int, halvings: int) -> nn.ModuleDict:
    fine = width >> halvings
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(1, fine, 7)]
    layers += [nn.InstanceNorm2d(fine), nn.ReLU()]
    for step in range(halvings):
        layers += [nn.Conv2d(fine << step, fine << (step + 1), 7, padding=3, stride=2)]
        layers += [nn.InstanceNorm2d(fine << (step + 1)), nn.ReLU()]
    layers += [PublishedBlock(width) for _ in range(blocks)]
    layers += [nn.ReflectionPad2d(1), nn.Conv2d(width, 1, 3), nn.Tanh()]
    return nn.ModuleDict({"model": nn.Sequential(*layers)})


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_the_authors_give_the_authors_tile(prefix: str):
    torch.manual_seed(4)
    theirs = published_ct_to_sem(width=16, blocks=3, doublings=3)
    state = {prefix + name: values for name, values in theirs.state_dict().items()}
    ours = generators.ct_to_sem_from_state(state)
    assert ours.config == {**PaperCtToSem(scale=8, width=16, blocks=3).config}
    ct = patches(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(ours(ct), theirs["model"](ct), atol=1e-5, rtol=0)


def test_weights_of_the_authors_give_the_authors_patch():
    torch.manual_seed(4)
    theirs = published_sem_to_ct(width=16, blocks=2, halvings=2)
    ours = generators.sem_to_ct_from_state(theirs.state_dict())
    assert (ours.scale, ours.config["width"], ours.config["blocks"]) == (4, 16, 2)
    sem = patches(2, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(sem), theirs["model"](sem), atol=1e-5, rtol=0)


def test_a_state_of_something_else_is_refused_by_name():
    there = published_ct_to_sem(width=16, blocks=1, doublings=2).state_dict()
    back = published_sem_to_ct(width=16, blocks=1, halvings=2).state_dict()
    with pytest.raises(Refusal, match=r"'mapping.fc0.weight'"):
        generators.ct_to_sem_from_state({"mapping.fc0.weight": torch.zeros(2, 2)})
    with pytest.raises(Refusal, match=r"model\.1\.weight of the state dictionary is"):
        generators.ct_to_sem_from_state(back)
    with pytest.raises(Refusal, match=r"model\.1\.weight of the state dictionary is"):
        generators.sem_to_ct_from_state(there)
    del there["model.5.bias"]
    with pytest.raises(Refusal, match=r"model\.5\.bias of the state dictionary is nothing"):
        generators.ct_to_sem_from_state(there)
    with pytest.raises(Refusal, match="0 layers"):
        generators.ct_to_sem_from_state({})


def test_a_bias_that_a_norm_takes_away_does_nothing_and_is_not_learned():
    network = PaperCtToSem(scale=4, width=8, blocks=1)
    before = network(patches(1, 8))
    still = [name for name, p in network.named_parameters() if not p.requires_grad]
    with torch.no_grad():
        for name in still:
            network.get_parameter(name).add_(3.0)
    # Every convolution but the last: head, two in the block, one coarse, one step.
    assert len(still) == 5
    torch.testing.assert_close(network(patches(1, 8)), before, atol=1e-4, rtol=0)


@pytest.mark.parametrize("network", ["paper", "robust"])
@pytest.mark.parametrize("scale", [2, 4, 8, 16, 32])
def test_a_patch_becomes_a_tile_scale_times_as_wide_and_back(network: str, scale: int):
    ct_to_sem, sem_to_ct = generators.pair(network=network, scale=scale, width=8, blocks=1)
    with torch.no_grad():
        sem = ct_to_sem(patches(2, 8), 3)
        assert sem.shape == (2, 1, 8 * scale, 8 * scale)
        assert sem_to_ct(sem).shape == (2, 1, 8, 8)
    assert sem.abs().max() <= 1


@pytest.mark.parametrize("network", ["paper", "robust"])
def test_a_network_built_from_its_config_takes_the_weights_and_gives_the_same(network: str):
    for module, side in zip(
        generators.pair(network=network, scale=4, width=8, blocks=2), (6, 24), strict=True
    ):
        twin = generators.build(module.config)
        twin.load_state_dict(module.state_dict())
        assert torch.equal(twin(patches(1, side)), module(patches(1, side)))


@pytest.mark.parametrize("scale", [2, 4, 16])
def test_where_the_ct_is_flat_an_even_translation_is_flat_whatever_the_weights(scale: int):
    spreads = {}
    for even in (True, False):
        network = RobustCtToSem(scale=scale, width=8, blocks=1, even_phases=even)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=0.2)
        tile = network(torch.full((1, 1, 24, 24), 0.2)).detach()
        # 8 CT pixels from the edge no zero of the padding is seen.
        spreads[even] = float(tile[..., 8 * scale : -8 * scale, 8 * scale : -8 * scale].std())
    assert spreads[True] < 1e-5
    assert spreads[False] > 1e-3
    twin = generators.build(RobustCtToSem(scale=scale, width=8, even_phases=True).config)
    assert "steps.0.conv.parametrizations.weight.original" in twin.state_dict()


def test_even_phases_differ_in_all_but_the_mean_of_their_kernels():
    learned = torch.randn(8, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    made = EvenPhases()(learned)
    means = made.mean((2, 3)).view(2, 4, 5)
    torch.testing.assert_close(
        means, learned.mean((2, 3)).view(2, 4, 5).mean(1, keepdim=True).expand(2, 4, 5)
    )
    for array in (learned, made):
        array -= array.mean((2, 3), keepdim=True)
    torch.testing.assert_close(made, learned)
    biases = EvenPhases()(torch.tensor([1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 4.0]))
    assert biases.tolist() == [3.0] * 4 + [1.0] * 4


def test_an_unknown_network_is_named():
    with pytest.raises(ValueError, match="no network pix2pix"):
        generators.build({"network": "pix2pix", "direction": "ct_to_sem"})
    with pytest.raises(ValueError, match="scale=3"):
        generators.build({"network": "paper", "direction": "ct_to_sem", "scale": 3})


def test_before_training_the_answer_is_nearly_the_upsampled_ct():
    torch.manual_seed(0)
    ct = 0.7 * patches(4, 16)
    upsampled = F.interpolate(ct, scale_factor=4, mode="bilinear", align_corners=False)
    network = RobustCtToSem(scale=4, width=32, blocks=4)
    # 0.1 of a range of 1.4: a person would call the two pictures the same.
    assert (network(ct) - upsampled).abs().mean() < 0.1
    back = RobustSemToCt(scale=4)
    assert (back(upsampled) - F.avg_pool2d(upsampled, 4)).abs().mean() < 0.1


def test_calibration_is_a_linear_grey_map():
    network = RobustCtToSem(scale=2, width=8, blocks=1)
    with torch.no_grad():
        network.tail.weight.zero_()
        network.skip.gain.fill_(0.5)
        network.skip.bias.fill_(-0.2)
    flat = torch.full((1, 1, 4, 4), 0.6)
    torch.testing.assert_close(network(flat), torch.full((1, 1, 8, 8), 0.1))


@pytest.mark.parametrize(("scale", "blocks"), [(4, 1), (8, 2)])
def test_a_tile_with_enough_halo_equals_the_whole_slice(scale: int, blocks: int):
    torch.manual_seed(3)
    network = RobustCtToSem(scale=scale, width=8, blocks=blocks).eval()
    # By counting 3x3 layers: head, two per block, one per step (first at CT resolution), tail.
    reach = 1 + 2 * blocks + 1 + 1 + 1
    slice_ct = patches(1, 40, seed=4)
    top, left, core = 11, 13, 9

    def origin(y: int, x: int) -> tuple[Tensor, Tensor, Tensor]:
        return torch.tensor([7]), torch.tensor([y]), torch.tensor([x])

    with torch.no_grad():
        whole = network(slice_ct, 5, origin(100, 200))
        y, x, side = top - reach, left - reach, core + 2 * reach
        tile = network(slice_ct[..., y : y + side, x : x + side], 5, origin(100 + y, 200 + x))
    rows = slice(top * scale, (top + core) * scale)
    columns = slice(left * scale, (left + core) * scale)
    kept = slice(reach * scale, (reach + core) * scale)
    torch.testing.assert_close(
        tile[..., kept, kept], whole[..., rows, columns], atol=2e-6, rtol=1e-6
    )


def test_what_changes_far_away_is_not_seen():
    torch.manual_seed(3)
    network = RobustCtToSem(scale=4, width=8, blocks=1).eval()
    ct = patches(1, 24)
    other = ct.clone()
    other[0, 0, 12, 12] += 0.5
    with torch.no_grad():
        moved = (network(ct, 1) - network(other, 1)).abs()[0, 0] > 0
    rows = moved.any(1).nonzero().flatten()
    reach = 6
    assert rows.min() >= (12 - reach) * 4
    assert rows.max() < (13 + reach) * 4
    assert moved[48:52, 48:52].all()


def test_noise_belongs_to_the_place_and_the_key():
    torch.manual_seed(3)
    network = RobustCtToSem(scale=2, width=8, blocks=1).eval()
    ct = patches(1, 8).expand(2, -1, -1, -1)
    zeros = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        slices = network(ct, 1, (torch.tensor([0, 9]), zeros, zeros))
        again = network(ct, 1, (torch.tensor([9, 0]), zeros, zeros))
        other_key = network(ct, 2, (torch.tensor([0, 9]), zeros, zeros))
        silent = network(ct)
    assert torch.equal(slices, again.flip(0))
    assert not torch.allclose(slices[0], slices[1], atol=1e-4)
    assert not torch.allclose(slices, other_key, atol=1e-4)
    assert torch.equal(silent[0], silent[1])


def test_noise_changes_along_z_as_fast_as_within_a_plane():
    noise = PlacedNoise(1, 1, scale=8)  # pixels of this level are 4 SEM pixels wide
    with torch.no_grad():
        noise.weight.fill_(1.0)
    z = torch.arange(-9, 16)
    zeros = torch.zeros_like(z)
    with torch.no_grad():
        planes = noise(torch.zeros(len(z), 1, 100, 100), 3, (z, zeros, zeros)).flatten(1)
    correlation = planes @ planes.T / planes.shape[1]
    steps = (z[:, None] - z[None]).abs()
    # Same variance everywhere, no jump between neighbours, independent a pixel or two apart.
    assert (correlation.diagonal() - 1).abs().max() < 0.06
    assert correlation[steps == 1].min() > 0.85
    assert correlation[steps >= 8].abs().max() < 0.05
    # Half way between two planes both count alike: cos 45 degrees.
    assert correlation[9, 11] == pytest.approx(2**-0.5, abs=0.05)


def test_the_finest_noise_is_independent_from_slice_to_slice():
    noise = PlacedNoise(1, 3, scale=8)
    z = torch.tensor([4, 5])
    with torch.no_grad():
        planes = noise(torch.zeros(2, 1, 64, 64), 3, (z, z * 0, z * 0)).flatten(1)
    assert abs(torch.corrcoef(planes)[0, 1]) < 0.06


def test_grey_level_is_seen_by_robust_and_not_by_paper():
    torch.manual_seed(5)
    dark, bright = 0.1 * patches(1, 16) - 0.5, 0.1 * patches(1, 16) + 0.5
    paper = PaperCtToSem(scale=4, width=16)
    robust = RobustCtToSem(scale=4, width=16, blocks=2)
    with torch.no_grad():
        assert (robust(bright) - robust(dark)).mean() > 0.8
        # Zero padding is all that can tell the two apart in paper.
        assert (paper(bright) - paper(dark)).mean().abs() < 0.05
