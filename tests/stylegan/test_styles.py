import numpy as np
import pytest
import torch

from sem2ct.runtime.seeding import mix
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.live import LiveTiles
from sem2ct.stylegan.styles import LatentStyles


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(2)
    options = {"resolution": 8, "z_dim": 4, "w_dim": 4, "mapping_layers": 1, "channel_base": 64}
    return Generator(**options).requires_grad_(False)


@pytest.fixture(scope="module")
def latent_styles(generator) -> LatentStyles:
    return LatentStyles(generator, count=3)


def test_the_style_of_a_tile_depends_on_its_seed_and_number_alone(generator, latent_styles):
    whole = latent_styles.of(7, range(40))
    assert set(whole.tolist()) == {0, 1, 2}
    assert latent_styles.of(7, [31, 4]).tolist() == whole[[31, 4]].tolist()
    assert LatentStyles(generator, count=3).of(7, range(40)).tolist() == whole.tolist()
    assert latent_styles.of(8, range(40)).tolist() != whole.tolist()


def test_tiles_of_a_style_have_w_nearer_to_one_another_than_to_the_rest(generator, latent_styles):
    numbers = range(300)
    labels = latent_styles.of(0, numbers)
    w = latent_styles._w(0, numbers)
    apart = np.linalg.norm(w[:, None] - w[None], axis=2)
    alike = labels[:, None] == labels[None]
    assert apart[alike].mean() < 0.75 * apart[~alike].mean()


def test_the_first_style_is_the_most_common(latent_styles):
    facts = latent_styles.facts()
    assert facts["count"] == 3
    assert sum(facts["tiles"]) == 4096
    assert facts["tiles"] == sorted(facts["tiles"], reverse=True)


def test_live_tiles_come_with_the_styles_of_their_numbers(generator, latent_styles):
    live = LiveTiles(generator, seed=5, psi=0.5, styles=3)
    one, two = live.named(0, 6), live.named(6, 6)
    together = live.named(0, 12)
    assert together["style"].tolist() == latent_styles.of(mix(5, "live"), range(12)).tolist()
    assert together["style"].tolist() == [*one["style"].tolist(), *two["style"].tolist()]
    # Truncation brings styles nearer to one another; it makes none of another.
    untruncated = LiveTiles(generator, seed=5, psi=1.0, styles=3).named(0, 12)
    assert untruncated["style"].tolist() == together["style"].tolist()
    assert list(LiveTiles(generator, seed=5, psi=0.5).named(0, 6)) == ["sem"]
