"""Styles from the store of SEM tiles to the translated volume."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sem2ct import composition
from sem2ct.config import build
from sem2ct.cyclegan import apply
from sem2ct.cyclegan.robust_networks import StyleTable
from sem2ct.data.store import StoreWriter
from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import train_cyclegan

SMALL = importlib.util.spec_from_file_location(
    "small_scan", Path(__file__).with_name("small_scan.py")
)
small_scan = importlib.util.module_from_spec(SMALL)
SMALL.loader.exec_module(small_scan)

TILES = 24
LABELS = np.arange(TILES) * 5 % 7 % 3


def store(folder, px, domain, **facts):
    """Random tiles; the first pixel of each is its number."""
    writer = StoreWriter(
        folder,
        tile_px=px,
        domain=domain,
        pixel_um=None,
        window=None,
        shard_patches=TILES,
        sources=[],
        facts=facts,
    )
    tiles = np.random.default_rng(px).integers(0, 256, (TILES, px, px)).astype(np.uint8)
    tiles[:, 0, 0] = np.arange(TILES)
    places = {"seed": np.arange(TILES)} | ({"style": LABELS} if facts else {})
    writer.write_shard(0, tiles, places)
    writer.finish()
    return folder


@pytest.fixture
def settings(tmp_path):
    """Settings of a tiny training on stores whose SEM tiles have three styles."""
    ct = store(tmp_path / "ct", 8, "ct")
    labelled = store(tmp_path / "sem", 32, "sem", style={"of": "w", "count": 3})
    plain = store(tmp_path / "plain", 32, "sem")

    def made(*overrides, sem=labelled):
        given = ("size=tiny", "device=cpu", "symmetries=none", f"ct={ct}", f"sem={sem}")
        asked = composition.settings_of("train_cyclegan", [*given, *overrides])
        return build("train_cyclegan", asked)

    made.plain = plain
    return made


def trained(settings, path):
    folder = RunFolder.open(path, settings.model_dump(mode="json"))
    train_cyclegan.run(settings, folder)
    return checkpoint.load(checkpoint.find(path, setting="cyclegan"))


def test_a_translator_of_three_styles_is_trained_and_says_so(settings, tmp_path):
    bag = trained(settings("styles=3"), tmp_path / "run")
    assert bag["styles"] == {"count": 3, "tiles": np.bincount(LABELS).tolist()}
    network = apply.from_bag(bag, what="it")
    assert network.config["styles"] == 3
    tables = [one for one in network.modules() if isinstance(one, StyleTable)]
    assert all(table.rows.abs().max() > 0 for table in tables)
    assert bag["trainer"]["judges"]["sem.fine.projection.rows"].abs().max() > 0
    assert len(list((tmp_path / "run" / "previews").glob("styles_*.png"))) == 2


@pytest.mark.parametrize("network", ["paper", "robust"])
def test_one_model_learns_from_the_tiles_of_its_styles_alone(settings, tmp_path, network):
    asked = settings("sem_styles=[2]", f"network={network}")
    domains = train_cyclegan._Domains(asked)
    shown = []
    for images_seen in range(0, 2 * TILES, asked.batch_size):
        first = domains.share(images_seen)["sem"][:, 0, 0, 0]
        shown += ((first + 1) * 127.5).round().int().tolist()
    assert set(shown) == set(np.flatnonzero(LABELS == 2).tolist())
    bag = trained(asked, tmp_path / "run")
    assert bag["styles"]["tiles"] == [0, 0, np.count_nonzero(LABELS == 2)]
    assert "styles" not in bag["trainer"]["ema"]["config"]


def test_styles_of_a_store_without_labels_are_found_and_kept_in_the_run(settings, tmp_path):
    bag = trained(settings("styles=2", sem=settings.plain), tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "styles.json").read_text())
    assert bag["styles"]["tiles"] == kept["tiles"] == np.bincount(kept["labels"]).tolist()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["styles=3", "network=paper"], "styles=3, but network=paper paints in one style"),
        (["sem=live", "sem_styles=[1]"], r"sem_styles=\[1\], but live tiles are drawn in all"),
        (["sem_styles=[]"], "sem_styles"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(settings, overrides, message):
    with pytest.raises(ValidationError, match=message):
        settings(*overrides)


def test_one_seed_is_painted_in_the_style_that_is_asked_for(tmp_path):
    small_scan.bring(tmp_path)
    torch.manual_seed(4)
    network = apply.generators.build(
        {"network": "robust", "direction": "ct_to_sem", "scale": 4, "width": 8, "blocks": 1}
        | {"styles": 3}
    )
    for table in network.modules():
        if isinstance(table, StyleTable):
            torch.nn.init.normal_(table.rows, std=0.02)
    path = tmp_path / "robust" / "checkpoints" / "000000016.pt"
    bag = torch.load(path) | {"styles": {"count": 3, "tiles": [9, 0, 4]}}
    bag["trainer"]["ema"] = {"config": network.config, "weights": network.state_dict()}
    torch.save(bag, path)
    for style in (0, 2):
        small_scan.run(tmp_path, tmp_path / f"style_{style}", style=style)
    first, second = (small_scan.volume_of(tmp_path / f"style_{style}") for style in (0, 2))
    assert np.abs(first.astype(int) - second).mean() > 1
    meta = json.loads((tmp_path / "style_2" / "translation.ome.zarr" / "zarr.json").read_text())
    assert '"style": 2' in json.dumps(meta["attributes"])
    with pytest.raises(Refusal, match=r"style=1, .* learned the styles \[0, 2\]"):
        small_scan.run(tmp_path, tmp_path / "style_1", style=1)
