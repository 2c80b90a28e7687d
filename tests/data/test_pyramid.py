"""OME-Zarr volumes, read back through zarr."""

import json
import math

import numpy as np
import pytest
import zarr

from sem2ct.data import pyramid
from sem2ct.data.halving import pair_sums
from sem2ct.data.pyramid import PyramidWriter, levels, read_level, slab_slices

SHAPE = (11, 70, 53)


@pytest.fixture
def small_levels(monkeypatch):
    monkeypatch.setattr(pyramid, "COARSEST_PX", 9)
    monkeypatch.setattr(pyramid, "SHARD_PX", 32)
    monkeypatch.setattr(pyramid, "SLAB_BYTES", 4 * 70 * 53)
    monkeypatch.setattr(pyramid, "LEAST_SLICES", 1)


def volume(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def writer(path, **changed) -> PyramidWriter:
    settings = {
        "shape": SHAPE,
        "voxel": (2.0, 0.5, 0.25),
        "unit_um": True,
        "chunk_px": 16,
        "facts": {"note": "here"},
    }
    return PyramidWriter(path, **(settings | changed))


def write(path, data, only=None, **changed) -> PyramidWriter:
    one = writer(path, **changed)
    for k in range(one.slabs) if only is None else only:
        first, count = one.slices(k)
        one.write_slab(k, data[first : first + count], number=k)
    return one


@pytest.mark.parametrize(("version", "zarr_format"), [("0.5", 3), ("0.4", 2)])
def test_a_volume_is_read_back_as_it_was_written(tmp_path, small_levels, version, zarr_format):
    data = volume()
    one = write(tmp_path / "v.ome.zarr", data, version=version)
    assert one.slabs == 3
    assert one.finish() == tmp_path / "v.ome.zarr"
    group = zarr.open_group(tmp_path / "v.ome.zarr", mode="r")
    assert group.metadata.zarr_format == zarr_format
    assert np.array_equal(group["0"][:], data)
    assert group["0"].dtype == np.uint8
    assert (group["0"].shards is not None) == (version == "0.5")
    assert not (tmp_path / "v.ome.zarr.tmp").exists()
    folder = tmp_path / "v.ome.zarr"
    # Both layouts keep a chunk (or shard) of 3-D data in folders, as the specification says.
    assert (folder / ("0/c/0/0/0" if version == "0.5" else "0/0/0/0")).is_file()
    assert (folder / ("zarr.json" if version == "0.5" else ".zattrs")).is_file()


def test_the_sharded_metadata_is_that_of_ome_zarr_0_5(tmp_path, small_levels):
    write(tmp_path / "v.ome.zarr", volume(), origin=(4.0, 1.0, -0.5)).finish()
    attributes = json.loads((tmp_path / "v.ome.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["ome"]["version"] == "0.5"
    multiscale = attributes["ome"]["multiscales"][0]
    assert [axis["name"] for axis in multiscale["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in multiscale["axes"]} == {"micrometer"}
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        assert (scale["type"], translation["type"]) == ("scale", "translation")
        assert scale["scale"][1:] == [0.5 * 2**level, 0.25 * 2**level]
        shift = (2**level - 1) / 2
        assert translation["translation"] == [4 + 2 * shift, 1 + 0.5 * shift, -0.5 + 0.25 * shift]
    assert len(multiscale["datasets"]) == 4
    assert attributes["sem2ct"] == {"note": "here"}


def test_the_metadata_of_0_4_stands_at_the_top(tmp_path, small_levels):
    write(tmp_path / "v.ome.zarr", volume(), version="0.4", unit_um=False).finish()
    attributes = json.loads((tmp_path / "v.ome.zarr" / ".zattrs").read_text())
    assert attributes["multiscales"][0]["version"] == "0.4"
    assert all("unit" not in axis for axis in attributes["multiscales"][0]["axes"])
    array = json.loads((tmp_path / "v.ome.zarr" / "0" / ".zarray").read_text())
    assert array["dimension_separator"] == "/"


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_coarser_levels_are_area_means_also_across_slabs(tmp_path, small_levels, version):
    shape = (16, 72, 56)
    data = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    write(tmp_path / "v.ome.zarr", data, shape=shape, version=version).finish()
    group = zarr.open_group(tmp_path / "v.ome.zarr", mode="r")
    for level in range(1, 4):
        f = 2**level
        z, y, x = (n // f for n in shape)
        mean = data.reshape(z, f, y, f, x, f).mean((1, 3, 5))
        assert group[str(level)].shape == (z, y, x)
        # Slabs have 2 slices here, so from level 2 on each is made from rounded values.
        assert np.abs(group[str(level)][:] - mean).max() <= 0.5 * level


def test_levels_across_slabs_are_made_from_little_at_a_time(tmp_path, small_levels, monkeypatch):
    shape = (13, 150, 97)
    data = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    how = {"shape": shape, "slab": 2}
    whole = write(tmp_path / "whole.ome.zarr", data, **how)
    part = write(tmp_path / "part.ome.zarr", data, **how)
    whole.finish()
    read = []
    monkeypatch.setattr(pyramid, "SHARD_PX", 16)
    monkeypatch.setattr(pyramid, "COARSE_SHARD_BYTES", 2 * 16 * 16)

    def sums_of(finer, *, axes):
        read.append(finer.shape)
        return pair_sums(finer, axes=axes)

    monkeypatch.setattr(pyramid, "pair_sums", sums_of)
    part.finish()
    # Levels 2 to 5 are (4, 38, 25), (2, 19, 13), (1, 10, 7) and (1, 5, 4).
    assert len(read) == 2 * 3 * 2 + 2 + 1 + 1
    assert np.max(read, axis=0).tolist() == [4, 32, 32]
    levels_of = [zarr.open_group(one.path, mode="r") for one in (whole, part)]
    for level in "012345":
        assert np.array_equal(levels_of[0][level][:], levels_of[1][level][:])


def test_rounding_does_not_brighten_the_pyramid(tmp_path, small_levels):
    data = np.random.default_rng(2).integers(0, 2, (16, 72, 56), dtype=np.uint8)
    data[..., 1::2] = 1 - data[..., 0::2]
    data[:, 1::2] = data[:, 0::2]  # every block has mean 1/2 over x: ties everywhere
    data += np.arange(72, dtype=np.uint8)[:, None] // 2
    write(tmp_path / "v.ome.zarr", data, shape=data.shape).finish()
    group = zarr.open_group(tmp_path / "v.ome.zarr", mode="r")
    assert abs(group["1"][:].mean() - data.mean()) < 0.01


def test_levels_halve_every_axis_longer_than_one_until_they_fit():
    found = levels((1, 1500, 2049), slab=1)
    assert [level.shape for level in found] == [
        (1, 1500, 2049),
        (1, 750, 1025),
        (1, 375, 513),
        (1, 188, 257),
    ]
    assert found[-1].factor == (1, 8, 8)
    assert [level.path for level in found] == ["0", "1", "2", "3"]
    assert len(levels((64, 512, 512), slab=64)) == 1


@pytest.mark.parametrize(
    ("shape", "slices"),
    [
        ((1, 9, 9), 1),
        ((5, 9, 9), 8),
        ((500, 9, 9), 64),
        ((500, 1000, 1000), 16),
        # Eight slices, although they take more than SLAB_BYTES; but no more than 2^28 bytes.
        ((500, 3000, 3000), 8),
        ((500, 16384, 8192), 2),
        ((500, 2**16, 2**16), 1),
    ],
)
def test_a_slab_is_a_power_of_two_within_a_chunk_and_within_memory(shape, slices):
    assert slab_slices(shape, chunk_px=64, slab_bytes=2**24) == slices


def test_no_two_slabs_share_a_file(tmp_path, small_levels):
    one = write(tmp_path / "v.ome.zarr", volume(), only=[])
    files = []
    for k in range(one.slabs):
        first, count = one.slices(k)
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("c/*/*/*")}
        one.write_slab(k, volume()[first : first + count])
        after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("c/*/*/*")}
        assert all(after[p] == before[p] for p in before)
        files.append(len(after) - len(before))
    assert min(files) > 0


def test_a_writer_killed_in_the_middle_is_continued_and_the_result_is_the_same(
    tmp_path, small_levels
):
    data = volume()
    write(tmp_path / "whole.ome.zarr", data).finish()
    write(tmp_path / "v.ome.zarr", data, only=[0, 2])
    # The line of slab 2 was cut off; a slab without a whole line is written again.
    journal = tmp_path / "v.ome.zarr.journal.jsonl"
    journal.write_text(journal.read_text()[:-9])
    again = writer(tmp_path / "v.ome.zarr")
    assert [again.has(k) for k in range(3)] == [True, False, False]
    assert again.facts(0) == {"number": 0}
    with pytest.raises(ValueError, match=r"slabs \[1, 2\]"):
        again.finish()
    assert not (tmp_path / "v.ome.zarr").exists()
    for k in (1, 2):
        first, count = again.slices(k)
        again.write_slab(k, data[first : first + count], number=k)
    third = writer(tmp_path / "v.ome.zarr")
    assert all(third.has(k) for k in range(3))
    third.finish()
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("c/*/*/*")}
        for name in ("whole.ome.zarr", "v.ome.zarr")
    )
    assert one == two
    assert len(one) > 6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sha256": "', b'"sha256": "\xa3'),
        (b'"facts": {"number": 1}', b'"fact": {"number": 1}'),
        (b'"facts": {"number": 1}', b'"facts": {"number": 7}'),
        (b'"facts": {"number": 1}', b'"facts": 1'),
        (b'{"slab": 1', b'{"slab": [1]'),
        (b'{"slab": 1', b'{"lab": 1'),
        (b'{"slab": 1', b"1" * 5000 + b'\n{"lab": 1'),
        (b'{"slab": 1', b"[" * 10**5 + b'\n{"lab": 1'),
        (b'{"slab": 1', b'3\n{"lab": 1'),
    ],
)
def test_a_slab_whose_line_is_damaged_is_written_again(tmp_path, small_levels, old, new):
    write(tmp_path / "v.ome.zarr", volume())
    journal = tmp_path / "v.ome.zarr.journal.jsonl"
    plan, zero, one, two = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([plan, zero, one.replace(old, new), two, b""]))
    again = writer(tmp_path / "v.ome.zarr")
    assert [again.has(k) for k in range(3)] == [True, False, True]
    again.write_slab(1, volume()[4:8], number=1)
    again.finish()
    assert [again.facts(k) for k in range(3)] == [{"number": k} for k in range(3)]


def test_a_volume_whose_plan_is_damaged_is_begun_anew(tmp_path, small_levels):
    write(tmp_path / "v.ome.zarr", volume())
    journal = tmp_path / "v.ome.zarr.journal.jsonl"
    journal.write_bytes(b"\xff" + journal.read_bytes()[1:])
    again = writer(tmp_path / "v.ome.zarr")
    assert not any(again.has(k) for k in range(3))


def test_a_damaged_slab_is_noticed(tmp_path, small_levels):
    write(tmp_path / "v.ome.zarr", volume())
    shard = sorted((tmp_path / "v.ome.zarr.tmp" / "0" / "c" / "1").rglob("*/*"))[0]
    content = bytearray(shard.read_bytes())
    content[40] ^= 255
    shard.write_bytes(content)
    cut = sorted((tmp_path / "v.ome.zarr.tmp" / "0" / "c" / "2").rglob("*/*"))[0]
    cut.write_bytes(cut.read_bytes()[:100])
    again = writer(tmp_path / "v.ome.zarr")
    assert [again.has(k) for k in range(3)] == [True, False, False]


def test_another_plan_starts_anew(tmp_path, small_levels):
    write(tmp_path / "v.ome.zarr", volume(), only=[0])
    assert not writer(tmp_path / "v.ome.zarr", facts={"note": "other"}).has(0)


def test_a_finished_volume_whose_run_was_not_told_is_taken_up_again(tmp_path, small_levels):
    data = volume()
    write(tmp_path / "v.ome.zarr", data).finish()
    again = writer(tmp_path / "v.ome.zarr")
    assert all(again.has(k) for k in range(3))
    again.finish()
    assert np.array_equal(zarr.open_group(tmp_path / "v.ome.zarr", mode="r")["0"][:], data)


def test_a_slab_of_another_shape_is_refused(tmp_path, small_levels):
    with pytest.raises(ValueError, match="not uint8 of 4 slices"):
        writer(tmp_path / "v.ome.zarr").write_slab(0, np.zeros((3, 70, 53), np.uint8))


def test_a_slice_is_read_at_full_resolution_or_at_the_finest_that_fits(tmp_path, small_levels):
    data = volume()
    path = write(tmp_path / "v.ome.zarr", data).finish()
    assert np.array_equal(read_level(path, 7), data[7])
    assert read_level(path, 7, largest_px=20).shape == (math.ceil(70 / 4), math.ceil(53 / 4))
    assert read_level(path, 7, largest_px=2).shape == (9, 7)
