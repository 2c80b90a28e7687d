"""Weights under the names of the reference implementation, both ways.

The reference keeps its networks as nested modules whose parameter names have become an
exchange format.  Here a table pairs each of these names with the tensor of ours that
holds the same numbers; shapes agree one to one, so importing is copying.  Besides
parameters the format holds the noise planes, the mean style, and the resampling filter
once per layer: ours is fixed, so that filter is checked and not stored.

Only names and shapes are taken over, no code.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.generator import Generator, SynthesisBlock
from sem2ct.stylegan.layers import Convolution, Dense, StyledConvolution, ToImage
from sem2ct.stylegan.resample import binomial

_FILTER = "resample_filter"


def generator_from_state(state: Mapping[str, Any], config: Mapping[str, Any]) -> Generator:
    """Our generator with foreign weights.

    Args:
        state: Arrays or tensors under the reference names.
        config: `res`, `z`, `w`, `map` (mapping layers), `cb` and `cm` (channel base and
            maximum), `ch` (channels).

    Returns:
        The generator, on the CPU, float32.

    Raises:
        Refusal: If a name is missing or unknown, a shape differs, or a resampling filter is
            not [1, 3, 3, 1].
    """
    generator = Generator(
        resolution=_setting(config, "res"),
        z_dim=_setting(config, "z"),
        w_dim=_setting(config, "w"),
        mapping_layers=_setting(config, "map"),
        channel_base=_setting(config, "cb"),
        channel_max=_setting(config, "cm"),
        channels=_setting(config, "ch"),
    )
    _fill(generator, state)
    return generator


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
    discriminator = Discriminator(
        resolution=_setting(config, "res"),
        channel_base=_setting(config, "cb"),
        channel_max=_setting(config, "cm"),
        group=_setting(config, "mb"),
        channels=_setting(config, "ch"),
    )
    _fill(discriminator, state)
    return discriminator


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


@torch.no_grad()
def _fill(module: Generator | Discriminator, state: Mapping[str, Any]) -> None:
    """Copies `state` into the network, or refuses and says which names do not fit."""
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
    for name, values in given.items():
        if not name.endswith(_FILTER):
            ours[name].copy_(values)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more


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
