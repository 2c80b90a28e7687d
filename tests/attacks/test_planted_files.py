"""Files from a stranger, each with an attack in it: refused by name, and nothing in them runs.

Attacks of the same kind stand beside the readers they are aimed at: archives that point outside,
with links, devices and bombs in tests/data/readers/test_archive.py; pickles of networks in
tests/stylegan/test_pickles.py; names in a report, in a browser, in tests/reporting.
"""

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr

from sem2ct.cyclegan import volume
from sem2ct.data import frames, scans
from sem2ct.data.intensity import Window
from sem2ct.data.store import Store, StoreWriter
from sem2ct.data.translated import Translated
from sem2ct.reporting import record
from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stylegan import trained, transfer


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.fixture
def trace(tmp_path):
    """A file that only a successful attack makes; looked for at the end of every test."""
    path = tmp_path / "attacked"
    yield path
    assert not path.exists()


@pytest.fixture
def planted(tmp_path, trace):
    """A run folder whose newest checkpoint holds an object that acts when it is unpickled."""
    points = tmp_path / "run/checkpoints"
    points.mkdir(parents=True)
    torch.save({"images_seen": 8, "trainer": Planted(trace)}, points / "000000008.pt")
    return tmp_path / "run"


def networks():
    small = torch.nn.Linear(1, 1)
    return {"generator": small, "discriminator": small, "ema": small, "to_grey": False}


OPENED = [
    lambda run: checkpoint.load(checkpoint.newest(run / "checkpoints")),
    lambda run: trained.load(run, "latest"),
    lambda run: trained.load(run, checkpoint.newest(run / "checkpoints")),
    lambda run: transfer.begin(run, **networks()),
    lambda run: volume.checkpoint.load(volume.checkpoint.find(run, setting="cyclegan")),
]


@pytest.mark.parametrize("opened", OPENED)
def test_a_checkpoint_runs_nothing(planted, opened):
    with pytest.raises(Refusal, match=r"000000008\.pt is no checkpoint of sem2ct"):
        opened(planted)


def test_the_planted_object_would_act_where_pickles_are_trusted(planted, tmp_path, trace):
    torch.load(planted / "checkpoints/000000008.pt", weights_only=False)
    assert trace.exists()
    trace.unlink()


@pytest.mark.parametrize("name", ["000000008.pt", "network.pkl", "network.ckpt"])
def test_a_bare_pickle_runs_nothing_under_any_name(tmp_path, trace, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"images_seen": 8, "G_ema": Planted(trace)}))
    with pytest.raises(Refusal, match=name):
        transfer.begin(path, **networks())
    with pytest.raises(Refusal, match=name):
        trained.load(path, path)


YAML = '!!python/object/apply:builtins.open ["{trace}", "w"]'


def test_a_run_folders_settings_run_nothing(tmp_path, trace):
    settings = {"run": "a", "seed": 0}
    RunFolder.open(tmp_path / "run", settings)
    (tmp_path / "run/config.yaml").write_text("seed: " + YAML.format(trace=trace))
    with pytest.raises(Refusal, match=r"config\.yaml is damaged \(could not determine"):
        RunFolder.open(tmp_path / "run", settings)


def test_the_settings_of_a_translation_run_nothing(translation, trace):
    (translation / "config.yaml").write_text("z_range: " + YAML.format(trace=trace))
    with pytest.raises(Refusal, match=r"config\.yaml is damaged"):
        Translated(translation, setting="sets.a=run")


@pytest.fixture
def translation(tmp_path):
    """A translate run of 2 x 8 x 8 voxels, at a scale of 2."""
    folder = tmp_path / "run"
    folder.mkdir()
    group = zarr.create_group(folder / "translation.ome.zarr", zarr_format=3)
    group.create_array("0", shape=(2, 8, 8), dtype="uint8")
    group.attrs["ome"] = {
        "multiscales": [{"axes": [{"name": axis} for axis in "zyx"], "datasets": [{"path": "0"}]}]
    }
    tifffile.imwrite(folder / "field_of_view.tif", np.full((2, 4, 4), 255, np.uint8))
    (folder / "config.yaml").write_text("{z_range: all, y_range: all, x_range: all, refine_z: no}")
    return folder


OUTSIDE = ["../secret.zarr", "/etc", "0/../../secret.zarr", "..", 3, None]


@pytest.mark.parametrize("where", OUTSIDE)
def test_an_ome_zarr_volume_points_at_nothing_outside(translation, where):
    Translated(translation, setting="sets.a=run")
    zarr.save(str(translation / "secret.zarr"), np.zeros((2, 8, 8), np.uint8))
    file = translation / "translation.ome.zarr/zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = where
    file.write_text(json.dumps(content))
    with pytest.raises(Refusal, match=r"translation\.ome\.zarr: not a whole OME-Zarr volume"):
        Translated(translation, setting="sets.a=run")
    with pytest.raises(Refusal, match=r"translation\.ome\.zarr"):
        scans.open(file.parent)


@pytest.fixture
def extracted(tmp_path):
    """A store and a folder of frames, and beside them files that look like theirs."""
    facts = {"pixel_um": 0.5, "window": Window(0.0, 255.0)}
    rng = np.random.default_rng(5)
    for name in ("run", "elsewhere"):
        grey = rng.integers(0, 256, (3, 8, 8)).astype(np.uint8)
        names = {"tile_px": 8, "domain": "sem", "shard_patches": 3, "sources": [], "facts": {}}
        writer = StoreWriter(tmp_path / name / "sem", **names, **facts)
        writer.write_shard(0, grey, {"y": np.arange(3)})
        writer.finish()
        entry = frames.write_frame(tmp_path / name / "sem_frames", 0, grey[0])
        entry |= {"split": "training", "source": "a.tif"}
        frames.write_manifest(tmp_path / name / "sem_frames", [entry], **facts, made_from="x")
    return tmp_path


@pytest.mark.parametrize(("kind", "list_name"), [("sem", "shards"), ("sem_frames", "frames")])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_manifest_names_no_file_outside_its_folder(extracted, kind, list_name, absolute):
    manifest = extracted / f"run/{kind}/manifest.json"
    there = json.loads((extracted / f"elsewhere/{kind}/manifest.json").read_text())
    entry = there[list_name][0]
    place = extracted / "elsewhere" / kind if absolute else f"../../elsewhere/{kind}"
    entry["file"] = f"{place}/{entry['file']}"
    manifest.write_text(json.dumps(there))
    with pytest.raises(Refusal, match=rf"manifest\.json cannot be used \({list_name}\.0\.file"):
        Store(manifest.parent) if kind == "sem" else frames.Frames(manifest.parent)


def test_other_pixels_under_a_shards_name_are_noticed_when_they_are_read(extracted):
    store = Store(extracted / "run/sem")
    (extracted / "run/sem/shard_00000.npy").write_bytes(
        (extracted / "elsewhere/sem/shard_00000.npy").read_bytes()
    )
    with pytest.raises(Refusal, match="does not match its checksum"):
        store.tiles[1]


@pytest.mark.parametrize("named", ["../../elsewhere.pt", "/tmp/elsewhere.pt", 7, None, ["x"]])
def test_the_record_of_the_best_checkpoint_names_none_outside(tmp_path, named):
    bag = {"trainer": {}}
    checkpoint.save(tmp_path / "run/checkpoints", 8, bag, keep=1)
    checkpoint.save(tmp_path, 16, bag, keep=1).rename(tmp_path / "elsewhere.pt")
    (tmp_path / "run/checkpoints/best.json").write_text(json.dumps({"file": named}))
    with pytest.raises(Refusal, match="no checkpoint is recorded as the best"):
        checkpoint.find(tmp_path / "run", setting="stylegan", which="best")


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_table_gives_a_spreadsheet_nothing_to_calculate(tmp_path, evil):
    record.write_table(tmp_path / "a.csv", {"image": [evil, "a.tif"], "porosity": [-0.5, 0.25]})
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["image", "porosity"], [f"'{evil}", "-0.5"], ["a.tif", "0.25"]]
