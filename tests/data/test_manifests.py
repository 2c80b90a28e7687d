"""Manifests and journals say what they must, or are refused with the place that does not."""

import copy
import json

import pytest

from sem2ct.data import manifests
from sem2ct.runtime.refusal import Refusal

SHARDS = [
    {"file": "shard_00000.npy", "sha256": "0" * 64, "count": 3, "bytes": 192},
    {"file": "shard_00001.npy", "sha256": "1" * 64, "count": 2, "bytes": 128},
]
STORE = {
    "format": manifests.STORE,
    "domain": "ct",
    "tile_px": 8,
    "pixel_um": 2,
    "window": {"low": 10.0, "high": 200},
    "shard_patches": 3,
    "count": 5,
    "shards": SHARDS,
    "sources": [],
    "facts": {},
    "of_a_later_version": 1,
}
JOURNAL = {"made_from": "a", "sha256": "0" * 64, "count": 2, "places": {"y": [0, -8]}}


def read(tmp_path, content, schema):
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    return manifests.read(tmp_path / "manifest.json", schema, name="sem=here")


def test_what_a_store_writes_is_taken_as_it_stands(tmp_path):
    assert read(tmp_path, STORE, manifests.StoreManifest) == STORE
    assert read(tmp_path, JOURNAL, manifests.Journal) == JOURNAL


WRONG = [
    (("count",), 6, "count=6, but its shards hold 5 patches"),
    (("count",), True, "count: "),
    (("tile_px",), 0, "tile_px: "),
    (("pixel_um",), float("nan"), "pixel_um: "),
    (("pixel_um",), -1.0, "pixel_um: "),
    (("window", "high"), 10.0, "the grey window from 10.0 to 10.0 has no width"),
    (("window", "low"), float("inf"), r"window\.low: "),
    (("shard_patches",), 2, "its shards do not follow one another"),
    (("shards", 0, "count"), 10**30, r"its shards|count="),
    (("shards", 1, "file"), "shard_00007.npy", "its shards do not follow one another"),
    (("shards", 1, "sha256"), "short", r"shards\.1\.sha256: "),
    (("shards",), [], "shards: "),
    (("sources",), None, "sources: "),
]


@pytest.mark.parametrize(("place", "value", "said"), WRONG)
def test_a_damaged_manifest_is_refused_with_the_place(tmp_path, place, value, said):
    content = copy.deepcopy(STORE)
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(Refusal, match=rf"sem=here: its manifest\.json cannot be used \(.*{said}"):
        read(tmp_path, content, manifests.StoreManifest)


@pytest.mark.parametrize("places", [{"y": [0]}, {"y": [0, 1.5]}, {"y": [0, 2**63]}, [0, 1]])
def test_a_journal_has_a_whole_number_for_every_patch(tmp_path, places):
    with pytest.raises(Refusal, match="places"):
        read(tmp_path, JOURNAL | {"places": places}, manifests.Journal)
