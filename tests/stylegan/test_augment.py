"""Executing a draw, and the controller of the strength."""

import numpy as np
import pytest
import torch

from sem2ct.runtime import distributed, seeding
from sem2ct.stylegan import augment, augment_geometry, losses
from sem2ct.stylegan.augment_draws import DiffDraw, Draw, draw
from sem2ct.stylegan.augment_pipes import PIPES
from sem2ct.stylegan.trainer import StyleganTrainer

KEY = 77


def images(count, side, seed=0):
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def identities(count):
    return Draw(
        inverse=torch.eye(3, dtype=torch.float64).repeat(count, 1, 1),
        grey=torch.eye(2, dtype=torch.float64).repeat(count, 1, 1),
        gains=torch.ones(count, 4, dtype=torch.float64),
        noise_sd=torch.zeros(count, dtype=torch.float64),
        squares=torch.zeros(count, 3, dtype=torch.float64),
        number=torch.arange(40, 40 + count),
        noise_key=KEY,
    )


def drawn(name, *, strength=0.8, count=4, side_px=16):
    return draw(
        PIPES[name],
        strength=strength,
        seed=3,
        phase="fake",
        first=8,
        count=count,
        side_px=side_px,
    )


def test_where_nothing_happens_nothing_is_done():
    batch = images(3, 8)
    assert augment.apply(batch, identities(3)) is batch


def test_only_images_that_move_are_resampled():
    batch, changes = images(4, 16), identities(4)
    changes.inverse[2, 0, 2] = 2.5
    result = augment.apply(batch, changes)
    assert torch.equal(result[[0, 1, 3]], batch[[0, 1, 3]])
    torch.testing.assert_close(
        result[2:3], augment_geometry.warp(batch[2:3], changes.inverse[2:3]), atol=1e-5, rtol=0
    )


def test_images_that_move_by_whole_pixels_are_copied_exactly(monkeypatch):
    monkeypatch.setattr(augment, "warp", None)
    batch, changes = images(4, 16), identities(4)
    changes.inverse[2, 0, 2] = 3.0
    changes.inverse[3, 0, 0] = -1.0
    result = augment.apply(batch, changes)
    assert torch.equal(result[:2], batch[:2])
    assert torch.equal(result[2, :, :, :13], batch[2, :, :, 3:])
    assert torch.equal(result[3], batch[3].flip(2))


def test_resampling_what_does_not_move_would_give_it_back():
    batch, changes = images(4, 16), identities(4)
    changes.inverse[2] = torch.tensor([[0.9, 0.2, 1], [-0.3, 1.1, 0.5], [0, 0, 1]])
    every = augment_geometry.warp(batch, changes.inverse)
    torch.testing.assert_close(augment.apply(batch, changes), every, atol=5e-6, rtol=0)


def test_grey_values_go_through_their_matrix():
    batch, changes = images(2, 8), identities(2)
    changes.grey[1] = torch.tensor([[1.5, -0.25], [0.0, 1.0]])
    result = augment.apply(batch, changes)
    assert torch.equal(result[0], batch[0])
    torch.testing.assert_close(result[1], 1.5 * batch[1] - 0.25)


def test_only_images_with_other_gains_are_filtered():
    batch, changes = images(3, 16), identities(3)
    changes.gains[1] = torch.tensor([2.0, 2.0, 2.0, 2.0])
    result = augment.apply(batch, changes)
    assert torch.equal(result[[0, 2]], batch[[0, 2]])
    torch.testing.assert_close(result[1], 4 * batch[1])


def test_the_noise_of_a_pixel_is_a_hash_of_image_and_place():
    batch, changes = images(3, 8), identities(3)
    changes.noise_sd[2] = 0.3
    result = augment.apply(batch, changes)
    assert torch.equal(result[:2], batch[:2])
    noise = seeding.hashed_normal(KEY, torch.tensor([[42]]), torch.arange(64)[None])
    torch.testing.assert_close(result[2], batch[2] + 0.3 * noise.view(1, 8, 8))


def test_the_order_is_geometry_grey_filter_noise_cutout():
    changes = identities(1)
    changes.grey[0] = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    changes.gains[0] = 2.0
    changes.noise_sd[0] = 0.1
    changes.squares[0] = torch.tensor([0.25, 0.5, 0.5])
    result = augment.apply(torch.zeros(1, 1, 32, 32), changes)[0, 0]
    # Cutout after noise: nothing is left; grey before filter, noise after: 0.5 * 4, sd 0.1.
    assert not result[8:24, :16].any()
    rest = result[:, 16:]
    assert rest.mean().item() == pytest.approx(2.0, abs=0.02)
    assert rest.std().item() == pytest.approx(0.1, rel=0.15)


def test_what_moves_in_from_outside_is_brightened_too():
    # Beyond the mirrored image there is grey 0, and brightness is added to it.
    changes = identities(1)
    changes.inverse[0, 0, 2] = 100.0
    changes.grey[0] = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    result = augment.apply(torch.ones(1, 1, 16, 16), changes)
    assert (result == 0.5).all()


def test_diffaugment_is_its_published_formula():
    batch = images(2, 8)
    changes = DiffDraw(
        brightness=torch.tensor([0.3, -0.2], dtype=torch.float64),
        contrast=torch.tensor([1.4, 0.6], dtype=torch.float64),
        pixels=torch.tensor([[1, -2], [0, 1]]),
        squares=torch.tensor([[0.25, 0.5, 0.5], [1.0, 1.0, 0.5]], dtype=torch.float64),
    )
    expected = np.zeros((2, 8, 8))
    for n, image in enumerate(batch[:, 0].numpy()):
        grey = image + changes.brightness[n].item()
        grey = (grey - grey.mean()) * changes.contrast[n].item() + grey.mean()
        x, y = changes.pixels[n].tolist()
        for row, column in np.ndindex(8, 8):
            if 0 <= row - y < 8 and 0 <= column - x < 8:
                expected[n, row, column] = grey[row - y, column - x]
    expected[0, 2:6, 0:4] = 0
    expected[1, 6:8, 6:8] = 0
    assert augment.apply(batch, changes)[:, 0].numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["sem", "bgcfnc", "diffaugment"])
def test_the_gradient_penalty_passes_through_it(name):
    batch = images(4, 16).requires_grad_()
    weight = torch.tensor(0.7, requires_grad=True)
    penalty = losses.gradient_penalty(
        batch, weight * augment.apply(batch, drawn(name)).square().sum(dim=(1, 2, 3))
    )
    (slope,) = torch.autograd.grad(penalty.sum(), weight)
    # The penalty is a square in the weight.
    assert slope.item() == pytest.approx(2 * penalty.sum().item() / 0.7, rel=1e-4)


@pytest.mark.parametrize("name", ["bgcfnc", "diffaugment"])
def test_it_is_differentiable_twice(name):
    batch, changes = images(2, 5).double().requires_grad_(), drawn(name, count=2, side_px=5)

    def squared(values):
        return augment.apply(values, changes).square()

    assert torch.autograd.gradcheck(squared, batch)
    assert torch.autograd.gradgradcheck(squared, batch)


@pytest.mark.parametrize("name", ["bgcfnc", "diffaugment"])
def test_under_autocast_it_stays_float32(name):
    batch, changes = images(4, 8), drawn(name, side_px=8)
    plain = augment.apply(batch, changes)
    assert plain.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment.apply(batch, changes), plain)


def test_half_precision_images_become_float32():
    batch, changes = images(4, 8).bfloat16(), drawn("bgcfnc", side_px=8)
    torch.testing.assert_close(augment.apply(batch, changes), augment.apply(batch.float(), changes))


@pytest.mark.parametrize("name", ["bgcfnc", "diffaugment"])
def test_a_part_of_a_batch_changes_as_in_the_whole(name):
    batch, changes = images(12, 16), drawn(name, count=12)
    whole = augment.apply(batch, changes)
    for k in range(3):
        part = augment.apply(batch[k::3], changes.part(k, 3))
        torch.testing.assert_close(part, whole[k::3], atol=5e-5, rtol=0)


def changed_on_this_rank(name):
    batch, changes = images(8, 16), drawn(name, count=8)
    return augment.apply(distributed.share(batch), changes.share()).numpy()


@pytest.mark.parametrize("name", ["bgcfnc", "diffaugment"])
def test_processes_change_their_images_as_one_would(two_ranks, name):
    whole = augment.apply(images(8, 16), drawn(name, count=8)).numpy()
    for rank, share in enumerate(two_ranks(changed_on_this_rank, name)):
        assert share == pytest.approx(whole[rank::2], abs=5e-5)


def trainer(**options):
    given = {
        "resolution": 16,
        "z_dim": 4,
        "w_dim": 4,
        "mapping_layers": 1,
        "channel_base": 64,
        "channel_max": 4,
        "batch_size": 8,
        "batch_per_device": 8,
        "learning_rate": 0.002,
        "ema_half_life_images": 50,
        "ema_ramp": 0.0,
        "r1_gamma": 1.0,
        "r1_interval": 1,
        "path_length_weight": 0.0,
        "path_length_interval": 1,
        "style_mixing": 0.0,
        "augment": "bgcfnc",
        "augment_target": 0.6,
        "augment_ramp_images": 64,
        "precision": "float32",
        "seed": 5,
        "device": torch.device("cpu"),
    }
    return StyleganTrainer(**(given | options))


def strong(**options):
    """A trainer whose controller stands at p = 0.7."""
    made = trainer(**options)
    state = made.state()
    state["strength"]["value"] = 0.7
    made.restore(state)
    return made


def r1(model):
    return model.step({"sem": images(8, 16)}, 0)["r1"].item()


def test_a_trainer_uses_the_pipe_and_its_strengths():
    nothing = dict.fromkeys(("x_flip", "rotate_90", "scale"), 0.0)
    values = {
        "none": r1(strong(augment="none")),
        "sem": r1(strong(augment="sem")),
        "sem without three": r1(strong(augment="sem", augment_strengths=nothing)),
        "bgcfnc": r1(strong()),
        "diffaugment": r1(strong(augment="diffaugment")),
    }
    assert len(set(values.values())) == len(values), values


def test_a_trainer_with_every_change_goes_on_bit_for_bit():
    def trained(model, steps):
        return [
            {name: value.item() for name, value in values.items()}
            for step in steps
            for values in [model.step({"sem": images(8, 16, seed=step)}, step * 8)]
        ]

    straight, stopped, resumed = strong(), strong(), trainer()
    expected = trained(straight, range(4))
    trained(stopped, range(2))
    resumed.restore(stopped.state())
    assert trained(resumed, range(2, 4)) == expected[2:]


def test_diffaugment_has_no_controller():
    values = trainer(augment="diffaugment").step({"sem": images(8, 16)}, 0)
    assert "augment" not in values


def controller(**options):
    return augment.Strength(target=0.6, ramp_images=1000, device=torch.device("cpu"), **options)


def test_the_strength_rises_while_the_discriminator_is_too_sure():
    strength = controller()
    for _ in range(3):
        strength.observe(torch.ones(4), batch_size=10)
    assert strength.value == 0.0
    strength.observe(torch.ones(4), batch_size=10)
    assert strength.value == pytest.approx(0.04)


def test_the_strength_falls_below_the_target_and_not_under_zero():
    strength = controller()
    for k in range(8):
        # Mean sign 1, then 0.5: the mean counts, not its own sign.
        signs = torch.ones(4) if k < 4 else torch.tensor([1.0, 1, 1, -1])
        strength.observe(signs, batch_size=10)
    assert strength.value == 0.0
    for _ in range(4):
        strength.observe(-torch.ones(4), batch_size=10)
    assert strength.value == 0.0


def test_the_strength_ends_at_one():
    strength = controller()
    for _ in range(12):
        strength.observe(torch.ones(4), batch_size=200)
    assert strength.value == 1.0


def test_the_strength_goes_on_where_it_was_saved():
    first, second = controller(), controller()
    for _ in range(6):
        first.observe(torch.ones(4), batch_size=10)
    second.restore(first.state())
    for strength in (first, second):
        for _ in range(2):
            strength.observe(torch.tensor([1.0, -1, -1, -1]), batch_size=10)
    assert first.value == second.value == 0.0


def observed_apart():
    strength = controller()
    # Signs 1 and 0: together 0.5, under the target.
    strength.value = 0.5
    for _ in range(4):
        strength.observe(torch.full((4,), 1.0 - distributed.rank()), batch_size=10)
    return strength.value


def test_processes_move_the_strength_together(two_ranks):
    assert two_ranks(observed_apart) == [pytest.approx(0.46)] * 2
