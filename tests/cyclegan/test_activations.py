import logging

import pytest
import torch
from torch import nn

from sem2ct.cyclegan import activations
from sem2ct.cyclegan.trainer import CycleganTrainer

BATCH, SCALE, PATCH = 4, 2, 8


def make(**changes) -> CycleganTrainer:
    settings = {
        **{"network": "robust", "scale": SCALE, "patch_px": PATCH, "width": 8, "blocks": 1},
        **{"discriminator_width": 4, "batch_size": BATCH, "batch_per_device": BATCH},
        **{"learning_rate": 1e-3, "constant_images": 100, "total_images": 100, "history": 6},
        **{
            "cycle_weight": 10.0,
            "sem_cycle_weight": 1.0,
            "sem_cycle_interval": 1,
            "consistency_weight": 10.0,
            "raster_weight": 3.0,
            "even_phases": True,
        },
        **{"guard_images": 1000, "ema_half_life_images": 20, "precision": "float32", "seed": 5},
    }
    return CycleganTrainer(**{**settings, **changes}, device=torch.device("cpu"))


def weights_after(trainer: CycleganTrainer, steps: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    for step in range(steps):
        ct = torch.rand(BATCH, 1, PATCH, PATCH, generator=draw) - 0.3
        sem = torch.rand(BATCH, 1, SCALE * PATCH, SCALE * PATCH, generator=draw) * 1.6 - 0.8
        trainer.step({"ct": ct, "sem": sem}, BATCH * step)
    learned = [*trainer.translators.parameters(), *trainer.judges.parameters()]
    return torch.cat([weight.detach().flatten() for weight in learned])


@pytest.mark.parametrize(
    ("network", "precision"), [("paper", "float32"), ("robust", "float32"), ("robust", "bf16")]
)
def test_recomputed_activations_change_no_bit(network, precision):
    plain = make(network=network, precision=precision)
    thrifty = activations.prepared(make(network=network, precision=precision), recomputed=True)
    passes = {}
    for name, trainer in (("plain", plain), ("thrifty", thrifty)):
        counted = passes[name] = []
        trainer.sem_to_ct.tail.register_forward_hook(lambda *_, counted=counted: counted.append(1))
    assert torch.equal(weights_after(plain, 2), weights_after(thrifty, 2))
    # Two branches in each of two steps; the first step also looks at two disturbed cycles.
    assert (len(passes["plain"]), len(passes["thrifty"])) == (4 + 2, 8 + 2)
    assert plain.state()["translators"].keys() == thrifty.state()["translators"].keys()


def test_a_recomputed_network_keeps_its_input_only():
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1))
    network.requires_grad_(False)
    image = torch.rand(1, 1, 8, 8).requires_grad_()
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    plain = torch.autograd.grad(network(image).sum(), image)[0]
    activations.recompute(network)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answer = network(image)
    assert kept == [image.numel()]
    assert torch.equal(torch.autograd.grad(answer.sum(), image)[0], plain)


def test_what_is_kept_is_the_inputs_of_convolutions_and_the_answers_of_tanh():
    network = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 2, 3, padding=1))
    image = torch.empty(3, 1, 8, 6, device="meta")
    # tanh keeps its answer, which is also what the second convolution keeps.
    pixels = 3 * 8 * 6
    assert activations.kept(network.to("meta"), image) == (4 * 6 * pixels, 4 * 5 * pixels)


@pytest.mark.parametrize("network", ["paper", "robust"])
def test_the_estimate_knows_what_lowers_it(network):
    whole = activations.estimate(make(network=network), recomputed=False)
    rounds = activations.estimate(make(network=network, batch_per_device=1), recomputed=False)
    thrifty = activations.estimate(make(network=network), recomputed=True)
    short = activations.estimate(make(network=network, precision="bf16"), recomputed=False)
    # Of paper the folded kernels are kept beside, whatever the batch.
    assert rounds["activations"] == pytest.approx(whole["activations"] / BATCH, rel=0.15)
    assert thrifty["activations"] < 0.8 * whole["activations"]
    assert short["activations"] == pytest.approx(whole["activations"] / 2, rel=0.25)
    assert whole["history"] == 2 * BATCH * (PATCH**2 + (SCALE * PATCH) ** 2)
    assert whole["images"] == 3 * 4 * BATCH * (PATCH**2 + (SCALE * PATCH) ** 2)
    others = ("networks", "history", "images")
    assert [whole[name] for name in others] == [rounds[name] for name in others]


def test_the_memory_of_a_step_is_said_before_it(caplog):
    caplog.set_level(logging.INFO)
    trainer = activations.prepared(make(), recomputed=False)
    learned = [*trainer.translators.parameters(), *trainer.judges.parameters()]
    count = sum(weight.numel() for weight in learned)
    averaged = sum(weight.numel() for weight in trainer.ct_to_sem.parameters())
    parts = activations.estimate(trainer, recomputed=False)
    assert parts["networks"] == 4 * (4 * count + averaged)
    assert "memory of a step: about 0.0 GB (networks 0.00, history" in caplog.text
