"""What a training step keeps in memory for its way back: told before it begins, or not kept.

Nothing is computed to find out: the networks run once on tensors without content, and what
autograd would keep of them is counted.  With recomputed activations only the images between
the networks stay; each network runs a second time when its gradients are due.

Source of the second: Chen et al. 2016, arXiv:1604.06174.
"""

import copy
import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from sem2ct.cyclegan.trainer import CycleganTrainer

LOGGER = logging.getLogger(__name__)
COPIES = 4
"""Of every learned number: itself, its gradient and Adam's two moments."""
PASSING = 3
"""Largest maps that come and go while gradients are computed."""
SIDES = ("ct", "sem")
_FLOAT_BYTES = 4


def prepared(trainer: CycleganTrainer, *, recomputed: bool) -> CycleganTrainer:
    """Says in the log what a step will take, and makes it take less if that is asked for.

    Args:
        trainer: As it would begin.
        recomputed: Keep no activations inside networks, compute them again: slower by about one
            forward pass, and the same to the last bit.

    Returns:
        The trainer.
    """
    parts = estimate(trainer, recomputed=recomputed)
    said = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
    LOGGER.info("memory of a step: about %.1f GB (%s)", sum(parts.values()) / 1e9, said)
    if recomputed:
        recompute(trainer.ct_to_sem, trainer.sem_to_ct, *trainer.judges.values())
    return trainer


def recompute(*networks: nn.Module) -> None:
    """Makes networks keep their inputs only; what lies between is computed again on the way back.

    Args:
        networks: Such as draw no random numbers of torch in a pass.
    """
    again: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    for network in networks:
        network.forward = partial(checkpoint, network.forward, **again)


def estimate(trainer: CycleganTrainer, *, recomputed: bool) -> dict[str, int]:
    """Bytes that a step takes, by what needs them; the program itself comes on top.

    Args:
        trainer: As it would begin.
        recomputed: Whether networks keep their inputs only.

    Returns:
        "networks" with gradients, optimizers and average, "history", "images" of this process's
        share of a batch with their translations, and "activations" of `batch_per_device` images.
    """
    histories = trainer.histories
    learned = [*trainer.translators.parameters(), *trainer.judges.parameters()]
    numbers = COPIES * sum(map(torch.numel, learned))
    numbers += sum(map(torch.numel, trainer.ema.parameters()))
    of_share = sum(each.images[:, 0].numel() for each in histories.values())
    return {
        "networks": _FLOAT_BYTES * numbers,
        "history": sum(each.images.numel() for each in histories.values()),
        # Real, translated, and shown to the judges.
        "images": 3 * _FLOAT_BYTES * of_share,
        "activations": _activations(trainer, recomputed=recomputed),
    }


def _activations(trainer: CycleganTrainer, *, recomputed: bool) -> int:
    """The most that is kept at one time, of the four passes that have a way back."""
    # Of mixed precision convolutions keep what is bfloat16.
    short = trainer.precision in ("bf16", "mixed")
    kind: dict[str, Any] = {"device": "meta", "dtype": torch.bfloat16 if short else torch.float32}
    networks = (trainer.ct_to_sem, trainer.sem_to_ct, *trainer.judges.values())
    ct_to_sem, sem_to_ct, sem_judge, ct_judge = (
        copy.deepcopy(each).to(**kind) for each in networks
    )
    n = min(trainer.batch_per_device, trainer.batch_size)
    ct, sem = (torch.empty(n, *trainer.histories[name].images.shape[2:], **kind) for name in SIDES)
    passes = [
        [kept(ct_to_sem, ct), kept(sem_to_ct, sem), kept(sem_judge, sem)],
        [kept(sem_to_ct, sem), kept(ct_to_sem, ct), kept(ct_judge, ct)],
        # Real and shown images are judged together.
        [kept(sem_judge, torch.cat([sem, sem]))],
        [kept(ct_judge, torch.cat([ct, ct]))],
    ]
    together = max if recomputed else sum
    most = max(together(size for size, _ in networks) for networks in passes)
    return most + PASSING * max(largest for networks in passes for _, largest in networks)


def kept(network: nn.Module, images: Tensor) -> tuple[int, int]:
    """Counts what autograd keeps of a pass through a network, beside its weights.

    Args:
        network: On the device "meta".
        images: What it is given, there too.

    Returns:
        Bytes of all that is kept, and of the largest single tensor of it.
    """
    sizes: dict[StorageWeakRef, int] = {}
    weights = {_storage(each) for each in (*network.parameters(), *network.buffers())}

    def note(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            sizes[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        answer = network(images.requires_grad_())
    del answer
    return sum(sizes.values()), max(sizes.values(), default=0)


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())
