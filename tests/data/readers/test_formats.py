import importlib.util
from pathlib import Path

import numpy as np
import pytest
import zarr

from sem2ct.data import ct_patches, pixel_size, scans
from sem2ct.data.intensity import Window
from sem2ct.data.readers import stack as readers
from sem2ct.runtime.refusal import Refusal

_SPECIFICATION = importlib.util.spec_from_file_location(
    "written", Path(__file__).with_name("written.py")
)
written = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(written)

VOLUME = written.VOLUME
EVERYTHING = (slice(None), slice(None), slice(None))
LIBRARY = {
    "hdf5": "h5py",
    "nexus": "h5py",
    "nrrd": "nrrd",
    "nrrd_gzip": "nrrd",
    "nrrd_beside": "nrrd",
    "nifti": "nibabel",
    "nifti_gzip": "nibabel",
    "mrc": "mrcfile",
    "dicom": "pydicom",
    "zeiss": "olefile",
}
KINDS = [*LIBRARY, "netcdf3", "ome_zarr", "zipped", "tarred", "tiff_tiles", "tiff_strips"]
ONE_FILE = [kind for kind in KINDS if kind not in ("dicom", "ome_zarr", "nrrd_beside")]
NOT_WRITABLE = [("netcdf3", "uint8"), ("mrc", "uint8"), ("dicom", "float32")]
NOT_WRITABLE += [(kind, dtype) for kind in ("zipped", "tarred") for dtype in ("int16", "float32")]
SIZED = ["hdf5", "nrrd", "nifti", "ome_zarr", "netcdf3", "dicom"]


def made(kind, folder, volume=VOLUME):
    if kind in LIBRARY:
        pytest.importorskip(LIBRARY[kind])
    return getattr(written, kind)(folder, volume)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_volume(tmp_path, kind):
    # Classic NetCDF has no unsigned type of two bytes, so it is written and read as int16.
    expected = VOLUME.view(np.int16) if kind == "netcdf3" else VOLUME
    scan = scans.open(made(kind, tmp_path))
    assert scan.shape == (5, 20, 26)
    assert scan.dtype == expected.dtype
    np.testing.assert_array_equal(scan.read(*EVERYTHING), expected)
    for z in (4, 1):  # backwards: a packed stream must start again
        np.testing.assert_array_equal(scan.slice_at(z), expected[z])


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_the_part_of_the_slice_that_was_asked_for(tmp_path, kind):
    expected = VOLUME.view(np.int16) if kind == "netcdf3" else VOLUME
    scan = scans.open(made(kind, tmp_path))
    box = scan.read(slice(1, 4), slice(5, 18), slice(14, 26))
    np.testing.assert_array_equal(box, expected[1:4, 5:18, 14:])
    np.testing.assert_array_equal(scan.window(2, slice(2, 4), slice(0, 3)), expected[2, 2:4, :3])


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (kind, dtype)
        for kind in KINDS
        for dtype in ("uint8", "int16", "float32")
        if (kind, dtype) not in NOT_WRITABLE and kind != "zeiss"
    ],
)
def test_grey_values_keep_type_and_sign(tmp_path, kind, dtype):
    volume = (VOLUME / 300 - (0 if dtype == "uint8" else 100)).astype(dtype)
    scan = scans.open(made(kind, tmp_path, volume))
    assert scan.dtype == dtype
    np.testing.assert_array_equal(scan.read(*EVERYTHING), volume)


@pytest.mark.parametrize("kind", SIZED)
def test_voxel_sizes_are_read_in_the_order_of_the_axes(tmp_path, kind):
    scan = scans.open(made(kind, tmp_path))
    assert scan.spacing_um == pytest.approx((3.0, 2.5, 2.5))
    assert scan.pixel_um == pytest.approx(2.5)


@pytest.mark.parametrize("kind", ["nexus", "mrc", "zeiss"])
def test_pixel_sizes_are_read_where_only_one_is_stated(tmp_path, kind):
    assert scans.open(made(kind, tmp_path)).pixel_um == pytest.approx(2.5)


@pytest.mark.parametrize("kind", ONE_FILE)
@pytest.mark.parametrize("kept", [0.99, 0.6, 0.1, 0.003, 0])
def test_a_file_cut_short_is_refused_by_name(tmp_path, kind, kept):
    path = made(kind, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(Refusal, match=rf"ct=.*{path.name}"):
        scans.open(path).read(*EVERYTHING)


@pytest.mark.parametrize("kind", ONE_FILE)
def test_a_file_with_another_file_s_name_is_refused(tmp_path, kind):
    path = made(kind, tmp_path)
    path.write_bytes(b"The quick brown fox jumps over the lazy dog. " * 200)
    with pytest.raises(Refusal, match=rf"ct=.*{path.name}: not an? "):
        scans.open(path)


@pytest.mark.parametrize("kind", LIBRARY)
def test_a_reader_that_is_not_installed_is_named_with_its_command(tmp_path, kind, monkeypatch):
    path = made(kind, tmp_path)

    def absent(name):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(readers.importlib, "import_module", absent)
    package = LIBRARY[kind].replace("nrrd", "pynrrd")
    with pytest.raises(Refusal, match=rf"needs the package {package}.*pip install {package}"):
        scans.open(path)


@pytest.mark.parametrize("kind", ["tiff_tiles", "zipped", "tarred", "netcdf3", "ome_zarr"])
def test_what_needs_no_reader_of_its_own_is_read_without(tmp_path, kind, monkeypatch):
    path = made(kind, tmp_path)
    monkeypatch.setattr(readers.importlib, "import_module", lambda name: 1 / 0)
    assert scans.open(path).slice_at(0).shape == (20, 26)


def test_of_several_datasets_one_must_be_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "ct.h5", "w") as file:
        file["before/raw"], file["after/raw"] = VOLUME, VOLUME[::-1]
        file["angles"] = np.zeros(9)
    with pytest.raises(Refusal, match=r"ct_dataset=: after/raw 5x20x26, before/raw 5x20x26"):
        scans.open(tmp_path / "ct.h5")
    scan = scans.open(tmp_path / "ct.h5", dataset="/after/raw")
    np.testing.assert_array_equal(scan.slice_at(0), VOLUME[4])
    with pytest.raises(Refusal, match=r"no dataset 'nowhere'.*angles 9"):
        scans.open(tmp_path / "ct.h5", dataset="nowhere")


def test_axes_of_length_one_are_left_out_and_others_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    for name, shape in (("one", (1, 5, 20, 26, 1)), ("two", (2, 5, 20, 13))):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = VOLUME.reshape(shape)
    scan = scans.open(tmp_path / "one.h5")
    np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME)
    with pytest.raises(Refusal, match=r"\(2, 5, 20, 13\) has 4 axes|no dataset with three"):
        scans.open(tmp_path / "two.h5", dataset="data")


def test_a_dataset_that_was_never_written_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "ct.h5", "w") as file:
        file.create_dataset("data", shape=(50, 200, 200), dtype="u2")
    with pytest.raises(Refusal, match=r"0 of its 4000000 bytes were written"):
        scans.open(tmp_path / "ct.h5")


@pytest.mark.parametrize("kind", ["hdf5", "mrc", "ome_zarr", "netcdf3"])
def test_a_scan_without_slices_is_refused(tmp_path, kind):
    with pytest.raises(Refusal, match=r"nothing to read|has shape|not a whole"):
        scans.open(made(kind, tmp_path, VOLUME[:0]))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "float32"])
def test_negative_greys_are_windowed_like_any_other(tmp_path, dtype):
    grey = np.array([[-100, -50, 0, 50, 100]] * 2, dtype)
    (tmp_path / "ct.raw").write_bytes(grey.tobytes())
    scan = scans.open(tmp_path / "ct.raw", raw_shape=(1, 2, 5), raw_dtype=dtype)
    # (g + 50) * 255 / 100, clipped: -100 is below the window.
    expected = [0, 0, 128, 255, 255]
    assert Window(-50, 50).to_uint8(scan.slice_at(0))[1].tolist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_with_slice_and_count(tmp_path, bad):
    volume = VOLUME.astype(np.float32)
    volume[4, 3, 5:8] = bad
    scan = scans.open(made("ome_zarr", tmp_path, volume))
    with pytest.raises(Refusal, match=r"slice 4: 3 of 520 values are NaN or infinite"):
        ct_patches.pooled_window(scan, ct_patches.Field(scan, "none"), (1, 99))


def test_an_ome_zarr_of_either_version_is_read_at_full_resolution(tmp_path):
    group = zarr.open_group(tmp_path / "ct.zarr", mode="w", zarr_format=3)
    for name, volume in (("s0", VOLUME), ("s1", VOLUME[:, ::2, ::2])):
        array = group.create_array(name, shape=(1, *volume.shape), chunks=(1, 2, 8, 8), dtype="u2")
        array[0] = volume
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    levels = [
        {
            "path": f"s{k}",
            "coordinateTransformations": [{"type": "scale", "scale": [1.0, 3e-3, s, s]}],
        }
        for k, s in enumerate((2.5e-3, 5e-3))
    ]
    multiscale = {"axes": axes, "datasets": levels}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    scan = scans.open(tmp_path / "ct.zarr")
    np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME)
    assert scan.spacing_um == pytest.approx((3.0, 2.5, 2.5))
    coarse = scans.open(tmp_path / "ct.zarr", dataset="s1")
    np.testing.assert_array_equal(coarse.slice_at(3), VOLUME[3, ::2, ::2])


def test_frames_of_one_dicom_file_are_slices(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = written.dicom_slice(tmp_path / "all.dcm", VOLUME[0], 0)
    header = pydicom.dcmread(path)
    header.NumberOfFrames, header.PixelData = 5, VOLUME.tobytes()
    header.save_as(path)
    np.testing.assert_array_equal(scans.open(path).read(*EVERYTHING), VOLUME)


def test_blocks_of_a_scan_follow_one_another(tmp_path):
    for k, part in enumerate((VOLUME[:2], VOLUME[2:3], VOLUME[3:])):
        written.netcdf3(tmp_path, part, f"block0000000{k}.nc")
    scan = scans.open(tmp_path)
    assert scan.shape == (5, 20, 26)
    np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME.view(np.int16))
    assert scan.pixel_um == pytest.approx(2.5)
    written.netcdf3(tmp_path, VOLUME[:, 1:], "block00000003.nc")
    with pytest.raises(Refusal, match=r"block00000003\.nc has slices of \(19, 26\)"):
        scans.open(tmp_path)


def test_a_nifti_with_a_scale_gives_scaled_values(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(VOLUME.T.astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "ct.nii")
    expected = VOLUME.astype(np.int16) * 0.5 - 3
    scan = scans.open(tmp_path / "ct.nii")
    assert scan.dtype == np.float32
    np.testing.assert_allclose(scan.read(*EVERYTHING), expected, rtol=1e-6)


def test_a_series_with_a_lost_slice_or_two_series_are_refused(tmp_path):
    pytest.importorskip("pydicom")
    folder = written.dicom(tmp_path)
    written.dicom_slice(folder / "more.dcm", VOLUME[0], 7)
    with pytest.raises(Refusal, match=r"image_1\.dcm and more\.dcm.*2 slices are missing"):
        scans.open(folder)
    (folder / "more.dcm").unlink()
    (folder / "image_3.dcm").unlink()
    with pytest.raises(Refusal, match=r"image_4\.dcm and image_2\.dcm.*1 slices are missing"):
        scans.open(folder)


def test_dicom_without_an_ending_is_known_by_its_mark(tmp_path):
    pytest.importorskip("pydicom")
    folder = written.dicom(tmp_path)
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(""))
    np.testing.assert_array_equal(scans.open(folder).read(*EVERYTHING), VOLUME)


def test_a_nrrd_header_may_not_point_elsewhere(tmp_path):
    pytest.importorskip("nrrd")
    path = written.nrrd_beside(tmp_path)
    text = path.read_bytes().replace(b"ct.raw", b"../ct.raw")
    path.write_bytes(text)
    with pytest.raises(Refusal, match=r"'\.\./ct\.raw' must lie beside it"):
        scans.open(path)


def test_projections_are_no_slices(tmp_path):
    pytest.importorskip("olefile")
    written.zeiss(tmp_path).rename(tmp_path / "ct.txrm")
    with pytest.raises(Refusal, match="reconstruct it"):
        scans.open(tmp_path / "ct.txrm")


@pytest.mark.parametrize("lost", [(3,), (2, 4)])
def test_missing_slices_are_named(tmp_path, lost):
    for z in range(7):
        if z not in lost:
            written.png(tmp_path)
            (tmp_path / "sem.png").rename(tmp_path / f"core7_{z:03d}.png")
    named = ", ".join(f"core7_{z:03d}.png" for z in lost)
    with pytest.raises(Refusal, match=f"slices are missing .*: {named}; copy them"):
        scans.open(tmp_path)


def test_every_tenth_slice_is_a_series_without_gaps(tmp_path):
    for z in range(0, 40, 10):
        written.png(tmp_path)
        (tmp_path / "sem.png").rename(tmp_path / f"s{z}.png")
    assert scans.open(tmp_path).shape == (4, 20, 26)


def smooth(dtype):
    y, x = np.mgrid[:80, :90]
    noise = np.random.default_rng(0).normal(0, 30, (80, 90))
    return (20000 + 4000 * np.sin(y / 9) * np.cos(x / 7) + noise).astype(dtype)


@pytest.mark.parametrize("dtype", ["<u2", "<i2", "<f4"])
@pytest.mark.parametrize(("order", "warned"), [("little", False), ("big", True)])
def test_swapped_bytes_are_suspected(tmp_path, caplog, dtype, order, warned):
    (tmp_path / "ct.raw").write_bytes(smooth(dtype).tobytes())
    scans.open(
        tmp_path / "ct.raw",
        raw_shape=(1, 80, 90),
        raw_dtype=np.dtype(dtype).name,
        raw_byte_order=order,
    )
    assert ("set ct_raw_byte_order=little" in caplog.text) == warned


def test_noise_is_not_suspected():
    noise = np.random.default_rng(1).integers(0, 65536, (90, 90)).astype(np.uint16)
    assert not readers.suspected_byte_order(noise)
    assert not readers.suspected_byte_order(np.full((9, 9), 7, np.uint16))


def test_a_stated_size_that_no_microscope_has_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    said = {"neg": [-1.0, -1.0, -1.0], "far": [9e9] * 3, "flat": [1.0, 2.0, 1.0]}
    words = {"neg": "a pixel of -1 um", "far": "a pixel of 9e\\+09 um", "flat": "not square"}
    for name, sizes in said.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = VOLUME
            file["data"].attrs["element_size_um"] = sizes
        scan = scans.open(tmp_path / f"{name}.h5")
        with pytest.raises(Refusal, match=rf"{words[name]}.*ct_pixel_um=<micrometres>"):
            pixel_size.settle([scan], "metadata", setting="ct_pixel_um")
        assert pixel_size.settle([scan], 2.0, setting="ct_pixel_um") == 2.0


def test_slices_further_apart_than_pixels_are_warned_of(tmp_path, caplog):
    scan = scans.open(written.ome_zarr(tmp_path))
    assert pixel_size.settle([scan], "metadata", setting="ct_pixel_um") == 2.5
    assert "slices are 3 um apart, but its pixels are 2.5 um" in caplog.text


def test_a_size_without_a_unit_is_not_believed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "ct.h5", "w") as file:
        file["data"] = VOLUME
        file["data"].attrs["voxel_size"] = [1.0, 1.0, 1.0]
    assert scans.open(tmp_path / "ct.h5").pixel_um is None
