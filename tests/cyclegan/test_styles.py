"""Translators that can be asked for a style."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sem2ct.cyclegan import apply, discriminators, generators, previews
from sem2ct.cyclegan.losses import grey_correlation
from sem2ct.cyclegan.robust_networks import STYLE_RATE, RobustCtToSem, StyleTable
from sem2ct.cyclegan.trainer import CycleganTrainer
from sem2ct.runtime.refusal import Refusal

SHAPE: dict[str, Any] = {"scale": 4, "width": 8, "blocks": 2}


def painter(styles: int, seed: int = 1) -> RobustCtToSem:
    torch.manual_seed(seed)
    return RobustCtToSem(**SHAPE, styles=styles)


def ct_patches(n: int = 3) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def filled(module: torch.nn.Module) -> None:
    """Gives every style table numbers, as training would."""
    draw = torch.Generator().manual_seed(9)
    for table in module.modules():
        if isinstance(table, StyleTable) and table.rows is not None:
            with torch.no_grad():
                table.rows.copy_(torch.randn(table.rows.shape, generator=draw) * 0.3 / STYLE_RATE)


def test_one_style_leaves_networks_and_their_checkpoints_as_they_were():
    # Counted by hand: skips 2, head 9 * 8 + 8, noise 8, two blocks, steps to 6 and 3 channels
    # with 4 phases and noise, tail.
    blocks = 2 * 2 * (8 * 8 * 9 + 8)
    steps = (8 * 24 * 9 + 24 + 6) + (6 * 16 * 9 + 16 + 4)
    plain = painter(1)
    count = sum(weights.numel() for weights in plain.parameters())
    assert count == 2 + 80 + 8 + blocks + steps + (4 * 9 + 1)
    assert plain.config == {"network": "robust", "direction": "ct_to_sem", **SHAPE}
    sem, _ = discriminators.pair(network="robust", scale=4, patch_px=16, width=4)
    named = {"network": "robust", "scale": 4, "patch_px": 16, "width": 4}
    same, _ = discriminators.pair(**named, styles=1)
    styled, _ = discriminators.pair(**named, styles=3)
    assert sem.state_dict().keys() == same.state_dict().keys()
    more = styled.state_dict().keys() - sem.state_dict().keys()
    assert more == {"fine.projection.rows", "coarse.projection.rows"}


def test_untrained_styles_all_paint_what_one_style_would():
    patches, key = ct_patches(), 5
    expected = painter(1)(patches, key)
    for style in (0, 2):
        painted = painter(3)(patches, key, None, torch.full((3,), style))
        torch.testing.assert_close(painted, expected)


def test_each_tile_gets_its_own_style_and_the_others_do_not_matter():
    network = painter(3)
    filled(network)
    patches = ct_patches(1).repeat(3, 1, 1, 1)
    here = (torch.zeros(3, dtype=torch.int64),) * 3
    painted = network(patches, 5, here, torch.tensor([2, 0, 1]))
    assert (painted[0] - painted[1]).abs().mean() > 0.01
    assert (painted[0] - painted[2]).abs().mean() > 0.01
    alone = network(patches[:1], 5, None, torch.tensor([2]))
    torch.testing.assert_close(alone[0], painted[0])
    # What all styles have in common is no style.
    with torch.no_grad():
        for table in network.modules():
            if isinstance(table, StyleTable) and table.rows is not None:
                table.rows += torch.randn(table.rows.shape[1]) / STYLE_RATE
    torch.testing.assert_close(network(patches[:1], 5, None, torch.tensor([2])), alone)


def test_where_no_style_is_named_the_network_paints_in_its_own():
    network = painter(3)
    filled(network)
    first = network(ct_patches(), 5)
    torch.testing.assert_close(first, network(ct_patches(), 5, None, torch.zeros(3).long()))
    network.style = 2
    second = network(ct_patches(), 5)
    torch.testing.assert_close(second, network(ct_patches(), 5, None, torch.full((3,), 2)))
    assert (second - first).abs().mean() > 0.01


def test_a_network_with_styles_is_built_again_from_its_description():
    network = painter(3)
    filled(network)
    other = generators.build(network.config)
    other.load_state_dict(network.state_dict())
    style = torch.tensor([1, 2, 0])
    torch.testing.assert_close(
        other(ct_patches(), 5, None, style), network(ct_patches(), 5, None, style)
    )


def test_a_style_adds_its_projection_of_the_last_maps_to_each_logit():
    torch.manual_seed(0)
    judge = discriminators.PatchDiscriminator(width=4, halvings=2, styles=3)
    filled(judge)
    images, style = torch.rand(3, 1, 16, 16), torch.tensor([2, 0, 2])
    maps = images
    for layer in judge.layers:
        maps = F.leaky_relu(layer(maps), 0.2)
    assert judge.projection.rows is not None
    rows = judge.projection.rows - judge.projection.rows.mean(0)
    expected = [judge(images)[n, 0] + STYLE_RATE * (rows[k] @ maps[n].flatten(1)).view(4, 4)
                for n, k in enumerate(style.tolist())]  # fmt: skip
    torch.testing.assert_close(judge(images, style)[:, 0], torch.stack(expected))


def test_a_translator_paints_only_in_styles_that_it_has_learned():
    network, bag = painter(3), {"styles": {"count": 3, "tiles": [5, 0, 7]}}
    assert apply.in_style(network, 2, bag) == {"style": 2}
    assert network.style == 2
    for style in (1, 3):
        with pytest.raises(Refusal, match=rf"style={style}, .*learned the styles \[0, 2\]"):
            apply.in_style(network, style, bag)
    plain = painter(1)
    assert apply.in_style(plain, 0, {}) == {}
    with pytest.raises(Refusal, match=r"style=1, .*one style only; set style=0"):
        apply.in_style(plain, 1, {})


def test_the_picture_of_styles_has_a_row_for_the_ct_and_for_each_style():
    network = painter(2)
    filled(network)
    picture = previews.in_styles(network, ct_patches(), styles=2)
    assert picture.shape == (3 * 34 - 2, 3 * 34 - 2)
    rows = [picture[34 * k : 34 * k + 32] for k in range(3)]
    assert (rows[1] != rows[2]).mean() > 0.5


SMALL: dict[str, Any] = {
    **{"network": "robust", "scale": 4, "patch_px": 4, "width": 8, "blocks": 1},
    **{"discriminator_width": 8, "batch_size": 8, "batch_per_device": 8, "history": 0},
    **{
        "cycle_weight": 1.0,
        "sem_cycle_weight": 0.0,
        "sem_cycle_interval": 1,
        "consistency_weight": 5.0,
        "raster_weight": 3.0,
        "even_phases": True,
        "seed": 3,
    },
    **{"constant_images": 10**6, "total_images": 10**6, "guard_images": 10**6},
    **{"learning_rate": 4e-3, "ema_half_life_images": 100, "precision": "float32"},
    "device": torch.device("cpu"),
}


def test_every_network_that_takes_a_style_is_told_that_of_its_tile():
    trainer = CycleganTrainer(**SMALL | {"styles": 3, "sem_cycle_weight": 1.0})
    told: dict[str, list[Tensor]] = {"painter": [], "judge": []}
    trainer.ct_to_sem.register_forward_pre_hook(lambda _, given: told["painter"].append(given[3]))
    trainer.judges["sem"].register_forward_pre_hook(lambda _, given: told["judge"].append(given[1]))
    style = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0])
    sem = tiles(style, 1)
    trainer.step({"ct": F.avg_pool2d(sem, 4), "sem": sem, "style": style}, 0)
    # CT -> SEM and SEM -> CT -> SEM; then fakes alone, and real and fakes together.
    assert [one.tolist() for one in told["painter"]] == [style.tolist()] * 2
    assert [one.tolist() for one in told["judge"]] == [style.tolist(), style.tolist() * 2]


def tiles(style: Tensor, seed: int) -> Tensor:
    """Tiles (n, 1, 16, 16) of smooth hills; in style 1 every pixel is rough besides."""
    draw = torch.Generator().manual_seed(seed)
    hills = torch.rand(len(style), 1, 4, 4, generator=draw) * 1.2 - 0.6
    rough = (torch.rand(len(style), 1, 16, 16, generator=draw) < 0.5) * 0.8 - 0.4
    hills = F.interpolate(hills, scale_factor=4, mode="bilinear")
    return hills + rough * (style == 1).view(-1, 1, 1, 1)


def roughness(images: Tensor) -> float:
    """Mean difference of neighbours along a row."""
    return float((images[..., 1:] - images[..., :-1]).abs().mean())


def test_a_translator_learns_two_styles_that_both_follow_the_ct():
    trainer = CycleganTrainer(**SMALL, styles=2)
    style = torch.arange(8) % 2
    for step in range(80):
        sem, ct = tiles(style, step), F.avg_pool2d(tiles(style, 1000 + step), 4)
        trainer.step({"ct": ct, "sem": sem, "style": style}, 8 * step)
    ct = F.avg_pool2d(tiles(torch.zeros(64), 5), 4)
    smooth, rough = (trainer.ema(ct, 7, None, torch.full((64,), k)).detach() for k in (0, 1))
    # The tiles have 0.06 and 0.43; untrained styles would paint alike.
    assert roughness(rough) > 1.5 * roughness(smooth)
    for painted in (smooth, rough):
        assert grey_correlation(ct, F.avg_pool2d(painted, 4)) > 0.7
