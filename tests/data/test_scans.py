import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from sem2ct.data import pixel_size, scans
from sem2ct.runtime.refusal import Refusal

VOLUME = np.random.default_rng(3).integers(0, 60000, (5, 40, 52)).astype(np.uint16)
EVERYTHING = (slice(None), slice(None), slice(None))
REAL = Path(os.environ.get("SEM2CT_REAL_DATA", Path(__file__).parents[3] / "shared/data"))
FEI = REAL / "sem/porous_fei_sample_1.tif"


def write_plain(path):
    tifffile.imwrite(path, VOLUME)


def write_compressed(path):
    tifffile.imwrite(path, VOLUME, compression="zlib", predictor=True)


def write_big_endian(path):
    tifffile.imwrite(path, VOLUME, bigtiff=True, byteorder=">")


def write_imagej(path):
    tifffile.imwrite(path, VOLUME, imagej=True, metadata={"axes": "ZYX"})


def write_pages(path):
    with tifffile.TiffWriter(path) as writer:
        for page in VOLUME:
            writer.write(page, contiguous=False)


def write_white_is_zero(path):
    tifffile.imwrite(path, 65535 - VOLUME, photometric="miniswhite")


WRITERS = [
    write_plain,
    write_compressed,
    write_big_endian,
    write_imagej,
    write_pages,
    write_white_is_zero,
]


@pytest.mark.parametrize("write", WRITERS)
def test_every_kind_of_tiff_gives_the_same_volume(tmp_path, write):
    write(tmp_path / "ct.tif")
    scan = scans.open(tmp_path / "ct.tif")
    assert scan.shape == (5, 40, 52)
    assert scan.dtype == np.uint16
    np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME)


def test_a_box_is_read_where_it_was_asked_for(tmp_path):
    write_compressed(tmp_path / "ct.tif")
    box = scans.open(tmp_path / "ct.tif").read(slice(1, 4), slice(5, 9), slice(30, 52))
    np.testing.assert_array_equal(box, VOLUME[1:4, 5:9, 30:])


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("kept", [0.999, 0.9, 0.5, 0.05, 0.002])
def test_a_tiff_cut_short_is_refused(tmp_path, write, kept):
    write(tmp_path / "whole.tif")
    content = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "ct.tif").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(Refusal, match=r"ct=.*ct\.tif.*copy it again"):
        scans.open(tmp_path / "ct.tif")


def test_a_damaged_page_is_refused_when_it_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "ct.tif", VOLUME, compression="zlib")
    with tifffile.TiffFile(tmp_path / "ct.tif") as tif:
        start = tif.pages[2].dataoffsets[0]
    content = bytearray((tmp_path / "ct.tif").read_bytes())
    content[start : start + 40] = bytes(40)
    (tmp_path / "ct.tif").write_bytes(content)
    with pytest.raises(Refusal, match="page 2 cannot be decoded"):
        scans.open(tmp_path / "ct.tif").slice_at(2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_keeps_its_depth_and_its_values(tmp_path, dtype):
    image = VOLUME[0].astype(dtype)
    (tmp_path / "sem.png").write_bytes(imagecodecs.png_encode(image))
    scan = scans.open(tmp_path / "sem.png", setting="sem")
    assert scan.shape == (1, 40, 52)
    assert scan.dtype == dtype
    np.testing.assert_array_equal(scan.slice_at(0), image)


@pytest.mark.parametrize("kept", [10, 200, 1500])
def test_a_png_cut_short_is_refused(tmp_path, kept):
    content = imagecodecs.png_encode(VOLUME[0])
    (tmp_path / "sem.png").write_bytes(content[:kept])
    with pytest.raises(Refusal, match=r"sem=.*sem\.png.*copy it again"):
        scans.open(tmp_path / "sem.png", setting="sem").slice_at(0)


def test_a_grey_image_saved_as_colour_is_read(tmp_path):
    grey = VOLUME[1].astype(np.uint8)
    tifffile.imwrite(tmp_path / "sem.tif", np.dstack([grey] * 3), photometric="rgb")
    (tmp_path / "sem.png").write_bytes(imagecodecs.png_encode(np.dstack([grey] * 3 + [grey // 2])))
    for name in ("sem.tif", "sem.png"):
        scan = scans.open(tmp_path / name)
        assert scan.shape == (1, 40, 52)
        np.testing.assert_array_equal(scan.slice_at(0), grey)


def test_a_coloured_image_is_refused_with_the_count(tmp_path):
    colour = np.dstack([VOLUME[1].astype(np.uint8)] * 3)
    colour[3, 4:6, 2] += 1
    (tmp_path / "sem.png").write_bytes(imagecodecs.png_encode(colour))
    with pytest.raises(Refusal, match=r"sem\.png.*differ in 2 of 2080 pixels"):
        scans.open(tmp_path / "sem.png", setting="sem").slice_at(0)


def test_slices_are_stacked_in_natural_order(tmp_path):
    for k, number in enumerate((8, 9, 10, 11, 12)):
        tifffile.imwrite(tmp_path / f"slice_{number}.tif", VOLUME[k])
    for where in (tmp_path, tmp_path / "slice_*.tif"):
        scan = scans.open(where)
        np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME)


def test_slices_of_different_shape_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[0])
    tifffile.imwrite(tmp_path / "b.tif", VOLUME[0, 1:])
    with pytest.raises(Refusal, match=r"b\.tif is 39x52 uint16, but a\.tif is 40x52 uint16"):
        scans.open(tmp_path)


def test_a_stack_among_slices_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[0])
    tifffile.imwrite(tmp_path / "b.tif", VOLUME)
    with pytest.raises(Refusal, match=r"b\.tif holds 5 slices"):
        scans.open(tmp_path)


@pytest.mark.parametrize(("order", "sign"), [("little", "<"), ("big", ">")])
def test_a_raw_file_is_read_as_stated(tmp_path, order, sign):
    content = bytes(7) + VOLUME.astype(f"{sign}u2").tobytes()
    (tmp_path / "ct.raw").write_bytes(content)
    scan = scans.open(
        tmp_path / "ct.raw",
        raw_shape=(5, 40, 52),
        raw_dtype="uint16",
        raw_byte_order=order,
        raw_header_bytes=7,
    )
    assert scan.dtype == np.uint16
    np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME)


@pytest.mark.parametrize("size", [20799, 20801])
def test_a_raw_file_of_another_size_is_refused_with_both_sizes(tmp_path, size):
    (tmp_path / "ct.raw").write_bytes(bytes(size))
    with pytest.raises(Refusal, match=rf"{size} bytes.* make 20800"):
        scans.open(tmp_path / "ct.raw", raw_shape=(5, 40, 52), raw_dtype="uint16")


def test_a_raw_file_without_shape_or_type_is_refused(tmp_path):
    (tmp_path / "ct.raw").write_bytes(bytes(8))
    with pytest.raises(Refusal, match="ct_raw_shape="):
        scans.open(tmp_path / "ct.raw", raw_shape="none", raw_dtype="none")
    with pytest.raises(Refusal, match="ct_raw_dtype is not"):
        scans.open(tmp_path / "ct.raw", raw_shape=(2, 2, 2), raw_dtype="none")


def test_a_raw_shape_for_a_tiff_is_refused(tmp_path):
    write_plain(tmp_path / "ct.tif")
    with pytest.raises(Refusal, match="ct_raw_shape=none"):
        scans.open(tmp_path / "ct.tif", raw_shape=(5, 40, 52), raw_dtype="uint16")


def test_what_is_not_there_is_refused_by_the_name_of_its_setting(tmp_path):
    with pytest.raises(Refusal, match=r"sem=.*nowhere\.tif: no such file"):
        scans.find(str(tmp_path / "nowhere.tif"), setting="sem")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(Refusal, match=r"sem=.*\*\.tif: the glob holds no image"):
        scans.find(str(tmp_path / "*.tif"), setting="sem")
    with pytest.raises(Refusal, match=r"sem=.*: the folder holds no image.*among 1 files"):
        scans.find(str(tmp_path), setting="sem")
    with pytest.raises(Refusal, match="sem is an empty list"):
        scans.find([], setting="sem")
    with pytest.raises(Refusal, match=r"no such file"):
        scans.open(tmp_path / "ct.raw", raw_shape=(5, 40, 52), raw_dtype="uint8")


def test_an_unknown_kind_of_file_is_refused(tmp_path):
    (tmp_path / "sem.bmp").write_bytes(b"BM")
    with pytest.raises(Refusal, match=r"kind '\.bmp' cannot be read"):
        scans.open(tmp_path / "sem.bmp")


def test_a_file_found_twice_counts_once(tmp_path):
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(b"")
    patterns = [str(tmp_path / "b.png"), str(tmp_path), str(tmp_path / "?.png")]
    assert [path.name for path in scans.find(patterns, setting="sem")] == ["b.png", "a.png"]


def test_pixel_sizes_are_read_from_imagej_ome_and_fine_tags(tmp_path):
    scale = {"resolution": (1 / 2.5, 1 / 2.5)}
    imagej = {"axes": "ZYX", "unit": "um"}
    tifffile.imwrite(tmp_path / "j.tif", VOLUME, imagej=True, metadata=imagej, **scale)
    ome = {"axes": "ZYX", "PhysicalSizeX": 2500.0, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(tmp_path / "o.ome.tif", VOLUME, metadata=ome)
    fine = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "fine.tif", VOLUME[0], **fine)
    screen = {"resolution": (72, 72), "resolutionunit": "INCH"}
    tifffile.imwrite(tmp_path / "screen.tif", VOLUME[0], **screen)
    sizes = {"j.tif": 2.5, "o.ome.tif": 2.5, "fine.tif": 0.5}
    for name, size in sizes.items():
        assert scans.open(tmp_path / name).pixel_um == pytest.approx(size)
    assert scans.open(tmp_path / "screen.tif").pixel_um is None


@pytest.mark.real_data
@pytest.mark.skipif(not FEI.is_file(), reason="the real images are not here")
def test_a_real_fei_file_states_its_pixel_and_its_data_bar():
    scan = scans.open(FEI)
    assert scan.shape == (1, 1103, 1536)
    assert scan.data_bar_rows == 79
    assert scan.pixel_um == pytest.approx(0.134896)


def scan_of(tmp_path, name, size):
    fine = {"resolution": (1e4 / size, 1e4 / size), "resolutionunit": "CENTIMETER"} if size else {}
    tifffile.imwrite(tmp_path / name, VOLUME[0], **fine)
    return scans.open(tmp_path / name)


def test_a_pixel_size_is_given_stated_or_left_out(tmp_path):
    stated, silent = scan_of(tmp_path, "a.tif", 0.5), scan_of(tmp_path, "b.tif", None)
    assert pixel_size.settle([stated], 3, setting="sem_pixel_um") == 3.0
    assert pixel_size.settle([stated], "unstated", setting="sem_pixel_um") is None
    assert pixel_size.settle([stated], "metadata", setting="sem_pixel_um") == pytest.approx(0.5)
    with pytest.raises(Refusal, match=r"b\.tif states no pixel size.*sem_pixel_um=unstated"):
        pixel_size.settle([stated, silent], "metadata", setting="sem_pixel_um")


def test_images_of_different_magnification_are_refused(tmp_path):
    both = [scan_of(tmp_path, "a.tif", 0.5), scan_of(tmp_path, "b.tif", 0.51)]
    with pytest.raises(Refusal, match=r"b\.tif states 0\.51 um and .*a\.tif 0\.5 um"):
        pixel_size.settle(both, "metadata", setting="sem_pixel_um")


def test_pixel_sizes_must_make_the_scale_within_one_percent():
    pixel_size.refuse_unmatched(0.5, 8.07, scale=16)
    pixel_size.refuse_unmatched(None, 8.0, scale=2)
    with pytest.raises(Refusal, match=r"scale=16, but .* 8\.1 um is 16\.2 SEM pixels of 0\.5 um"):
        pixel_size.refuse_unmatched(0.5, 8.1, scale=16)


def test_a_zeiss_file_states_its_pixel_and_what_lies_under_the_image(tmp_path):
    lines = ["", "AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 22.5 nm"]
    lines += ["DP_IMAGE_STORE", "Store resolution = 52 * 36", ""]
    tag = (34118, "s", 0, "\r\n".join(lines), True)
    tifffile.imwrite(tmp_path / "sem.tif", VOLUME[0], extratags=[tag])
    scan = scans.open(tmp_path / "sem.tif")
    assert scan.pixel_um == pytest.approx(0.0225)
    assert scan.data_bar_rows == 4
