import base64
from html.parser import HTMLParser

import pytest

from sem2ct.reporting import record, report


class Page(HTMLParser):
    """What a browser would load, and whether every element is closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.sources, self.links, self.ids, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        assert tag not in ("script", "link", "iframe")
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [found["src"]] if "src" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_the_report_holds_every_figure_and_loads_nothing_from_elsewhere(evaluated):
    page = Page(report.draw(evaluated).read_text(encoding="utf-8"))
    assert page.open == []
    figures = sorted((evaluated / "figures").glob("*.png"))
    assert len(figures) == 8
    assert len(page.sources) == len(figures)
    head = "data:image/png;base64,"
    assert all(source.startswith(head) for source in page.sources)
    shown = {base64.b64decode(source.removeprefix(head)) for source in page.sources}
    assert shown == {path.read_bytes() for path in figures}
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_the_report_says_numbers_units_verdicts_cautions_and_origin(evaluated):
    text = " ".join(Page(report.write(evaluated).read_text(encoding="utf-8")).text.split())
    for said in (
        "run a <run> , 2026-01-02",
        "Porosity real 9 0.310",
        "1/µm",
        "outside by a factor of 2.1",
        "no band to judge by",
        "0.29 / 0.310 / 0.330".replace("0.29 /", "0.290 /"),
        "4.25",
        "Few images.",
        "share of pixels that are pore",
        "25 %",
        "sem2ct evaluate",
        "f00d",
        "grey level 90 (given)",
        "True porosity".lower(),
    ):
        assert said in text, said


def test_a_report_of_images_alone_names_pixels_and_leaves_out_truth(evaluated):
    metrics = record.read_metrics(evaluated)
    metrics |= {"pixel_um": None, "truth": {}, "slices": {}, "comparisons": {}, "cautions": []}
    del metrics["sets"]["translated"]
    record.write_metrics(evaluated, metrics)
    page = Page(report.write(evaluated).read_text(encoding="utf-8"))
    assert "lengths are in pixels" in page.text
    assert "Against the truth" not in page.text
    assert "Summary" not in page.text
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (7, "7"),
        (0.0, "0.00"),
        (0.031249, "0.0312"),
        (-1.5, "-1.50"),
        (123.4, "123"),
        (13187.2, "13187"),
        (0.00002, "2.00e-05"),
    ],
)
def test_numbers_are_printed_with_three_digits(value, text):
    assert report.number(value) == text
