"""The two networks written plainly: a weight per sample, zeros really inserted, no shortcut.

Nothing of ours is called but the parameters' names; what a test compares with is this.
"""

import math

import torch
from torch.nn import functional

ROOT_TWO = math.sqrt(2)


def activated(values, bias):
    return ROOT_TWO * functional.leaky_relu(values + bias, 0.2)


def dense(weights, name, values, rate=1.0):
    weight = weights[f"{name}.weight"] * rate / math.sqrt(values.shape[1])
    return values @ weight.t() + rate * weights[f"{name}.bias"]


def filtered(values, padding, gain=1.0):
    """[1, 3, 3, 1] along both axes, channel by channel."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=values.dtype)
    taps = (torch.outer(taps, taps) / 64 * gain)[None, None]
    count, channels, height, width = values.shape
    values = functional.pad(values.reshape(-1, 1, height, width), padding)
    values = functional.conv2d(values, taps)
    return values.reshape(count, channels, *values.shape[2:])


def with_zeros(values):
    count, channels, height, width = values.shape
    wide = torch.stack([values, torch.zeros_like(values)], 4).reshape(count, channels, height, -1)
    return torch.stack([wide, torch.zeros_like(wide)], 3).reshape(count, channels, -1, 2 * width)


def modulated(values, weight, styles, *, up, demodulate=True):
    """Sample by sample, each with its own weight."""
    results = []
    for one, style in zip(values, styles, strict=True):
        own = weight * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        one = one[None]
        if up:
            # Spreading by the weight is correlating the spread image with the turned weight.
            one = functional.conv2d(functional.pad(with_zeros(one), (2, 1, 2, 1)), own.flip(2, 3))
            one = filtered(one, (1, 1, 1, 1), gain=4.0)
        else:
            one = functional.conv2d(one, own, padding=own.shape[-1] // 2)
        results.append(one)
    return torch.cat(results)


def generator(weights, z, noise, *, mapping_layers, blocks):
    """Images and ws of a generator whose parameters are `weights`."""
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in range(mapping_layers):
        name = f"mapping.layers.{layer}"
        w = ROOT_TWO * functional.leaky_relu(dense(weights, name, w, rate=0.01), 0.2)
    ws = torch.stack([w] * (2 * blocks), 1)
    return synthesis(weights, ws, noise, blocks=blocks), ws


def synthesis(weights, ws, noise, *, blocks):
    planes, at = iter(noise), 0
    values = torch.stack([weights["synthesis.blocks.0.const"]] * len(ws))
    image = None
    for block in range(blocks):
        for layer in ("conv0", "conv1")[block == 0 :]:
            name = f"synthesis.blocks.{block}.{layer}"
            styles = dense(weights, f"{name}.affine", ws[:, at])
            values = modulated(values, weights[f"{name}.weight"], styles, up=layer == "conv0")
            values = values + weights[f"{name}.noise_strength"] * next(planes)
            values = activated(values, weights[f"{name}.bias"][:, None, None])
            at += 1
        name = f"synthesis.blocks.{block}.to_image"
        styles = dense(weights, f"{name}.affine", ws[:, at]) / math.sqrt(values.shape[1])
        grey = modulated(values, weights[f"{name}.weight"], styles, up=False, demodulate=False)
        grey = grey + weights[f"{name}.bias"][:, None, None]
        image = grey if image is None else grey + filtered(with_zeros(image), (2, 1, 2, 1), 4.0)
    return image


def convolution(weights, name, values, *, down=False):
    weight = weights[f"{name}.weight"]
    weight = weight / math.sqrt(weight[0].numel())
    if down:
        pad = weight.shape[-1] // 2 + 1
        values = filtered(values, (pad, pad, pad, pad))
        return functional.conv2d(values, weight)[:, :, ::2, ::2]
    return functional.conv2d(values, weight, padding=weight.shape[-1] // 2)


def discriminator(weights, images, *, blocks, group):
    """Logits of a discriminator whose parameters are `weights`."""

    def bias(name):
        return weights[f"{name}.bias"][:, None, None]

    values = activated(convolution(weights, "from_image", images), bias("from_image"))
    for block in range(blocks):
        name = f"blocks.{block}"
        inner = convolution(weights, f"{name}.conv0", values)
        inner = activated(inner, bias(f"{name}.conv0"))
        inner = convolution(weights, f"{name}.conv1", inner, down=True)
        inner = activated(inner, bias(f"{name}.conv1"))
        values = (inner + convolution(weights, f"{name}.skip", values, down=True)) / ROOT_TWO
    groups = len(images) // group
    planes = []
    for n in range(len(images)):
        members = values[n % groups :: groups]
        spread = (members - members.mean(0)).square().mean(0)
        planes.append((spread + 1e-8).sqrt().mean().expand(1, 4, 4))
    values = torch.cat([values, torch.stack(planes)], 1)
    values = activated(convolution(weights, "conv", values), bias("conv"))
    values = ROOT_TWO * functional.leaky_relu(dense(weights, "dense", values.flatten(1)), 0.2)
    return dense(weights, "out", values)[:, 0]
