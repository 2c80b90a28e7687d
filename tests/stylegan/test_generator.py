import pytest
import torch

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import nvlabs
from sem2ct.stylegan.generator import Generator, resolutions, width

SMALL = {"z_dim": 8, "w_dim": 12, "mapping_layers": 2, "channel_base": 128, "channel_max": 16}


@pytest.fixture(scope="module")
def trained(generator_reference):
    config = generator_reference.json("meta/config_json")
    return nvlabs.generator_from_state(generator_reference.state, config).requires_grad_(False)


def small(resolution: int = 16, **other) -> Generator:
    """An untrained generator in which noise and truncation do something."""
    torch.manual_seed(0)
    generator = Generator(resolution=resolution, **{**SMALL, **other})
    with torch.no_grad():
        for layer in generator.synthesis.convolutions():
            layer.noise_strength.fill_(0.5)
        generator.mapping.w_avg.normal_()
    return generator


@pytest.mark.parametrize(
    ("name", "truncation"),
    [
        ("out/ws", {}),
        ("out/ws_psi0.7", {"psi": 0.7}),
        ("out/ws_psi0.5_cutoff4", {"psi": 0.5, "cutoff": 4}),
    ],
)
def test_styles_agree_with_the_reference(trained, generator_reference, name, truncation):
    ws = trained.mapping(generator_reference["in/z"], **truncation)
    torch.testing.assert_close(ws, generator_reference[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "ws", "noise"),
    [
        ("out/img_noise-const_fused-1", "out/ws", "const"),
        ("out/img_noise-const_fused-0", "out/ws", "const"),
        ("out/img_noise-none_fused-1", "out/ws", "none"),
        ("out/img_noise-none_fused-0", "out/ws", "none"),
        ("out/img_psi0.7_noise-const", "out/ws_psi0.7", "const"),
        ("out/img_mixed_noise-const", "in/ws_mixed_at5", "const"),
    ],
)
@pytest.mark.parametrize("count", [4, 1])
def test_images_agree_with_the_reference(trained, generator_reference, name, ws, noise, count):
    images = trained.synthesis(generator_reference[ws][:count], noise)
    torch.testing.assert_close(images, generator_reference[name][:count], rtol=0, atol=2e-5)


def test_every_resolution_agrees_with_the_reference(trained, generator_reference):
    seen = {}
    hooks = [
        block.register_forward_hook(lambda *call, side=4 * 2**i: seen.update({side: call[2]}))
        for i, block in enumerate(trained.synthesis.blocks)
    ]
    trained.synthesis(generator_reference["out/ws"])
    for hook in hooks:
        hook.remove()
    for side in (4, 8, 16, 32, 64):
        for what, ours in zip(("x", "img"), seen[side], strict=True):
            expected = generator_reference[f"out/block{side}_{what}_sample0"]
            torch.testing.assert_close(ours[:1], expected, rtol=0, atol=3e-5)


def test_autocast_changes_images_by_the_rounding_of_bf16_only(trained, generator_reference):
    expected = generator_reference["out/img_noise-const_fused-1"]
    with torch.autocast("cpu", torch.bfloat16):
        images = trained(generator_reference["in/z"])
    assert images.dtype == torch.float32
    assert (images - expected).std() / expected.std() < 0.03


@pytest.mark.parametrize("resolution", [4, 8, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_sizes_draw_images_and_learn(resolution, channels):
    generator = small(resolution, channels=channels)
    images = generator(torch.randn(3, 8), noise="random")
    assert images.shape == (3, channels, resolution, resolution)
    images.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())


def test_one_thousand_and_twenty_four_pixels_have_eighteen_styles():
    generator = Generator(
        resolution=1024, z_dim=4, w_dim=4, mapping_layers=1, channel_base=1024, channel_max=4
    )
    assert generator.style_count == 18
    assert generator.noise_shapes == [4, *[s for k in range(3, 11) for s in (2**k, 2**k)]]
    with torch.no_grad():
        assert generator(torch.ones(1, 4)).shape == (1, 1, 1024, 1024)


def test_parameters_are_those_counted_by_hand():
    # 4 channels at 4x4, 3 at 8x8.  Mapping 42 + 56; 4x4: constant 64, convolution
    # 32 (affine) + 144 + 4 + 1, grey 32 + 4 + 1; 8x8: 32 + 108 + 3 + 1, 24 + 81 + 3 + 1, grey 28.
    generator = Generator(
        resolution=8, z_dim=5, w_dim=7, mapping_layers=2, channel_base=24, channel_max=4
    )
    count = sum(parameter.numel() for parameter in generator.parameters())
    assert count == 98 + (64 + 181 + 37) + (144 + 109 + 28)


def test_settings_rebuild_the_generator():
    generator = small()
    copy = Generator(**generator.config)
    copy.load_state_dict(generator.state_dict())
    z = torch.randn(2, 8)
    assert torch.equal(copy(z), generator(z))


def test_truncation_moves_styles_towards_their_mean():
    generator, z = small(), torch.randn(3, 8)
    ws, mean = generator.mapping(z), generator.mapping.w_avg
    torch.testing.assert_close(generator.mapping(z, psi=0.0), mean.expand_as(ws))
    torch.testing.assert_close(generator.mapping(z, psi=0.3), mean + 0.3 * (ws - mean))
    partly = generator.mapping(z, psi=0.3, cutoff=2)
    assert torch.equal(partly[:, 2:], ws[:, 2:])
    torch.testing.assert_close(partly[:, :2], mean + 0.3 * (ws[:, :2] - mean))


def test_the_size_of_a_latent_does_not_matter():
    generator, z = small(), torch.randn(3, 8)
    torch.testing.assert_close(generator.mapping(7 * z), generator.mapping(z), rtol=1e-4, atol=1e-5)


def test_the_mean_style_follows_what_it_is_shown():
    generator = small(w_avg_beta=0.9)
    generator.mapping.w_avg.fill_(1.0)
    shown = torch.tensor([2.0, 6.0])[:, None].repeat(1, 12)
    generator.mapping.track(shown)
    torch.testing.assert_close(generator.mapping.w_avg, torch.full((12,), 0.9 * 1 + 0.1 * 4))
    other = torch.full((2, generator.style_count, 12), 100.0)
    other[:, 0] = shown
    generator.mapping.track(other)
    torch.testing.assert_close(generator.mapping.w_avg, torch.full((12,), 0.9 * 1.3 + 0.1 * 4))


def test_stored_noise_is_repeatable_and_random_noise_is_not():
    generator, z = small(), torch.randn(2, 8)
    ws = generator.mapping(z)
    assert torch.equal(generator.synthesis(ws), generator.synthesis(ws, "const"))
    assert not torch.equal(generator.synthesis(ws, "random"), generator.synthesis(ws, "random"))
    assert not torch.equal(generator.synthesis(ws, "none"), generator.synthesis(ws, "const"))
    torch.manual_seed(5)
    first = generator.synthesis(ws, "random")
    torch.manual_seed(5)
    assert torch.equal(generator.synthesis(ws, "random"), first)


def test_given_planes_are_used_layer_by_layer():
    generator = small()
    ws = generator.mapping(torch.randn(2, 8))
    assert generator.noise_shapes == [4, 8, 8, 16, 16]
    stored = [
        layer.noise_const.expand(2, 1, -1, -1) for layer in generator.synthesis.convolutions()
    ]
    assert torch.equal(generator.synthesis(ws, stored), generator.synthesis(ws, "const"))
    zeros = [torch.zeros(2, 1, side, side) for side in generator.noise_shapes]
    assert torch.equal(generator.synthesis(ws, zeros), generator.synthesis(ws, "none"))
    with pytest.raises(Refusal, match="not one plane for each of the 5 layers"):
        generator.synthesis(ws, stored[:-1])
    with pytest.raises(Refusal, match="noise='constant' is none of const"):
        generator.synthesis(ws, "constant")


def test_random_noise_differs_between_the_images_of_a_batch():
    generator = small()
    ws = generator.mapping(torch.randn(1, 8)).repeat(2, 1, 1)
    images = generator.synthesis(ws, "random")
    assert not torch.equal(images[0], images[1])


def test_images_do_not_depend_on_their_neighbours_in_the_batch():
    generator, z = small(), torch.randn(5, 8)
    together = generator(z)
    apart = torch.cat([generator(z[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


def test_a_style_steers_its_own_resolution_and_what_follows():
    generator = small()
    ws = generator.mapping(torch.randn(1, 8))
    seen = []
    for block in generator.synthesis.blocks:
        block.register_forward_hook(lambda *call: seen.append(call[2][1]))
    generator.synthesis(ws, "none")
    other = ws.clone()
    # Of six styles the fourth is the image layer of 8x8 and the first convolution of 16x16.
    other[:, 3] += 1.0
    generator.synthesis(other, "none")
    same = [torch.equal(seen[i], seen[i + 3]) for i in range(3)]
    assert same == [True, False, False]


@pytest.mark.parametrize("resolution", [0, 2, 48, 2048])
def test_other_resolutions_are_refused(resolution):
    with pytest.raises(Refusal, match=f"resolution={resolution} is not a power of two"):
        Generator(resolution=resolution)


def test_channels_follow_base_and_maximum():
    assert resolutions(16) == [4, 8, 16]
    recipe = {"channel_base": 32768, "channel_max": 512}
    assert [width(r, **recipe) for r in (4, 64, 128, 1024)] == [512, 512, 256, 32]
    assert width(64, channel_base=32, channel_max=8) == 1
