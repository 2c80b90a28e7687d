"""Whatever is being written when the disk is full: one line says so, earlier results stay."""

import itertools
import json

import numpy as np
import pytest
import torch

from sem2ct.data import pictures, whole_files
from sem2ct.data.pyramid import PyramidWriter
from sem2ct.data.store import StoreWriter
from sem2ct.reporting import record
from sem2ct.runtime import checkpoint, log
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder

PIXELS = 640


def noise(*shape):
    """Nothing that compression would make small."""
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def save_checkpoint(folder, *, large):
    weights = torch.arange(400_000.0 if large else 4.0)
    checkpoint.save(folder, 16 if large else 8, {"weights": weights}, keep=1)


def write_shard(folder, *, large, encoding="npy"):
    writer = StoreWriter(
        folder,
        tile_px=PIXELS if large else 4,
        domain="sem",
        pixel_um=0.5,
        window=None,
        shard_patches=2,
        sources=[],
        facts={},
        encoding=encoding,
    )
    size = PIXELS if large else 4
    writer.write_shard(int(large), noise(2, size, size), {"seed": np.arange(2)})


def write_picture(folder, *, large):
    size = PIXELS if large else 4
    pictures.write_png(folder / "tiles.png", noise(size, size))


def write_stack(folder, *, large):
    size = PIXELS if large else 4
    pictures.write_tiff(folder / "field.tif", noise(2, size, size), pixel_um=0.5)


def write_numbers(folder, *, large):
    record.write_metrics(folder, {"porosity": list(range(100_000 if large else 4))})


def write_table(folder, *, large):
    porosity = np.random.default_rng(3).random(50_000 if large else 4)
    record.write_tiles(folder, {"real": {"porosity": porosity}})


def write_curves(folder, *, large):
    record.write_arrays(folder, record.CURVES, {"s2": noise(400_000 if large else 4)})


def write_manifest(folder, *, large):
    whole_files.write_json(folder / "manifest.json", {"places": [0] * (300_000 if large else 4)})


def write_preview(folder, *, large):
    size = PIXELS if large else 4
    RunFolder(folder, writer=True).picture("tiles", 8, noise(size, size))


WRITERS = [
    save_checkpoint,
    write_shard,
    write_picture,
    write_stack,
    write_numbers,
    write_table,
    write_curves,
    write_manifest,
    write_preview,
]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(small_disk, full, write):
    write(small_disk, large=False)
    before = contents(small_disk)
    assert before
    with pytest.raises(Refusal, match=full):
        write(small_disk, large=True)
    assert contents(small_disk) == before
    write(small_disk, large=False)
    assert contents(small_disk) == before


def test_a_compressed_shard_too_is_written_whole_or_not_at_all(small_disk, full):
    write_shard(small_disk, large=False, encoding="tiff")
    before = contents(small_disk)
    with pytest.raises(Refusal, match=full):
        write_shard(small_disk, large=True, encoding="tiff")
    assert contents(small_disk) == before


def fill(folder):
    """Leaves not a byte free."""
    for size in (2**16, 2**12, 1):
        for number in itertools.count():
            try:
                (folder / f"filler_{size}_{number}").write_bytes(b"x" * size)
            except OSError:
                break
            if number > 2**9:
                break


def only_mounted(mounted):
    if mounted is None:
        pytest.skip("a disk that is full to the last byte has to be mounted")


def test_a_run_does_not_begin_on_a_full_disk(mounted, full):
    only_mounted(mounted)
    fill(mounted)
    with pytest.raises(Refusal, match=full):
        RunFolder.open(mounted / "run", {"seed": 5})


def test_a_row_that_was_cut_short_is_written_again(mounted, full):
    only_mounted(mounted)
    folder = RunFolder.open(mounted / "run", {"seed": 5})
    folder.values(4, {"loss": 0.5})
    fill(mounted)
    with pytest.raises(Refusal, match=full):  # noqa: PT012
        for images_seen in range(8, 80_000, 4):
            folder.values(images_seen, {"loss": 0.25})
    kept = folder.rows()
    assert kept[0] == {"images": 4, "loss": 0.5}
    for path in mounted.glob("filler_*"):
        path.unlink()
    folder.rewind(4)
    folder.values(8, {"loss": 0.125})
    folder.close()
    lines = (mounted / "run" / "values.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [4, 8]


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nothing(mounted, capsys):
    only_mounted(mounted)
    log.start(mounted)
    fill(mounted)
    logger = log.logging.getLogger("sem2ct.test")
    for number in range(2000):
        logger.info("line %d of a long log", number)
    log.stop()
    said = capsys.readouterr().err
    assert said.count("log.txt: No space left on device, no more is said there") == 1
    assert "line 1999" in said
    assert "Traceback" not in said


def test_a_slab_that_did_not_fit_is_not_noted_and_the_run_goes_on_with_it(small_disk, tmp_path):
    plan = {"shape": (4, PIXELS, PIXELS), "voxel": (1.0, 1.0, 1.0), "unit_um": True}
    volume = noise(4, PIXELS, PIXELS)
    writer = PyramidWriter(small_disk / "volume.ome.zarr", **plan)
    with pytest.raises(OSError, match=r"No space left|File too large"):
        writer.write_slab(0, volume)
    again = PyramidWriter(small_disk / "volume.ome.zarr", **plan)
    assert not again.has(0)
    assert not (small_disk / "volume.ome.zarr").exists()
