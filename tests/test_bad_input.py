"""Bad input through the whole command: one line, exit code 2, and nothing taken for whole later."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage import io

from sem2ct import cli
from sem2ct.runtime import checkpoint

GREY = np.random.default_rng(7)


BROUGHT = [
    "rock=mine",
    "size=tiny",
    "sem=sem",
    "sem_pixel_um=unstated",
    "ct=ct.tif",
    "ct_pixel_um=unstated",
    "ct_mask=none",
]


def texture(*shape: int, dtype=np.uint8) -> np.ndarray:
    return GREY.integers(1, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.fixture
def brought(tmp_path):
    """A folder with two good SEM images and a good micro-CT stack."""
    (tmp_path / "sem").mkdir()
    for k in range(2):
        io.imsave(tmp_path / f"sem/place_{k}.png", texture(96, 80), check_contrast=False)
    tifffile.imwrite(
        tmp_path / "ct.tif", texture(3, 40, 40, dtype=np.uint16), photometric="minisblack"
    )
    return tmp_path


@pytest.fixture
def refused(brought, capsys, monkeypatch):
    """Runs a command that must be refused; gives the one line it says."""
    monkeypatch.chdir(brought)

    def ask(*overrides: str, command: str = "extract") -> str:
        basis = BROUGHT if command == "extract" else ["size=tiny"]
        with pytest.raises(SystemExit) as end:
            cli.main([command, *basis, *overrides])
        said = [line for line in capsys.readouterr().err.splitlines() if "sem2ct: " in line]
        assert end.value.code == 2
        assert len(said) == 1
        assert not list(brought.rglob("done.json"))
        assert not list(brought.rglob("*.tmp"))
        return said[0]

    return ask


def test_the_good_input_is_taken(brought, monkeypatch):
    monkeypatch.chdir(brought)
    with pytest.raises(SystemExit) as end:
        cli.main(["extract", *BROUGHT])
    assert end.value.code == 0


def test_a_corrected_command_is_taken_in_the_same_folder(refused, monkeypatch):
    refused("ct_patches=1000")
    with pytest.raises(SystemExit) as end:
        cli.main(["extract", *BROUGHT])
    assert end.value.code == 0


def test_a_missing_file(refused):
    assert "nowhere.tif" in refused("ct=nowhere.tif")


def test_a_glob_that_finds_nothing(refused):
    assert "sem=sem/*.jpg" in refused("sem='sem/*.jpg'")


def test_a_truncated_tiff(refused, brought):
    whole = (brought / "ct.tif").read_bytes()
    (brought / "ct.tif").write_bytes(whole[: len(whole) // 2])
    assert "ct.tif" in refused()


def test_a_raw_file_of_the_wrong_size(refused, brought):
    (brought / "ct.raw").write_bytes(bytes(1000))
    said = refused("ct=ct.raw", "ct_raw_shape=[3,40,40]", "ct_raw_dtype=uint16")
    assert "1000" in said
    assert "9600" in said


def test_a_raw_file_without_a_shape(refused, brought):
    (brought / "ct.raw").write_bytes(bytes(9600))
    assert "ct_raw_shape" in refused("ct=ct.raw")


def test_an_image_smaller_than_a_tile(refused, brought):
    io.imsave(brought / "sem/place_1.png", texture(20, 80), check_contrast=False)
    said = refused()
    assert "place_1.png" in said
    assert "32" in said


def test_a_constant_image(refused, brought):
    for k in range(2):
        flat = np.full((96, 80), 9, np.uint8)
        io.imsave(brought / f"sem/place_{k}.png", flat, check_contrast=False)
    assert "constant" in refused()


def test_voxels_that_are_no_numbers(refused, brought):
    voxels = texture(3, 40, 40).astype(np.float32)
    voxels[1, 2, 3] = np.nan
    tifffile.imwrite(brought / "ct.tif", voxels, photometric="minisblack")
    assert "NaN" in refused()


def test_colour(refused, brought):
    io.imsave(brought / "sem/place_1.png", texture(96, 80, 3), check_contrast=False)
    assert "place_1.png" in refused()


def test_two_depths(refused, brought):
    io.imsave(brought / "sem/place_1.png", texture(96, 80, dtype=np.uint16), check_contrast=False)
    said = refused()
    assert "uint16" in said
    assert "uint8" in said


def test_a_mask_without_room_for_a_patch(refused, brought):
    mask = np.zeros((40, 40), np.uint8)
    mask[:5, :5] = 255
    io.imsave(brought / "mask.png", mask, check_contrast=False)
    assert "ct_mask" in refused("ct_mask=mask.png")


def test_more_patches_than_fit(refused):
    # Five patches of 8 fit along 40 voxels, on three slices.
    said = refused("ct_patches=1000")
    assert "ct_patches=1000" in said
    assert "75" in said


def test_an_unstated_pixel_size_is_asked_for_by_name(refused):
    assert "sem_pixel_um" in refused("sem_pixel_um=metadata")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a Linux /proc")
def test_a_place_of_the_system(refused):
    assert "/proc/nowhere" in refused("run_root=/proc/nowhere")


def test_a_folder_that_cannot_be_written(refused, brought):
    (brought / "taken").write_text("a file, not a folder")
    assert "taken" in refused("run_root=taken")


def test_a_disk_that_is_too_small(refused, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    said = refused()
    assert "free" in said
    assert "run_root" in said


def test_a_store_that_was_never_made(refused):
    assert "extract" in refused(command="train-stylegan")


def test_a_translator_that_was_never_trained(refused):
    said = refused("ct=ct.tif", command="translate")
    assert "cyclegan" in said
    assert "train-cyclegan" in said


def test_a_checkpoint_of_the_other_network(refused, brought):
    checkpoint.save(
        brought / "other", 8, {"trainer": {"ema": {"config": {}, "weights": {}}}}, keep=1
    )
    said = refused("stylegan=other/000000008.pt", command="synthesize")
    assert "train-stylegan" in said
    said = refused("cyclegan=other/000000008.pt", "ct=ct.tif", command="translate")
    assert "train-cyclegan" in said


def test_a_checkpoint_that_is_none(refused, brought):
    (brought / "other.pt").write_bytes(b"not a checkpoint")
    assert "other.pt" in refused("stylegan=other.pt", command="synthesize")
