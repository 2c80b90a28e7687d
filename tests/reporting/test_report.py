import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sem2ct.reporting import record, report

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """What a browser would load, and whether every element is closed."""

    VOID = ("meta", "img", "br", "link", "line", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.sources, self.links, self.ids, self.text = [], [], [], [], ""
        self.tags, self.handlers, self.policy = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        assert tag not in ("link", "iframe", "object", "embed", "base")
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            assert found == {}
        self.handlers += [name for name in found if name.startswith("on")]
        self.policy += found["content"] if "http-equiv" in found else ""
        self.sources += [found["src"]] if "src" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data + " "


def page_of(folder):
    return Page((folder / report.REPORT).read_text(encoding="utf-8"))


def words_of(page):
    return " ".join(page.text.split())


def test_the_report_holds_every_figure_and_tile_and_loads_nothing_from_elsewhere(drawn):
    page = page_of(drawn)
    assert page.open == []
    head = "data:image/png;base64,"
    assert all(source.startswith(head) for source in page.sources)
    shown = {base64.b64decode(source.removeprefix(head)) for source in page.sources}
    figures = {path.stem: path for path in (drawn / "figures").glob("*.png")}
    del figures["tiles"]  # stand there pixel for pixel instead
    pixels = list((drawn / "figures" / "pixels").glob("*.png"))
    assert len(pixels) == 3 + 3 + 3
    assert shown == {path.read_bytes() for path in [*figures.values(), *pixels]}
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_a_browser_may_run_the_reports_own_script_only_and_fetch_nothing(drawn):
    text = (drawn / report.REPORT).read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == page.tags.count("style") == 1
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_the_report_says_verdicts_first_then_numbers_units_cautions_and_origin(drawn):
    text = words_of(page_of(drawn))
    places = [
        text.index(said)
        for said in (
            "run a <run> , 2026-01-02",
            "grey level 90 (given)",
            "translated : 1 of 3 checks cannot tell it from real. It differs in mean S2, all"
            " directions (4.0 times the band), specific surface (2.1 times the band). 1 could not"
            " be judged.",
            "Porosity factor 0.5 0.300, real halves 0.600",
            "The rule. Inside when two real halves differ as much.",
            "Caution. Few images.",
            "energy, whitened",
            "1 of 6 tiles are copies (similarity of 0.930 or more). The most similar has 0.970",
            "real tiles held out: highest 0.340",
            "Porosity real 9 \N{EN DASH} 0.310",
            "Correlation length µm real 9 5.25 4.50",
            "Permeability proxy (Kozeny-Carman)",
            "0.290 / 0.310 / 0.330",
            "25 %",
            "share of pixels that are pore",
            "command sem2ct evaluate",
            "sem2ct metrics 2",
            "f00d",
        )
    ]
    assert places == sorted(places)
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", text)


def test_names_notes_and_paths_are_printed_and_never_run(tmp_path, write_run):
    names = ["real", EVIL]
    folder = write_run(tmp_path, names, [EVIL])
    metrics = record.read_metrics(folder)
    metrics["cautions"] = [EVIL]
    metrics["rule"] = metrics["run"] = metrics["threshold"]["rule"] = EVIL
    metrics["sets"][EVIL]["where"] = metrics["definitions"][EVIL] = EVIL
    metrics["verdicts"][0]["label"] = metrics["verdicts"][0]["verdict"] = EVIL
    metrics["against"] = {
        "where": EVIL,
        "run": EVIL,
        "only_here": [EVIL],
        "only_there": [],
        "differing": {EVIL: [EVIL, 1]},
        "rows": [
            dict.fromkeys(("set", "quantity", "unit"), EVIL)
            | {"here": 1.5, "there": None, "difference": 0.25, "difference_sd": None}
        ],
    }
    record.write_metrics(folder, metrics)
    report.write(folder)
    page = page_of(folder)
    assert page.tags.count("script") == 1
    assert page.handlers == []
    assert all(source.startswith("data:image/png") for source in page.sources)
    assert page.text.count(EVIL) > 12


def test_a_report_of_one_set_compares_nothing_and_says_what_it_leaves_out(tmp_path, write_run):
    folder = write_run(tmp_path, ["real"], [])
    metrics = record.read_metrics(folder)
    record.write_metrics(folder, metrics | {"pixel_um": None, "cautions": []})
    report.write(folder)
    page = page_of(folder)
    text = words_of(page)
    assert "lengths are in pixels" in text
    assert "There is one set only, so nothing is compared" in text
    assert "Against the truth" not in text
    assert "Caution" not in text
    left_out = text[text.index("Not in this report") :]
    assert "There is no truth to compare with." in left_out
    assert "Copies of the training images were not sought." in left_out
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_a_report_of_the_first_schema_is_written_with_less(evaluated):
    metrics = record.read_metrics(evaluated)
    for key in ("verdicts", "rule", "correlation_names", "schema"):
        del metrics[key]
    entry = metrics["comparisons"]["translated"]
    for key in ("joint", "memorisation", "diversity"):
        del entry[key]
    for facts in metrics["sets"].values():
        del facts["sampled"]
    for scalar in entry["scalars"].values():
        del scalar["coverage"]
        scalar["distances"].pop("wasserstein", None)
    record.write_metrics(evaluated, metrics)
    record.write_arrays(evaluated, record.PICTURES, {"none": np.zeros(1)})
    report.write(evaluated)
    text = words_of(page_of(evaluated))
    assert "translated : no check could be judged" in text
    assert "No check has a band of real halves to be judged by." in text
    assert "95 of 100 splits" in text
    assert not re.search(r"\b(nan|None|Undefined)\b", text)


def test_learned_distances_stand_beside_those_of_real_halves(evaluated):
    metrics = record.read_metrics(evaluated)
    metrics["features"] = {"file": "inception.pt", "sha256": "cafe", "dimension": 2048}
    metrics["comparisons"]["translated"]["features"] = {
        "kid": {"value": 0.0125, "sd": 0.001, "real_vs_real": 0.0025},
        "fid": {"value": 61.5, "real_vs_real": 54.25},
        "tiles": 372,
        "reference_tiles": 371,
        "verdict": "outside by a factor of 5",
        "inside": False,
    }
    metrics["resampled"] = {"translated": {"from_um": 0.25, "to_um": 0.5}}
    record.write_metrics(evaluated, metrics)
    report.write(evaluated)
    text = words_of(page_of(evaluated))
    assert "KID 0.0125 (sd 0.00100; real vs real 0.00250), FID 61.5 (real vs real 54.2)" in text
    assert "372 tiles against 371" in text
    assert "inception.pt , sha256 cafe" in text
    assert "was resampled from 0.250 to 0.500 µm per pixel" in text


def test_headlines_count_the_checks_and_name_the_worst():
    rows = [
        {"set": "a", "label": f"Check {k}", "factor": 20.0 + 30 * k, "inside": False}
        for k in range(6)
    ]
    rows += [{"set": "b", "label": "KID", "factor": 0.5, "inside": True}]
    metrics = {"reference": "real", "comparisons": {"a": {}, "b": {}, "c": {}}, "verdicts": rows}
    said = report.headlines(metrics)
    assert said["a"].startswith(
        "0 of 6 checks cannot tell it from real. It differs in check 5 (170 "
    )
    assert said["a"].endswith("check 2 (80 times the band), and 2 more.")
    assert said["b"] == "1 of 1 checks cannot tell it from real."
    assert said["c"].startswith("no check could be judged")


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


def test_units_and_shares_are_printed_as_people_write_them():
    assert report.unit("1/um^2") == "1/µm²"
    assert report.percent(0.254) == "25 %"
    assert report.percent(None) == "\N{EN DASH}"
    assert report.several([0.1, None]) == "0.100 to \N{EN DASH}"
