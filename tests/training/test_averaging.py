import pytest
import torch
from torch import nn

from sem2ct.training.averaging import Averaged


def steps(average, network, values, *, batch_size):
    for step, value in enumerate(values):
        network.weight.data.fill_(value)
        average.update(network, images_seen=step * batch_size, batch_size=batch_size)
    return float(average.module.weight.flatten()[0].detach())


def network(value):
    made = nn.Linear(2, 1, bias=False)
    made.weight.data.fill_(value)
    return made


@pytest.mark.parametrize("batch_size", [2, 5, 10])
def test_after_a_half_life_the_old_weights_count_half_whatever_the_batch(batch_size):
    net = network(0.0)
    average = Averaged(net, half_life_images=10)
    assert steps(average, net, [3.0] * (10 // batch_size), batch_size=batch_size) == pytest.approx(
        1.5
    )


def test_an_average_is_the_geometric_sum():
    """Half-life 4 and batch 4: each step halves the old, 1, 3 -> ((8/2 + 1/2) + 3) / 2."""
    net = network(8.0)
    assert steps(Averaged(net, half_life_images=4), net, [1.0, 3.0], batch_size=4) == 3.75


def test_the_ramp_forgets_the_untrained_weights():
    """Images seen 0, 10, 20 at ramp 0.5: half-lives 0, 5, 10 with batch 10."""
    net = network(100.0)
    average = Averaged(net, half_life_images=10**6, ramp=0.5)
    assert steps(average, net, [1.0, 5.0, 2.0], batch_size=10) == pytest.approx(
        ((1 * 0.25 + 5 * 0.75) + 2) / 2
    )


def test_the_average_stands_apart_from_the_network():
    net = nn.BatchNorm1d(2)
    average = Averaged(net, half_life_images=1000)
    net.running_mean.fill_(7.0)
    average.update(net, images_seen=0, batch_size=1)
    assert average.module.running_mean.tolist() == [7.0, 7.0]
    net.running_mean.fill_(9.0)
    assert average.module.running_mean.tolist() == [7.0, 7.0]
    assert not average.module.training
    assert net.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert net.weight.requires_grad
    assert torch.equal(average.module.weight, net.weight)
