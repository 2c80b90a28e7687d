"""The translators by name, and how to build one from its stored description.

Weights that the paper's authors trained are plain state dictionaries; their names carry
the number of each layer, and shapes say the rest.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sem2ct.cyclegan.paper_networks import PaperCtToSem, PaperSemToCt
from sem2ct.cyclegan.robust_networks import RobustCtToSem, RobustSemToCt
from sem2ct.runtime.refusal import Refusal

CtToSem = PaperCtToSem | RobustCtToSem
SemToCt = PaperSemToCt | RobustSemToCt

KINDS: dict[tuple[str, str], type[nn.Module]] = {
    ("paper", "ct_to_sem"): PaperCtToSem,
    ("paper", "sem_to_ct"): PaperSemToCt,
    ("robust", "ct_to_sem"): RobustCtToSem,
    ("robust", "sem_to_ct"): RobustSemToCt,
}


def build(config: Mapping[str, Any]) -> Any:
    """Makes the network that a `config` attribute describes, with fresh weights.

    Args:
        config: "network" (paper, robust), "direction" (ct_to_sem, sem_to_ct) and the arguments
            of that network.

    Returns:
        A module: one of `CtToSem` or `SemToCt`.

    Raises:
        ValueError: If there is no such network.
    """
    arguments = dict(config)
    kind = (arguments.pop("network", None), arguments.pop("direction", None))
    if kind not in KINDS:
        known = ", ".join(f"{network} {direction}" for network, direction in KINDS)
        raise ValueError(f"no network {kind[0]} {kind[1]}; there are {known}")
    return KINDS[kind](**arguments)


def pair(
    *,
    network: str,
    scale: int,
    width: int,
    blocks: int,
    styles: int = 1,
    even_phases: bool = False,
) -> tuple[CtToSem, SemToCt]:
    """Makes the two translators that train together.

    Args:
        network: "paper" or "robust".
        scale: SEM pixels per CT pixel.
        width: Channels at CT resolution; the robust way back has half as many.
        blocks: Residual blocks at CT resolution.
        styles: Styles that can be asked of ct_to_sem; of paper one.
        even_phases: Of the robust ct_to_sem: no mesh where the CT is flat.

    Raises:
        ValueError: If there is no such network or scale.
    """
    there = {"network": network, "scale": scale, "width": width, "blocks": blocks}
    back = there if network == "paper" else {"network": network, "scale": scale}
    if network != "paper":
        back = {**back, "width": max(8, width // 2)}
        there = {**there, "styles": styles, "even_phases": even_phases}
    return build({**there, "direction": "ct_to_sem"}), build({**back, "direction": "sem_to_ct"})


def ct_to_sem_from_state(state: Mapping[str, Tensor]) -> PaperCtToSem:
    """The published G_LH with weights that were trained by the authors' code.

    Args:
        state: Its state dictionary: model.1.weight, model.4.conv_block.1.weight, ...; a
            "module." in front of every name is ignored.  Scale, width and number of blocks
            follow from it.

    Returns:
        The network, on the CPU, float32.

    Raises:
        Refusal: If names or shapes are not those of such a network.
    """
    layers = _published_layers(state)
    blocks = sum("conv_block" in name for name in layers) // 2
    network = _built(
        PaperCtToSem, layers, "model.1", blocks, doublings=len(layers) - 2 * blocks - 2
    )
    inner = [layer for block in network.blocks for layer in (block.first, block.second)]
    _take(network, layers, [network.head, *inner, network.coarse, *network.steps, network.tail])
    return network


def sem_to_ct_from_state(state: Mapping[str, Tensor]) -> PaperSemToCt:
    """The published G_HL with weights that were trained by the authors' code.

    Args:
        state: Its state dictionary, as in `ct_to_sem_from_state`.

    Returns:
        The network, on the CPU, float32.

    Raises:
        Refusal: If names or shapes are not those of such a network.
    """
    layers = _published_layers(state)
    blocks = sum("conv_block" in name for name in layers) // 2
    last = next(reversed(layers), "model.1")
    network = _built(PaperSemToCt, layers, last, blocks, doublings=len(layers) - 2 * blocks - 2)
    inner = [layer for block in network.blocks for layer in (block.first, block.second)]
    outer = [network.head.first, network.head.second, *network.steps]
    _take(network, layers, [*outer, *inner, network.tail])
    return network


def _published_layers(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weight and bias of each convolution by its name, in the order of the layers."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, values in state.items():
        match = re.fullmatch(r"(?:module\.)?(model[.\w]*)\.(weight|bias)", name)
        if match is None:
            raise Refusal(
                f"the state dictionary holds '{name}'; a published translator has only"
                " model.<number>.weight and .bias, and conv_block inside"
            )
        layers.setdefault(match[1], {})[match[2]] = torch.as_tensor(values).float()
    numbers = {name: [int(part) for part in re.findall(r"\d+", name)] for name in layers}
    return {name: layers[name] for name in sorted(layers, key=numbers.__getitem__)}


def _built(
    kind: Any, layers: Mapping[str, Mapping[str, Tensor]], widest: str, blocks: int, doublings: int
) -> Any:
    """A network of the width that the layer `widest` shows."""
    weight = layers.get(widest, {}).get("weight")
    if weight is None or weight.ndim != 4 or not 1 <= doublings <= 5:
        raise Refusal(
            f"the state dictionary has {len(layers)} layers in the order {', '.join(layers)}; that"
            " is no published translator (3x3, residual blocks, one to five 7x7, 7x7)"
        )
    width = max(weight.shape[:2])
    return kind(scale=2**doublings, width=width, blocks=blocks)


@torch.no_grad()
def _take(
    network: nn.Module, layers: Mapping[str, Mapping[str, Tensor]], ours: list[nn.Module]
) -> None:
    for (name, theirs), layer in zip(layers.items(), ours, strict=True):
        for kind in ("weight", "bias"):
            expected = tuple(getattr(layer, kind).shape)
            given = tuple(theirs[kind].shape) if kind in theirs else "nothing"
            if given != expected:
                raise Refusal(
                    f"{name}.{kind} of the state dictionary is {given}, but {expected} stands"
                    f" there in a published translator of scale {network.scale}"
                )
            getattr(layer, kind).copy_(theirs[kind])
