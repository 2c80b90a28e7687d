import numpy as np
import pytest
import torch

from sem2ct.stylegan import augment, augment_geometry, losses
from sem2ct.stylegan.augment_draws import PIPES, Draw, draw


def images(count, side, seed=0):
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def identities(count):
    return Draw(
        torch.eye(3, dtype=torch.float64).repeat(count, 1, 1),
        torch.eye(2, dtype=torch.float64).repeat(count, 1, 1),
    )


def test_without_geometry_nothing_is_resampled(monkeypatch):
    monkeypatch.setattr(augment, "warp", None)
    batch = images(3, 8)
    assert augment.apply(batch, identities(3)) is batch


def test_only_images_that_move_are_resampled():
    batch, changes = images(4, 16), identities(4)
    changes.inverse[2, 0, 2] = 3.0
    result = augment.apply(batch, changes)
    assert torch.equal(result[[0, 1, 3]], batch[[0, 1, 3]])
    torch.testing.assert_close(result[2, :, :, :12], batch[2, :, :, 3:15], atol=1e-5, rtol=0)


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


def test_the_gradient_penalty_passes_through_it():
    batch = images(4, 16).requires_grad_()
    stream = np.random.default_rng(3)
    changes = draw(PIPES["sem"], strength=0.8, count=4, side_px=16, stream=stream)
    weight = torch.tensor(0.7, requires_grad=True)
    penalty = losses.gradient_penalty(
        batch, weight * augment.apply(batch, changes).square().sum(dim=(1, 2, 3))
    )
    (slope,) = torch.autograd.grad(penalty.sum(), weight)
    # The penalty is a square in the weight.
    assert slope.item() == pytest.approx(2 * penalty.sum().item() / 0.7, rel=1e-4)


def test_under_autocast_it_stays_float32():
    batch, changes = images(2, 8), identities(2)
    changes.inverse[:, 0, 2] = 1.5
    plain = augment.apply(batch, changes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment.apply(batch, changes), plain)


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
    from sem2ct.runtime import distributed

    strength = controller()
    # Signs 1 and 0: together 0.5, under the target.
    strength.value = 0.5
    for _ in range(4):
        strength.observe(torch.full((4,), 1.0 - distributed.rank()), batch_size=10)
    return strength.value


def test_processes_move_the_strength_together(two_ranks):
    assert two_ranks(observed_apart) == [pytest.approx(0.46)] * 2
