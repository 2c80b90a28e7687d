"""Weights under the names of the reference implementation, both ways.

The reference keeps its networks as nested modules whose parameter names have become an
exchange format.  Here a table pairs each of these names with the tensor of ours that
holds the same numbers; shapes agree one to one, so importing is copying.  Besides
parameters the format holds the noise planes, the mean style, and the resampling filter
once per layer: ours is fixed, so that filter is checked and not stored.

A pickle of whole networks (`sem2ct.stylegan.pickles`) gives these tensors and the arguments
its networks were made with.  Networks of colour images become grey ones that answer grey
images the same: the first layer of the discriminator takes the sum over its input channels,
the last ones of the generator the mean over theirs.

Only names and shapes are taken over, no code.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import pickles
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.generator import Generator, SynthesisBlock
from sem2ct.stylegan.layers import Convolution, Dense, StyledConvolution, ToImage
from sem2ct.stylegan.resample import binomial

_FILTER = "resample_filter"
LARGEST_ARGUMENT = 2**24

Network = TypeVar("Network", Generator, Discriminator)


@dataclass(frozen=True)
class Networks:
    """What a pickle of a training holds, as networks of ours."""

    generator: Generator
    """As it was trained."""
    discriminator: Discriminator
    """Its opponent."""
    ema: Generator
    """The averaged generator, for pictures."""
    remarks: tuple[str, ...]
    """What of the foreign networks ours do not have, in words."""


def read(path: Path, *, to_grey: bool = False) -> Networks:
    """Reads a network pickle of StyleGAN2-ADA; runs nothing in it.

    Args:
        path: A network-snapshot-*.pkl.
        to_grey: Make grey networks of those of colour images.

    Returns:
        The networks, on the CPU, float32.

    Raises:
        Refusal: If the file is not such a pickle, refers to code, its networks are of
            another make, or draw colour and `to_grey` was not asked for.
    """
    content = pickles.read(path)
    names = ("G", "D", "G_ema")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), pickles.Saved) for name in names
    ):
        raise Refusal(
            f"{path} holds no networks named {', '.join(names)}; wanted is a network pickle of"
            " StyleGAN2-ADA (network-snapshot-*.pkl)"
        )
    try:
        generator, discriminator, ema = (
            _network(content[name], name, to_grey=to_grey) for name in names
        )
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal}") from refusal
    assert isinstance(generator, Generator)
    assert isinstance(discriminator, Discriminator)
    assert isinstance(ema, Generator)
    return Networks(generator, discriminator, ema, _remarks(content["D"]))


def to_checkpoint(networks: Networks) -> dict[str, Any]:
    """The networks as `sem2ct.runtime.checkpoint` keeps those of a training of ours.

    It can be saved, drawn from and begun with; a training cannot go on from it, because
    there are no optimizers in it.
    """
    averaged = {"config": networks.ema.config, "weights": networks.ema.state_dict()}
    return {
        "images_seen": 0,
        "trainer": {
            "generator": networks.generator.state_dict(),
            "discriminator": networks.discriminator.state_dict(),
            "ema": averaged,
        },
    }


def generator_from_state(state: Mapping[str, Any], config: Mapping[str, Any]) -> Generator:
    """Our generator with foreign weights.

    Args:
        state: Arrays or tensors under the reference names.
        config: `res`, `z`, `w`, `map` (mapping layers), `cb` and `cm` (channel base and
            maximum), `ch` (channels), and, where they are not 0.995 and infinite, `beta`
            (share of the mean style that survives a step) and `clamp`.

    Returns:
        The generator, on the CPU, float32.

    Raises:
        Refusal: If a name is missing or unknown, a shape differs, or a resampling filter is
            not [1, 3, 3, 1].
    """
    return _filled(
        Generator,
        state,
        resolution=_setting(config, "res"),
        z_dim=_setting(config, "z"),
        w_dim=_setting(config, "w"),
        # More layers than tensors cannot be meant, and would take for ever to build.
        mapping_layers=min(_setting(config, "map"), len(state) + 1),
        channel_base=_setting(config, "cb"),
        channel_max=_setting(config, "cm"),
        channels=_setting(config, "ch"),
        w_avg_beta=float(config.get("beta", 0.995)),
        clamp=float(config.get("clamp", math.inf)),
    )


def discriminator_from_state(state: Mapping[str, Any], config: Mapping[str, Any]) -> Discriminator:
    """Our discriminator with foreign weights.

    Args:
        state: Arrays or tensors under the reference names.
        config: `res`, `cb` and `cm` (channel base and maximum), `ch` (channels), `mb`
            (samples in a group of the minibatch deviation).

    Returns:
        The discriminator, on the CPU, float32.

    Raises:
        Refusal: If a name is missing or unknown, a shape differs, or a resampling filter is
            not [1, 3, 3, 1].
    """
    return _filled(
        Discriminator,
        state,
        resolution=_setting(config, "res"),
        channel_base=_setting(config, "cb"),
        channel_max=_setting(config, "cm"),
        group=_setting(config, "mb"),
        channels=_setting(config, "ch"),
    )


def reference_names(module: Generator | Discriminator) -> dict[str, Tensor]:
    """The tensors of a network under the reference names.

    Parameters and buffers are the network's own (their `.grad` is seen, writing into them
    changes the network); the resampling filters are constants.
    """
    walk = _generator_names if isinstance(module, Generator) else _discriminator_names
    return dict(walk(module))  # type: ignore[arg-type]


def _setting(config: Mapping[str, Any], name: str) -> int:
    if name not in config:
        raise Refusal(f"the config of the foreign weights lacks '{name}'; it has {sorted(config)}")
    return int(config[name])


def _network(saved: pickles.Saved, name: str, *, to_grey: bool) -> Generator | Discriminator:
    """A network of ours from one of the file."""
    state = dict(_tensors(saved, "", set()))
    config = {
        "res": _argument(saved, "img_resolution"),
        "ch": _argument(saved, "img_channels"),
        "cb": _argument(saved, "channel_base", 32768),
        "cm": _argument(saved, "channel_max", 512),
    }
    if _argument(saved, "c_dim", 0):
        raise Refusal(f"{name} is steered by classes (c_dim), which the networks here are not")
    if config["ch"] != 1:
        if not to_grey:
            raise Refusal(
                f"{name} is for images of {config['ch']} channels; to_grey=true makes it grey"
            )
        state, config["ch"] = _grey(state), 1
    if name == "D":
        return discriminator_from_state(
            state, {**config, "mb": _argument(saved, "mbstd_group_size", 4)}
        )
    layers = sum(key.startswith("mapping.fc") and key.endswith(".weight") for key in state)
    mapping = saved.state.get("_modules", {}).get("mapping")
    beta = mapping.state.get("w_avg_beta") if isinstance(mapping, pickles.Saved) else None
    config |= {"z": _argument(saved, "z_dim"), "w": _argument(saved, "w_dim"), "map": layers}
    config |= {"beta": 0.995 if beta is None else beta}
    return generator_from_state(
        state, config | {"clamp": _argument(saved, "conv_clamp", 0) or math.inf}
    )


def _tensors(saved: pickles.Saved, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a network under their full names; what computes otherwise is refused."""
    if id(saved) in seen:
        raise Refusal(f"its part {prefix!r} stands at two places")
    seen.add(id(saved))
    state = saved.state
    rate = state.get("bias_gain", 0.01) if prefix.startswith("mapping.fc") else 0.01
    for what, given, allowed in (
        ("activation", state.get("activation", "lrelu"), ("lrelu", "linear")),
        ("use_noise", state.get("use_noise", True), (True,)),
        ("lr_multiplier", rate, (0.01,)),
    ):
        if given not in allowed:
            raise Refusal(f"its part {prefix!r} has {what}={given!r}; known is {allowed[0]}")
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _members(state, kind):
            if isinstance(tensor, Tensor):
                yield prefix + name, tensor
    for name, part in _members(state, "_modules"):
        if isinstance(part, pickles.Saved):
            yield from _tensors(part, f"{prefix}{name}.", seen)


def _members(state: dict[str, Any], kind: str) -> list[tuple[str, Any]]:
    members = state.get(kind, {})
    if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
        raise Refusal(f"its {kind} are not a list of names")
    return list(members.items())


def _argument(saved: pickles.Saved, name: str, default: int | None = None) -> int:
    """A whole number that the network, or the part of it that takes it, was made with."""
    given = saved.state.get("_init_kwargs", {})
    inner = [given.get(part) for part in ("synthesis_kwargs", "epilogue_kwargs")]
    for place in (given, *inner, saved.state):
        value = place.get(name) if isinstance(place, dict) else None
        if value is not None:
            if type(value) is not int or not 0 <= value <= LARGEST_ARGUMENT:
                raise Refusal(f"it was made with {name}={value}, which is no size")
            return value
    if default is None:
        raise Refusal(f"it does not say which {name} it was made with")
    return default


def _grey(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network that answers grey images as the colour one does."""
    grey = dict(state)
    for name, values in state.items():
        if name.endswith(".fromrgb.weight"):
            # Weights are divided by the root of their number of inputs when used.
            grey[name] = values.sum(1, keepdim=True) / math.sqrt(values.shape[1])
        elif name.endswith((".torgb.weight", ".torgb.bias")):
            grey[name] = values.mean(0, keepdim=True)
    return grey


def _remarks(saved: pickles.Saved) -> tuple[str, ...]:
    if _argument(saved, "conv_clamp", 0):
        return (
            f"the foreign discriminator clamps its features at {_argument(saved, 'conv_clamp')},"
            " the one here does not: its logits differ where one is larger",
        )
    return ()


def _filled(kind: Callable[..., Network], state: Mapping[str, Any], **arguments: float) -> Network:
    """A network with these weights; memory is taken once all shapes are known to fit."""
    with torch.device("meta"):
        sketch = kind(**arguments)
    given = _checked(sketch, state)
    network = kind(**arguments)
    ours = reference_names(network)
    with torch.no_grad():
        for name, values in given.items():
            if not name.endswith(_FILTER):
                ours[name].copy_(values)
    return network


def _checked(module: Generator | Discriminator, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state as tensors, or a refusal that says which names do not fit the network."""
    ours = reference_names(module)
    kind = type(module).__name__.lower()
    missing = [name for name in ours if name not in state and not name.endswith(_FILTER)]
    unknown = [name for name in state if name not in ours]
    for what, names in (("lack", missing), ("hold unknown", unknown)):
        if names:
            raise Refusal(
                f"the foreign {kind} weights {what} {_listed(names)}; a {kind} of"
                f" {module.config} has {len(ours)} names, nothing was loaded"
            )
    given = {name: torch.as_tensor(values) for name, values in state.items()}
    for name, values in given.items():
        if values.shape != ours[name].shape:
            raise Refusal(
                f"the foreign {kind} weights hold {name} of shape {tuple(values.shape)},"
                f" the config gives {tuple(ours[name].shape)}; nothing was loaded"
            )
        if name.endswith(_FILTER) and not torch.allclose(values.float(), ours[name], atol=1e-6):
            raise Refusal(
                f"{name} of the foreign {kind} weights is not the [1, 3, 3, 1] filter,"
                " the only one this network has; nothing was loaded"
            )
    return given


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(ascii(name) for name in names[:5]) + more


def _filter(prefix: str) -> tuple[str, Tensor]:
    return f"{prefix}.{_FILTER}", binomial(1.0, torch.device("cpu")).clone()


def _dense(prefix: str, layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    assert isinstance(layer, Dense)
    yield f"{prefix}.weight", layer.weight
    yield f"{prefix}.bias", layer.bias


def _convolution(prefix: str, layer: Convolution) -> Iterator[tuple[str, Tensor]]:
    yield f"{prefix}.weight", layer.weight
    if layer.bias is not None:
        yield f"{prefix}.bias", layer.bias
    yield _filter(prefix)


def _styled(prefix: str, layer: StyledConvolution | ToImage) -> Iterator[tuple[str, Tensor]]:
    yield f"{prefix}.weight", layer.weight
    yield f"{prefix}.bias", layer.bias
    yield from _dense(f"{prefix}.affine", layer.affine)
    if isinstance(layer, StyledConvolution):
        yield f"{prefix}.noise_strength", layer.noise_strength
        yield f"{prefix}.noise_const", layer.noise_const
        yield _filter(prefix)


def _generator_names(generator: Generator) -> Iterator[tuple[str, Tensor]]:
    for i, layer in enumerate(generator.mapping.layers):
        yield from _dense(f"mapping.fc{i}", layer)
    yield "mapping.w_avg", generator.mapping.w_avg
    for level, block in enumerate(generator.synthesis.blocks):
        assert isinstance(block, SynthesisBlock)
        prefix = f"synthesis.b{4 * 2**level}"
        yield _filter(prefix)
        if block.const is not None:
            yield f"{prefix}.const", block.const
        if block.conv0 is not None:
            yield from _styled(f"{prefix}.conv0", block.conv0)
        yield from _styled(f"{prefix}.conv1", block.conv1)
        yield from _styled(f"{prefix}.torgb", block.to_image)


def _discriminator_names(discriminator: Discriminator) -> Iterator[tuple[str, Tensor]]:
    top = f"b{discriminator.resolution}"
    yield from _convolution(f"{top}.fromrgb", discriminator.from_image)
    for level, block in enumerate(discriminator.blocks):
        prefix = f"b{discriminator.resolution // 2**level}"
        yield _filter(prefix)
        for name in ("conv0", "conv1", "skip"):
            yield from _convolution(f"{prefix}.{name}", getattr(block, name))
    yield from _convolution("b4.conv", discriminator.conv)
    yield from _dense("b4.fc", discriminator.dense)
    yield from _dense("b4.out", discriminator.out)
