"""Maps in phases against the maps themselves, and the norm over them against its formula."""

import pytest
import torch

from sem2ct.cyclegan.paper_networks import InstanceNorm
from sem2ct.cyclegan.phases import MirroredDoublingConv, merged


@pytest.mark.parametrize(("height", "width"), [(1, 3), (2, 2), (3, 7)])
def test_a_map_given_as_phases_is_doubled_like_the_map(height, width):
    torch.manual_seed(6)
    layer, phases = MirroredDoublingConv(3, 2), torch.randn(2, 12, height, width)
    fine = torch.empty(2, 3, 2 * height, 2 * width)
    for k in range(4):
        fine[:, :, k // 2 :: 2, k % 2 :: 2] = phases[:, 3 * k : 3 * k + 3]
    assert torch.equal(merged(phases), fine)
    torch.testing.assert_close(layer.of_phases(phases), layer(fine), atol=1e-5, rtol=0)


@pytest.mark.parametrize("phases", [1, 4])
@pytest.mark.parametrize("learning", [True, False])
def test_the_norm_overwrites_its_maps_only_where_no_gradient_needs_them(phases, learning):
    torch.manual_seed(7)
    maps = torch.randn(2, 12, 5, 6).contiguous(memory_format=torch.channels_last) * 3 + 7
    before = maps.clone()
    pixels = torch.cat(before.chunk(phases, 1), 3)
    mean = pixels.mean((2, 3), keepdim=True)
    variance = (pixels - mean).square().mean((2, 3), keepdim=True)
    expected = (pixels - mean) / (variance + 1e-5).sqrt()
    with torch.set_grad_enabled(learning):
        normed = InstanceNorm(phases=phases)(maps)
    assert torch.equal(maps, before) == learning
    normed = torch.cat(normed.chunk(phases, 1), 3)
    torch.testing.assert_close(normed, expected, atol=1e-5, rtol=0)
