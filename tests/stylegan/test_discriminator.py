import pytest
import torch

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import nvlabs
from sem2ct.stylegan.discriminator import Discriminator, minibatch_deviation


@pytest.fixture(scope="module")
def trained(generator_reference, discriminator_reference):
    config = generator_reference.json("meta/config_json")
    network = nvlabs.discriminator_from_state(discriminator_reference.state, config)
    return network.requires_grad_(False)


def small(resolution: int = 16, **other) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(resolution=resolution, channel_base=128, channel_max=16, **other)


@pytest.mark.parametrize("name", ["real8", "real4", "real2", "real1", "fake4"])
def test_logits_agree_with_the_reference(trained, discriminator_reference, name):
    if name.startswith("real"):
        images = discriminator_reference["in/real8"][: int(name[-1])]
    else:
        images = discriminator_reference["in/fake4"]
    expected = discriminator_reference[f"out/logits_{name}"][:, 0]
    torch.testing.assert_close(trained(images), expected, rtol=0, atol=5e-6)


def test_every_resolution_agrees_with_the_reference(trained, discriminator_reference):
    seen = []
    hooks = [b.register_forward_hook(lambda *call: seen.append(call[2])) for b in trained.blocks]
    trained(discriminator_reference["in/real8"])
    for hook in hooks:
        hook.remove()
    for side, ours in zip((64, 32, 16, 8), seen, strict=True):
        expected = discriminator_reference[f"out/block{side}_x_sample0"]
        torch.testing.assert_close(ours[:1], expected, rtol=0, atol=1e-5)


def test_autocast_changes_logits_by_the_rounding_of_bf16_only(trained, discriminator_reference):
    expected = discriminator_reference["out/logits_real8"][:, 0]
    with torch.autocast("cpu", torch.bfloat16):
        logits = trained(discriminator_reference["in/real8"])
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("resolution", [4, 8, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_sizes_judge_images_and_learn(resolution, channels):
    discriminator = small(resolution, channels=channels)
    logits = discriminator(torch.randn(3, channels, resolution, resolution))
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters())


def test_parameters_are_those_counted_by_hand():
    # 3 channels at 8x8, 4 at 4x4: from grey 3 + 3; 81 + 3, 108 + 4, skip 12; 5 to 4
    # channels with the deviation: 180 + 4; dense 64 x 4 + 4; logit 4 + 1.
    discriminator = Discriminator(resolution=8, channel_base=24, channel_max=4)
    count = sum(parameter.numel() for parameter in discriminator.parameters())
    assert count == 6 + (84 + 112 + 12) + 184 + 260 + 5


def test_settings_rebuild_the_discriminator():
    discriminator, images = small(group=2), torch.randn(4, 1, 16, 16)
    copy = Discriminator(**discriminator.config)
    copy.load_state_dict(discriminator.state_dict())
    assert torch.equal(copy(images), discriminator(images))


@pytest.mark.parametrize("resolution", [0, 2, 48, 2048])
def test_other_resolutions_are_refused(resolution):
    with pytest.raises(Refusal, match=f"resolution={resolution} is not a power of two"):
        Discriminator(resolution=resolution)


def test_groups_of_the_minibatch_deviation_are_interleaved():
    # Six samples in groups of three: 0, 2, 4 and 1, 3, 5.
    levels = torch.tensor([0.0, 10.0, 3.0, 10.0, 6.0, 10.0])
    features = levels[:, None, None, None].expand(6, 2, 3, 5)
    deviation = minibatch_deviation(features, group=3)
    assert deviation.shape == (6, 1, 3, 5)
    even, odd = 6**0.5, 1e-4  # sqrt of ((0-3)^2 + 0 + (6-3)^2) / 3, and of the epsilon
    expected = torch.tensor([even, odd] * 3)[:, None, None, None].expand(6, 1, 3, 5)
    torch.testing.assert_close(deviation, expected)


@pytest.mark.parametrize(("count", "members"), [(8, 4), (6, 3), (5, 1), (3, 3), (2, 2), (1, 1)])
def test_a_group_is_the_largest_divisor_of_the_batch(count, members):
    # Only sample 0 differs, so exactly the members of its group feel it.
    features = torch.zeros(count, 1, 1, 1)
    features[0] = 1.0
    felt = minibatch_deviation(features, group=4)[:, 0, 0, 0] > 1e-3
    touched = [n for n in range(count) if felt[n]]
    assert touched == ([] if members == 1 else list(range(0, count, count // members)))


def test_the_deviation_is_averaged_over_channels_and_pixels():
    features = torch.zeros(2, 2, 2, 2)
    features[1, 0, 0, 0] = 8.0  # deviation 4 in one of eight places
    deviation = minibatch_deviation(features, group=2)
    torch.testing.assert_close(deviation, torch.full((2, 1, 2, 2), 0.5), rtol=0, atol=2e-4)


def test_the_gradient_penalty_has_the_parameter_gradients_of_finite_differences():
    discriminator = small(8).double()
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    def penalty():
        logits = discriminator(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().sum()

    penalty().backward()
    for name, parameter in discriminator.named_parameters():
        if name == "out.bias":  # it shifts the logit and cannot change its gradient
            continue
        direction = torch.randn_like(parameter)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter += step * direction
            values.append(penalty().item())
            with torch.no_grad():
                parameter -= step * direction
        measured = (values[0] - values[1]) / 2e-5
        assert (parameter.grad * direction).sum().item() == pytest.approx(measured, rel=1e-4), name
