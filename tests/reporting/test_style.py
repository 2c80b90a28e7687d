import errno
import itertools

import imagecodecs
import numpy as np
import pytest

from sem2ct.reporting import style
from sem2ct.runtime.refusal import Refusal


def test_the_reference_is_black_and_no_two_sets_look_alike():
    names = [f"set {index}" for index in range(12)] + ["real"]
    looks = style.looks(names, "real")
    assert list(looks) == names
    assert looks["real"] == style.Look("#000000", (), "o")
    assert len(set(looks.values())) == len(names)


def test_up_to_six_sets_differ_in_colour_in_lightness_in_dash_and_in_marker():
    looks = style.looks(["real", *"abcde"], "real")
    for one, other in itertools.combinations(looks.values(), 2):
        assert one.marker != other.marker
        assert one.dash != other.dash
        assert abs(style.lightness(one.colour) - style.lightness(other.colour)) > 3
    first = [style.lightness(looks[name].colour) for name in ("real", "a", "b", "c")]
    assert min(abs(x - y) for x, y in itertools.combinations(first, 2)) > 11
    assert max(style.lightness(look.colour) for look in looks.values()) < 75  # dark enough on white


@pytest.mark.parametrize(
    ("colour", "expected"),
    [("#000000", 0), ("#ffffff", 100), ("#777777", 50.03), ("#ff0000", 53.24), ("#00ff00", 87.74)],
)
def test_lightness_is_that_of_the_tables_of_cie(colour, expected):
    assert style.lightness(colour) == pytest.approx(expected, abs=0.02)


def test_the_key_in_the_text_has_an_outline_for_every_marker():
    assert {"o", *style.MARKERS} == set(style.OUTLINES)


@pytest.mark.parametrize(
    ("about", "length"), [(9.9, 5), (10, 10), (23, 20), (0.07, 0.05), (512, 500), (1.0, 1)]
)
def test_a_scale_bar_has_a_round_length(about, length):
    assert style.round_length(about) == pytest.approx(length)


def test_a_figure_becomes_pixels_and_a_page_and_its_scale_bar_is_as_long_as_it_says(tmp_path):
    with style.figure(tmp_path / "bar.png", width=2, height=2) as figure:
        axes = figure.subplots()
        axes.imshow(np.zeros((64, 64)))
        style.scale_bar(axes, 64, 0.5)
        ends = axes.lines[-1].get_xdata()
        assert axes.texts[-1].get_text() == "5 µm"
        assert ends[1] - ends[0] == pytest.approx(5 / 0.5)
    assert imagecodecs.imread(tmp_path / "bar.png").shape[:2] == (300, 300)
    page = (tmp_path / "bar.pdf").read_bytes()
    assert page.startswith(b"%PDF")
    assert b"/MediaBox [ 0 0 144 144 ]" in page  # 2 inches of 72 points
    assert b"CreationDate" not in page


@pytest.mark.parametrize(
    ("canvas", "printing", "left"),
    [("FigureCanvasAgg", "print_png", set()), ("FigureCanvasPdf", "print_pdf", {"square.png"})],
)
def test_a_figure_that_is_cut_short_leaves_nothing_under_its_name(
    tmp_path, monkeypatch, canvas, printing, left
):
    def half(self, file, **how):
        file.write_bytes(b"half")
        assert not (tmp_path / "square.png").exists() or left
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(getattr(style, canvas), printing, half)
    with (
        pytest.raises(Refusal, match="square"),
        style.figure(tmp_path / "square.png", width=1, height=1),
    ):
        pass
    assert {path.name for path in tmp_path.iterdir()} == left


def test_labels_carry_their_unit():
    assert style.with_unit("lag", "um") == "lag (µm)"
    assert style.with_unit("permeability", "um^2") == "permeability (µm²)"
    assert style.with_unit("specific surface", "1/um") == "specific surface (1/µm)"
    assert style.with_unit("porosity", "") == "porosity (-)"


def test_a_name_is_printed_letter_for_letter_and_shortened_in_its_middle():
    assert style.label("real") == "real"
    assert style.label(r"$\frac{") == r"\$\frac{"
    assert style.label(" \n") == "(no name)"
    assert style.label("_hidden")[1:] == "_hidden"  # a leading underscore hides a name in a legend
    long = "beginning" + 90 * "x" + "ending"
    shown = style.label(long)
    assert len(shown) == style.NAME_LENGTH
    assert shown.startswith("beginning")
    assert shown.endswith("ending")
