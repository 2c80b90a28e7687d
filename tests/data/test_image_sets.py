import imagecodecs
import numpy as np
import pytest
import tifffile
import yaml

from sem2ct.data import image_sets, set_sources, translated
from sem2ct.data.image_sets import open_set
from sem2ct.data.pyramid import PyramidWriter
from sem2ct.data.store import StoreWriter
from sem2ct.runtime.refusal import Refusal


def numbered(count: int, height: int, width: int) -> np.ndarray:
    y, x = np.indices((height, width))
    return np.stack([(i * 50 + y * 3 + x) % 256 for i in range(count)]).astype(np.uint8)


def write_store(folder, *, tiles=7, side=12, sources=(0, 0, 1, 1, 1, 2, 2), pixel_um=0.5):
    writer = StoreWriter(
        folder,
        tile_px=side,
        domain="sem",
        pixel_um=pixel_um,
        window=None,
        shard_patches=4,
        sources=[{"path": f"{i}.tif"} for i in range(3)],
        facts={},
    )
    patches = numbered(tiles, side, side)
    for k in range(0, tiles, 4):
        some = slice(k, k + 4)
        name = "source" if sources else "seed"
        places = {name: np.array(sources or range(tiles))[some]}
        writer.write_shard(k // 4, patches[some], places)
    writer.finish()
    return patches


def write_images(folder, *, count=3, height=20, width=33, dtype=np.uint8):
    folder.mkdir()
    images = numbered(count, height, width).astype(dtype)
    for i, image in enumerate(images):
        (folder / f"image_{i}.png").write_bytes(imagecodecs.png_encode(image))
    return images


def opened(where, *, tile_px=12, most_tiles=1000, seed=0, name="real"):
    return open_set(name, str(where), tile_px=tile_px, most_tiles=most_tiles, seed=seed)


def test_a_store_gives_its_patches_and_the_images_they_come_from(tmp_path):
    patches = write_store(tmp_path / "sem")
    found = opened(tmp_path / "sem")
    assert (found.kind, found.pixel_um, found.frames_known) == ("store", 0.5, True)
    assert found.frames.tolist() == [0, 0, 1, 1, 1, 2, 2]
    np.testing.assert_array_equal([found.read(i) for i in range(7)], patches)


def test_larger_patches_are_cut_into_tiles_without_overlap(tmp_path):
    patches = write_store(tmp_path / "sem")
    found = opened(tmp_path / "sem", tile_px=5)
    assert len(found) == found.available == 7 * 4
    assert found.frames.tolist() == np.repeat([0, 0, 1, 1, 1, 2, 2], 4).tolist()
    np.testing.assert_array_equal(found.read(4 * 3 + 2), patches[3, 5:10, 0:5])


def test_synthetic_tiles_are_frames_of_their_own(tmp_path):
    write_store(tmp_path / "sem", sources=())
    found = opened(tmp_path / "sem")
    assert found.frames.tolist() == list(range(7))
    assert not found.frames_known


def test_images_are_cut_on_a_grid_and_remember_their_file(tmp_path):
    images = write_images(tmp_path / "png")
    for where in (tmp_path / "png", tmp_path / "png" / "*_?.png"):
        found = opened(where, tile_px=10)
        assert (found.kind, found.pixel_um) == ("images", None)
        assert found.frames.tolist() == [0] * 6 + [1] * 6 + [2] * 6
        np.testing.assert_array_equal(found.read(6 + 5), images[1, 10:20, 20:30])
        np.testing.assert_array_equal(found.read(0), images[0, :10, :10])


def test_every_slice_of_a_stack_is_an_image(tmp_path):
    stack = numbered(4, 12, 13)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    found = opened(tmp_path / "stack.tif")
    assert found.frames.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.read(3), stack[3, :, :12])


def test_a_translated_volume_gives_tiles_inside_its_field(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    volume = numbered(2, 24, 36)
    writer = PyramidWriter(
        folder / translated.VOLUME, shape=volume.shape, voxel=(1, 0.5, 0.5), unit_um=True
    )
    for k in range(writer.slabs):
        writer.write_slab(k, volume[k * writer.slab : (k + 1) * writer.slab])
    writer.finish()
    field = np.full((6, 9), 255, np.uint8)
    field[0, 0] = 0
    tifffile.imwrite(folder / translated.FIELD, field)
    used = {"z_range": "all", "y_range": "all", "x_range": "all", "refine_z": False}
    used |= dict.fromkeys(("ct_raw_shape", "ct_raw_dtype", "ct_raw_byte_order"), "none")
    (folder / "config.yaml").write_text(yaml.safe_dump(used | {"ct_raw_header_bytes": 0}))
    found = opened(folder)
    assert (found.kind, found.pixel_um, len(found)) == ("translation", 0.5, 2 * 5)
    np.testing.assert_array_equal(found.read(0), volume[0, :12, 12:24])
    np.testing.assert_array_equal(found.read(9), volume[1, 12:, 24:])
    assert image_sets.files("real", str(folder)) == [
        folder / translated.JOURNAL,
        folder / translated.FIELD,
    ]
    with pytest.raises(Refusal, match="no tile of tile_px=24 lies wholly inside"):
        opened(folder, tile_px=24)


def test_chosen_tiles_are_spread_evenly_and_the_same_each_time():
    rng = np.random.default_rng
    chosen = set_sources.evenly(1003, most=100, draw=rng(1))
    assert len(chosen) == 100
    edges = [i * 1003 // 100 for i in range(101)]
    assert np.digitize(chosen, edges).tolist() == list(range(1, 101))
    np.testing.assert_array_equal(chosen, set_sources.evenly(1003, most=100, draw=rng(1)))
    np.testing.assert_array_equal(set_sources.evenly(7, most=7, draw=rng(1)), range(7))
    # A grid of ten tiles per row: a fixed step would see one column only.
    assert len(set(set_sources.evenly(1000, most=100, draw=rng(1)) % 10)) == 10


def test_examples_run_from_the_first_tile_to_the_last(tmp_path):
    patches = write_store(tmp_path / "sem")
    shown, numbers = image_sets.examples({"real": opened(tmp_path / "sem")}, 3)
    np.testing.assert_array_equal(shown["tiles/real"], patches[[0, 3, 6]])
    assert numbers == {"real": [0, 3, 6]}


@pytest.mark.parametrize(
    ("asked", "expected"), [("metadata", 0.5), ("unstated", None), (0.502, 0.502)]
)
def test_the_pixel_size_is_that_of_the_reference_or_the_given_one(tmp_path, asked, expected):
    write_store(tmp_path / "a")
    write_store(tmp_path / "b", pixel_um=None)
    both = [opened(tmp_path / "a"), opened(tmp_path / "b", name="other")]
    assert image_sets.common_pixel_um(both, reference="real", pixel_um=asked) == expected


def test_sets_of_other_pixel_size_are_refused_unless_compared_pixel_by_pixel(tmp_path):
    write_store(tmp_path / "a")
    write_store(tmp_path / "b", pixel_um=0.25)
    both = [opened(tmp_path / "a"), opened(tmp_path / "b", name="other")]
    with pytest.raises(
        Refusal, match=r"sets.other=.*pixels of 0.25 um.*are 0.5 um.*resample=true.*unstated"
    ):
        image_sets.common_pixel_um(both, reference="real", pixel_um="metadata")
    assert image_sets.common_pixel_um(both, reference="real", pixel_um="unstated") is None


@pytest.mark.parametrize("stage", ["extract", "synthesize", "translate"])
def test_a_missing_set_names_the_command_that_makes_it(tmp_path, stage):
    with pytest.raises(Refusal, match=rf"sets.real=.*nothing is there.*'sem2ct {stage}' first"):
        opened(tmp_path / stage / "demo" / "sem")


def test_a_run_folder_is_not_taken_for_images(tmp_path):
    folder = tmp_path / "translate" / "demo"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("run: demo\n")
    with pytest.raises(Refusal, match="without a finished result"):
        opened(folder)
    write_store(folder / "sem")
    with pytest.raises(Refusal, match=r"several stores; name one: .*demo/sem"):
        opened(folder)


def test_a_folder_or_glob_without_images_is_refused(tmp_path):
    with pytest.raises(Refusal, match="holds no image"):
        opened(tmp_path)
    with pytest.raises(Refusal, match="holds no image"):
        opened(tmp_path / "*.png")


def test_tiles_larger_than_the_images_are_refused_with_the_side_that_fits(tmp_path):
    write_images(tmp_path / "png")
    write_store(tmp_path / "sem")
    with pytest.raises(Refusal, match=r"image_0.png: 20 px wide or high, but tile_px=21; set.*20"):
        opened(tmp_path / "png", tile_px=21)
    with pytest.raises(Refusal, match=r"12 px wide or high, but tile_px=13"):
        opened(tmp_path / "sem", tile_px=13)


def test_images_of_another_depth_are_refused(tmp_path):
    write_images(tmp_path / "png", dtype=np.uint16)
    with pytest.raises(Refusal, match=r"image_0.png is uint16.*8-bit"):
        opened(tmp_path / "png")


def test_a_reference_of_one_tile_is_refused(tmp_path):
    write_images(tmp_path / "png", count=1, height=20, width=22)
    found = opened(tmp_path / "png")
    assert len(found) == 1
    with pytest.raises(Refusal, match="one tile only"):
        image_sets.refuse_single_tile(found)


def open_sets(sets, **changes):
    how = {
        "masks": {},
        "reference": "real",
        "pixel_um": "metadata",
        "resample": False,
        "split_by": "none",
        "tile_px": 12,
        "most_tiles": 1000,
        "seed": 0,
    }
    where = {name: str(at) for name, at in sets.items()}
    return image_sets.open_sets(where, **(how | changes))


def test_finer_pixels_are_averaged_to_the_coarsest(tmp_path):
    fine = write_store(tmp_path / "fine", side=24, pixel_um=0.25)
    write_store(tmp_path / "real", pixel_um=0.5)
    both = {"real": tmp_path / "real", "fine": tmp_path / "fine"}
    sets, pixel_um = open_sets(both, resample=True)
    assert pixel_um == 0.5
    found = sets["fine"]
    assert (found.pixel_um, found.from_um, len(found)) == (0.5, 0.25, 7)
    means = fine[3].astype(float).reshape(12, 2, 12, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(found.read(3), means, atol=0.51)
    assert image_sets.resampled(sets) == {"fine": {"from_um": 0.25, "to_um": 0.5}}
    assert sets["real"].from_um is None


def test_whole_images_are_averaged_with_their_tiles(tmp_path):
    grey = {"photometric": "minisblack", "metadata": {"axes": "YX"}}
    how = {"resolution": (1e4 / 0.25, 1e4 / 0.25), "resolutionunit": "CENTIMETER"}
    (tmp_path / "fine").mkdir()
    tifffile.imwrite(tmp_path / "fine" / "a.tif", numbered(1, 48, 72)[0], **grey, **how)
    found = opened(tmp_path / "fine", name="fine")
    assert found.pixel_um == pytest.approx(0.25)
    coarse = image_sets.averaged(found, 0.5, tile_px=12, most_tiles=1000, seed=0)
    assert len(coarse) == 6
    whole = coarse.whole.read(0)
    assert whole.shape == (24, 36)
    np.testing.assert_array_equal(whole[12:24, 24:36], coarse.read(5))


def test_pixels_are_never_made_finer(tmp_path):
    write_store(tmp_path / "real", pixel_um=0.5)
    with pytest.raises(Refusal, match=r"0.5 um cannot be made finer, but pixel_um=0.3"):
        open_sets({"real": tmp_path / "real"}, resample=True, pixel_um=0.3)
    write_images(tmp_path / "png")
    both = {"real": tmp_path / "real", "png": tmp_path / "png"}
    with pytest.raises(Refusal, match=r"sets.png=.*states no pixel size.*resample"):
        open_sets(both, resample=True)


def test_a_set_of_one_tile_is_refused_whichever_it_is(tmp_path):
    write_store(tmp_path / "real")
    write_images(tmp_path / "png", count=1, height=20, width=22)
    with pytest.raises(Refusal, match=r"sets.png=.*one tile only"):
        open_sets({"real": tmp_path / "real", "png": tmp_path / "png"})


def test_a_constant_set_is_refused_with_its_grey(tmp_path):
    write_store(tmp_path / "real")
    (one,), _ = open_sets({"real": tmp_path / "real"})[0].values(), None
    levels = np.zeros(256, np.int64)
    levels[77] = 9000
    with pytest.raises(Refusal, match=r"sets.real=.*constant images.*grey level 77"):
        image_sets.refuse_constant(one, levels)
    levels[78] = 1
    image_sets.refuse_constant(one, levels)


def test_numbers_that_are_none_are_refused(tmp_path):
    image = np.ones((20, 20), np.float32)
    image[3, 4:6] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", image)
    with pytest.raises(Refusal, match=r"a.tif holds 2 pixels that are no numbers"):
        opened(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.ones((20, 20), np.float32))
    with pytest.raises(Refusal, match=r"b.tif is float32"):
        opened(tmp_path / "b.tif")


def test_colour_is_refused(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "rgb.png").write_bytes(imagecodecs.png_encode(colours))
    with pytest.raises(Refusal, match=r"sets.real=.*rgb.png"):
        opened(tmp_path / "c").read(0)


def masks_of(tmp_path, folder="masks", **shape):
    tmp_path.mkdir(exist_ok=True)
    write_images(tmp_path / "png", count=3, height=20, width=33)
    images = write_images(tmp_path / folder, **({"count": 3, "height": 20, "width": 33} | shape))
    for i, image in enumerate(images):
        pores = np.where(image > 90, 255, 0).astype(np.uint8)
        (tmp_path / folder / f"image_{i}.png").write_bytes(imagecodecs.png_encode(pores))
    return {"sets": {"real": tmp_path / "png"}, "masks": {"real": str(tmp_path / folder)}}


def test_masks_say_what_is_pore_at_the_place_of_the_tile(tmp_path):
    sets, _ = open_sets(**masks_of(tmp_path))
    one = sets["real"]
    for index in range(len(one)):
        np.testing.assert_array_equal(one.pores(index) == 0, one.read(index) > 90)
    assert {0, 255} == set(np.unique([one.pores(index) for index in range(len(one))]))


def test_masks_of_another_shape_or_number_are_refused(tmp_path):
    with pytest.raises(Refusal, match=r"masks.real: image_0.png is 20x34.*is 20x33"):
        open_sets(**masks_of(tmp_path / "a", width=34))
    with pytest.raises(Refusal, match=r"masks.real=.*2 masks, but sets.real has 3"):
        open_sets(**masks_of(tmp_path / "b", count=2))


def test_masks_belong_to_image_files(tmp_path):
    asked = masks_of(tmp_path)
    write_store(tmp_path / "sem")
    with pytest.raises(Refusal, match=r"masks.real=.*is a store"):
        open_sets({"real": tmp_path / "sem"}, masks=asked["masks"])


def test_the_identity_changes_with_the_content(tmp_path):
    write_images(tmp_path / "png")
    before = image_sets.identity("real", str(tmp_path / "png"))
    assert before == image_sets.identity("real", str(tmp_path / "png"))
    (tmp_path / "png" / "image_1.png").write_bytes(b"other")
    assert before != image_sets.identity("real", str(tmp_path / "png"))


def test_another_process_reads_the_same_tiles(tmp_path):
    write_store(tmp_path / "sem", side=24)
    how = {"tile_px": 12, "most_tiles": 9, "seed": 4}
    here = open_set("real", str(tmp_path / "sem"), **how)
    read = image_sets.reader("real", str(tmp_path / "sem"), **how)
    for index in range(len(here)):
        np.testing.assert_array_equal(read(index), here.read(index))
