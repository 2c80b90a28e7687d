import itertools

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn as scipy_upfirdn

from sem2ct.stylegan import resample

ODD = torch.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize("case", range(10))
def test_upfirdn_agrees_with_the_reference(ops_reference, case):
    given = ops_reference.json(f"upfirdn/{case}/params_json")
    pair = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    result = resample.upfirdn(
        ops_reference["upfirdn/x"],
        ops_reference[f"upfirdn/f_{given['filter']}"],
        up=pair["up"],
        down=pair["down"],
        padding=pair["padding"],
        gain=pair["gain"],
        flip=pair["flip_filter"],
    )
    torch.testing.assert_close(result, ops_reference[f"upfirdn/{case}/y"], rtol=0, atol=1e-5)


def test_doubling_and_halving_agree_with_the_reference(ops_reference):
    images = ops_reference["upfirdn/x"][:, :, :16, :12]
    smooth = resample.upfirdn(images, resample.binomial(1.0, images.device), padding=(2, 1, 2, 1))
    for name, result in (
        ("upsample2d", resample.upsample(images)),
        ("downsample2d", resample.downsample(images)),
        ("filter2d", smooth),
    ):
        expected = ops_reference[f"upfirdn/{name}_1331"]
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)


def test_one_line_is_filtered_as_scipy_filters_it():
    rng = np.random.default_rng(3)
    line, taps = rng.normal(size=11), rng.normal(size=5)
    expected = scipy_upfirdn(taps, line, up=3, down=2)
    ours = resample.upfirdn(
        torch.from_numpy(line)[None, None, None],
        torch.from_numpy(taps)[None],
        up=(3, 1),
        down=(2, 1),
        padding=(4, 2, 0, 0),
    )[0, 0, 0]
    np.testing.assert_allclose(ours[: len(expected)], expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 12])
def test_a_constant_image_keeps_its_grey_level(channels, dtype):
    images = torch.full((2, channels, 16, 20), 3.0, dtype=dtype)
    doubled, halved = resample.upsample(images), resample.downsample(images)
    assert doubled.shape == (2, channels, 32, 40)
    assert halved.shape == (2, channels, 8, 10)
    assert doubled.dtype == halved.dtype == dtype
    inside = (..., slice(2, -2), slice(2, -2))
    for result in (doubled, halved, resample.blur(images, padding=2, gain=4.0) / 4):
        assert torch.equal(result[inside], torch.full_like(result[inside], 3.0))


CASES = [
    {"padding": 2},
    {"up": 2, "padding": (2, 1, 2, 1)},
    {"down": 2, "padding": 1},
    {"up": (2, 3), "down": (3, 1), "padding": (4, 3, 2, 5), "flip": True},
    {"up": (1, 2), "down": (2, 1), "padding": (-1, 2, 3, -2), "gain": 1.5},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(2, 1, 7, 6), (1, 9, 5, 6)])
def test_the_backward_of_a_filter_is_its_adjoint(case, shape):
    torch.manual_seed(0)
    images = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    result = resample.upfirdn(images, ODD, **case)
    other = torch.randn_like(result)
    (pulled,) = torch.autograd.grad(result, images, other)
    direction = torch.randn_like(images)
    left = (resample.upfirdn(direction, ODD, **case) * other).sum()
    torch.testing.assert_close(left, (direction * pulled).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_filter_can_be_differentiated_again_and_again(case):
    torch.manual_seed(0)
    images = torch.randn(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)

    def cubed(x):
        return resample.upfirdn(x, ODD, **case) ** 3

    assert torch.autograd.gradcheck(cubed, images)
    assert torch.autograd.gradgradcheck(cubed, images)

    # Once more, and exactly: the third derivative of sum((Ax)^3) along d is 6 sum((Ad)^3).
    direction, value = torch.randn_like(images), cubed(images).sum()
    for _ in range(3):
        (gradient,) = torch.autograd.grad(value, images, create_graph=True)
        value = (gradient * direction).sum()
    expected = 6 * (resample.upfirdn(direction, ODD, **case) ** 3).sum()
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)


def test_filters_leave_float32_alone_under_autocast():
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    images.requires_grad_()
    plain = resample.upsample(images)
    (expected,) = torch.autograd.grad(plain.square().sum(), images)
    with torch.autocast("cpu", torch.bfloat16):
        inside = resample.upsample(images)
        (gradient,) = torch.autograd.grad(inside.square().sum(), images)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)
    assert torch.equal(gradient, expected)


def test_bfloat16_takes_another_way_to_the_same_numbers():
    images = torch.randint(-8, 8, (2, 16, 6, 10), generator=torch.Generator().manual_seed(1))
    # Sixteenths of small integers are exact in bf16 after the two passes of [1, 3] / 4.
    expected = resample.upsample(images.float())
    result = resample.upsample(images.bfloat16())
    torch.testing.assert_close(result.float(), expected, rtol=2**-8, atol=0)


def test_padding_sides_are_not_mixed_up():
    dot = torch.zeros(1, 1, 1, 1)
    dot[...] = 1.0
    one = torch.ones(1, 1)
    for side, place in zip(range(4), [(0, 1), (0, 0), (1, 0), (0, 0)], strict=True):
        padding = [0, 0, 0, 0]
        padding[side] = 1
        result = resample.upfirdn(dot, one, padding=tuple(padding))[0, 0]
        assert result.shape == ((1, 2) if side < 2 else (2, 1))
        cells = itertools.product(range(result.shape[0]), range(result.shape[1]))
        assert [cell for cell in cells if result[cell]] == [place]
