import numpy as np
import pytest
import torch

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import nvlabs


@pytest.fixture(scope="module")
def config(generator_reference):
    return generator_reference.json("meta/config_json")


@pytest.fixture
def build(generator_reference, discriminator_reference, config):
    """Builder and state of either network."""
    return {
        "generator": (nvlabs.generator_from_state, generator_reference.state),
        "discriminator": (nvlabs.discriminator_from_state, discriminator_reference.state),
    }


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_weights_go_round_unchanged(build, config, kind):
    load, state = build[kind]
    names = nvlabs.reference_names(load(state, config))
    assert names.keys() == state.keys()
    for name, values in names.items():
        np.testing.assert_array_equal(values.detach().numpy(), state[name], err_msg=name)
    again = nvlabs.reference_names(load(names, config))
    assert all(torch.equal(again[name], names[name]) for name in names)


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_every_parameter_has_a_reference_name_of_its_own(build, config, kind):
    load, state = build[kind]
    network = load(state, config)
    named = {id(value) for value in nvlabs.reference_names(network).values()}
    assert {id(value) for value in network.parameters()} <= named
    assert {id(value) for value in network.buffers()} <= named


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_filters_may_be_left_out(build, config, kind):
    load, state = build[kind]
    load({name: v for name, v in state.items() if "resample_filter" not in name}, config)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("generator", "synthesis.b16.conv1.noise_strength"), ("discriminator", "b4.fc.bias")],
)
def test_missing_unknown_and_misshapen_names_are_refused_by_name(build, config, kind, name):
    load, state = build[kind]
    values = state.pop(name)
    with pytest.raises(Refusal, match=f"lack '{name}'"):
        load(state, config)
    with pytest.raises(Refusal, match=r"hold unknown 'mapping\.embed\.weight'"):
        load({**state, name: values, "mapping.embed.weight": values}, config)
    wide = np.zeros((*values.shape, 2), np.float32)
    with pytest.raises(Refusal, match=f"hold {name} of shape"):
        load({**state, name: wide}, config)


def test_many_missing_names_are_counted(build, config):
    load, _ = build["discriminator"]
    with pytest.raises(Refusal, match="and 23 more"):
        load({}, config)


def test_another_filter_is_refused(build, config):
    load, state = build["discriminator"]
    state["b8.conv1.resample_filter"] = np.full((4, 4), 1 / 16, np.float32)
    with pytest.raises(Refusal, match=r"b8\.conv1\.resample_filter .* is not the \[1, 3, 3, 1\]"):
        load(state, config)


def test_an_incomplete_config_is_refused(build, config):
    load, state = build["generator"]
    with pytest.raises(Refusal, match="lacks 'w'"):
        load(state, {key: value for key, value in config.items() if key != "w"})


def test_a_wrong_config_is_refused_by_shape(build, config):
    load, state = build["generator"]
    with pytest.raises(Refusal, match="of shape"):
        load(state, {**config, "cm": 24})
