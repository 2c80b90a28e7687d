import pytest
import torch

from sem2ct.stylegan import inputs
from sem2ct.stylegan.generator import Generator


def drawn(**options):
    given = {"first": 32, "count": 6, "z_dim": 5, "style_count": 8, "style_mixing": 0.9}
    return inputs.draw(3, "generator", **(given | options))


def test_a_latent_belongs_to_its_number():
    assert torch.equal(inputs.latents(1, [4, 7], 6)[1], inputs.latents(1, [7, 2, 9], 6)[0])
    assert not torch.equal(inputs.latents(1, [4], 6), inputs.latents(2, [4], 6))


def test_noise_belongs_to_its_number_and_layer():
    together = inputs.noise_planes(11, torch.tensor([4, 7]), [4, 8, 8])
    alone = inputs.noise_planes(11, torch.tensor([7]), [4, 8, 8])
    assert [plane.shape for plane in together] == [(2, 1, 4, 4), (2, 1, 8, 8), (2, 1, 8, 8)]
    for both, one in zip(together, alone, strict=True):
        assert torch.equal(both[1:], one)
    assert not torch.equal(together[1], together[2])


def test_noise_is_standard_normal():
    plane = inputs.noise_planes(0, torch.arange(20), [4, 64])[1]
    assert plane.mean().item() == pytest.approx(0, abs=0.02)
    assert plane.std().item() == pytest.approx(1, abs=0.02)


def test_styles_are_mixed_with_their_chance_at_any_layer_but_the_first():
    crossover = drawn(count=8000).crossover
    mixed = crossover[crossover < 8]
    assert len(mixed) / 8000 == pytest.approx(0.9, abs=0.02)
    assert set(mixed.tolist()) == set(range(1, 8))


def test_without_mixing_every_layer_has_the_first_style():
    generator = Generator(resolution=8, z_dim=5, w_dim=6, mapping_layers=1, channel_base=32)
    batch = drawn(style_mixing=0.0, style_count=generator.style_count)
    ws, w = inputs.styles(generator, batch, torch.device("cpu"))
    assert torch.equal(ws, generator.mapping(batch.z))
    assert torch.equal(w, ws[:, -1])


def test_a_mixed_image_changes_style_at_its_crossover():
    generator = Generator(resolution=8, z_dim=5, w_dim=6, mapping_layers=1, channel_base=32)
    batch = drawn(style_count=generator.style_count, style_mixing=1.0)
    ws, w = inputs.styles(generator, batch, torch.device("cpu"))
    first, second = generator.mapping(batch.z), generator.mapping(batch.second_z)
    torch.testing.assert_close(w, first[:, 0])
    for n, crossover in enumerate(batch.crossover.tolist()):
        torch.testing.assert_close(ws[n, :crossover], first[n, :crossover])
        torch.testing.assert_close(ws[n, crossover:], second[n, crossover:])


def shared_numbers():
    batch = drawn().share()
    return batch.number.tolist(), batch.z.tolist()


def test_two_processes_share_one_batch(two_ranks):
    whole = drawn()
    for rank, (numbers, z) in enumerate(two_ranks(shared_numbers)):
        assert numbers == [32 + rank, 34 + rank, 36 + rank]
        assert z == whole.z[rank::2].tolist()


def test_rounds_interleave():
    part = drawn().part(1, 2)
    assert part.number.tolist() == [33, 35, 37]
    assert torch.equal(part.second_z, drawn().second_z[1::2])
