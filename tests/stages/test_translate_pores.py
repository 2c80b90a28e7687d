"""Pores, statistics, other planes and part of a volume, from the translate stage."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from sem2ct.cyclegan import volume
from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data import pyramid
from sem2ct.metrics import chords, correlation, results
from sem2ct.runtime.refusal import Refusal
from sem2ct.stages import translate

SMALL = importlib.util.spec_from_file_location(
    "small_scan", Path(__file__).with_name("small_scan.py")
)
small_scan = importlib.util.module_from_spec(SMALL)
SMALL.loader.exec_module(small_scan)
SCALE = small_scan.SCALE
run = small_scan.run
settings = small_scan.settings
volume_of = small_scan.volume_of

pytestmark = pytest.mark.usefixtures("slabs_of_four_slices")


def field_of(path) -> np.ndarray:
    """In fine voxels, of two slices of the scan."""
    field = tifffile.imread(path / "field_of_view.tif") > 0
    return field.repeat(SCALE, 0).repeat(SCALE, 1).repeat(SCALE, 2)


def pores_in(path) -> np.ndarray:
    return zarr.open_group(path / "pores.ome.zarr", mode="r")["0"][:]


def told(path) -> dict:
    return json.loads((path / "statistics.json").read_text())


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_labels_are_one_in_the_pores_inside_the_field_and_take_less_than_a_bit(
    translatable, tmp_path, version
):
    run(translatable, tmp_path / "run", labels=True, threshold=120, ome_zarr_version=version)
    pores, inside = pores_in(tmp_path / "run"), field_of(tmp_path / "run")
    assert np.array_equal(pores, (volume_of(tmp_path / "run") < 120) & inside)
    assert 0.1 < pores.mean() < 0.6
    chunks = [f for f in (tmp_path / "run" / "pores.ome.zarr" / "0").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in chunks) < 1.1 * pores.size / 8
    told_by, packed = {"0.5": ("zarr.json", '"bitshuffle"'), "0.4": (".zarray", '"shuffle": 2')}[
        version
    ]
    assert packed in (tmp_path / "run" / "pores.ome.zarr" / "0" / told_by).read_text()
    group = zarr.open_group(tmp_path / "run" / "pores.ome.zarr", mode="r")
    facts = group.attrs.asdict()
    assert facts.get("ome", facts)["image-label"] == {"version": version}
    assert facts["sem2ct"]["threshold"] == 120


def test_only_labels_leaves_the_greys_out_and_the_same_statistics(translatable, tmp_path):
    asked = {"threshold": 120, "z_range": [1, 2]}
    run(translatable, tmp_path / "both", labels=True, **asked)
    run(translatable, tmp_path / "only", labels="only", **asked)
    assert not (tmp_path / "only" / "translation.ome.zarr").exists()
    assert np.array_equal(pores_in(tmp_path / "only"), pores_in(tmp_path / "both"))
    assert told(tmp_path / "only") == told(tmp_path / "both")


def test_statistics_without_voxels_are_those_of_the_volume_at_once(translatable, tmp_path):
    asked = {"threshold": 120, "y_range": [9, 20], "x_range": [12, 26]}
    run(translatable, tmp_path / "only", statistics_only=True, **asked)
    assert not list((tmp_path / "only").rglob("*.zarr"))
    run(translatable, tmp_path / "run", **asked)
    assert told(tmp_path / "only") == told(tmp_path / "run")
    assert field_of(tmp_path / "run").all()
    pores, found = volume_of(tmp_path / "run") < 120, told(tmp_path / "only")
    hits, pairs = correlation.axis_counts(pores, 7)
    for row, axis in enumerate("xyz"):
        # Eight slices: no longer lag along z.
        assert found[axis]["hits"][:8] == hits[row].tolist()
        assert found[axis]["pairs"][:8] == pairs[row].tolist()
        lengths = chords.chord_lengths(pores, along=axis)
        assert found[axis]["chords"] == np.bincount(lengths, minlength=2).tolist()
    assert found["porosity"] == pytest.approx(pores.mean())
    assert found["z"]["porosity"] == pytest.approx(pores.reshape(2, -1).mean(1).tolist())
    assert found["voxel"] == [0.5, 0.5, 0.5]


def test_statistics_stopped_between_slabs_go_on_and_translate_nothing_twice(
    translatable, tmp_path, monkeypatch
):
    asked = {"threshold": 120, "statistics_only": True, "z_range": "all"}
    run(translatable, tmp_path / "whole", **asked)
    made, slab = [], VolumeTranslator.slab

    def dies(job, first, count, **more):
        made.append(first)
        if len(made) == 3:
            raise KeyboardInterrupt
        return slab(job, first, count, **more)

    monkeypatch.setattr(VolumeTranslator, "slab", dies)
    with pytest.raises(KeyboardInterrupt):
        run(translatable, tmp_path / "run", **asked)
    assert not (tmp_path / "run" / "statistics.json").exists()
    run(translatable, tmp_path / "run", **asked)
    assert made == [0, 4, 8, 8, 12]
    assert told(tmp_path / "run") == told(tmp_path / "whole")
    assert not list((tmp_path / "run").glob("*.npz"))


def counted_here(root: str, path: str) -> list[int]:
    """What one of two processes does; the first slices of the slabs that it translates."""
    pyramid.SLAB_BYTES, pyramid.LEAST_SLICES = 4 * 120 * 152, 1
    made, slab = [], VolumeTranslator.slab

    def noted(job, first, count, **more):
        made.append(first)
        return slab(job, first, count, **more)

    VolumeTranslator.slab = noted
    try:
        asked = {"threshold": 120, "z_range": [0, 3], "devices": 2}
        run(Path(root), Path(path) / "only", **asked, statistics_only=True)
        run(Path(root), Path(path) / "volume", **asked, labels=True)
    finally:
        VolumeTranslator.slab = slab
    return made


def test_two_processes_share_the_slabs_and_find_the_numbers_of_one(
    translatable, tmp_path, two_ranks
):
    run(translatable, tmp_path / "one", threshold=120, z_range=[0, 3], statistics_only=True)
    # Three slabs, first for the statistics and then for the volume.
    assert two_ranks(counted_here, str(translatable), str(tmp_path)) == [[0, 8, 0, 8], [4, 4]]
    one = (tmp_path / "one" / "statistics.json").read_bytes()
    for name in ("only", "volume"):
        assert (tmp_path / name / "statistics.json").read_bytes() == one
        assert (tmp_path / name / "done.json").exists()
        assert not list((tmp_path / name).glob("*.npz"))


def test_a_threshold_can_be_that_of_an_evaluate_run(translatable, tmp_path):
    asked = {"labels": "only", "z_range": [1, 2], "refine_z": False}
    run(translatable, tmp_path / "number", threshold=120, **asked)
    found = {"schema": results.SCHEMA, "sets": {}, "threshold": {"level": 120}}
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    run(translatable, tmp_path / "named", threshold=str(tmp_path), **asked)
    assert np.array_equal(pores_in(tmp_path / "named"), pores_in(tmp_path / "number"))
    (tmp_path / "metrics.json").write_text(json.dumps(found | {"threshold": {}}))
    with pytest.raises(Refusal, match="that run was given its pores as masks"):
        run(translatable, tmp_path / "masks", threshold=str(tmp_path), **asked)
    with pytest.raises(Refusal, match=r"threshold=nowhere: no metrics\.json there"):
        run(translatable, tmp_path / "nowhere", threshold="nowhere", **asked)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": True}, "labels=true must know which voxels are pore; set threshold="),
        ({"labels": "only"}, "labels=only must know"),
        ({"statistics_only": True}, "statistics_only=true must know"),
        ({"statistics_only": True, "threshold": 9, "labels": True}, "writes no voxel, but labels"),
        ({"statistics_only": True, "threshold": 9, "export": "raw"}, "set export=none"),
        ({"labels": "only", "threshold": 9, "export": "raw"}, "set labels=true, or export=none"),
        (
            {"exact": True, "precision": "bf16"},
            "exact=true computes in float32, but precision=bf16",
        ),
        ({"axes": "xz", "refine_z": False}, "axes=xz makes cubes"),
        ({"axes": "yz", "norm_over": "slice"}, "set norm_over=tile, or axes=xy"),
        ({"threshold": 300}, "less than or equal to 254"),
    ],
)
def test_what_cannot_be_done_together_is_refused(translatable, changed, message):
    with pytest.raises(ValueError, match=message):
        settings(translatable, **changed)


def test_part_of_a_volume_is_what_the_disk_can_hold_and_is_the_same_when_asked_again(
    translatable, tmp_path, monkeypatch
):
    slice_bytes = SCALE * 120 * 152 * 4 / 3
    room = {"free": 3.4 * slice_bytes}
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), dict(room)))
    with pytest.raises(
        Refusal, match=r"translate needs .* are free; lower z_range .*allow_partial"
    ):
        run(translatable, tmp_path / "refused", z_range="all")
    made, slab = [], VolumeTranslator.slab

    def dies(job, first, count, **more):
        made.append(first)
        if len(made) == 2:
            raise KeyboardInterrupt
        return slab(job, first, count, **more)

    with monkeypatch.context() as patch:
        patch.setattr(VolumeTranslator, "slab", dies)
        with pytest.raises(KeyboardInterrupt):
            run(translatable, tmp_path / "run", z_range="all", allow_partial=True)
    room["free"] -= slice_bytes  # what is written already
    folder = run(translatable, tmp_path / "run", z_range="all", allow_partial=True)
    assert folder.facts()["shape"] == [3 * SCALE, 120, 152]
    room["free"] = 1e9
    run(translatable, tmp_path / "three", z_range=[0, 3])
    assert np.array_equal(volume_of(tmp_path / "run"), volume_of(tmp_path / "three"))
    room["free"] = 0.9 * slice_bytes
    with pytest.raises(Refusal, match="one slice of translate needs"):
        run(translatable, tmp_path / "none", z_range="all", allow_partial=True)


def test_the_estimate_counts_voxels_bytes_and_shards_and_says_what_would_fit(
    translatable, tmp_path, monkeypatch
):
    two = {"realisations": 2, "labels": True, "threshold": 99}
    asked = settings(translatable, run_root=tmp_path / "o", z_range="all", **two)
    rows = translate.estimate(asked)
    voxels = 4 * SCALE * 120 * 152
    assert rows["voxels"] == f"{voxels / 1e6:.1f} million"
    # Four volumes of greys (two, mean, deviation) and two of bits, a third more for the pyramid.
    assert rows["size"].startswith(f"{voxels * (4 + 2 / 7.5) * 4 / 3 / 1e6:.1f} MB at most")
    assert rows["shards"].startswith("4 in 4 slabs of 4 slices")
    assert rows["disk"].endswith("enough")
    room = {"free": 2.5 * voxels / 4 * (4 + 2 / 7.5) * 4 / 3}
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), dict(room)))
    assert (
        "does not fit; z_range=[0,2] would, or allow_partial" in translate.estimate(asked)["disk"]
    )
    room["free"] = 5
    assert translate.estimate(asked)["disk"].endswith("does not fit; no slice does")
    assert translate.estimate(settings(translatable, statistics_only=True, threshold=9))[
        "size"
    ].startswith("0.0 MB")


def test_planes_through_z_are_those_of_the_turned_scan_wherever_slabs_are_cut(
    translatable, tmp_path, monkeypatch
):
    ct = tifffile.imread(translatable / "ct.tif")[:, 3:27, 6:33]
    ct = np.concatenate([ct, ct[:, ::-1], ct[:, :, ::-1], ct])
    tifffile.imwrite(tmp_path / "ct.tif", ct, photometric="minisblack")
    turned = ct.transpose(1, 0, 2)
    tifffile.imwrite(tmp_path / "turned.tif", turned, photometric="minisblack")
    # More slices lie above than the network sees.
    box = {"z_range": [11, 13], "y_range": [5, 12], "x_range": [4, 20]}
    box["ct"] = str(tmp_path / "ct.tif")
    swapped = {"z_range": [5, 12], "y_range": [11, 13], "x_range": [4, 20]}
    swapped["ct"] = str(tmp_path / "turned.tif")
    with monkeypatch.context() as patch:
        # Without noise: its places differ between a scan and a turned one.
        patch.setattr(
            "sem2ct.cyclegan.robust_networks.PlacedNoise.forward", lambda self, maps, *_: maps
        )
        run(translatable, tmp_path / "xz", axes="xz", **box)
        run(translatable, tmp_path / "turned", **swapped)
    expected = volume_of(tmp_path / "turned").transpose(1, 0, 2)
    assert np.array_equal(volume_of(tmp_path / "xz"), expected)
    run(translatable, tmp_path / "thick", axes="yz", **box)
    monkeypatch.setattr(pyramid, "SLAB_BYTES", 2 * 28 * 64)  # slabs of half a slice of the scan
    monkeypatch.setattr(volume, "THICKER_THROUGH_Z", 1)
    run(translatable, tmp_path / "thin", axes="yz", **box)
    assert np.array_equal(volume_of(tmp_path / "thin"), volume_of(tmp_path / "thick"))


def test_the_average_is_the_mean_of_the_three_directions(translatable, tmp_path):
    asked = {"z_range": [1, 2], "y_range": [0, 9], "x_range": [12, 26], "threshold": 120}
    volumes = {}
    for axes in ("xy", "xz", "yz", "average"):
        run(translatable, tmp_path / axes, axes=axes, **asked)
        volumes[axes] = volume_of(tmp_path / axes).astype(float)
        assert told(tmp_path / axes)["axes"] == axes
    mean = (volumes["xy"] + volumes["xz"] + volumes["yz"]) / 3
    assert np.abs(volumes["average"] - mean).max() <= 0.5
    assert np.corrcoef(volumes["xz"].ravel(), volumes["yz"].ravel())[0, 1] > 0.9
    assert (volumes["xz"] != volumes["yz"]).mean() > 0.3
    outside = ~np.kron(
        tifffile.imread(translatable / "ct.tif")[1, :9, 12:26] > 0, np.ones((4, 4), bool)
    )
    assert outside.any()
    assert all(not volume[:, outside].any() for volume in volumes.values())
