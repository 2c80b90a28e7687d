"""The translators by name, and how to build one from its stored description."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from sem2ct.cyclegan.paper_networks import PaperCtToSem, PaperSemToCt
from sem2ct.cyclegan.robust_networks import RobustCtToSem, RobustSemToCt

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


def pair(*, network: str, scale: int, width: int, blocks: int) -> tuple[CtToSem, SemToCt]:
    """Makes the two translators that train together.

    Args:
        network: "paper" or "robust".
        scale: SEM pixels per CT pixel.
        width: Channels at CT resolution; the robust way back has half as many.
        blocks: Residual blocks at CT resolution.

    Raises:
        ValueError: If there is no such network or scale.
    """
    there = {"network": network, "scale": scale, "width": width, "blocks": blocks}
    back = there if network == "paper" else {"network": network, "scale": scale}
    if network != "paper":
        back = {**back, "width": max(8, width // 2)}
    return build({**there, "direction": "ct_to_sem"}), build({**back, "direction": "sem_to_ct"})
