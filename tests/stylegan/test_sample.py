import numpy as np
import pytest
import torch

from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import sample
from sem2ct.stylegan.generator import Generator

SIDE = 8


def small_generator():
    torch.manual_seed(4)
    generator = Generator(
        resolution=SIDE, z_dim=6, w_dim=6, mapping_layers=2, channel_base=64, channel_max=16
    )
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if "noise_strength" in name:
                parameter.fill_(0.3)
        generator.mapping.w_avg.normal_(generator=torch.Generator().manual_seed(9))
    return generator.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def generator():
    return small_generator()


def cells(draw, rows, n):
    drawn = [draw(k) for k in range(rows)]
    assert all(row.dtype == np.uint8 and row.shape == (n, SIDE, SIDE) for row in drawn)
    return drawn


def differ(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max() > 5


def test_a_tile_is_given_by_seed_and_number_alone(generator):
    together = sample.tiles(generator, seed=3, indices=range(20, 27), batch=4)
    alone = sample.tiles(generator, seed=3, indices=[25, 21], batch=1)
    # Sums of another batch size may round differently: one grey level at most.
    assert np.abs(together[[5, 1]].astype(int) - alone.astype(int)).max() <= 1
    assert differ(together[0], together[1])
    assert differ(together[0], sample.tiles(generator, seed=4, indices=[20])[0])


def test_tiles_are_the_images_in_grey_levels(generator):
    grey = sample.images(generator, seed=1, indices=[7, 2], psi=0.8)
    assert grey.shape == (2, 1, SIDE, SIDE)
    expected = np.clip(np.rint((grey[:, 0].numpy() + 1) * 127.5), 0, 255)
    tiles = sample.tiles(generator, seed=1, indices=[7, 2], psi=0.8)
    assert np.array_equal(tiles, expected)


def test_without_psi_every_tile_has_the_mean_style(generator):
    w_avg = generator.mapping.w_avg
    expected = generator.synthesis(w_avg.expand(1, generator.style_count, -1), noise="none")
    quiet = small_generator()
    with torch.no_grad():
        for name, parameter in quiet.named_parameters():
            if "noise_strength" in name:
                parameter.zero_()
    images = sample.images(quiet, seed=1, indices=[0, 1], psi=0.0)
    torch.testing.assert_close(images, expected.expand(2, -1, -1, -1))


def test_a_fixed_style_changes_its_noise_along_a_row(generator):
    grid = cells(sample.fixed_style(generator, seed=2, rows=2, n=3), 2, 3)
    ws = generator.mapping(sample.latents(2, [1], 6))
    numbers = sample._noise(generator, 2, [2])
    expected = sample.from_network(generator.synthesis(ws, numbers))[0, 0].numpy()
    assert np.abs(grid[1][2].astype(int) - expected.astype(int)).max() <= 1
    assert differ(grid[0][0], grid[0][1])
    assert differ(grid[0][0], grid[1][0])


def test_a_fixed_noise_changes_its_style_along_a_row(generator):
    grid = cells(sample.fixed_noise(generator, seed=2, rows=3, n=2), 3, 2)
    across = cells(sample.fixed_style(generator, seed=2, rows=2, n=3), 2, 3)
    for noise in range(3):
        for style in range(2):
            difference = grid[noise][style].astype(int) - across[style][noise].astype(int)
            assert np.abs(difference).max() <= 1


def test_a_path_goes_straight_from_one_style_to_another(generator):
    grid = cells(sample.interpolate(generator, seed=2, rows=2, n=3), 2, 3)
    ends = generator.mapping(sample.latents(2, [2, 3], 6))
    noise = sample._noise(generator, 2, [1])
    for column, ws in enumerate((ends[:1], ends.mean(0, keepdim=True), ends[1:])):
        expected = sample.from_network(generator.synthesis(ws, noise))[0, 0].numpy()
        assert np.abs(grid[1][column].astype(int) - expected.astype(int)).max() <= 1


def test_a_checkpoint_gives_its_averaged_generator(generator, tmp_path):
    averaged = {"config": generator.config, "weights": generator.state_dict()}
    path = checkpoint.save(tmp_path, 32, {"trainer": {"ema": averaged}}, keep=1)
    loaded = sample.load(path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    expected = sample.tiles(generator, seed=0, indices=[3])
    assert np.array_equal(sample.tiles(loaded, seed=0, indices=[3]), expected)


@pytest.mark.parametrize(
    "trainer",
    [{}, {"ema": {"config": {"network": "robust"}, "weights": {}}}],
    ids=["no average", "a translator"],
)
def test_a_checkpoint_without_a_generator_is_refused(tmp_path, trainer):
    path = checkpoint.save(tmp_path, 32, {"trainer": trainer}, keep=1)
    with pytest.raises(Refusal, match="holds no generator of SEM tiles; give a run folder"):
        sample.load(path)


@pytest.mark.gpu
def test_a_gpu_draws_the_tiles_of_the_cpu(generator):
    expected = sample.tiles(generator, seed=3, indices=range(13), batch=4)
    drawn = sample.tiles(small_generator().cuda(), seed=3, indices=range(13), batch=4)
    assert np.abs(drawn.astype(int) - expected.astype(int)).max() <= 2
