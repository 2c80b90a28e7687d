import imagecodecs
import numpy as np
import pytest

from sem2ct.reporting import style


def test_the_reference_is_black_and_no_two_sets_look_alike():
    names = ["synthetic", "real", "translated", "more"]
    looks = style.looks(names, "real")
    assert list(looks) == names
    assert looks["real"].colour == style.REAL_COLOUR
    assert len({(look.colour, look.dash) for look in looks.values()}) == 4
    assert len({look.colour for look in looks.values()}) == 4


@pytest.mark.parametrize(
    ("about", "length"), [(9.9, 5), (10, 10), (23, 20), (0.07, 0.05), (512, 500), (1.0, 1)]
)
def test_a_scale_bar_has_a_round_length(about, length):
    assert style.round_length(about) == pytest.approx(length)


def test_a_scale_bar_is_as_long_as_it_says(tmp_path):
    with style.figure(tmp_path / "bar.png", width=2, height=2) as figure:
        axes = figure.subplots()
        axes.imshow(np.zeros((64, 64)))
        style.scale_bar(axes, 64, 0.5)
        ends = axes.lines[-1].get_xdata()
        assert axes.texts[-1].get_text() == "5 µm"
        assert ends[1] - ends[0] == pytest.approx(5 / 0.5)
    assert imagecodecs.imread(tmp_path / "bar.png").shape[:2] == (300, 300)


def test_labels_carry_their_unit():
    assert style.with_unit("lag", "um") == "lag (µm)"
    assert style.with_unit("specific surface", "1/um") == "specific surface (1/µm)"
    assert style.with_unit("porosity", "") == "porosity"
