import math

import pytest
import torch
from torch.nn import functional

from sem2ct.stylegan import layers

STEPS = {(1, 1): "same", (2, 1): "up", (1, 2): "down"}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("up", "down"), STEPS)
@pytest.mark.parametrize("flip", [0, 1])
def test_convolutions_with_resampling_agree_with_the_reference(ops_reference, size, up, down, flip):
    weight = ops_reference[f"resample/w{size}"]
    # Ours correlates, except upwards, where a transposed convolution spreads by the weight.
    if bool(flip) == (up == 2):
        weight = weight.flip(2, 3)
    result = layers.convolve(ops_reference["resample/x"], weight, step=STEPS[up, down])
    expected = ops_reference[f"resample/k{size}_up{up}_down{down}_flipw{flip}"]
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [0, 1])
@pytest.mark.parametrize("fused", [0, 1])
def test_modulated_convolution_agrees_with_the_reference(ops_reference, up, demodulate, fused):
    result = layers.modulated_convolution(
        ops_reference["resample/x"],
        ops_reference["modconv/w3"],
        ops_reference["modconv/styles"],
        step="up" if up == 2 else "same",
        demodulate=bool(demodulate),
    )
    noise = ops_reference["modconv/noise24"]
    result = result + (noise if up == 2 else noise[:, :, ::2, ::2])
    expected = ops_reference[f"modconv/up{up}_demod{demodulate}_fused{fused}"]
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)


def test_leaky_relu_of_a_layer_agrees_with_the_reference(ops_reference):
    images, channels = ops_reference["resample/x"], 6
    layer = layers.Convolution(channels, channels, size=1)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels)[:, :, None, None] * math.sqrt(channels))
        layer.bias.copy_(ops_reference["bias_act/b"])
        result = layer(images)
    torch.testing.assert_close(result, ops_reference["bias_act/lrelu"], rtol=0, atol=2e-6)


def test_modulation_is_a_convolution_with_a_weight_of_its_own_for_every_sample():
    torch.manual_seed(0)
    images, styles = torch.randn(3, 5, 6, 7).double(), torch.randn(3, 5).double()
    weight = torch.randn(4, 5, 3, 3).double()
    result = layers.modulated_convolution(images, weight, styles)
    for n in range(3):
        own = weight * styles[n, None, :, None, None]
        own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = functional.conv2d(images[n : n + 1], own, padding=1)
        torch.testing.assert_close(result[n : n + 1], expected, rtol=1e-12, atol=1e-12)


def test_a_styled_convolution_adds_noise_and_bias_before_the_leaky_relu():
    torch.manual_seed(0)
    layer = layers.StyledConvolution(5, 4, w_dim=3, resolution=6).double()
    with torch.no_grad():
        layer.bias.normal_()
        layer.noise_strength.fill_(0.7)
    images, style = torch.randn(2, 5, 6, 6).double(), torch.randn(2, 3).double()
    noise = torch.randn(2, 1, 6, 6).double()
    plain = layers.modulated_convolution(images, layer.weight, layer.affine(style))
    plain = plain + 0.7 * noise + layer.bias[:, None, None]
    expected = math.sqrt(2) * functional.leaky_relu(plain, 0.2)
    torch.testing.assert_close(layer(images, style, noise), expected, rtol=1e-12, atol=1e-12)


def test_layers_start_as_published():
    torch.manual_seed(0)
    layer = layers.StyledConvolution(32, 48, w_dim=64, resolution=8)
    assert torch.equal(layer.affine.bias, torch.ones(32))
    assert layer.noise_strength.item() == 0
    assert torch.equal(layer.bias, torch.zeros(48))
    assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
    assert layer.noise_const.shape == (8, 8)
    slow = layers.Dense(256, 256, rate=0.01, activate=True)
    assert slow.weight.std().item() == pytest.approx(100, rel=0.02)


def test_equalised_layers_keep_the_size_of_their_input():
    torch.manual_seed(0)
    features = torch.randn(64, 400)
    assert layers.Dense(400, 500, activate=False)(features).std().item() == pytest.approx(1, 0.03)
    assert layers.Dense(400, 500, rate=0.01, activate=True)(features).square().mean().item() == (
        pytest.approx(1.04, 0.05)  # sqrt 2 restores the half that leaky ReLU takes, 1 + 0.2^2
    )
    images = torch.randn(4, 40, 16, 16)
    inside = layers.Convolution(40, 60, size=3, activate=False)(images)[..., 1:-1, 1:-1]
    assert inside.std().item() == pytest.approx(1, abs=0.03)


def test_the_learning_rate_multiplier_scales_what_a_step_does():
    torch.manual_seed(0)
    features = torch.randn(5, 8)
    steps = []
    for rate in (1.0, 0.01):
        layer = layers.Dense(8, 3, rate=rate, activate=False)
        before = layer(features)
        with torch.no_grad():
            layer.weight += 1.0
            layer.bias += 1.0
        steps.append(layer(features) - before)
    torch.testing.assert_close(steps[1], 0.01 * steps[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("step", ["same", "up", "down"])
def test_convolutions_can_be_differentiated_twice(step):
    torch.manual_seed(0)
    images = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def squared(x, w):
        return layers.convolve(x, w, step=step).square()

    assert torch.autograd.gradcheck(squared, (images, weight))
    assert torch.autograd.gradgradcheck(squared, (images, weight))


def test_styles_and_grey_stay_float32_under_autocast():
    torch.manual_seed(0)
    layer, to_image = layers.Dense(8, 6, activate=True), layers.ToImage(6, 1, w_dim=8)
    style, images = torch.randn(2, 8), torch.randn(2, 6, 4, 4).bfloat16()
    expected = layer(style), to_image(images.float(), style)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer(style), to_image(images, style)
    for ours, truth in zip(inside, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, truth)


def test_prenormalised_factors_are_small_and_compute_the_same():
    torch.manual_seed(0)
    images, styles = torch.randn(3, 5, 6, 7).double(), 40 * torch.randn(3, 5).double()
    weight = 70 * torch.randn(4, 5, 3, 3).double()
    factor = layers.demodulation(styles, weight)
    expected = layers.modulated_convolution(images, weight, styles)
    small, light, strong = layers.prenormalised(styles, weight, factor)
    result = layers.modulated_convolution(images, light, small, demodulate=False)
    torch.testing.assert_close(layers.scaled(result, strong), expected)
    assert small.abs().amax(1).tolist() == pytest.approx([1, 1, 1])
    assert light.abs().amax((1, 2, 3)).tolist() == pytest.approx([45**-0.5] * 4)


def test_float16_holds_styles_and_weights_of_any_size():
    torch.manual_seed(0)
    layer = layers.StyledConvolution(24, 16, w_dim=8, resolution=8)
    images, style = torch.randn(2, 24, 8, 8), torch.randn(2, 8)
    with torch.no_grad():
        layer.weight *= 3000
        layer.affine.weight *= 100
        expected = layer(images, style, None)
        with torch.autocast("cpu", torch.float16):
            result = layer(images.half(), style, None)
    assert result.dtype == torch.float16
    error = (result - expected).square().mean() / expected.square().mean()
    assert error.sqrt() < 0.002


def test_float16_clamps_what_leaves_a_layer():
    torch.manual_seed(0)
    layer = layers.StyledConvolution(3, 2, w_dim=4, resolution=6)
    style = torch.randn(2, 4)
    with torch.no_grad():
        layer.bias.fill_(400.0)
        plain = layer(torch.randn(2, 3, 6, 6), style, None)
        with torch.autocast("cpu", torch.float16):
            clamped = layer(torch.randn(2, 3, 6, 6).half(), style, None)
    assert plain.min() > 500
    assert torch.equal(clamped, torch.full_like(clamped, 256.0))


@pytest.mark.parametrize(("size", "step"), [(3, "same"), (1, "same"), (3, "down"), (1, "down")])
def test_the_adjoint_of_a_convolution_is_its_gradient(size, step):
    torch.manual_seed(0)
    layer = layers.Convolution(3, 4, size=size, step=step, gain=0.7).double()
    with torch.no_grad():
        layer.bias.normal_()
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64, requires_grad=True)
    result = layer(images)
    gradient = torch.randn_like(result)
    (expected,) = torch.autograd.grad(result, images, gradient)
    torch.testing.assert_close(layer.adjoint(gradient, result.detach()), expected)
