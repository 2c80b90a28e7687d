import numpy as np

from sem2ct.reporting import evaluation


def test_an_evaluation_puts_the_reference_first_and_leaves_undefined_values_out(evaluated):
    run = evaluation.read(evaluated)
    assert run.names == ["real", "translated"]
    assert run.others == ["translated"]
    assert run.length_unit == "um"
    run.tiles["real"]["porosity"][[1, 5]] = np.nan
    assert len(run.values("real", "porosity")) == 10
    assert len(run.values("real", "no such quantity")) == 0
    np.testing.assert_allclose(run.lags[1], 0.5 * np.arange(13))
    assert run.unit("specific_surface") == "1/um"
    assert run.compared("real") == {}


def test_file_names_are_plain_and_never_the_same():
    names = ["real", "a/b", "a b", "a_b", "../../etc", "<script>", "x" * 99, "x" * 98]
    found = [evaluation.file_name(name, names) for name in names]
    assert found[0] == "real"
    assert len(set(found)) == len(names)
    for name in found:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        assert len(name) < 50


def test_tables_are_put_under_one_another_and_single_values_repeated():
    parts = [{"set": "a", "x": np.array([1, 2])}, {"set": "b", "x": [3]}, {"set": "c", "x": 4}]
    assert evaluation.stacked(parts) == {"set": ["a", "a", "b", "c"], "x": [1, 2, 3, 4]}
    assert evaluation.stacked([]) == {}
