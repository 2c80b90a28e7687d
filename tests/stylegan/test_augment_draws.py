import numpy as np
import pytest
import torch

from sem2ct.stylegan import augment_draws
from sem2ct.stylegan.augment_draws import PIPES, Pipe, draw, within

MANY = 20000


def drawn(pipe, *, strength=1.0, count=MANY, side_px=64, seed=0):
    stream = np.random.default_rng(seed)
    return draw(pipe, strength=strength, count=count, side_px=side_px, stream=stream)


def linear(pipe, **options):
    return drawn(pipe, **options).inverse[:, :2, :2].numpy()


def is_identity(matrices):
    return (matrices == torch.eye(matrices.shape[-1])).all(dim=2).all(dim=1)


def test_at_strength_zero_nothing_happens():
    result = drawn(PIPES["bgc"], strength=0.0, count=50)
    assert is_identity(result.inverse).all()
    assert is_identity(result.grey).all()


def test_without_a_pipe_nothing_happens():
    result = drawn(PIPES["none"], count=50)
    assert is_identity(result.inverse).all()
    assert is_identity(result.grey).all()


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
    share = 1 - is_identity(drawn(Pipe(**{name: True}), strength=0.4).inverse).double().mean()
    assert share == pytest.approx(0.4 * happens, abs=0.015)


def test_at_least_one_of_the_two_rotations_happens_with_the_strength():
    share = 1 - is_identity(drawn(Pipe(rotation=True), strength=0.4).inverse).double().mean()
    assert share == pytest.approx(0.4, abs=0.015)


def test_flips_are_of_x_alone():
    matrices = linear(Pipe(x_flip=True), count=200)
    assert {tuple(m.ravel()) for m in matrices} == {(1, 0, 0, 1), (-1, 0, 0, 1)}


def test_quarter_turns_are_the_four_rotations_exactly():
    matrices = linear(Pipe(rotate_90=True), count=400)
    turns = {(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)}
    assert {tuple(m.ravel()) for m in matrices} == turns


def test_integer_translations_are_whole_pixels_within_an_eighth():
    shifts = drawn(Pipe(integer_translation=True), side_px=64).inverse[:, :2, 2].numpy()
    assert np.array_equal(shifts, np.rint(shifts))
    assert set(np.unique(shifts)) == set(range(-8, 9))
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.03


def test_fractional_translations_have_an_eighth_of_the_side_as_deviation():
    shifts = drawn(Pipe(fractional_translation=True), side_px=32).inverse[:, :2, 2].numpy()
    assert shifts.std(axis=0) == pytest.approx([4.0, 4.0], rel=0.03)
    assert shifts.mean(axis=0) == pytest.approx([0.0, 0.0], abs=0.12)


def test_scales_are_log_normal_and_equal_along_both_axes():
    matrices = linear(Pipe(scale=True))
    assert np.array_equal(matrices[:, 0, 0], matrices[:, 1, 1])
    assert np.log2(matrices[:, 0, 0]).std() == pytest.approx(0.2, rel=0.03)


def test_anisotropic_scales_keep_the_area():
    matrices = linear(Pipe(anisotropic_scale=True))
    assert np.linalg.det(matrices) == pytest.approx(np.ones(MANY))
    assert np.log2(matrices[:, 0, 0]).std() == pytest.approx(0.2, rel=0.03)


def test_rotations_are_rotations_by_any_angle():
    matrices = linear(Pipe(rotation=True))
    assert matrices @ matrices.transpose(0, 2, 1) == pytest.approx(
        np.broadcast_to(np.eye(2), (MANY, 2, 2))
    )
    angles = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0] == pytest.approx(
        [MANY / 4] * 4, rel=0.06
    )


def test_brightness_is_added_and_then_contrast_multiplies():
    grey = drawn(Pipe(brightness=True, contrast=True)).grey.numpy()
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
    result = drawn(Pipe(x_flip=True, integer_translation=True), count=200, seed=4)
    alone = drawn(Pipe(integer_translation=True), count=200, seed=4)
    sign = result.inverse[:, 0, 0]
    assert set(sign.tolist()) == {-1.0, 1.0}
    assert torch.equal(result.inverse[:, 0, 2], sign * alone.inverse[:, 0, 2])
    assert torch.equal(result.inverse[:, 1, 2], alone.inverse[:, 1, 2])


def test_images_with_a_direction_are_not_turned():
    mirrored = within(PIPES["sem"], "mirror")
    assert (mirrored.x_flip, mirrored.rotate_90, mirrored.rotation) == (True, False, False)
    assert not within(PIPES["sem"], "none").x_flip
    assert within(PIPES["sem"], "dihedral") == PIPES["sem"]
    off_diagonal = linear(mirrored, count=300)[:, [0, 1], [1, 0]]
    assert not off_diagonal.any()


def test_a_larger_strength_keeps_what_already_happens():
    weak = drawn(PIPES["bgc"], strength=0.1, count=300).inverse
    strong = drawn(Pipe(x_flip=True), strength=0.2, count=300).inverse
    weak_flip = drawn(Pipe(x_flip=True), strength=0.1, count=300).inverse
    assert not is_identity(weak).all()
    assert (is_identity(strong) <= is_identity(weak_flip)).all()


def test_parts_of_a_draw_interleave():
    whole = drawn(PIPES["bgc"], count=6)
    part = whole.part(1, 3)
    assert torch.equal(part.inverse, whole.inverse[[1, 4]])
    assert torch.equal(part.grey, whole.grey[[1, 4]])


def shared_draw():
    share = drawn(PIPES["bgc"], count=6).share()
    return share.inverse.tolist(), share.grey.tolist()


def test_two_processes_share_one_draw(two_ranks):
    whole = drawn(PIPES["bgc"], count=6)
    for rank, (inverse, grey) in enumerate(two_ranks(shared_draw)):
        assert inverse == whole.inverse[rank::2].tolist()
        assert grey == whole.grey[rank::2].tolist()


def test_pipes_are_the_named_ones():
    assert set(augment_draws.PIPES) == {"none", "blit", "sem", "bgc"}
