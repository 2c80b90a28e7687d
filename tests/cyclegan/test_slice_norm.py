"""Instance norm over whole slices, against the network run on the whole slice."""

import pytest
import torch
from torch.nn import functional

from sem2ct.cyclegan import apply, generators, slice_norm
from sem2ct.cyclegan.paper_networks import InstanceNorm
from sem2ct.runtime.refusal import Refusal

PAPER = {"network": "paper", "direction": "ct_to_sem", "scale": 4, "width": 8, "blocks": 1}


@pytest.fixture
def generator():
    torch.manual_seed(1)
    return generators.build(PAPER).eval()


@pytest.fixture
def ct():
    """Its left half is darker and flatter, so tiles differ in mean and spread."""
    grey = torch.rand(41, 60, generator=torch.Generator().manual_seed(4)) * 2 - 1
    grey[:, :30] = grey[:, :30] * 0.2 - 0.7
    return grey


def tiled(generator, ct, core_px, halo_px, **more):
    how = {"z": 0, "noise_key": 0, "device": "cpu", "core_px": core_px, "halo_px": halo_px}
    return apply.translate_slice(generator, ct, **how, **more)


def reach_of(generator):
    with slice_norm.frozen(slice_norm.neutral(generator)):
        return apply.receptive_half_width(generator)


def test_statistics_found_in_tiles_are_those_of_the_whole_slice(generator, ct):
    seen = {}
    for module in generator.modules():
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(lambda norm, maps, _: seen.update({norm: maps[0]}))
    generator(ct[None, None])
    expected = {}
    for norm, maps in seen.items():
        pixels = torch.cat(maps.chunk(norm.phases, 1), 3)[0].flatten(1)
        expected[norm] = pixels.mean(1), pixels.var(1, correction=0)
    cut = {"core_px": 16, "halo_px": reach_of(generator), "device": "cpu"}
    found = slice_norm.statistics(generator, ct, **cut)
    assert len(found) == len(expected) == 1 + 2 + 1 + 1
    for norm, (mean, variance) in expected.items():
        assert torch.allclose(found[norm][0], mean, atol=1e-5)
        assert torch.allclose(found[norm][1], variance, rtol=1e-4)


def test_tiles_with_frozen_statistics_are_the_slice_translated_in_one_piece(generator, ct):
    whole = generator(ct[None, None])[0, 0]
    reach = reach_of(generator)
    cut = {"core_px": 16, "halo_px": reach}
    found = slice_norm.statistics(generator, ct, device="cpu", **cut)
    with slice_norm.frozen(found):
        image = tiled(generator, ct, **cut)
        part = tiled(generator, ct, **cut, region=(11, 20, 5, 33))
        narrow = tiled(generator, ct, 16, reach - 1)
    assert (image - whole).abs().max() < 1e-4
    assert (part - whole[44:80, 20:132]).abs().max() < 1e-4
    assert (narrow - image).abs().max() > 1e-4
    assert (tiled(generator, ct, 16, reach) - whole).abs().max() > 0.05


def test_the_published_network_needs_a_halo_of_thirteen_pixels_and_the_reach_is_no_less(ct):
    torch.manual_seed(1)
    generator = generators.build(PAPER | {"scale": 16, "blocks": 3, "width": 16}).eval()
    # Head 1, three blocks of 2, coarse 7x7 3; 7x7 at 2, 4, 8 and 16 times the resolution:
    # 1 + 6 + 3 + 3/2 + 3/4 + 3/8 + 3/16 = 12.8.  A tap that is 0 counts for the reach.
    assert reach_of(generator) in (13, 14)
    found = slice_norm.statistics(generator, ct, core_px=41, halo_px=60, device="cpu")
    with slice_norm.frozen(found):
        wide, enough, narrow = (
            tiled(generator, ct, 20, halo, region=(15, 25, 20, 40)) for halo in (20, 13, 12)
        )
    assert (enough - wide).abs().max() < 1e-6
    assert (narrow - wide).abs().max() > 1e-4


def test_outside_the_block_the_network_is_as_before(generator, ct):
    before = generator(ct[None, None])
    with slice_norm.frozen(slice_norm.neutral(generator)):
        assert not torch.equal(generator(ct[None, None]), before)
    assert torch.equal(generator(ct[None, None]), before)
    maps = torch.rand(2, 3, 8, 9)
    assert torch.equal(InstanceNorm()(maps), functional.instance_norm(maps))


def test_a_network_without_norm_has_nothing_to_take_over_a_slice(ct):
    robust = {"network": "robust", "direction": "ct_to_sem", "scale": 4, "width": 8, "blocks": 1}
    with pytest.raises(Refusal, match="norm_over=slice, but the network of this translator has no"):
        slice_norm.neutral(generators.build(robust))
