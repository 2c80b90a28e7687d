import imagecodecs
import numpy as np
import pytest
from matplotlib.figure import Figure

from sem2ct.reporting import evaluation, pictures, record


def shown(axes):
    """The image of a panel and the place it covers: y, x, height, width."""
    left, right, bottom, top = axes.images[0].get_extent()
    return np.asarray(axes.images[0].get_array()), (top, left, bottom - top, right - left)


def test_pores_are_tinted_and_tiles_stand_in_one_row_per_set(evaluated):
    run = evaluation.read(evaluated)
    grey, tinted = Figure(layout="constrained"), Figure(layout="constrained")
    rows = pictures.tiles(grey, run)
    pictures.pores(tinted, run)
    assert [len(axes.images) for axes in grey.axes] == 2 * [1, 1, 1, 0]
    tile = run.pictures["tiles/translated"][1]
    image, _ = shown(tinted.axes[5])
    coloured = np.ptp(image, axis=2) > 0
    np.testing.assert_array_equal(coloured, tile < 90)
    assert rows["porosity"][4] == pytest.approx((tile < 90).mean())


def test_three_zooms_show_the_same_place_in_scan_translation_and_truth(evaluated):
    run = evaluation.read(evaluated)
    figure = Figure(layout="constrained")
    rows = pictures.beside(figure, run, "translated")
    whole = run.pictures["slice/translated/zoom"]
    scan = run.pictures["slice/translated/zoom/ct"]
    panels = [shown(axes) for axes in figure.axes]
    assert [place for _, place in panels[:3]] == 3 * [(0, 0, 128, 192)]
    assert [place for _, place in panels[3:6]] == 3 * [(32, 64, 80, 80)]
    # In the middle, one tile wide, on whole pixels of the scan (8 px): (80 - 32) / 2 = 24.
    assert [place for _, place in panels[6:]] == 3 * [(56, 88, 32, 32)]
    np.testing.assert_array_equal(panels[6][0], scan[3:7, 3:7])
    np.testing.assert_array_equal(panels[7][0], whole[24:56, 24:56])
    assert rows["width_px"] == [192, 80, 32]


@pytest.mark.parametrize(
    ("zoom", "sides", "place"),
    [
        ((0, 0, 128, 128), (64, 4), (32, 32, 64, 64)),
        ((16, 32, 100, 100), (64, 1), (41, 57, 50, 50)),  # at most half
        ((0, 0, 48, 48), (20, 16), (16, 16, 16, 16)),  # whole pixels of the scan
    ],
)
def test_the_innermost_part_lies_in_the_middle(zoom, sides, place):
    assert pictures.closer(zoom, sides) == place


def test_without_a_truth_the_real_tile_of_nearest_porosity_stands_beside(evaluated):
    arrays = record.read_arrays(evaluated, record.PICTURES)
    arrays = {key: image for key, image in arrays.items() if not key.endswith("/truth")}
    arrays["slice/translated/zoom"][:] = np.where(np.arange(80) < 40, 0, 255)
    for index, pores in enumerate((3, 17, 30)):
        arrays["tiles/real"][index] = np.where(np.arange(32) < pores, 10, 200)
    record.write_arrays(evaluated, record.PICTURES, arrays)
    figure = Figure(layout="constrained")
    pictures.beside(figure, evaluation.read(evaluated), "translated")
    assert len(figure.axes) == 9
    image, _ = shown(figure.axes[8])
    np.testing.assert_array_equal(image, arrays["tiles/real"][1])  # 17 of 32 is nearest to 1/2
    assert not figure.axes[2].images


def test_the_real_tile_that_was_found_most_like_stands_beside_and_its_likeness_is_said(evaluated):
    arrays = record.read_arrays(evaluated, record.PICTURES)
    arrays = {key: image for key, image in arrays.items() if not key.endswith("/truth")}
    arrays["slice/translated/nearest"] = np.full((32, 32), 77, np.uint8)
    record.write_arrays(evaluated, record.PICTURES, arrays)
    metrics = record.read_metrics(evaluated)
    metrics["slices"]["translated"]["nearest"] = {"tile": 5, "rank_distance": 0.123}
    record.write_metrics(evaluated, metrics)
    figure = Figure(layout="constrained")
    run = evaluation.read(evaluated)
    pictures.beside(figure, run, "translated")
    image, _ = shown(figure.axes[8])
    np.testing.assert_array_equal(image, 77)
    assert "ranks differ by 12% on average" in pictures.likeness(run, "translated")


def test_the_most_similar_pair_is_named_with_its_likeness(evaluated):
    figure = Figure(layout="constrained")
    rows = pictures.pairs(figure, evaluation.read(evaluated))
    assert rows["similarity"] == [0.97]
    assert [axes.get_title() for axes in figure.axes] == ["translated", "nearest real: 0.97"]


def test_tiles_are_kept_pixel_for_pixel_within_a_budget(evaluated, tmp_path, monkeypatch):
    run = evaluation.read(evaluated)
    written = pictures.write_pixels(run, tmp_path / "pixels")
    assert list(written) == ["tiles/real", "tiles/translated", "slice/translated"]
    for index, path in enumerate(written["tiles/real"]):
        np.testing.assert_array_equal(imagecodecs.imread(path), run.pictures["tiles/real"][index])
    assert [imagecodecs.imread(path).shape for path in written["slice/translated"]] == [
        (10, 10),
        (80, 80),
        (80, 80),
    ]
    monkeypatch.setattr(pictures, "MOST_PIXELS", 2 * 32**2 * 2)
    written = pictures.write_pixels(run, tmp_path / "fewer")
    assert len(written["tiles/real"]) == 2


def test_a_tint_changes_the_named_pixels_only():
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    image = pictures.tinted(grey, np.array([[True, False], [False, False]]), "#ff0000")
    np.testing.assert_allclose(image[0, 0], [pictures.PORE_TINT, 0, 0])
    np.testing.assert_allclose(image[1, 0], 200 / 255)
