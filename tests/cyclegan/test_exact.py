"""Tiles that agree in every bit, for networks and sizes where usual convolutions do not."""

import pytest
import torch

from sem2ct.cyclegan import apply, exact, generators
from sem2ct.runtime.refusal import Refusal

CPU = torch.device("cpu")
ROBUST = {"network": "robust", "direction": "ct_to_sem"}


def network(**config):
    torch.manual_seed(1)
    return generators.build(ROBUST | config).eval()


def slice_of(height, width):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(height)) * 2 - 1


def translated(generator, ct, core_px, halo_px):
    how = {"z": 7, "noise_key": 3, "device": "cpu", "core_px": core_px, "halo_px": halo_px}
    return apply.translate_slice(generator, ct, **how)


@pytest.mark.parametrize(
    ("config", "side", "core_px"),
    [
        ({"scale": 4, "width": 8, "blocks": 2}, (16, 25), 8),
        ({"scale": 4, "width": 8, "blocks": 2}, (45, 35), 23),
        ({"scale": 4, "width": 33, "blocks": 2}, (33, 25), 14),
        ({"scale": 16, "width": 24, "blocks": 1}, (16, 23), 12),
        ({"scale": 2, "width": 64, "blocks": 3}, (25, 31), 13),
    ],
)
def test_tiles_are_the_whole_slice_in_every_bit(config, side, core_px):
    generator = network(**config)
    usual = translated(generator, slice_of(*side), 100, 0)
    exact.make(generator, device=CPU)
    halo = apply.receptive_half_width(generator)
    whole = translated(generator, slice_of(*side), 100, 0)
    tiled = translated(generator, slice_of(*side), core_px, halo)
    assert torch.equal(tiled, whole)
    assert (whole - usual).abs().max() < 2e-6
    assert not torch.equal(translated(generator, slice_of(*side), core_px, 1), whole)


@pytest.mark.parametrize("scale", [2, 4, 16])
def test_the_enlarged_slice_is_the_interpolated_one(scale):
    generator, ct = network(scale=scale), slice_of(7, 9)[None, None]
    usual = generator.enlarge(ct)
    exact.make(generator, device=CPU)
    assert (generator.enlarge(ct) - usual).abs().max() < 1e-6


@pytest.mark.parametrize("kernel", [(3, 3), (5, 1)])
def test_the_sums_are_those_of_the_convolution(kernel):
    conv = torch.nn.Conv2d(5, 7, kernel, padding=(kernel[0] // 2, kernel[1] // 2)).double()
    maps = torch.randn(1, 5, 9, 11, dtype=torch.float64)
    assert torch.allclose(exact.convolved(conv, maps), conv(maps), atol=1e-12)


def test_a_network_with_instance_norm_and_a_gpu_are_refused():
    paper = generators.build({"network": "paper", "direction": "ct_to_sem", "scale": 4})
    with pytest.raises(Refusal, match="network=paper normalises each tile by itself"):
        exact.make(paper, device=CPU)
    with pytest.raises(Refusal, match="exact=true is for device=cpu, but this run is on cuda:0"):
        exact.make(network(scale=4), device=torch.device("cuda", 0))
