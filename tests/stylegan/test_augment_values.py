from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sem2ct.stylegan.augment_draws import draw
from sem2ct.stylegan.augment_geometry import warp
from sem2ct.stylegan.augment_pipes import PIPES
from sem2ct.stylegan.augment_values import (
    add_noise,
    contrast_about_mean,
    cut_out,
    rearrange,
    rearranges,
    recolour,
    shift,
)


def images(count, side, seed=0, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, side, side, generator=random, dtype=dtype)


def test_grey_matrices_multiply_and_add():
    batch = images(2, 8)
    grey = torch.tensor([[[1.0, 0], [0, 1]], [[1.5, -0.25], [0, 1]]], dtype=torch.float64)
    result = recolour(batch, grey)
    assert torch.equal(result[0], batch[0])
    torch.testing.assert_close(result[1], 1.5 * batch[1] - 0.25)


def homogeneous(linear, offset=(0.0, 0.0, 0.0)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, offset
    return torch.from_numpy(matrix)[None]


def test_colour_matrices_act_on_three_equal_channels_and_their_mean_is_taken():
    batch, random = images(1, 8), np.random.default_rng(1)
    linear, offset = random.normal(size=(3, 3)), random.normal(size=3)
    coloured = linear @ np.repeat(batch.numpy().reshape(1, -1), 3, axis=0) + offset[:, None]
    result = recolour(batch, homogeneous(linear, offset))
    assert result.numpy().ravel() == pytest.approx(coloured.mean(axis=0), abs=1e-5)


def test_turning_the_hue_and_scaling_the_saturation_leave_grey_as_it_is():
    batch, axis = images(1, 8), np.ones(3) / np.sqrt(3)
    hue = Rotation.from_rotvec(1.1 * axis).as_matrix()
    along = np.outer(axis, axis)
    saturation = along + 1.7 * (np.eye(3) - along)
    for linear in (hue, saturation):
        torch.testing.assert_close(recolour(batch, homogeneous(linear)), batch)


def test_mirroring_at_the_grey_axis_exchanges_dark_and_bright():
    batch = images(1, 8)
    axis = np.ones(3) / np.sqrt(3)
    flip = homogeneous(np.eye(3) - 2 * np.outer(axis, axis))
    torch.testing.assert_close(recolour(batch, flip), -batch)


def test_contrast_keeps_each_mean():
    batch = images(2, 8) + torch.tensor([0.5, -2.0])[:, None, None, None]
    result = contrast_about_mean(batch, torch.tensor([1.5, 0.5], dtype=torch.float64))
    torch.testing.assert_close(result.mean(dim=(1, 2, 3)), batch.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(
        result.std(dim=(1, 2, 3)), batch.std(dim=(1, 2, 3)) * torch.tensor([1.5, 0.5])
    )


def test_noise_is_added_with_each_deviation():
    batch, noise = images(2, 8), images(2, 8, seed=1)
    result = add_noise(batch, noise, torch.tensor([0.0, 0.3], dtype=torch.float64))
    assert torch.equal(result[0], batch[0])
    torch.testing.assert_close(result[1], batch[1] + 0.3 * noise[1])


def test_a_square_loses_the_pixels_whose_centres_lie_in_it():
    batch = torch.ones(3, 1, 8, 8)
    squares = torch.tensor([[0.5, 0.25, 0.5], [0.0, 1.0, 0.5], [0.5, 0.5, 0.0]])
    result = cut_out(batch, squares.double())
    expected = torch.ones(3, 1, 8, 8)
    expected[0, 0, 0:4, 2:6] = 0  # x from 2 to 6, y from 0 to 4
    expected[1, 0, 6:8, 0:2] = 0  # only a quarter of it lies in the image
    assert torch.equal(result, expected)


def test_shifted_images_leave_grey_0_behind():
    batch = images(3, 6)
    result = shift(batch, torch.tensor([[2, -1], [0, 0], [-7, 0]]))
    expected = torch.zeros(6, 6)
    expected[:5, 2:] = batch[0, 0, 1:, :4]
    assert torch.equal(result[0, 0], expected)
    assert torch.equal(result[1], batch[1])
    assert not result[2].any()


def mirrored(image, inverse):
    """Pixel by pixel, as the matrix says."""
    side = image.shape[-1]
    padded, centre = np.pad(image, side, mode="reflect"), (side - 1) / 2
    result = np.empty_like(image)
    for row, column in np.ndindex(*image.shape):
        x, y, _ = inverse @ np.array([column - centre, row - centre, 1]) + centre + side
        result[row, column] = padded[round(y), round(x)]
    return result


def test_whole_pixel_moves_copy_pixels_as_their_matrices_say():
    side = 10
    given = {"strength": 1.0, "seed": 1, "phase": "fake", "first": 0, "count": 40}
    pipe = replace(PIPES["blit"], integer_translation_max=0.7)
    inverse = draw(pipe, side_px=side, **given).inverse
    assert rearranges(inverse, side).all()
    assert len({tuple(matrix[:2, :2].ravel().tolist()) for matrix in inverse}) == 8
    batch = images(40, side)
    result = rearrange(batch, inverse)
    for image, matrix, moved in zip(batch, inverse, result, strict=True):
        assert np.array_equal(moved[0], mirrored(image[0].numpy(), matrix.numpy()))


def test_whole_shifts_are_those_of_the_resampling():
    batch = images(3, 16)
    inverse = torch.stack([matrix([[1.0, 0], [0, 1]], x, y) for x, y in ((5, -3), (-9, 0), (0, 2))])
    torch.testing.assert_close(rearrange(batch, inverse), warp(batch, inverse), atol=2e-5, rtol=0)


def test_whole_pixel_moves_change_no_grey_value():
    image = images(1, 6)
    turned = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]], dtype=torch.float64)
    # Result (c, d) comes from (-d, c): row d, column c holds what stood in row c, column 5 - d.
    expected = torch.stack([image[0, 0, :, 5 - d] for d in range(6)])
    assert torch.equal(rearrange(image, turned)[0, 0], expected)


def matrix(linear, x=0.0, y=0.0):
    full = torch.eye(3, dtype=torch.float64)
    full[:2, :2], full[0, 2], full[1, 2] = torch.tensor(linear), x, y
    return full


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (matrix([[-1.0, 0], [0, 1]], 3.0, -15.0), True),
        (matrix([[1.0, 0], [0, 1]], 0.5, 0.0), False),
        (matrix([[1.0, 0], [0, 1]], 16.0, 0.0), False),
        (matrix([[2.0, 0], [0, 0.5]]), False),
        (matrix([[0.6, -0.4], [0.4, 0.6]]), False),
        (matrix([[1.0, 0], [1.0, 0]]), False),
    ],
)
def test_only_whole_pixel_moves_pass_for_such(given, expected):
    assert rearranges(given[None], 16).tolist() == [expected]
