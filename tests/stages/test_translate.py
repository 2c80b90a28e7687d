"""The translate stage on a small scan with an untrained translator."""

import importlib.util
import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
import zarr

from sem2ct.cyclegan import apply, shown
from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data import pyramid
from sem2ct.data.intensity import Window, from_network, to_network
from sem2ct.data.translated import Translated
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.runtime.seeding import mix
from sem2ct.stages import translate

SMALL = importlib.util.spec_from_file_location(
    "small_scan", Path(__file__).with_name("small_scan.py")
)
small_scan = importlib.util.module_from_spec(SMALL)
SMALL.loader.exec_module(small_scan)
SCALE = small_scan.SCALE
WINDOW = small_scan.WINDOW
run = small_scan.run
settings = small_scan.settings
volume_of = small_scan.volume_of

pytestmark = pytest.mark.usefixtures("slabs_of_four_slices")


def test_a_slice_is_the_translation_of_the_whole_slice_with_black_outside_the_field(
    translatable, tmp_path
):
    folder = run(translatable, tmp_path / "run", z_range=[2, 3], refine_z=False)
    ct = tifffile.imread(translatable / "ct.tif")[2]
    generator = apply.load(translatable / "robust" / "checkpoints" / "000000016.pt")
    with torch.no_grad():
        grey = to_network(torch.from_numpy(Window(**WINDOW).to_uint8(ct)))[None, None]
        place = (torch.tensor([2 * SCALE + SCALE // 2]), torch.tensor([0]), torch.tensor([0]))
        whole = from_network(generator(grey, mix(3, "translate"), place)[0, 0]).numpy()
    inside = np.kron(ct > 0, np.ones((SCALE, SCALE), bool))
    volume = volume_of(tmp_path / "run")
    assert volume.shape == (1, 120, 152)
    assert np.array_equal(volume[0], np.where(inside, whole, 0))
    assert volume[0][inside].std() > 20
    assert folder.finished
    assert folder.facts()["shape"] == [1, 120, 152]
    assert folder.facts()["halo_px"] == apply.receptive_half_width(generator)
    assert folder.facts()["seam_contrast"] == pytest.approx(1, abs=0.3)


def test_a_single_slice_is_also_a_tiff_with_its_pixel_size_and_a_png(translatable, tmp_path):
    run(translatable, tmp_path / "run", z_range=[2, 3], refine_z=False)
    volume = volume_of(tmp_path / "run")[0]
    with tifffile.TiffFile(tmp_path / "run" / "translation.ome.tif") as file:
        assert np.array_equal(file.asarray(), volume)
        pixels, per = file.pages[0].tags["XResolution"].value
        assert 1e4 * per / pixels == pytest.approx(2.0 / SCALE)
    png = imagecodecs.png_decode((tmp_path / "run" / "translation.png").read_bytes())
    assert np.array_equal(png, volume)
    ct, translation = (
        imagecodecs.png_decode((tmp_path / "run" / "previews" / f"{name}.png").read_bytes())
        for name in ("ct", "translation")
    )
    assert ct.shape == translation.shape == volume.shape
    assert np.array_equal(translation, volume)


def test_a_finished_run_is_exported_where_and_as_asked(translatable, tmp_path):
    run(translatable, tmp_path / "run")
    before = volume_of(tmp_path / "run")
    box = [[1, 4], [0, 50], [100, 152]]
    run(translatable, tmp_path / "run", export="raw", export_range=box)
    path = tmp_path / "run" / "export" / "translation_z1-4_y0-50_x100-152.raw"
    exported = np.fromfile(path, np.uint8).reshape(3, 50, 52)
    assert np.array_equal(exported, before[1:4, :50, 100:])
    assert np.array_equal(volume_of(tmp_path / "run"), before)


def test_slices_between_slices_make_cubes_with_pixels_of_the_ct_over_the_scale(
    translatable, tmp_path
):
    run(translatable, tmp_path / "run")
    assert volume_of(tmp_path / "run").shape == (2 * SCALE, 120, 152)
    meta = json.loads((tmp_path / "run" / "translation.ome.zarr" / "zarr.json").read_text())
    first = meta["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    scale, translation = first["coordinateTransformations"]
    assert scale["scale"] == [0.5, 0.5, 0.5]
    # The first fine voxel lies 3/8 of a CT voxel before the centre of CT slice 1.
    assert translation["translation"] == pytest.approx([2.0 - 0.75, -0.75, -0.75])
    assert not (tmp_path / "run" / "translation.png").exists()


def test_without_refinement_the_voxels_are_as_high_as_the_scans(translatable, tmp_path):
    run(translatable, tmp_path / "run", refine_z=False, ct_pixel_um="unstated")
    meta = json.loads((tmp_path / "run" / "translation.ome.zarr" / "zarr.json").read_text())
    multiscale = meta["attributes"]["ome"]["multiscales"][0]
    scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [4.0, 1.0, 1.0]
    assert translation["translation"] == [4.0, -1.5, -1.5]
    assert "unit" not in multiscale["axes"][0]


def test_a_region_is_cut_from_the_translated_whole(translatable, tmp_path):
    run(translatable, tmp_path / "whole")
    run(translatable, tmp_path / "part", z_range=[2, 3], y_range=[7, 18], x_range=[9, 30])
    whole, part = volume_of(tmp_path / "whole"), volume_of(tmp_path / "part")
    cut = whole[SCALE:, 7 * SCALE : 18 * SCALE, 9 * SCALE : 30 * SCALE]
    assert np.array_equal(part, cut)


def test_voxels_of_another_size_are_resampled_and_the_metadata_says_where_they_lie(
    translatable, tmp_path
):
    # Learned from 2 um; this scan has 1.6 um: 38 columns of it are 30.4 of the others.
    run(translatable, tmp_path / "run", ct_pixel_um=1.6, z_range=[0, 3], x_range=[10, 38])
    volume = zarr.open_group(tmp_path / "run" / "translation.ome.zarr", mode="r")
    # z 0 to 2.4 -> 0 to 2, y 24, x 8 to 30.
    assert volume["0"].shape == (2 * SCALE, 24 * SCALE, 22 * SCALE)
    multiscale = volume.attrs["ome"]["multiscales"][0]["datasets"][0]
    scale, translation = multiscale["coordinateTransformations"]
    assert scale["scale"] == [0.5, 0.5, 0.5]
    # The first voxel's corner lies at the scan's, 0.8 um before the centre of its first voxel.
    corner = [0.25 - 0.8, 0.25 - 0.8, 8 * 2.0 + 0.25 - 0.8]
    assert translation["translation"] == pytest.approx(corner)
    opened = Translated(tmp_path / "run", setting="sets.translated=run")
    assert opened.origin == (0, 0, 8)
    assert opened.open_ct(str(translatable / "ct.tif")).shape == (3, 24, 30)


def test_what_was_written_is_opened_as_a_translated_run(translatable, tmp_path):
    run(translatable, tmp_path / "run", y_range=[0, 20])
    opened = Translated(tmp_path / "run", setting="sets.translated=run")
    field = tifffile.imread(translatable / "ct.tif")[1:3, :20] > 0
    assert np.array_equal(opened.field, field)
    assert opened.pixel_um == pytest.approx(0.5)
    assert opened.scale == SCALE
    outside = np.repeat(np.kron(~field, np.ones((SCALE, SCALE), bool)), SCALE, axis=0)
    assert not volume_of(tmp_path / "run")[outside].any()


def test_killed_in_the_middle_the_same_command_goes_on_and_makes_the_same(
    translatable, tmp_path, monkeypatch
):
    run(translatable, tmp_path / "whole", z_range="all")
    made = []
    slab = VolumeTranslator.slab

    def dies(job, first, count, **more):
        made.append(first)
        if len(made) == 3:
            raise KeyboardInterrupt
        return slab(job, first, count, **more)

    monkeypatch.setattr(VolumeTranslator, "slab", dies)
    with pytest.raises(KeyboardInterrupt):
        run(translatable, tmp_path / "run", z_range="all")
    assert not (tmp_path / "run" / "translation.ome.zarr").exists()
    run(translatable, tmp_path / "run", z_range="all")
    assert made == [0, 4, 8, 8, 12]
    assert np.array_equal(volume_of(tmp_path / "run"), volume_of(tmp_path / "whole"))
    facts = [json.loads((tmp_path / name / "done.json").read_text()) for name in ("run", "whole")]
    assert facts[0] == facts[1]
    for file in ("field_of_view.tif", "previews/translation.png", "previews/ct.png"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_slab_that_cannot_be_written_ends_the_run_with_its_cause(
    translatable, tmp_path, monkeypatch
):
    def full(self, k, slab, **facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyramid.PyramidWriter, "write_slab", full)
    with pytest.raises(
        Refusal, match=r"translation\.ome\.zarr could not be written: no space left"
    ):
        run(translatable, tmp_path / "run", z_range="all")


def test_stopped_after_the_last_slab_nothing_is_translated_again(
    translatable, tmp_path, monkeypatch
):
    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shown, "leave", dies)
        with pytest.raises(KeyboardInterrupt):
            run(translatable, tmp_path / "run")
    monkeypatch.setattr(VolumeTranslator, "slab", dies)
    folder = run(translatable, tmp_path / "run")
    assert folder.finished


def test_the_published_network_takes_the_published_overlap_and_reports_its_seams(
    translatable, tmp_path
):
    folder = run(translatable, tmp_path / "run", cyclegan=translatable / "paper", z_range=[2, 3])
    assert folder.facts()["halo_px"] == 8
    assert folder.facts()["seam_contrast"] > 1


def test_ome_zarr_0_4_is_written_when_asked_for(translatable, tmp_path):
    run(translatable, tmp_path / "run", ome_zarr_version="0.4", z_range=[1, 2])
    assert (tmp_path / "run" / "translation.ome.zarr" / ".zattrs").exists()


def test_another_seed_is_another_realisation_in_the_same_place(translatable, tmp_path):
    one = {"z_range": [1, 2], "refine_z": False}
    run(translatable, tmp_path / "one", **one)
    run(translatable, tmp_path / "two", **one, seed=4)
    one, two = volume_of(tmp_path / "one"), volume_of(tmp_path / "two")
    assert (one != two).mean() > 0.1
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.9


def test_several_realisations_share_the_ct_and_come_with_mean_and_deviation(translatable, tmp_path):
    one = {"z_range": [1, 2], "refine_z": False}
    run(translatable, tmp_path / "three", **one, realisations=3)
    run(translatable, tmp_path / "one", **one)
    names = ["translation", "realisation_1", "realisation_2", "mean", "deviation"]
    volumes = {
        name: zarr.open_group(tmp_path / "three" / f"{name}.ome.zarr", mode="r")["0"][:].astype(int)
        for name in names
    }
    assert np.array_equal(volumes["translation"], volume_of(tmp_path / "one"))
    stack = np.stack([volumes[name] for name in names[:3]])
    assert (stack[0] != stack[1]).mean() > 0.1
    assert (stack[1] != stack[2]).mean() > 0.1
    assert np.abs(volumes["mean"] - stack.mean(0)).max() <= 0.5
    assert np.abs(volumes["deviation"] - stack.std(0)).max() <= 0.5 + 1e-9
    assert volumes["deviation"].max() > 2


def test_realisations_of_a_network_without_noise_are_refused(translatable, tmp_path):
    with pytest.raises(Refusal, match="realisations=2, but network=paper has no noise"):
        run(translatable, tmp_path / "run", cyclegan=translatable / "paper", realisations=2)


def translated_here(root: str, path: str, count: int) -> None:
    """What one of several processes does."""
    pyramid.SLAB_BYTES, pyramid.LEAST_SLICES = 4 * 120 * 152, 1
    run(Path(root), Path(path), z_range="all", realisations=2, devices=count)


def test_two_and_four_processes_write_the_bytes_of_one(
    translatable, tmp_path, two_ranks, four_ranks
):
    one = tmp_path / "one"
    run(translatable, one, z_range="all", realisations=2)
    files = [file.relative_to(one) for file in one.rglob("*") if file.is_file()]
    whole = [file for file in files if ".zarr" in str(file) and "journal" not in str(file)]
    assert len(whole) > 20
    # Slabs 0 to 3, dealt out in turn.
    for ranks, dealt in ((two_ranks, [[0, 2], [1, 3]]), (four_ranks, [[0], [1], [2], [3]])):
        several = tmp_path / str(len(dealt))
        ranks(translated_here, str(translatable), str(several), len(dealt))
        for file in [*whole, "field_of_view.tif", "done.json", "previews/translation.png"]:
            assert (one / file).read_bytes() == (several / file).read_bytes(), file
        assert [slabs_noted(several, rank) for rank in range(len(dealt))] == dealt


def slabs_noted(path: Path, rank: int) -> list[int]:
    """The slabs of the last volume that a process finished."""
    name = f"mean.ome.zarr.journal{f'.{rank}' if rank else ''}.jsonl"
    told = map(json.loads, (path / name).read_text().splitlines())
    return [entry["slab"] for entry in told if "slab" in entry]


def test_a_core_that_fits_the_memory_is_told_kept_and_gives_the_same_volume(translatable, tmp_path):
    here = {"z_range": [2, 3], "refine_z": False}
    run(translatable, tmp_path / "one", **here)
    run(translatable, tmp_path / "auto", **here, core_px="auto")
    kept = json.loads((tmp_path / "auto" / "core.json").read_text())
    assert kept["core_px"] == 48  # the slice is 30 x 38
    one, auto = (volume_of(tmp_path / name).astype(int) for name in ("one", "auto"))
    assert np.abs(one - auto).max() <= 1
    asked = settings(translatable, **here, core_px="auto", run_root=tmp_path / "outputs")
    rows = translate.estimate(asked)
    assert rows["core"].startswith("48 CT px: 0.0")
    assert rows["tiles"] == "1, cores of 48 and halos of 5 CT px"
    assert not (tmp_path / "outputs").exists()


def test_the_estimate_states_shape_and_tiles_and_writes_nothing(translatable, tmp_path):
    rows = translate.estimate(settings(translatable, run_root=tmp_path / "outputs"))
    assert rows["volume (z, y, x)"] == "8 x 120 x 152"
    assert rows["tiles"].startswith(f"{3 * 4 * 8}, ")
    assert rows["pixel"] == "0.5 um"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"z_range": [1, 5]}, r"z_range=\[1,5\], but the scan has slices 0 to 3; write"),
        ({"y_range": [4, 4]}, r"y_range=\[4,4\], but the scan has rows 0 to 29"),
        ({"x_range": [-2, 9]}, r"x_range=\[-2,9\].*within \[0,38\], or all"),
        ({"ct_pixel_um": 0.9}, r"ct_pixel_um: voxels of 0.9 um.*learned from 2 um"),
        ({"cyclegan": "nowhere"}, r"cyclegan=nowhere does not exist; run"),
        ({"ct": "nowhere.tif"}, r"ct=nowhere.tif"),
    ],
)
def test_bad_settings_are_refused_by_run_and_by_estimate(translatable, tmp_path, changed, message):
    asked = settings(translatable, **changed)
    with pytest.raises(Refusal, match=message):
        translate.estimate(asked)
    with pytest.raises(Refusal, match=message):
        translate.run(asked, RunFolder.open(tmp_path / "run", {}))
    assert not (tmp_path / "run" / "translation.ome.zarr.tmp").exists()


def test_a_scan_with_nan_is_refused_and_leaves_nothing_that_looks_finished(translatable, tmp_path):
    with pytest.raises(Refusal, match=r"nan.tif, slice 2: 1 of 1140 values are NaN"):
        run(translatable, tmp_path / "run", ct=str(translatable / "nan.tif"))
    assert not (tmp_path / "run" / "translation.ome.zarr").exists()
    assert not (tmp_path / "run" / "done.json").exists()


def test_a_full_disk_is_refused_before_translating(translatable, tmp_path, monkeypatch):
    def no_slab(*_, **__):
        raise AssertionError("translated without room for it")

    monkeypatch.setattr(VolumeTranslator, "slab", no_slab)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(Refusal, match=r"translate needs .* GB in .*, 0.0 GB are free"):
        run(translatable, tmp_path / "run")
