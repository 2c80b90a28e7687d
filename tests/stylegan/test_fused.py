import pytest
import torch

from sem2ct.stylegan import fused


def given(dtype=torch.float64):
    """Images (2, 3, 4, 5), bias, factor, noise: none symmetric, some past a clamp of 0.4."""
    torch.manual_seed(0)
    shapes = ((2, 3, 4, 5), (3,), (2, 3), (2, 1, 4, 5))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def by_hand(images, bias, factor, noise, clamp):
    result = torch.empty_like(images)
    for n, c, y, x in torch.cartesian_prod(*(torch.arange(size) for size in images.shape)).tolist():
        value = images[n, c, y, x] * factor[n, c] + noise[n, 0, y, x] + bias[c]
        result[n, c, y, x] = (value if value > 0 else 0.2 * value).clamp(-clamp, clamp)
    return result


@pytest.mark.parametrize("clamp", [0.4, float("inf")])
def test_it_multiplies_adds_bends_and_clamps(clamp):
    images, bias, factor, noise = (value.detach() for value in given())
    result = fused.activate(images, bias, factor=factor, noise=noise, clamp=clamp)
    torch.testing.assert_close(result, by_hand(images, bias, factor, noise, clamp))
    for end in (-0.4, 0.4):
        assert (clamp == 0.4) == bool((result == end).any())


def test_factor_and_noise_may_be_left_out_and_noise_may_be_shared():
    images, bias, _, noise = (value.detach() for value in given())
    one, none = torch.ones(2, 3).double(), torch.zeros(2, 1, 4, 5).double()
    alone = fused.activate(images, bias)
    torch.testing.assert_close(alone, by_hand(images, bias, one, none, 1e9))
    shared = fused.activate(images, bias, noise=noise[0, 0])
    expected = by_hand(images, bias, one, noise[:1].expand(2, -1, -1, -1), 1e9)
    torch.testing.assert_close(shared, expected)


@pytest.mark.parametrize("clamp", [0.4, float("inf")])
def test_it_can_be_differentiated_twice(clamp):
    def squared(images, bias, factor, noise):
        out = fused.activate(images, bias, factor=factor, noise=noise, clamp=clamp)
        return out.square()

    assert torch.autograd.gradcheck(squared, given())
    assert torch.autograd.gradgradcheck(squared, given())


def test_half_precision_stays_half():
    images, bias, factor, noise = (value.detach() for value in given(torch.float32))
    expected = fused.activate(images, bias, factor=factor, noise=noise)
    half = fused.activate(images.bfloat16(), bias, factor=factor, noise=noise)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0, atol=0.03)


def test_a_device_whose_kernels_fail_or_err_gets_the_plain_formula(monkeypatch, caplog):
    assert not fused.serves(torch.device("cpu"))
    gpu = torch.device("cuda", 7)  # there is none: asking it raises

    def fail(device):
        raise RuntimeError("no compiler")

    for number, answer in enumerate((fail, lambda device: 0.5, lambda device: float("nan"))):
        monkeypatch.setattr(fused, "_disagreement", answer)
        assert not fused.serves(torch.device("cuda", number))
    assert caplog.text.count("fused kernels are left out") == 3
    monkeypatch.setattr(fused, "_disagreement", lambda device: 1e-6)
    assert fused.serves(gpu)
    fused.serves.cache_clear()
