import inspect

import numpy as np
import pytest
import torch

from sem2ct.data.store import StoreWriter
from sem2ct.runtime.refusal import Refusal
from sem2ct.stages import train_cyclegan
from sem2ct.stylegan.live import LiveTiles


class Settings:
    """The settings that say which images train, with small values for the rest."""

    symmetries, seed, batch_size, styles, sem_styles, psi = "none", 0, 2, 1, "all", 1.0
    to_grey, greys = False, "checked"

    def __init__(self, **given):
        vars(self).update(given)

    def arguments_of(self, target):
        taken = inspect.signature(target).parameters
        return {name: getattr(self, name) for name in taken if hasattr(self, name)}


def store(folder, *, px, domain):
    count = 4
    writer = StoreWriter(
        folder,
        tile_px=px,
        domain=domain,
        pixel_um=None,
        window=None,
        shard_patches=count,
        sources=[],
        facts={},
    )
    tiles = np.random.default_rng(px).integers(0, 256, (count, px, px)).astype(np.uint8)
    writer.write_shard(0, tiles, {name: np.arange(count) for name in ("source", "z", "y", "x")})
    writer.finish()
    return folder


@pytest.mark.parametrize("tile_px", [20, 24, 8])
def test_stores_that_do_not_fit_are_refused_with_both_sides(tmp_path, tile_px):
    settings = Settings(
        ct=store(tmp_path / "ct", px=8, domain="ct"),
        sem=store(tmp_path / "sem", px=tile_px, domain="sem"),
    )
    with pytest.raises(Refusal, match=f"tiles of {tile_px} px.*patches of 8 px"):
        train_cyclegan._Domains(settings)


def test_the_scale_follows_from_the_two_stores(tmp_path):
    settings = Settings(
        ct=store(tmp_path / "ct", px=8, domain="ct"),
        sem=store(tmp_path / "sem", px=64, domain="sem"),
    )
    domains = train_cyclegan._Domains(settings)
    shapes = {name: tuple(images.shape) for name, images in domains.share(0).items()}
    assert domains.scale == 8
    assert shapes == {"ct": (2, 1, 8, 8), "sem": (2, 1, 64, 64)}


def test_live_tiles_are_drawn_in_the_step_from_the_named_file(tmp_path, foreign):
    path = foreign.write(tmp_path / "snapshot.pkl", foreign.content(*foreign.networks()))
    settings = Settings(
        ct=store(tmp_path / "ct", px=8, domain="ct"),
        sem="live",
        stylegan=tmp_path / "nowhere",
        checkpoint=path,
        device="cpu",
    )
    assert train_cyclegan.inputs(settings) == [tmp_path / "ct" / "manifest.json", path]
    domains = train_cyclegan._Domains(settings)
    assert (domains.scale, domains.facts()["sem_store"]["pixel_um"]) == (2, None)
    assert list(domains.share(4)) == ["ct"]
    assert domains.share(4, live=True)["sem"].shape == (2, 1, 16, 16)

    class Student:
        def step(self, images, images_seen):
            return images

    given = domains.fed(Student()).step(domains.share(4), 4)
    assert (given["sem"] == domains.share(4, live=True)["sem"]).all()


def test_live_tiles_of_a_colour_pickle_are_the_mean_of_its_channels_if_asked_for(tmp_path, foreign):
    colour, discriminator = foreign.networks(channels=3)
    path = foreign.write(tmp_path / "snapshot.pkl", foreign.content(colour, discriminator))
    ct = store(tmp_path / "ct", px=8, domain="ct")
    given = {"ct": ct, "sem": "live", "stylegan": tmp_path, "checkpoint": path, "device": "cpu"}
    with pytest.raises(Refusal, match="images of 3 channels; to_grey=true makes it grey"):
        train_cyclegan._Domains(Settings(**given))
    domains = train_cyclegan._Domains(Settings(**given, to_grey=True))
    expected = LiveTiles(colour, seed=0, psi=1.0).share(4, 2).mean(1, keepdim=True)
    drawn = domains.share(4, live=True)["sem"]
    torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-5)
