"""Tiles against whole slices, and the reach of networks against the sum of their kernels."""

import numpy as np
import pytest
import torch
from torch import nn

from sem2ct.cyclegan import apply, generators
from sem2ct.runtime.refusal import Refusal

ROBUST = {"network": "robust", "direction": "ct_to_sem", "scale": 4, "width": 8, "blocks": 2}
PAPER = {"network": "paper", "direction": "ct_to_sem", "scale": 4, "width": 8, "blocks": 1}


class Plain(nn.Module):
    """Convolutions of known reach, nearest upsampling, and the place in the scan added."""

    def __init__(self, kernels: tuple[int, ...], scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.convs = nn.ModuleList(nn.Conv2d(1, 1, k, padding=k // 2) for k in kernels)

    def forward(self, ct, noise_key=None, origin=None):
        for conv in self.convs:
            ct = torch.relu(conv(ct)) + 0.1 * conv(ct)
        z, y, x = (axis.view(-1, 1, 1, 1) for axis in origin)
        rows = torch.arange(ct.shape[2]).view(-1, 1) + y
        columns = torch.arange(ct.shape[3]) + x
        ct = ct + 0.01 * rows - 0.02 * columns + 0.3 * z + noise_key
        return ct.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def network(config, seed=1):
    torch.manual_seed(seed)
    return generators.build(config).eval()


def slice_of(height=37, width=52, seed=4):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def translated(generator, ct, **changed):
    settings = {"z": 7, "core_px": 16, "halo_px": 0, "noise_key": 3, "device": "cpu"}
    return apply.translate_slice(generator, ct, **(settings | changed))


@pytest.mark.parametrize(
    ("kernels", "reach"), [((3,), 1), ((3, 7), 4), ((7, 7, 5), 8), ((15, 15, 15), 21)]
)
def test_the_reach_is_the_sum_of_half_kernels(kernels, reach):
    assert apply.receptive_half_width(Plain(kernels, scale=2)) == reach


def test_a_weight_too_small_to_be_seen_still_counts():
    generator = Plain((5, 5), scale=2)
    with torch.no_grad():
        for conv in generator.convs:
            conv.weight.mul_(torch.full((5, 5), 1e-12).index_fill(1, torch.arange(1, 4), 1.0))
    assert apply.receptive_half_width(generator) == 4


def test_instance_norm_sees_the_whole_image_and_robust_does_not():
    assert apply.receptive_half_width(network(PAPER)) == "whole image"
    reach = apply.receptive_half_width(network(ROBUST))
    # Head 1, two blocks of two 3x3, two steps at most 1 and 1/2, tail 1/4: rounded up.
    assert reach == 7


def test_a_plain_network_is_tile_invariant_bit_for_bit():
    generator = Plain((3, 7), scale=4)
    whole = translated(generator, slice_of(), core_px=100)
    assert torch.equal(translated(generator, slice_of(), halo_px=4), whole)
    assert not torch.equal(translated(generator, slice_of(), halo_px=3), whole)


@pytest.mark.parametrize("scale", [4, 16])
def test_tiles_of_the_robust_network_make_the_whole_slice(scale):
    generator = network(ROBUST | {"scale": scale})
    halo = apply.receptive_half_width(generator)
    whole = translated(generator, slice_of(), core_px=100)
    tiled = translated(generator, slice_of(), halo_px=halo)
    # The last elements of a tensor go through scalar tanh and atanh: one unit in the last place.
    assert (tiled - whole).abs().max() < 2e-7
    assert (translated(generator, slice_of(), halo_px=halo - 1) - whole).abs().max() > 1e-5


def test_a_part_of_a_slice_is_cut_from_the_translated_slice():
    generator = network(ROBUST)
    halo = apply.receptive_half_width(generator)
    whole = translated(generator, slice_of(), halo_px=halo)
    part = translated(generator, slice_of(), halo_px=halo, region=(11, 20, 5, 30))
    assert part.shape == (9 * 4, 25 * 4)
    assert (part - whole[44:80, 20:120]).abs().max() < 2e-7


def test_the_noise_stays_where_it_is_when_the_scan_is_read_from_elsewhere():
    generator = network(ROBUST)
    halo = apply.receptive_half_width(generator)
    whole = translated(generator, slice_of(), halo_px=halo)
    cut = translated(generator, slice_of()[9:, 6:], halo_px=halo, origin=(9, 6))
    inner = (slice((9 + halo) * 4, None), slice((6 + halo) * 4, None))
    assert (cut[halo * 4 :, halo * 4 :] - whole[inner]).abs().max() < 2e-7
    other = translated(generator, slice_of(), halo_px=halo, z=8)
    assert (other - whole).abs().max() > 1e-3


def test_the_cores_cover_the_region_once_and_are_of_nearly_one_size():
    covered = np.zeros((40, 50), int)
    for y0, y1, x0, x1 in apply.cores((3, 40, 10, 45), core_px=16):
        covered[y0:y1, x0:x1] += 1
        assert 11 <= y1 - y0 <= 16
        assert 11 <= x1 - x0 <= 16
    assert covered[3:40, 10:45].all()
    assert covered.sum() == 37 * 35


def test_every_tile_reports_the_pixels_it_kept():
    told = []
    translated(Plain((3,), scale=2), slice_of(), on_tile=told.append)
    assert sum(told) == 37 * 52 * 4
    assert len(told) == 12


def test_the_seam_contrast_is_the_ratio_of_steps_counted_by_hand():
    # Two CT rows, eight columns, scale 2; one seam, before column 4, and none between the rows.
    columns = [90, 90, 10, 10, 10, 10, 13, 13, 24, 24, 22, 22, 21, 21, 99, 99]
    image = np.tile(np.array(columns, np.uint8), (4, 1))
    image[2:, 8:10] += 3
    inside = np.ones((2, 8), bool)
    steps = apply.seam_steps(image, inside, (5, 7, 0, 8), core_px=4, scale=2)
    # |24 - 13| in 2 rows, |27 - 13| in 2; beside them 0, 3, 2 and 1, and 0, 3, 5 and 1.
    # The steps to 90 and 99 are too far away.
    assert steps.tolist() == [50, 4, 30, 16]
    assert apply.seam_contrast(steps) == pytest.approx(12.5 / 1.875)
    inside[0, 4] = False  # one CT row loses the seam and the border before column 5
    steps = apply.seam_steps(image, inside, (5, 7, 0, 8), core_px=4, scale=2)
    assert steps.tolist() == [28, 2, 26, 14]
    assert apply.seam_contrast(np.array([0.0, 0, 5, 5])) is None


def test_instance_norm_leaves_seams_and_robust_none():
    ct = slice_of(72, 96)
    ct[:, :54] = ct[:, :54] * 0.2 - 0.7  # tiles that differ in mean and spread, no seam there
    contrasts = []
    for config, halo in ((PAPER, apply.PUBLISHED_HALO_PX), (ROBUST, 7)):
        total = np.zeros(4)
        for seed in range(3):
            image = translated(network(config, seed), ct, halo_px=halo, core_px=12)
            grey = ((image + 1) * 127.5).round().to(torch.uint8).numpy()
            inside = np.ones(ct.shape, bool)
            total += apply.seam_steps(grey, inside, (0, 72, 0, 96), core_px=12, scale=4)
        contrasts.append(apply.seam_contrast(total))
    assert contrasts[0] > 1.1
    assert contrasts[1] == pytest.approx(1, abs=0.06)


def test_the_averaged_translator_of_a_checkpoint_is_loaded(tmp_path):
    generator = network(ROBUST)
    bag = {
        "images_seen": 8,
        "trainer": {"ema": {"config": generator.config, "weights": generator.state_dict()}},
    }
    torch.save(bag, tmp_path / "000000008.pt")
    loaded = apply.load(tmp_path / "000000008.pt")
    assert not loaded.training
    assert torch.equal(translated(loaded, slice_of()), translated(generator, slice_of()))


def test_a_checkpoint_of_another_command_is_refused(tmp_path):
    bag = {"images_seen": 8, "trainer": {"ema": {"config": {"resolution": 64}, "weights": {}}}}
    torch.save(bag, tmp_path / "000000008.pt")
    with pytest.raises(Refusal, match="no CT-to-SEM translator; cyclegan= must name"):
        apply.load(tmp_path / "000000008.pt")
