import functools

import numpy as np
import pytest
import tifffile
import yaml

from sem2ct.data import translated
from sem2ct.data.pyramid import PyramidWriter
from sem2ct.data.translated import Beside, Translated
from sem2ct.runtime.refusal import Refusal

write_tiff = functools.partial(tifffile.imwrite, photometric="minisblack")
SCALE, CT_SHAPE = 2, (6, 9, 11)
ORIGIN, WINDOW = (2, 1, 3), (3, 7, 6)  # first voxel and (z, y, x) of the part that is translated


def fine_truth() -> np.ndarray:
    """Grey truth in which every voxel differs from its neighbours in all directions."""
    shape = tuple(n * SCALE for n in CT_SHAPE)
    z, y, x = np.indices(shape)
    return ((z * 31 + y * 7 + x * 3) % 251).astype(np.uint8)


def write_run(folder, *, refine=True, voxel_um=0.5, version="0.5"):
    """A translate run that shows the truth itself, and the scan and truth it belongs to."""
    folder.mkdir()
    truth = fine_truth()
    z, y, x = (slice(o * SCALE, (o + n) * SCALE) for o, n in zip(ORIGIN, WINDOW, strict=True))
    volume = truth[z, y, x] if refine else truth[z, y, x][SCALE // 2 :: SCALE]
    writer = PyramidWriter(
        folder / translated.VOLUME,
        shape=volume.shape,
        voxel=(voxel_um or 1.0,) * 3,
        unit_um=voxel_um is not None,
        version=version,
        chunk_px=8,
    )
    for k in range(writer.slabs):
        writer.write_slab(k, volume[k * writer.slab : (k + 1) * writer.slab])
    writer.finish()
    field = np.full(WINDOW, 255, np.uint8)
    field[:, 0, :] = 0
    field[1, :, 5] = 0
    field[2, 4, :4] = 0
    field[0, 1:6, 4] = 0
    write_tiff(folder / translated.FIELD, field)
    used = {f"{axis}_range": [o, o + n] for axis, o, n in zip("zyx", ORIGIN, WINDOW, strict=True)}
    used |= {"refine_z": refine, "ct_raw_shape": "none", "ct_raw_dtype": "none"}
    used |= {"ct_raw_byte_order": "little", "ct_raw_header_bytes": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(used))
    z, y, x = np.indices(CT_SHAPE)
    write_tiff(folder / "ct.tif", (z * 1000 + y * 20 + x).astype(np.uint16))
    (folder / "truth").mkdir()
    write_tiff(folder / "truth" / "grey.tif", truth)
    write_tiff(folder / "truth" / "pores.tif", np.where(truth < 100, 255, 0).astype(np.uint8))
    return folder


def opened(folder) -> Translated:
    return Translated(folder, setting=f"sets.translated={folder}")


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_slice_of_the_truth_lies_where_the_translation_shows_it(tmp_path, refine, version):
    folder = write_run(tmp_path / "run", refine=refine, version=version)
    run = opened(folder)
    beside = Beside(run, ct=str(folder / "ct.tif"), truth=str(folder / "truth"))
    assert run.scale == SCALE
    for k, grey, pores, inside in beside.slices(100):
        np.testing.assert_array_equal(grey, beside.grey_slice(k))
        np.testing.assert_array_equal(pores, grey < 100)
        assert inside.shape == grey.shape
        ct = beside.ct_slice(k)
        assert ct[0, 0] == (2 + (k // 2 if refine else k)) * 1000 + 1 * 20 + 3
        assert ct.shape == WINDOW[1:]


def test_the_field_of_each_slice_is_that_of_its_slice_of_the_scan(tmp_path):
    run = opened(write_run(tmp_path / "run"))
    missing = [int((~run.inside(k)).sum()) for k in range(6)]
    assert missing == [11, 11, 12, 12, 10, 10]
    assert (~run.inside_fine(2)).sum() == 4 * 12


def test_tiles_touch_nothing_outside_the_field(tmp_path):
    run = opened(write_run(tmp_path / "run"))
    for tile_px in (2, 3, 5):
        places = run.tiles(tile_px)
        expected = [
            (k, y, x)
            for k in range(6)
            for y in range(0, 14 - tile_px + 1, tile_px)
            for x in range(0, 12 - tile_px + 1, tile_px)
            if run.inside_fine(k)[y : y + tile_px, x : x + tile_px].all()
        ]
        assert [tuple(place) for place in places] == expected
        assert expected


def test_the_pixel_size_is_read_where_it_is_stated(tmp_path):
    assert opened(write_run(tmp_path / "a", voxel_um=0.25)).pixel_um == 0.25
    assert opened(write_run(tmp_path / "b", voxel_um=None)).pixel_um is None


def test_pictures_show_one_place_in_scan_translation_and_truth(tmp_path):
    folder = write_run(tmp_path / "run")
    run = opened(folder)
    beside = Beside(run, ct=str(folder / "ct.tif"), truth=str(folder / "truth"))
    about, shown = beside.pictures(zoom_px=6)
    y, x, height, width = about["zoom"]
    np.testing.assert_array_equal(shown["zoom"], run.read(about["slice"])[y : y + 6, x : x + 6])
    np.testing.assert_array_equal(shown["zoom"], shown["zoom/truth"])
    assert (height, width) == (6, 6)
    assert shown["zoom/ct"].shape == (3, 3)
    assert shown["whole/ct"].dtype == np.uint8
    assert run.inside_fine(about["slice"])[y + 3, x + 3]


def test_without_scan_and_truth_only_the_translation_is_shown(tmp_path):
    beside = Beside(opened(write_run(tmp_path / "run")), ct="none", truth="none")
    assert set(beside.pictures(zoom_px=4)[1]) == {"whole", "zoom"}
    assert list(beside.slices(5)) == []


def test_an_unfinished_run_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / translated.FIELD).unlink()
    with pytest.raises(Refusal, match=r"field_of_view.tif is missing.*'sem2ct translate' again"):
        opened(folder)


def test_a_truth_of_another_place_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    small = folder / "small.tif"
    write_tiff(small, fine_truth()[:, :10])
    with pytest.raises(Refusal, match=r"truth=.*small.tif: its shape is \(12, 10, 22\)"):
        Beside(opened(folder), ct="none", truth=str(small))
    write_tiff(small, np.zeros((3, 9, 11), np.uint16))
    with pytest.raises(Refusal, match=r"ct=.*small.tif: its shape is"):
        Beside(opened(folder), ct=str(small), truth="none")


def test_a_field_that_does_not_fit_the_volume_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    write_tiff(folder / translated.FIELD, np.ones((3, 5, 6), np.uint8))
    with pytest.raises(Refusal, match="no multiple"):
        opened(folder)
