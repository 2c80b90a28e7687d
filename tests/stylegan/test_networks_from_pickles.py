"""Foreign pickles become networks of ours that answer the same."""

import pytest
import torch

from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import nvlabs, sample
from sem2ct.stylegan.layers import StyledConvolution, ToImage


def written(foreign, tmp_path, change=None, **options):
    pair = foreign.networks(**options)
    content = foreign.content(*pair)
    if change is not None:
        change(content)
    return foreign.write(tmp_path / "snapshot.pkl", content), *pair


def test_networks_of_a_pickle_are_those_that_went_in(foreign, tmp_path):
    path, generator, discriminator = written(foreign, tmp_path, group=2)
    found = nvlabs.read(path)
    z, images = torch.randn(4, 5), torch.randn(4, 1, 16, 16)
    for one in (found.generator, found.ema):
        assert torch.equal(one(z, psi=0.7), generator(z, psi=0.7))
        assert one.config == generator.config
    assert torch.equal(found.discriminator(images), discriminator(images))
    assert found.discriminator.group == 2
    assert found.remarks == ()


def test_grey_networks_answer_grey_images_as_the_colour_ones(foreign, tmp_path):
    path, generator, discriminator = written(foreign, tmp_path, channels=3)
    found = nvlabs.read(path, to_grey=True)
    z, images = torch.randn(4, 5), torch.randn(4, 1, 16, 16)
    expected = generator(z).mean(1, keepdim=True)
    torch.testing.assert_close(found.ema(z), expected, rtol=1e-5, atol=1e-5)
    expected = discriminator(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found.discriminator(images), expected, rtol=1e-5, atol=1e-5)


def test_colour_is_not_dropped_without_being_asked(foreign, tmp_path):
    path, *_ = written(foreign, tmp_path, channels=3)
    with pytest.raises(Refusal, match=r"snapshot\.pkl: G is for images of 3 channels; to_grey"):
        nvlabs.read(path)


def test_what_is_widest_and_how_fast_the_mean_moves_is_kept(foreign, tmp_path):
    def change(content):
        parts = content["G"].state["_modules"]
        parts["mapping"].state["w_avg_beta"] = 0.998
        content["D"].state["_init_kwargs"]["conv_clamp"] = 256

    found = nvlabs.read(written(foreign, tmp_path, change)[0])
    assert found.ema.config["w_avg_beta"] == 0.998
    assert "clamps its features at 256" in found.remarks[0]


def test_a_foreign_generator_keeps_its_clamp_after_every_convolution(foreign, tmp_path):
    def change(content):
        content["G_ema"].state["_init_kwargs"]["synthesis_kwargs"]["conv_clamp"] = 1

    path, generator, _ = written(foreign, tmp_path, change)
    clamped = nvlabs.read(path).ema
    seen = []
    for network in (clamped, generator):
        sizes = []
        for layer in network.synthesis.modules():
            if isinstance(layer, StyledConvolution | ToImage):
                layer.register_forward_hook(
                    lambda _, __, out, sizes=sizes: sizes.append(out.abs().amax().item())
                )
        network(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)))
        seen.append(sizes)
    assert seen[1][0] > 1.0
    assert seen[0][0] == max(seen[0]) == 1.0
    assert clamped.config["clamp"] == 1


def test_as_a_checkpoint_they_draw_the_same(foreign, tmp_path):
    path, generator, _ = written(foreign, tmp_path)
    bag = nvlabs.to_checkpoint(nvlabs.read(path))
    saved = checkpoint.save(tmp_path, 0, {"trainer": bag["trainer"]}, keep=1)
    loaded = sample.load(saved)
    z = torch.randn(2, 5)
    assert torch.equal(loaded(z), generator(z))
    assert checkpoint.load(saved)["trainer"].keys() == {"generator", "discriminator", "ema"}


def changed(place, name, value):
    def change(content):
        content[place].state["_init_kwargs"][name] = value

    return change


def part(name, value, *path):
    def change(content):
        place = content["G"]
        for step in path:
            place = place.state["_modules"][step]
        place.state[name] = value

    return change


def twice(content):
    parts = content["G"].state["_modules"]["synthesis"].state["_modules"]
    parts["b32"] = parts["b16"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("G", "c_dim", 10), "G is steered by classes"),
        (changed("G", "z_dim", 2**60), f"z_dim={2**60}, which is no size"),
        (changed("G", "z_dim", "5"), "z_dim=5, which is no size"),
        (changed("G", "img_resolution", 32), "lack 'synthesis.b32"),
        (changed("G", "img_resolution", 17), "resolution=17 is not a power of two"),
        (changed("G", "z_dim", 2**20), r"hold mapping.fc0.weight of shape \(6, 5\)"),
        (changed("D", "channel_base", 2**24), "hold b16.fromrgb.bias|of shape"),
        (lambda content: content.pop("D"), "holds no networks named G, D, G_ema"),
        (lambda content: content.update(D={}), "holds no networks named G, D, G_ema"),
        (lambda content: content["D"].state["_init_kwargs"].clear(), "does not say which img_res"),
        (part("activation", "relu", "synthesis", "b8", "conv0"), "activation='relu'"),
        (part("use_noise", False, "synthesis", "b8", "conv0"), "use_noise=False"),
        (part("bias_gain", 1.0, "mapping", "fc0"), r"lr_multiplier=1\.0"),
        (part("_modules", 5), "_modules are not a list of names"),
        (twice, "stands at two places"),
    ],
)
def test_networks_of_another_make_are_refused(foreign, tmp_path, change, said):
    path, *_ = written(foreign, tmp_path, change)
    with pytest.raises(Refusal, match=said):
        nvlabs.read(path)


def test_sizes_are_checked_before_memory_is_taken(foreign, tmp_path):
    # Such a generator would weigh 2**24 * 2**24 * 4 bytes in its first layer alone.
    def change(content):
        content["G"].state["_init_kwargs"].update(z_dim=2**24, w_dim=2**24)

    path, *_ = written(foreign, tmp_path, change)
    with pytest.raises(Refusal, match="of shape"):
        nvlabs.read(path)
