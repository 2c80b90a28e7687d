import json
import zipfile

import imagecodecs
import numpy as np
import pytest
import tifffile

from sem2ct.config import ExtractSettings
from sem2ct.data.frames import Frames
from sem2ct.data.store import Store
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.stages import extract

DRAW = np.random.default_rng(13)


@pytest.fixture
def settings_of(tmp_path):
    """Settings of a small run on files in `tmp_path`; keywords change them."""
    for k in range(4):
        image = DRAW.integers(0, 256, (70, 90)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"sem_{k}.tif", image)
    volume = DRAW.integers(0, 60000, (3, 40, 50)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "ct.tif", volume, photometric="minisblack")

    def make(**changed):
        settings = {
            "run": "small",
            "run_root": tmp_path / "outputs",
            "seed": 5,
            "dry_run": False,
            "source": "files",
            "toy_ct_shape": (4, 32, 32),
            "toy_sem_images": 3,
            "toy_sem_px": 128,
            "scale": 4,
            "sem": str(tmp_path / "sem_*.tif"),
            "sem_pixel_um": 0.5,
            "sem_reduce": 1,
            "sem_crop_bottom": 0,
            "sem_window": (0, 100),
            "sem_flat_share": 0.5,
            "validation_share": 0.25,
            "tile_px": 32,
            "stride_px": 16,
            "ct": str(tmp_path / "ct.tif"),
            "ct_raw_shape": "none",
            "ct_raw_dtype": "none",
            "ct_raw_byte_order": "little",
            "ct_raw_header_bytes": 0,
            "ct_dataset": "only",
            "ct_ready": False,
            "ct_pixel_um": 2.0,
            "ct_patches": 30,
            "ct_patch_px": 8,
            "ct_resample": True,
            "ct_mask": "none",
            "ct_window": (1, 99),
            "devices": 1,
            "shard_patches": 9,
            "encoding": "npy",
            "export": "none",
            "verify": False,
        }
        return ExtractSettings(**settings | changed)

    return make


def opened(settings):
    path = settings.run_root / "extract" / settings.run
    inputs = extract.inputs(settings)
    return RunFolder.open(path, settings.model_dump(mode="json"), inputs=inputs)


def run(settings):
    folder = opened(settings)
    extract.run(settings, folder)
    return folder


def content(folder):
    files = sorted(path for path in folder.path.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder.path)): path.read_bytes()
        for path in files
        if path.name not in ("provenance.json", "log.txt", ".lock")
    }


def test_a_run_leaves_three_stores_two_pictures_and_its_facts(settings_of):
    folder = run(settings_of())
    # Rows at 0, 16, 32 (32 + 32 <= 70) and columns at 0, 16, 32, 48 (48 + 32 <= 90): 12 an image.
    assert folder.facts() == {
        "tiles": 36,
        "validation_tiles": 12,
        "patches": 30,
        "field_of_view": 1.0,
        "sem_window": {"low": 0.0, "high": 255.0},
        "ct_window": Store(folder.path / "ct").manifest["window"],
    }
    sem, validation, ct = (Store(folder.path / n) for n in ("sem", "sem_validation", "ct"))
    assert (len(sem), len(validation), len(ct)) == (36, 12, 30)
    assert (sem.pixel_um, ct.pixel_um) == (0.5, 2.0)
    assert sem.window == validation.window
    frames = Frames(folder.path / "sem_frames")
    assert [len(frames.training), len(frames.validation)] == [3, 1]
    assert (frames.window, frames.pixel_um) == (sem.window, sem.pixel_um)
    pictures = sorted(path.name for path in (folder.path / "previews").iterdir())
    assert pictures == ["ct_mask.png", "sem_tiles.png"]


def test_no_image_gives_tiles_to_both_training_and_validation(settings_of):
    folder = run(settings_of(validation_share=0.5))
    seen = [
        {source["path"] for source in Store(folder.path / name).manifest["sources"]}
        for name in ("sem", "sem_validation")
    ]
    assert len(seen[0]) == len(seen[1]) == 2
    assert not seen[0] & seen[1]


def test_without_a_share_nothing_is_set_aside(settings_of):
    folder = run(settings_of(validation_share=0))
    assert not (folder.path / "sem_validation").exists()
    assert not Frames(folder.path / "sem_frames").validation
    assert folder.facts()["tiles"] == 48


def test_the_stored_pixel_is_the_reduced_one(settings_of):
    folder = run(settings_of(sem_reduce=2, sem_pixel_um=0.25, validation_share=0))
    assert Store(folder.path / "sem").pixel_um == 0.5


def test_an_interrupted_run_goes_on_to_the_same_bytes(settings_of):
    whole = content(run(settings_of()))
    folder = opened(settings_of(run="again"))
    extract.run(settings_of(run="again"), folder)
    for lost in ("done.json", "sem/manifest.json", "sem/shard_00002.npy", "ct/shard_00001.json"):
        (folder.path / lost).unlink()
    damaged = folder.path / "ct/shard_00002.npy"
    damaged.write_bytes(damaged.read_bytes()[:-7])
    kept = (folder.path / "sem/shard_00001.npy").stat().st_mtime_ns
    extract.run(settings_of(run="again"), folder)
    assert (folder.path / "sem/shard_00001.npy").stat().st_mtime_ns == kept
    again = content(folder)
    again["config.yaml"] = whole["config.yaml"]
    assert again == whole


def test_verifying_reads_every_store_again(settings_of):
    settings = settings_of(verify=True)
    folder = run(settings)
    extract.run(settings, folder)
    for name in ("sem", "sem_validation", "ct"):
        shard = folder.path / name / "shard_00000.npy"
        before = shard.read_bytes()
        shard.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(Refusal, match=rf"{name}/shard_00000\.npy.*checksum"):
            extract.run(settings, folder)
        shard.write_bytes(before)
    frame = folder.path / "sem_frames" / "frame_00003.npy"
    before = frame.read_bytes()
    frame.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(Refusal, match=r"sem_frames/frame_00003\.npy.*checksum"):
        extract.run(settings, folder)
    frame.write_bytes(before)
    (folder.path / "ct/manifest.json").unlink()
    with pytest.raises(Refusal, match="unfinished"):
        extract.run(settings, folder)


def test_the_toy_rock_is_made_and_its_field_found(settings_of, tmp_path):
    rock = tmp_path / "outputs/extract/toy/rock"
    settings = settings_of(
        run="toy",
        source="toy",
        sem=str(rock / "sem"),
        ct=str(rock / "ct.tif"),
        ct_mask="found",
        sem_crop_bottom={"*bar*": 48},
        sem_pixel_um="metadata",
        ct_pixel_um="metadata",
        ct_patches=24,
    )
    assert extract.estimate(settings)["SEM tiles"] == "147 of 32 px at stride 16"
    folder = run(settings)
    # The field is a disc of radius 0.48 of the width; 7 x 7 tiles of each of three images.
    assert folder.facts()["field_of_view"] == pytest.approx(np.pi * 0.48**2, abs=0.02)
    assert folder.facts()["tiles"] + folder.facts()["validation_tiles"] == 147
    ct, sem = (Store(folder.path / name).pixel_um for name in ("ct", "sem"))
    assert ct / sem == pytest.approx(4)
    assert json.loads((rock / "rock.json").read_text())["recipe"]["seed"] == 5


def test_an_estimate_counts_and_writes_nothing(settings_of, tmp_path):
    rows = extract.estimate(settings_of())
    assert rows["SEM tiles"] == "48 of 32 px at stride 16"
    assert rows["CT patches"] == "30 of 8 px"
    # 48 tiles of 32 px, 30 patches of 8 px and four frames of 70 x 90, one byte a pixel.
    assert rows["size"] == f"{(48 * 32**2 + 30 * 8**2 + 4 * 70 * 90) / 1e6:.1f} MB"
    assert not (tmp_path / "outputs").exists()


def test_estimate_and_inputs_refuse_what_a_run_would(settings_of):
    # 3 slices of 40 x 50 hold 5 x 6 patches of 8 each.
    with pytest.raises(Refusal, match="largest possible is ct_patches=90"):
        extract.estimate(settings_of(ct_patches=91))
    with pytest.raises(Refusal, match="scale=4, but"):
        extract.inputs(settings_of(ct_pixel_um=2.1, ct_resample=False))
    # 6 SEM pixels are nearer to 8 than to 4 (the border is their geometric mean, 5.66).
    with pytest.raises(Refusal, match=r"is 6 SEM pixels.*change scale \(nearest: 8\)"):
        extract.inputs(settings_of(ct_pixel_um=3.0))


def test_a_scan_whose_voxels_make_no_scale_is_resampled_and_says_so(settings_of, tmp_path):
    mask = np.zeros((1, 40, 50), np.uint8)
    mask[:, :, 25:] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    masked = {"ct_mask": str(tmp_path / "mask.tif"), "ct_patches": 6}
    folder = run(settings_of(ct_pixel_um=2.4, **masked))
    assert folder.facts()["ct_resampled_by"] == pytest.approx(2.0 / 2.4)
    assert folder.facts()["field_of_view"] == pytest.approx(0.5, abs=0.02)
    store = Store(folder.path / "ct")
    assert store.pixel_um == 2.0
    # 48 x 60 voxels of 2 um, of which the right half is inside.
    assert store.places()["x"].min() >= 29


def test_slices_smaller_than_a_patch_are_refused(settings_of, tmp_path):
    tifffile.imwrite(tmp_path / "ct.tif", np.zeros((2, 7, 50), np.uint8))
    with pytest.raises(Refusal, match=r"ct=.*7x50 are smaller than a patch of ct_patch_px=8"):
        extract.inputs(settings_of())


def test_a_full_disk_is_refused_before_anything_is_written(settings_of, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    settings = settings_of()
    with pytest.raises(Refusal, match="extract needs"):
        extract.estimate(settings)
    folder = opened(settings)
    with pytest.raises(Refusal, match="extract needs"):
        extract.run(settings, folder)
    assert not list(folder.path.rglob("*.npy"))


def test_published_archives_are_taken_as_they_are(settings_of, tmp_path):
    tiles = DRAW.integers(0, 250, (5, 32, 32)).astype(np.uint8)
    patches = DRAW.integers(3, 256, (40, 8, 8)).astype(np.uint8)
    for name, images in (("LSK.zip", tiles), ("LR.zip", patches)):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for k, image in enumerate(images):
                archive.writestr(f"00000/img{k:08d}.png", imagecodecs.png_encode(image))
    given = {"sem": str(tmp_path / "LSK.zip"), "ct": str(tmp_path / "LR.zip"), "ct_ready": True}
    kept = {"sem_window": "keep", "ct_window": "keep", "validation_share": 0}
    settings = settings_of(**given, **kept, encoding="tiff", export="nvlabs_zip", verify=True)
    folder = run(settings)
    sem, ct = Store(folder.path / "sem"), Store(folder.path / "ct")
    np.testing.assert_array_equal(sem.tiles[:], tiles)
    chosen = ct.places()["z"]
    assert len(set(chosen.tolist())) == 30
    np.testing.assert_array_equal(ct.tiles[:], patches[chosen])
    with zipfile.ZipFile(folder.path / "export/sem.zip") as archive:
        assert archive.namelist()[4:] == ["00000/img00000004.png", "dataset.json"]
    with pytest.raises(Refusal, match=r"ct_patches=41, but only 40 patches lie ready"):
        extract.estimate(settings_of(**given, **kept, ct_patches=41))
