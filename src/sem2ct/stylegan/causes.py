"""Which phase and network a value of the training belongs to, and what decides over it."""

from types import MappingProxyType

import torch

from sem2ct.stylegan.descent import Descent
from sem2ct.training.soundness import MENDED, OVERFLOWED

_PHASES = {
    "generator": "it is of the generator's phase; lower learning_rate",
    "path length": (
        "it is of the generator's path-length phase; lower path_length_weight or learning_rate"
    ),
    "discriminator": ("it is of the discriminator's phase; lower learning_rate or raise r1_gamma"),
    "gradient penalty": (
        "it is of the discriminator's gradient penalty (R1); lower r1_gamma or learning_rate"
    ),
}

CAUSES = MappingProxyType(
    {
        "g_loss": _PHASES["generator"],
        "path_length": _PHASES["path length"],
        "d_loss": _PHASES["discriminator"],
        "r1": _PHASES["gradient penalty"],
        **{MENDED + phase: cause for phase, cause in _PHASES.items()},
        **{
            OVERFLOWED + phase: cause + ", or set precision=bf16"
            for phase, cause in _PHASES.items()
        },
    }
)


def mended(
    phase: str, done: Descent, *, precision: str, device: torch.device
) -> dict[str, torch.Tensor]:
    """Under its name for the values, whether a gradient of a phase had to be mended.

    Args:
        phase: One of those that have a cause.
        done: What the phase's step saw.
        precision: Of the training; mixed is float16 on a GPU.
        device: Where it computes.
    """
    float16 = precision == "mixed" and device.type == "cuda"
    return {(OVERFLOWED if float16 else MENDED) + phase: done.mended}
