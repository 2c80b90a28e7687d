"""The synthesize stage with an untrained generator."""

import imagecodecs
import numpy as np
import pytest
import torch

from sem2ct.config import build
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime import checkpoint, distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import synthesize
from sem2ct.stylegan import grids, sample
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.styles import LatentStyles

WINDOW = {"low": 12.0, "high": 240.0}


@pytest.fixture(scope="module")
def stylegan(tmp_path_factory):
    """A run folder of train-stylegan with one checkpoint."""
    torch.manual_seed(2)
    generator = Generator(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=64)
    bag = {
        "trainer": {"ema": {"config": generator.config, "weights": generator.state_dict()}},
        "store": {"domain": "sem", "tile_px": 8, "pixel_um": 0.25, "window": WINDOW},
    }
    run = tmp_path_factory.mktemp("stylegan")
    checkpoint.save(run / "checkpoints", 640, bag, keep=1)
    return run


@pytest.fixture
def settings(stylegan, tmp_path):
    def made(**options):
        given = {
            "run": "one",
            "run_root": tmp_path,
            "seed": 3,
            "dry_run": False,
            "device": "cpu",
            "devices": 1,
            "precision": "float32",
            "stylegan": stylegan,
            "checkpoint": "latest",
            "to_grey": False,
            "pixel_um": "unstated",
            "mode": "store",
            "n": 11,
            "rows": 2,
            "psi": 0.9,
            "styles": 1,
            "batch_per_device": 3,
            "shard_patches": 4,
            "encoding": "npy",
        }
        return build("synthesize", given | options)

    return made


def run(settings, path):
    folder = RunFolder.open(path, settings.model_dump())
    synthesize.run(settings, folder)
    return folder


def test_a_store_of_tiff_files_holds_the_same_tiles(settings, tmp_path):
    for encoding in ("npy", "tiff"):
        run(settings(encoding=encoding), tmp_path / encoding)
    plain, packed = (Store(tmp_path / encoding / "sem") for encoding in ("npy", "tiff"))
    assert {file.suffix for file in packed.folder.iterdir()} == {".tif", ".json"}
    assert np.array_equal(packed.tiles[:], plain.tiles[:])
    assert np.array_equal(packed.places()["seed"], np.arange(11))
    packed.verify()


def test_the_store_holds_the_tiles_by_number(settings, stylegan, tmp_path):
    folder = run(settings(), tmp_path / "run")
    store = Store(folder.path / "sem")
    store.verify()
    assert len(store) == 11
    assert (store.domain, store.tile_px, store.pixel_um) == ("sem", 8, 0.25)
    assert store.window.as_dict() == WINDOW
    assert store.places()["seed"].tolist() == list(range(11))
    generator = sample.load(checkpoint.find(stylegan, setting="stylegan"))
    expected = sample.tiles(generator, seed=3, indices=[9, 0], psi=0.9)
    assert np.abs(store.tiles[[9, 0]].astype(int) - expected.astype(int)).max() <= 1


def test_the_manifest_names_the_generator(settings, stylegan, tmp_path):
    folder = run(settings(), tmp_path / "run")
    manifest = Store(folder.path / "sem").manifest
    path = checkpoint.find(stylegan, setting="stylegan")
    assert manifest["facts"]["generator_sha256"] == checkpoint.digest(path)
    assert manifest["facts"]["psi"] == 0.9
    assert manifest["sources"] == [{"file": str(path), "images_seen": 640}]
    assert [shard["count"] for shard in manifest["shards"]] == [4, 4, 3]


def test_the_first_tiles_are_shown(settings, tmp_path):
    folder = run(settings(), tmp_path / "run")
    picture = imagecodecs.png_decode(
        (folder.path / "previews" / "fake_sem_000000640.png").read_bytes()
    )
    assert picture.shape == (2 * 10 - 2, 6 * 10 - 2)
    assert np.array_equal(picture[:8, 10:18], Store(folder.path / "sem").tiles[1])


def test_a_stopped_run_makes_the_missing_shards_only(settings, tmp_path, monkeypatch):
    folder = run(settings(), tmp_path / "run")
    expected = (folder.path / "sem" / "manifest.json").read_bytes()
    for name in ("sem/shard_00001.npy", "sem/manifest.json", "done.json"):
        (folder.path / name).unlink()
    asked = []
    original = sample.tiles

    def watched(generator, *, indices, **options):
        asked.extend(indices)
        return original(generator, indices=indices, **options)

    monkeypatch.setattr(sample, "tiles", watched)
    synthesize.run(settings(), folder)
    assert asked == [4, 5, 6, 7]
    assert (folder.path / "sem" / "manifest.json").read_bytes() == expected
    assert folder.finished


@pytest.mark.parametrize("mode", ["fixed_style", "fixed_noise", "interpolate"])
def test_a_grid_is_a_store_that_tells_rows_and_columns_and_a_picture(
    settings, stylegan, tmp_path, mode
):
    folder = run(settings(mode=mode, n=5), tmp_path / "run")
    picture = imagecodecs.png_decode(
        (folder.path / "previews" / f"{mode}_000000640.png").read_bytes()
    )
    assert picture.shape == (2 * 10 - 2, 5 * 10 - 2)
    assert folder.finished
    store = Store(folder.path / "sem")
    assert np.array_equal(picture[10:18, 20:28], store.tiles[7])
    generator = sample.load(checkpoint.find(stylegan, setting="stylegan"))
    expected = getattr(sample, mode)(generator, seed=3, rows=2, n=5, psi=0.9)(1)
    assert np.abs(store.tiles[5:].astype(int) - expected.astype(int)).max() <= 1
    names = {
        "fixed_style": ("style", "noise"),
        "fixed_noise": ("noise", "style"),
        "interpolate": ("path", "step"),
    }
    assert store.manifest["facts"]["grid"] == mode
    places = store.places()
    assert [places[name].tolist() for name in names[mode]] == [[0] * 5 + [1] * 5, [*range(5)] * 2]


def test_a_stopped_grid_makes_the_missing_rows_only(settings, tmp_path, monkeypatch):
    asked = settings(mode="fixed_style", n=3, rows=4)
    folder = run(asked, tmp_path / "run")
    expected = (folder.path / "sem" / "manifest.json").read_bytes()
    for name in ("sem/shard_00002.npy", "sem/manifest.json", "done.json"):
        (folder.path / name).unlink()
    drawn = []
    original = grids.DRAWN["fixed_style"]

    def watched(*given, **options):
        draw = original(*given, **options)
        return lambda k: (drawn.append(k), draw(k))[1]

    monkeypatch.setitem(grids.DRAWN, "fixed_style", watched)
    synthesize.run(asked, folder)
    assert drawn == [2]
    assert (folder.path / "sem" / "manifest.json").read_bytes() == expected


def test_the_picture_of_a_large_grid_is_its_upper_left_corner(settings, tmp_path):
    folder = run(settings(mode="fixed_noise", n=9, rows=7), tmp_path / "run")
    picture = imagecodecs.png_decode(
        (folder.path / "previews" / "fixed_noise_000000640.png").read_bytes()
    )
    assert picture.shape == (6 * 10 - 2, 8 * 10 - 2)
    assert np.array_equal(picture[50:58, 70:78], Store(folder.path / "sem").tiles[5 * 9 + 7])


def test_an_estimate_writes_nothing(settings, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    rows = synthesize.estimate(settings())
    assert rows["SEM tiles"] == "11 of 8 px"
    assert sorted(tmp_path.rglob("*")) == before
    assert synthesize.estimate(settings(mode="interpolate"))["SEM tiles"] == "22 of 8 px"


def test_the_checkpoint_is_an_input(settings, stylegan):
    assert synthesize.inputs(settings()) == [stylegan / "checkpoints" / "000000640.pt"]


def test_a_missing_generator_is_refused(settings, tmp_path):
    with pytest.raises(Refusal, match="stylegan="):
        synthesize.estimate(settings(stylegan=tmp_path / "nowhere"))


def test_a_checkpoint_without_its_store_is_refused(settings, stylegan, tmp_path):
    path = checkpoint.find(stylegan, setting="stylegan")
    bag = checkpoint.load(path)
    del bag["store"], bag["images_seen"]
    bare = checkpoint.save(tmp_path, 64, bag, keep=1)
    with pytest.raises(Refusal, match="says nothing about the store"):
        run(settings(stylegan=bare), tmp_path / "run")


def test_a_file_may_be_named_instead_of_the_run(settings, stylegan, tmp_path):
    named = checkpoint.find(stylegan, setting="stylegan")
    made = settings(stylegan=tmp_path / "nowhere", checkpoint=named)
    assert synthesize.inputs(made) == [named]
    store = Store(run(made, tmp_path / "run").path / "sem")
    assert np.array_equal(
        store.tiles[:], Store(run(settings(), tmp_path / "b").path / "sem").tiles[:]
    )
    with pytest.raises(
        Refusal, match=r"checkpoint=.*gone\.pt is no file; allowed are latest, best"
    ):
        synthesize.inputs(settings(checkpoint=tmp_path / "gone.pt"))


def test_tiles_are_drawn_from_a_foreign_pickle(settings, foreign, tmp_path):
    generator, discriminator = foreign.networks()
    path = foreign.write(tmp_path / "snapshot.pkl", foreign.content(generator, discriminator))
    folder = run(settings(checkpoint=path, pixel_um=0.5, n=5), tmp_path / "run")
    store = Store(folder.path / "sem")
    assert (store.tile_px, store.pixel_um, store.window) == (16, 0.5, None)
    expected = sample.tiles(generator, seed=3, indices=range(5), psi=0.9)
    assert np.abs(store.tiles[:].astype(int) - expected.astype(int)).max() <= 1
    assert store.manifest["facts"]["generator_sha256"] == checkpoint.digest(path)
    folder = run(settings(checkpoint=path, n=5, run="two"), tmp_path / "two")
    assert Store(folder.path / "sem").pixel_um is None


def test_a_pixel_size_that_the_checkpoint_denies_is_refused(settings, tmp_path):
    with pytest.raises(Refusal, match=r"pixel_um=0\.5, but .* was trained on pixels of 0\.25"):
        run(settings(pixel_um=0.5), tmp_path / "run")
    assert Store(run(settings(pixel_um=0.25), tmp_path / "b").path / "sem").pixel_um == 0.25


def test_the_log_says_which_file_draws(settings, stylegan, tmp_path, caplog):
    with caplog.at_level("INFO", logger="sem2ct"):
        run(settings(), tmp_path / "run")
    assert "000000640.pt, 640 images seen" in caplog.text
    assert "11 tiles" in caplog.text
    assert "limited by" in caplog.text


def test_each_tile_says_its_style_whatever_the_shards_and_after_a_restart(
    settings, stylegan, tmp_path
):
    folder = run(settings(styles=3), tmp_path / "run")
    store = Store(folder.path / "sem")
    generator = sample.load(checkpoint.find(stylegan, setting="stylegan"))
    expected = LatentStyles(generator, count=3).of(3, range(11)).tolist()
    assert len(set(expected)) > 1
    assert store.places()["style"].tolist() == expected
    assert store.manifest["facts"]["style"] == {"of": "w", "count": 3}
    before = (folder.path / "sem" / "shard_00001.json").read_bytes()
    for name in ("sem/shard_00001.json", "sem/manifest.json", "done.json"):
        (folder.path / name).unlink()
    synthesize.run(settings(styles=3), folder)
    assert (folder.path / "sem" / "shard_00001.json").read_bytes() == before
    other = run(settings(styles=3, shard_patches=7, batch_per_device=2), tmp_path / "other")
    assert Store(other.path / "sem").places()["style"].tolist() == expected


def test_a_store_of_one_style_says_nothing_of_it(settings, tmp_path):
    store = Store(run(settings(), tmp_path / "run").path / "sem")
    assert list(store.places()) == ["seed"]
    assert "style" not in store.manifest["facts"]


def store_of_this_rank(values, path):
    """What one process does; the shards that it writes."""
    written, write_shard = [], StoreWriter.write_shard

    def noted(writer, number, *given, **options):
        written.append(number)
        return write_shard(writer, number, *given, **options)

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(StoreWriter, "write_shard", noted)
        folder = RunFolder.open(path, {}, writer=distributed.is_main())
        synthesize.run(build("synthesize", values), folder)
    return sorted(written)


def files(path):
    made = [file for name in ("sem", "previews") for file in (path / name).iterdir()]
    return {file.name: file.read_bytes() for file in made}


def test_two_and_four_processes_write_the_bytes_of_one(two_ranks, four_ranks, settings, tmp_path):
    run(settings(styles=3), tmp_path / "alone")
    one = files(tmp_path / "alone")
    assert {"shard_00002.npy", "shard_00002.json", "manifest.json"} < one.keys()
    # Three shards, so that the last of four processes has none.
    for ranks, shares in ((two_ranks, [[0, 2], [1]]), (four_ranks, [[0], [1], [2], []])):
        folder = tmp_path / str(len(shares))
        values = settings(styles=3, devices=len(shares)).model_dump()
        assert ranks(store_of_this_rank, values, folder) == shares
        assert files(folder) == one
