"""Beginning a training from the weights of another one.

The networks, the averaged one too, begin as those of the file; optimizers and the strength
of the augmentation begin anew.  Low layers of a discriminator see textures that most images
share, so they may stay as they are (FreezeD): their weights then are no parameters any more
but constants, which no optimizer, average or gradient touches.

Source: Mo, Cho, Shin 2020, arXiv:2002.10964 (FreezeD).
"""

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import trained
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.generator import Generator

LOGGER = logging.getLogger(__name__)

# How the mean style moves, and a guard of float16: neither changes what the weights mean.
FREE = {"w_avg_beta", "clamp"}


def begin(
    path: Path,
    *,
    generator: Generator,
    discriminator: Discriminator,
    ema: Generator,
    to_grey: bool = False,
) -> None:
    """Fills the networks of a training with the weights of a file.

    Args:
        path: A run folder of train-stylegan (its newest checkpoint), one of its
            checkpoints, or a network pickle of StyleGAN2-ADA (*.pkl).
        generator: Filled with the file's generator.
        discriminator: Filled with the file's discriminator.
        ema: Filled with the file's averaged generator.
        to_grey: Make grey networks of a pickle's colour ones.

    Raises:
        Refusal: If there is no such file, or its networks have other shapes.
    """
    if not path.exists():
        raise Refusal(
            f"resume_from={path} does not exist; name a run folder of train-stylegan, one of its"
            " checkpoints, or a network pickle of StyleGAN2-ADA (*.pkl)"
        )
    file = checkpoint.find(path, setting="stylegan")
    bag = trained.bag(file, to_grey=to_grey)
    networks = {"generator": generator, "discriminator": discriminator, "ema": ema}
    weights = _weights(bag, file)
    differences = _other_config(bag["trainer"]["ema"]["config"], ema.config)
    for name, network in networks.items():
        differences += _other_shapes(name, weights[name], network.state_dict())
    if differences:
        more = f" and {len(differences) - 6} more" if len(differences) > 6 else ""
        raise Refusal(
            f"resume_from={file} does not fit this training: {', '.join(differences[:6])}{more};"
            " give the networks the same settings, and tiles of the same side"
        )
    for name, network in networks.items():
        network.load_state_dict(weights[name])
    LOGGER.info(
        "begins with the networks of %s (%s images seen, sha256 %s)",
        file,
        bag["images_seen"] or "unknown",
        checkpoint.digest(file),
    )


def freeze(discriminator: Discriminator, blocks: int) -> None:
    """Makes constants of the first layers of a discriminator.

    Args:
        discriminator: Changed in place; names and values in its state stay the same.
        blocks: How many blocks, from the highest resolution down; with the first one goes
            the layer that reads the image.

    Raises:
        Refusal: If that would leave no block that learns.
    """
    most = len(discriminator.blocks) - 1
    if blocks > max(most, 0):
        raise Refusal(
            f"freeze_d={blocks}, but at {discriminator.resolution} px the discriminator has"
            f" {most + 1} blocks, the last of which has to learn; set at most {max(most, 0)}"
        )
    still = itertools.chain([discriminator.from_image], discriminator.blocks[:blocks])
    for layer in still if blocks else ():
        for part in layer.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                delattr(part, name)
                part.register_buffer(name, parameter.detach())


def _weights(bag: Mapping[str, Any], file: Path) -> dict[str, Mapping[str, Tensor]]:
    try:
        state = bag["trainer"]
        ema = state["ema"]["weights"]
        assert state["ema"]["config"]["z_dim"]
        return {
            "generator": state["generator"],
            "discriminator": state["discriminator"],
            "ema": ema,
        }
    except (KeyError, TypeError) as error:
        raise Refusal(
            f"resume_from={file} holds no networks of train-stylegan; name one of its run"
            " folders or checkpoints, or a network pickle of StyleGAN2-ADA (*.pkl)"
        ) from error


def _other_config(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {there.get(name)} there, {value} here"
        for name, value in here.items()
        if name not in FREE and there.get(name) != value
    ]


def _other_shapes(
    network: str, there: Mapping[str, Tensor], here: Mapping[str, Tensor]
) -> list[str]:
    shapes = [
        {name: str(tuple(values.shape)) for name, values in state.items()}
        for state in (there, here)
    ]
    return [
        f"{network} {name} {shapes[0].get(name, 'absent')} there,"
        f" {shapes[1].get(name, 'absent')} here"
        for name in sorted({*there, *here})
        if shapes[0].get(name) != shapes[1].get(name)
    ]
