import imagecodecs
import numpy as np

from sem2ct.reporting import figures, record, style


def test_every_chart_is_drawn_from_the_files(evaluated):
    drawn = figures.draw(evaluated)
    names = [path.stem for path in drawn]
    assert names == ["distributions", "s2", "r", "threshold", "truth"]
    for path in drawn:
        image = imagecodecs.imread(path)
        assert image.shape[1] == round(10.5 * style.DOTS_PER_INCH)
        assert image[..., :3].std() > 5


def test_without_a_truth_there_is_no_chart_of_it(evaluated):
    metrics = record.read_metrics(evaluated)
    record.write_metrics(evaluated, metrics | {"truth": {}})
    assert "truth" not in [path.stem for path in figures.draw(evaluated)]


def test_undefined_lengths_and_missing_pixel_size_are_drawn_too(evaluated):
    metrics = record.read_metrics(evaluated)
    metrics["pixel_um"] = None
    metrics["sets"]["translated"]["fits"]["mean"]["length"] = None
    record.write_metrics(evaluated, metrics)
    columns = record.read_tiles(evaluated)
    columns["translated"]["correlation_length"][:] = np.nan
    columns["translated"]["porosity"][:] = 0
    columns["real"]["porosity"][:] = 0
    record.write_tiles(evaluated, columns)
    assert len(figures.draw(evaluated)) == 5


def test_histograms_leave_no_tile_out():
    samples = [np.array([0.0, 1, 2, 3, 400.0]), np.array([5.0, 5.0])]
    edges = figures._edges(samples)
    for values in samples:
        inside = np.clip(values, edges[0], edges[-1])
        assert np.histogram(inside, edges)[0].sum() == len(values)
    assert figures._edges([np.array([2.0, 2.0])])[0] < 2 < figures._edges([np.array([2.0])])[-1]
