import numpy as np
import pytest
import torch

from sem2ct.stylegan.augment_draws import draw
from sem2ct.stylegan.augment_pipes import PIPES, DiffAugment, Pipe

MANY = 20000
FIRST = 700


def drawn(pipe, *, strength=1.0, count=MANY, side_px=64, seed=0):
    return draw(
        pipe,
        strength=strength,
        seed=seed,
        phase="fake",
        first=FIRST,
        count=count,
        side_px=side_px,
    )


def linear(pipe, **options):
    return drawn(pipe, **options).inverse[:, :2, :2].numpy()


def is_identity(matrices):
    return (matrices == torch.eye(matrices.shape[-1])).all(dim=2).all(dim=1)


@pytest.mark.parametrize(("name", "strength"), [("bgcfnc", 0.0), ("none", 1.0)])
def test_without_a_chance_or_without_a_pipe_nothing_happens(name, strength):
    result = drawn(PIPES[name], strength=strength, count=50)
    assert is_identity(result.inverse).all()
    assert is_identity(result.grey).all()
    assert (result.gains == 1).all()
    assert not result.noise_sd.any()
    assert not result.squares[:, 2].any()


@pytest.mark.parametrize(
    ("name", "happens"),
    [
        ("x_flip", 1 / 2),
        ("rotate_90", 3 / 4),
        ("scale", 1),
        ("anisotropic_scale", 1),
        ("fractional_translation", 1),
    ],
)
def test_each_operation_happens_with_its_chance(name, happens):
    share = 1 - is_identity(drawn(Pipe(**{name: 1.0}), strength=0.4).inverse).double().mean()
    assert share == pytest.approx(0.4 * happens, abs=0.015)


def test_at_least_one_of_the_two_rotations_happens_with_the_strength():
    share = 1 - is_identity(drawn(Pipe(rotation=1.0), strength=0.4).inverse).double().mean()
    assert share == pytest.approx(0.4, abs=0.015)


def test_flips_are_of_x_alone():
    matrices = linear(Pipe(x_flip=1.0), count=200)
    assert {tuple(m.ravel()) for m in matrices} == {(1, 0, 0, 1), (-1, 0, 0, 1)}


def test_quarter_turns_are_the_four_rotations_exactly():
    matrices = linear(Pipe(rotate_90=1.0), count=400)
    turns = {(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)}
    assert {tuple(m.ravel()) for m in matrices} == turns


def test_integer_translations_are_whole_pixels_within_an_eighth():
    shifts = drawn(Pipe(integer_translation=1.0), side_px=64).inverse[:, :2, 2].numpy()
    assert np.array_equal(shifts, np.rint(shifts))
    assert set(np.unique(shifts)) == set(range(-8, 9))
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.03


def test_fractional_translations_have_an_eighth_of_the_side_as_deviation():
    shifts = drawn(Pipe(fractional_translation=1.0), side_px=32).inverse[:, :2, 2].numpy()
    assert shifts.std(axis=0) == pytest.approx([4.0, 4.0], rel=0.03)
    assert shifts.mean(axis=0) == pytest.approx([0.0, 0.0], abs=0.12)


def test_scales_are_log_normal_and_equal_along_both_axes():
    matrices = linear(Pipe(scale=1.0))
    assert np.array_equal(matrices[:, 0, 0], matrices[:, 1, 1])
    assert np.log2(matrices[:, 0, 0]).std() == pytest.approx(0.2, rel=0.03)


def test_anisotropic_scales_keep_the_area():
    matrices = linear(Pipe(anisotropic_scale=1.0))
    assert np.linalg.det(matrices) == pytest.approx(np.ones(MANY))
    assert np.log2(matrices[:, 0, 0]).std() == pytest.approx(0.2, rel=0.03)


def test_rotations_are_rotations_by_any_angle():
    matrices = linear(Pipe(rotation=1.0))
    assert matrices @ matrices.transpose(0, 2, 1) == pytest.approx(
        np.broadcast_to(np.eye(2), (MANY, 2, 2))
    )
    angles = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0] == pytest.approx(
        [MANY / 4] * 4, rel=0.06
    )


def test_brightness_is_added_and_then_contrast_multiplies():
    grey = drawn(Pipe(brightness=1.0, contrast=1.0)).grey.numpy()
    gain, offset = grey[:, 0, 0], grey[:, 0, 1]
    assert np.log2(gain).std() == pytest.approx(0.5, rel=0.03)
    assert (offset / gain).std() == pytest.approx(0.2, rel=0.03)
    assert abs(np.corrcoef(gain, offset / gain)[0, 1]) < 0.03
    assert np.array_equal(grey[:, 1], np.tile([0.0, 1.0], (MANY, 1)))


def test_only_the_published_pipe_exchanges_dark_and_bright():
    assert (drawn(PIPES["bgc"]).grey[:, 0, 0] < 0).double().mean() == pytest.approx(0.5, abs=0.02)
    assert (drawn(PIPES["sem"]).grey[:, 0, 0] > 0).all()


def test_the_order_is_flip_first_and_shift_last():
    # An inverse that ends in a shift and begins in a flip carries a mirrored shift.
    result = drawn(Pipe(x_flip=1.0, integer_translation=1.0), count=200, seed=4)
    alone = drawn(Pipe(integer_translation=1.0), count=200, seed=4)
    sign = result.inverse[:, 0, 0]
    assert set(sign.tolist()) == {-1.0, 1.0}
    assert torch.equal(result.inverse[:, 0, 2], sign * alone.inverse[:, 0, 2])
    assert torch.equal(result.inverse[:, 1, 2], alone.inverse[:, 1, 2])


def test_a_larger_strength_keeps_what_already_happens():
    weak = drawn(PIPES["bgc"], strength=0.1, count=300).inverse
    strong = drawn(Pipe(x_flip=1.0), strength=0.2, count=300).inverse
    weak_flip = drawn(Pipe(x_flip=1.0), strength=0.1, count=300).inverse
    assert not is_identity(weak).all()
    assert (is_identity(strong) <= is_identity(weak_flip)).all()


def test_parts_of_a_draw_interleave():
    whole = drawn(PIPES["bgc"], count=6)
    part = whole.part(1, 3)
    assert torch.equal(part.inverse, whole.inverse[[1, 4]])
    assert torch.equal(part.grey, whole.grey[[1, 4]])
    assert part.number.tolist() == [FIRST + 1, FIRST + 4]
    assert part.noise_key == whole.noise_key


def columns(draw):
    return {name: value.tolist() for name, value in vars(draw).items() if name != "noise_key"}


def shared_draw(name):
    share = drawn(PIPES[name], count=6).share()
    return columns(share)


@pytest.mark.parametrize("name", ["bgcfnc", "diffaugment"])
def test_two_processes_share_one_draw(two_ranks, name):
    whole = drawn(PIPES[name], count=6)
    for rank, share in enumerate(two_ranks(shared_draw, name)):
        assert share == {key: value[rank::2] for key, value in columns(whole).items()}


def test_a_multiplier_multiplies_the_chance():
    share = (linear(Pipe(x_flip=0.5), strength=0.6)[:, 0, 0] < 0).mean()
    assert share == pytest.approx(0.6 * 0.5 / 2, abs=0.01)


def test_the_rotations_have_the_multiplied_chance_together():
    share = 1 - is_identity(drawn(Pipe(rotation=0.5), strength=0.6).inverse).double().mean()
    assert share == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize(
    ("size", "measured"),
    [
        ({"scale": 1.0, "scale_sd": 0.05}, lambda d: d.inverse[:, 0, 0].log2().std()),
        (
            {"anisotropic_scale": 1.0, "anisotropic_scale_sd": 0.05},
            lambda d: d.inverse[:, 1, 1].log2().std(),
        ),
        (
            {"fractional_translation": 1.0, "fractional_translation_sd": 0.05},
            lambda d: d.inverse[:, 1, 2].std() / 64,
        ),
        ({"brightness": 1.0, "brightness_sd": 0.05}, lambda d: d.grey[:, 0, 1].std()),
        ({"contrast": 1.0, "contrast_sd": 0.05}, lambda d: d.grey[:, 0, 0].log2().std()),
    ],
)
def test_a_deviation_is_what_it_is_set_to(size, measured):
    assert float(measured(drawn(Pipe(**size)))) == pytest.approx(0.05, rel=0.03)


def test_the_largest_shift_and_angle_are_what_they_are_set_to():
    shifts = drawn(Pipe(integer_translation=1.0, integer_translation_max=0.25), side_px=16)
    assert set(shifts.inverse[:, 0, 2].tolist()) == set(range(-4, 5))
    # Two turns of at most an eighth of half a turn each.
    turns = linear(Pipe(rotation=1.0, rotation_max=0.125))
    angles = np.abs(np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))
    assert 0.9 * np.pi / 4 < angles.max() <= np.pi / 4


def test_hue_and_saturation_leave_grey_as_it_is():
    result = drawn(Pipe(hue=1.0, saturation=1.0), count=50)
    assert is_identity(result.grey).all()


POWER = np.array([10, 1, 1, 1]) / 13


@pytest.mark.parametrize("band", [0, 2])
def test_a_changed_band_keeps_the_expected_power(band):
    gains = drawn(Pipe(**{f"filter_band_{band + 1}": 1.0}), strength=0.4).gains.numpy()
    assert gains**2 @ POWER == pytest.approx(np.ones(MANY))
    others = np.delete(gains, band, axis=1)
    assert np.array_equal(others, np.repeat(others[:, :1], 3, axis=1))
    changed = gains[:, band] != others[:, 0]
    assert changed.mean() == pytest.approx(0.4, abs=0.015)
    octaves = np.log2(gains[changed, band] / others[changed, 0])
    assert octaves.std() == pytest.approx(1.0, rel=0.03)
    assert octaves.mean() == pytest.approx(0.0, abs=0.04)


def test_all_bands_change_on_their_own():
    bands = {f"filter_band_{k}": 1.0 for k in (1, 2, 3, 4)}
    octaves = np.log2(drawn(Pipe(**bands, filter_sd=0.5)).gains.numpy())
    differences = octaves[:, 1:] - octaves[:, :1]
    # Each factor has deviation 0.5; what the power takes away is the same for all bands.
    assert np.cov(differences.T) == pytest.approx(0.25 * (np.eye(3) + 1), abs=0.015)


def test_the_noise_has_a_half_normal_deviation():
    deviations = drawn(Pipe(noise=1.0), strength=0.4).noise_sd.numpy()
    happens = deviations > 0
    assert happens.mean() == pytest.approx(0.4, abs=0.015)
    assert deviations[happens].mean() == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.03)
    assert np.square(deviations[happens]).mean() == pytest.approx(0.01, rel=0.04)


def test_squares_of_half_the_side_lie_anywhere():
    squares = drawn(Pipe(cutout=1.0), strength=0.4).squares.numpy()
    cut = squares[:, 2] > 0
    assert cut.mean() == pytest.approx(0.4, abs=0.015)
    assert set(squares[cut, 2]) == {0.5}
    for axis in (0, 1):
        assert np.histogram(squares[:, axis], bins=4, range=(0, 1))[0] == pytest.approx(
            [MANY / 4] * 4, rel=0.06
        )
    assert abs(np.corrcoef(squares[:, :2].T)[0, 1]) < 0.03


def test_filter_noise_and_cutout_leave_the_other_draws_alone():
    without, together = drawn(PIPES["bgc"], count=40), drawn(PIPES["bgcfnc"], count=40)
    assert torch.equal(without.inverse, together.inverse)
    assert torch.equal(without.grey, together.grey)


def test_every_phase_and_every_batch_draws_its_own():
    given = {"strength": 1.0, "seed": 3, "count": 4, "side_px": 16}
    draws = [
        draw(PIPES["bgcfnc"], phase=phase, first=first, **given)
        for phase, first in (("fake", 0), ("real", 0), ("fake", 4))
    ]
    assert len({d.noise_sd[0].item() for d in draws}) == 3
    assert draws[0].noise_key != draws[1].noise_key
    assert draws[2].number.tolist() == [4, 5, 6, 7]


def test_diffaugment_happens_always_and_within_its_bounds():
    result = drawn(PIPES["diffaugment"], strength=0.0)
    brightness, contrast = result.brightness.numpy(), result.contrast.numpy()
    assert (brightness.min(), brightness.max()) == pytest.approx((-0.5, 0.5), abs=0.001)
    assert (contrast.min(), contrast.max()) == pytest.approx((0.5, 1.5), abs=0.001)
    assert brightness.std() == pytest.approx(1 / np.sqrt(12), rel=0.03)
    assert (result.squares[:, 2] == 0.5).all()
    counts = np.unique(result.pixels[:, 1].numpy(), return_counts=True)
    assert counts[0].tolist() == list(range(-8, 9))
    assert counts[1] == pytest.approx([MANY / 17] * 17, rel=0.15)


def test_the_bounds_of_diffaugment_can_be_set():
    narrow = DiffAugment(
        brightness_max=0.1, contrast_max=0.2, translation_max=0.25, cutout_side=0.3
    )
    result = drawn(narrow, side_px=16)
    assert result.brightness.abs().max().item() == pytest.approx(0.1, abs=0.001)
    assert (result.contrast - 1).abs().max().item() == pytest.approx(0.2, abs=0.001)
    assert result.pixels.abs().max().item() == 4
    assert set(result.squares[:, 2].tolist()) == {0.3}
