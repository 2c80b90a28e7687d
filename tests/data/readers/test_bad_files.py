"""Faults of files that are folders, series or pairs; those of single files are in test_formats.

What cannot happen is not here: a RAW file has neither magic nor header, so only its size can be
wrong; a PNG of no width is none; TIFF, NetCDF, MRC, NIfTI and OLE state the order of their bytes
in the number that also says what they are; an absent chunk of a Zarr array means its fill value.
"""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sem2ct.data import scans
from sem2ct.runtime.refusal import Refusal

_SPECIFICATION = importlib.util.spec_from_file_location(
    "written", Path(__file__).with_name("written.py")
)
written = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(written)

VOLUME = written.VOLUME
NEEDS = {"dicom": "pydicom", "nrrd_beside": "nrrd", "nrrd": "nrrd", "nifti": "nibabel"}
NEEDS |= {"zeiss": "olefile"}
# Of each kind the file that holds the pixels, and the one that says what they are.
PIXELS = {"dicom": "image_3.dcm", "ome_zarr": "0/1.1.1", "nrrd_beside": "ct.raw", "png": "sem.png"}
HEADERS = {"dicom": "image_3.dcm", "ome_zarr": "0/.zarray", "nrrd_beside": "ct.nhdr"}
HEADERS |= {"png": "sem.png"}


def made(kind, folder, volume=VOLUME):
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    return getattr(written, kind)(folder, volume)


def read_all(path):
    scan = scans.open(path)
    return scan.read(slice(None), slice(None), slice(None))


def place(path, name):
    """A file of what was made: in the folder, beside the file, or the file itself."""
    return path / name if path.is_dir() else path.parent / name


@pytest.mark.parametrize("kept", [0.9, 0.4, 0])
@pytest.mark.parametrize("kind", PIXELS)
def test_pixels_cut_short_are_refused(tmp_path, kind, kept):
    path = made(kind, tmp_path)
    file = place(path, PIXELS[kind])
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(Refusal, match=r"ct="):
        read_all(path)


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_is_something_else_is_refused(tmp_path, kind):
    path = made(kind, tmp_path)
    place(path, HEADERS[kind]).write_bytes(b"The quick brown fox jumps over the lazy dog. " * 40)
    with pytest.raises(Refusal, match=r"ct="):
        read_all(path)


@pytest.mark.parametrize("kind", ["nrrd", "nrrd_beside", "nifti", "zeiss"])
def test_a_volume_without_voxels_is_refused(tmp_path, kind):
    path = made(kind, tmp_path)
    edits = {
        "nrrd": ("ct.nrrd", b"sizes: 26 20 5", b"sizes: 26 0 5"),
        "nrrd_beside": ("ct.nhdr", b"sizes: 26 20 5", b"sizes: 0 20 5"),
        # dim[0..3] of the header, little-endian int16 from byte 40 on.
        "nifti": ("ct.nii", np.array([3, 26, 20, 5], "<i2").tobytes(), bytes([3, 0, 0, 0] * 2)),
        "zeiss": ("ct.txm", np.array([26], "<i4").tobytes(), bytes(4)),
    }
    name, whole, empty = edits[kind]
    content = (path.parent / name).read_bytes()
    assert whole in content
    (path.parent / name).write_bytes(content.replace(whole, empty, 1))
    with pytest.raises(Refusal, match=r"ct="):
        read_all(path)


def test_a_tiff_whose_page_has_no_width_is_refused(tmp_path):
    path = written.tiff_tiles(tmp_path)
    content = path.read_bytes()
    # Tag 256 (ImageWidth), one number: its value is the last two or four bytes of the entry.
    entry = next(
        at
        for kind in (3, 4)
        if (at := content.find(np.array([256, kind], "<u2").tobytes() + b"\1\0\0\0")) >= 0
    )
    path.write_bytes(content[: entry + 8] + bytes(4) + content[entry + 12 :])
    with pytest.raises(Refusal, match=r"ct="):
        read_all(path)


@pytest.mark.parametrize("odd", [VOLUME[1, :15], VOLUME[1].astype(np.float32)])
def test_a_tiff_page_of_another_kind_is_refused_between_slices_and_passed_over_behind(
    tmp_path, odd
):
    for name, pages in {
        "between": [VOLUME[0], odd, VOLUME[2]],
        "behind": [*VOLUME[:2], odd],
    }.items():
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for page in pages:
                file.write(page, photometric="minisblack")
    with pytest.raises(Refusal, match=r"ct=.*between\.tif: page 1 is \("):
        read_all(tmp_path / "between.tif")
    np.testing.assert_array_equal(read_all(tmp_path / "behind.tif"), VOLUME[:2])


def test_a_series_with_a_slice_of_another_shape_is_refused(tmp_path):
    folder = made("dicom", tmp_path)
    written.dicom_slice(folder / "image_3.dcm", VOLUME[2, :15], 2)
    with pytest.raises(Refusal, match=r"image_3\.dcm"):
        read_all(folder)


def test_an_archive_with_a_slice_of_another_shape_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as file:
        for z, grey in enumerate((VOLUME[0], VOLUME[1], VOLUME[2, :15])):
            file.writestr(f"s_{z}.png", written.picture(grey, "png"))
    with pytest.raises(Refusal, match=r"s_2\.png"):
        read_all(tmp_path / "ct.zip")


@pytest.mark.parametrize("kind", ["nrrd", "nrrd_beside"])
def test_a_header_by_hand_with_the_wrong_byte_order_is_suspected(tmp_path, caplog, kind):
    y, x = np.mgrid[:80, :90]
    smooth = (20000 + 4000 * np.sin(y / 9) * np.cos(x / 7)).astype("<u2")
    path = made(kind, tmp_path, np.stack([smooth] * 3))
    scans.open(path)
    assert "swapped bytes" not in caplog.text
    content = path.read_bytes()
    path.write_bytes(content.replace(b"endian: little", b"endian: big", 1))
    scans.open(path)
    assert "with swapped bytes neighbouring pixels are far more alike" in caplog.text
    assert "endian: little" in caplog.text
