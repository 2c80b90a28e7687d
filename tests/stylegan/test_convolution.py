import pytest
import torch
from torch.nn import functional

from sem2ct.stylegan.convolution import convolve2d, trilinear

CASES = [
    {"padding": 1},
    {"stride": 2},
    {"stride": 2, "transposed": True},
    {"stride": 2, "padding": 1},
]


def stock(images, weight, bias=None, *, transposed=False, **options):
    function = functional.conv_transpose2d if transposed else functional.conv2d
    return function(images, weight, bias, **options)


def tensors(transposed=False, **_):
    """Images of even and of odd side, so that a stride may leave pixels out."""
    torch.manual_seed(0)
    channels = (2, 3) if transposed else (3, 2)
    return [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 6, 6), (*channels, 3, 3), (3,))
    ]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ours", [convolve2d, trilinear])
def test_it_is_the_convolution_of_torch(case, ours):
    arguments = tensors(**case)
    torch.testing.assert_close(ours(*arguments, **case), stock(*arguments, **case))


@pytest.mark.parametrize("case", CASES)
def test_it_has_the_first_and_second_gradients_of_torch(case):
    results = []
    for function in (trilinear, stock):
        arguments = tensors(**case)
        value = (function(*arguments, **case) ** 3).sum()
        first = torch.autograd.grad(value, arguments, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), arguments)
        results.append((*first, *second))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_it_can_be_differentiated_again_and_again(case):
    arguments = tensors(**case)
    assert torch.autograd.gradcheck(lambda *a: trilinear(*a, **case) ** 2, arguments)
    assert torch.autograd.gradgradcheck(lambda *a: trilinear(*a, **case) ** 2, arguments)


@pytest.mark.parametrize("ours", [convolve2d, trilinear])
def test_autocast_runs_it_in_bf16_and_keeps_float32_gradients(ours):
    images, weight, bias = (t.detach().float().requires_grad_() for t in tensors())
    with torch.autocast("cpu", torch.bfloat16):
        result = ours(images, weight, bias, padding=1)
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()
    assert images.grad.dtype == weight.grad.dtype == bias.grad.dtype == torch.float32
    # Each bias reaches all 2 x 6 x 6 pixels once.
    assert torch.equal(bias.grad, torch.full((3,), 72.0))
