import functools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sem2ct.metrics import (
    chords,
    chunks,
    connectivity,
    correlation,
    descriptors,
    lineal_path,
    measure,
    pore_size,
    segmentation,
    surface,
)
from sem2ct.runtime.refusal import Refusal

HOW = {"threshold": 120, "reach_px": 6, "workers": 1}


def texture(seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(48, 60)), 2)
    return np.clip(128 + 300 * noise, 0, 255).astype(np.uint8)


def test_a_tile_yields_what_the_single_measures_say():
    grey = texture(1)
    found = measure.tile(grey, threshold=120, reach_px=15)
    pores = grey < 120
    assert found.scalars["porosity"] == pores.mean()
    assert found.scalars["porosity_darker"] == pytest.approx((grey < 110).mean())
    assert found.scalars["porosity_brighter"] == pytest.approx((grey < 130).mean())
    assert (found.scalars["faces_x"], found.scalars["faces_y"]) == surface.faces(pores)
    s2 = correlation.two_point(pores, 15)
    np.testing.assert_array_equal(found.s2[1], correlation.along_x(s2))
    np.testing.assert_array_equal(found.s2[2], correlation.along_y(s2))
    r = correlation.normalised(correlation.radial(s2), float(pores.mean()))
    fit = correlation.fit_correlation_length(correlation.radial_lags(15), r)
    assert found.scalars["correlation_length"] == fit.length_px
    np.testing.assert_array_equal(found.grey, np.bincount(grey.ravel(), minlength=256))


def test_lengths_along_x_belong_to_x():
    stretched = np.repeat(texture(2), 3, axis=1)
    scalars = measure.tile(stretched, threshold=120, reach_px=30).scalars
    assert scalars["correlation_length_x"] > 2 * scalars["correlation_length_y"]


def test_a_threshold_near_the_end_of_the_scale_has_a_shorter_band():
    scalars = measure.tile(texture(3), threshold=4, reach_px=5).scalars
    assert scalars["porosity_darker"] == 0


def test_a_set_keeps_the_order_of_its_tiles_whatever_thread_is_first():
    first_may_go = threading.Event()

    def read(index: int) -> np.ndarray:
        if index == 0:
            assert first_may_go.wait(10)
        if index == 3:
            first_may_go.set()
        return texture(index)

    done = []
    found = measure.tiles(
        read, 5, threshold=120, reach_px=6, workers=2, on_tile=lambda: done.append(1)
    )
    expected = [(texture(index) < 120).mean() for index in range(5)]
    assert found.scalars["porosity"].tolist() == expected
    assert found.s2.shape == found.r.shape == (5, 3, 7)
    assert len(done) == 5
    assert found.grey.sum() == 5 * 48 * 60


def test_a_tile_without_pores_is_measured_without_a_warning():
    grey = np.full((20, 20), 200, np.uint8)
    found = measure.tile(grey, threshold=100, reach_px=5)
    assert found.scalars["porosity"] == 0
    assert np.isnan(found.scalars["correlation_length"])
    assert np.isnan(found.r).all()
    assert segmentation.segment(grey, threshold=100).sum() == 0


def stack(count: int, *, blank: tuple[int, ...] = ()) -> np.ndarray:
    found = np.stack([texture(index) for index in range(count)])
    found[list(blank)] = 200
    return found


def of(images: np.ndarray, **changes) -> measure.SetNumbers:
    how = {"on_tile": list, **HOW} | changes
    read = how.pop("read", images.__getitem__)
    return measure.tiles(read, len(images), **how)


def arrays(numbers: measure.SetNumbers) -> dict[str, np.ndarray]:
    plain = {name: of for name, of in vars(numbers).items() if isinstance(of, np.ndarray)}
    for group in ("scalars", "sampled"):
        plain |= {f"{group}/{name}": values for name, values in getattr(numbers, group).items()}
    return plain


def assert_equal(one: measure.SetNumbers, other: measure.SetNumbers) -> None:
    expected = arrays(other)
    assert set(arrays(one)) == set(expected)
    for name, values in arrays(one).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_every_kth_tile_is_measured_dearly_and_named():
    images = stack(7)
    found = of(images, sample=3)
    assert found.sampled_tiles.tolist() == [0, 3, 6]
    assert list(found.sampled) == list(measure.SAMPLED)
    assert found.lineal_path.shape == (3, 2, 7)
    pores = images[3] < 120
    row = {name: values[1] for name, values in found.sampled.items()}
    assert row["chord_pore_x"] == chords.mean_chord(pores, along="x")
    assert row["chord_grain_y"] == chords.mean_chord(~pores, along="y")
    assert row["euler_number"] == connectivity.euler_density(pores, connectivity=8)
    assert row["pore_diameter"] == pore_size.mean_thickness(pores)
    crossing = connectivity.connected_fraction(pores, connectivity=8)
    assert row["percolating_pores"] == pytest.approx(crossing)
    phi, s_v = found.scalars["porosity"][3], found.scalars["specific_surface"][3]
    assert row["kozeny_carman"] == pytest.approx(phi**3 / (5 * s_v**2))
    for axis, way in enumerate("xy"):
        path = lineal_path.lineal_path(pores, 6, along=way)
        np.testing.assert_array_equal(found.lineal_path[1, axis], path)


def test_more_samples_than_tiles_sample_every_tile():
    assert of(stack(3), sample=64).sampled_tiles.tolist() == [0, 1, 2]


def test_the_descriptors_of_a_set_are_the_scalars_and_curves_of_its_tiles():
    images = stack(3)
    found = of(images)
    assert found.descriptors.shape == (3, 38)
    named = dict(zip(descriptors.NAMES, found.descriptors.T, strict=True))
    np.testing.assert_allclose(named["porosity"], found.scalars["porosity"], rtol=1e-6)
    lengths = np.log(found.scalars["correlation_length"])
    np.testing.assert_allclose(named["log_correlation_length"], lengths, rtol=1e-5)
    np.testing.assert_allclose(named["r_x_13"], found.r[:, 1, 6], rtol=1e-5)
    np.testing.assert_allclose(named["r_y_0"], found.r[:, 2, 1], rtol=1e-5)
    np.testing.assert_allclose(named["grey_mean"], images.mean(axis=(1, 2)), rtol=1e-6)


def test_means_leave_out_tiles_where_r_is_undefined_and_keep_them_in_s2():
    images = stack(5, blank=(1, 4))
    found = of(images)
    curves = [measure.tile(image, threshold=120, reach_px=6) for image in images]
    mean_s2 = np.mean([one.s2 for one in curves], axis=0)
    np.testing.assert_allclose(found.mean_s2, mean_s2, rtol=1e-12)
    mean_r = np.mean([curves[index].r for index in (0, 2, 3)], axis=0)
    np.testing.assert_allclose(found.mean_r, mean_r, rtol=1e-12)
    assert np.isnan(of(images[[1, 4]]).mean_r).all()
    assert np.isnan(found.sampled["pore_diameter"][1])
    assert np.isnan(found.descriptors[1]).sum() == 1 + 28 + 1


def test_processes_that_open_the_set_for_themselves_find_the_same_numbers():
    images = stack(5, blank=(2,))
    opener = functools.partial(getattr, images, "__getitem__")
    done = []
    how = {"sample": 2, "on_tile": lambda: done.append(1)}
    found = of(images, read=measure.Reopen(opener), **how | {"workers": 2})
    assert_equal(found, of(images, sample=2))
    assert len(done) == 5


def test_a_threshold_per_tile_is_refused_before_anything_is_read():
    def never(index: int) -> np.ndarray:
        raise AssertionError(index)

    with pytest.raises(Refusal, match="need the same one"):
        of(stack(2), read=never, threshold=[100, 120])


def test_few_tiles_wait_so_that_memory_stays_flat():
    started, images = [], stack(1)

    def read(index: int) -> np.ndarray:
        started.append(index)
        return images[0]

    done = []

    def on_tile() -> None:
        done.append(1)
        if len(done) == 1:
            time.sleep(0.3)  # long enough for all forty, were they let
        assert len(started) <= len(done) + measure.AHEAD + 2

    measure.tiles(read, 40, on_tile=on_tile, **HOW)
    assert len(done) == 40


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A journal with small chunks, so that seven tiles fill three."""
    monkeypatch.setattr(chunks, "CHUNK_TILES", 3)
    return chunks.Journal(tmp_path / "measured", "seven textures")


class Counting:
    """A reader that knows what it was asked for, and may break down."""

    def __init__(self, images: np.ndarray, *, breaks_at: int = -1) -> None:
        self.images, self.breaks_at = images, breaks_at
        self.asked: list[int] = []

    def __call__(self, index: int) -> np.ndarray:
        if index == self.breaks_at:
            raise OSError("the disk is gone")
        self.asked.append(index)
        return self.images[index]


def test_a_stopped_measurement_goes_on_and_ends_like_an_undisturbed_one(journal):
    images = stack(7, blank=(4,))
    with pytest.raises(OSError, match="the disk is gone"):
        of(images, read=Counting(images, breaks_at=5), sample=4, journal=journal)
    again, ticks = Counting(images), []
    found = of(images, read=again, sample=4, journal=journal, on_tile=lambda: ticks.append(1))
    assert again.asked == [3, 4, 5, 6]
    assert len(ticks) == 7
    assert_equal(found, of(images, sample=4))
    third = Counting(images)
    assert_equal(of(images, read=third, sample=4, journal=journal), found)
    assert third.asked == []


def test_curves_of_a_journal_stay_on_disk(journal):
    found = of(stack(7), journal=journal)
    assert isinstance(found.s2, np.memmap)
    assert isinstance(found.r, np.memmap)
    assert not found.s2.flags.writeable


@pytest.mark.parametrize(
    "change", [{"threshold": 121}, {"reach_px": 7}, {"sample": 2}, {"journal": "another set"}]
)
def test_another_question_is_not_answered_from_the_journal(journal, change):
    images = stack(4)
    of(images, journal=journal)
    if "journal" in change:
        change = {"journal": chunks.Journal(journal.folder, change["journal"])}
    read = Counting(images)
    of(images, read=read, **{"journal": journal} | change)
    assert read.asked == [0, 1, 2, 3]


def test_a_larger_set_of_the_same_files_is_another_question(journal):
    images = stack(5)
    of(images[:4], journal=journal)
    read = Counting(images)
    found = of(images, read=read, journal=journal)
    assert read.asked == [0, 1, 2, 3, 4]
    assert len(found.s2) == 5


def test_a_damaged_chunk_is_measured_again(journal):
    images = stack(7)
    whole = of(images, journal=journal)
    expected = {name: np.array(values) for name, values in arrays(whole).items()}
    file = next(journal.folder.rglob("000000003.npz"))
    file.write_bytes(file.read_bytes()[:-200])
    for curves in file.parent.glob("*.npy"):
        curves.unlink()
    read = Counting(images)
    found = arrays(of(images, read=read, journal=journal))
    assert read.asked == [3, 4, 5]
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert not list(journal.folder.rglob("*.tmp"))


def test_the_processes_that_measure_do_without_torch():
    """It would cost each of them 190 MB and seconds of starting."""
    asked = "import sys, sem2ct.metrics.measure; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
