"""report.html: one file that holds every number, figure, definition and origin.

It reads only what lies in the run's folder, so it can be made again at any time, and
it loads nothing from elsewhere: images are in it, and its policy forbids a browser to fetch
anything or to run any other script than its own.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from sem2ct.reporting import evaluation, figures, pictures, style
from sem2ct.reporting.evaluation import Evaluation
from sem2ct.runtime.run_folder import writing

REPORT = "report.html"
QUANTITIES = {
    "porosity": "Porosity",
    "specific_surface": "Specific surface",
    "correlation_length": "Correlation length",
    "one_over_e_length": "1/e length",
    "slope_length": "Slope length",
    "rms_misfit": "Misfit of the exponential",
}
FRAMES_FROM = {
    "images": "as they were given",
    "frames": "as extract kept them",
    "reassembled": "put together from their tiles",
    "tiles": "of which only single tiles are known",
}
COMPARED = ("porosity", "specific_surface", "correlation_length")
CURVES = {
    "radial": "Mean S2, all directions",
    "x": "Mean S2 along x",
    "y": "Mean S2 along y",
    "r": "Mean R, all directions",
    "lineal_path_x": "Lineal path along x",
    "lineal_path_y": "Lineal path along y",
}
PIXELS_PER_INCH = 105
"""Of a figure on the screen: 10.5 inches fill the page."""
RULE = (
    "A set is inside when its distance from the reference is no larger than that between two"
    " random halves of the reference in 95 of 100 splits. Halves are made of whole source images"
    " where these are known, because tiles of one image resemble one another."
)
"""For a run that states none of its own."""


def draw(folder: Path) -> Path:
    """Draws all figures of an evaluation, then writes its report.

    Args:
        folder: Holds what `record.write` writes, and provenance.json.

    Returns:
        report.html.
    """
    figures.draw(folder / figures.FOLDER, evaluation.read(folder))
    return write(folder)


def write(folder: Path) -> Path:
    """Writes report.html.

    Args:
        folder: Holds what `record.write` writes, figures/*.png and provenance.json.

    Returns:
        The report.
    """
    run = evaluation.read(folder)
    loader = PackageLoader("sem2ct.reporting", ".")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=ChainableUndefined,  # what a run does not have is left out
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "unit": unit,
        "several": several,
        "percent": percent,
        "outline": style.OUTLINES.__getitem__,
    }
    own = {kind: loader.get_source(environment, f"report.{kind}")[0] for kind in ("css", "js")}
    text = environment.get_template("report.html.j2").render(
        style=Markup(own["css"]),
        script=Markup(own["js"]),
        digests={"style": _digest(own["css"]), "script": _digest(own["js"])},
        **_content(run, folder),
    )
    path = folder / REPORT
    with writing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return path


def headlines(metrics: dict[str, Any]) -> dict[str, str]:
    """One sentence or two per compared set, in plain words.

    Args:
        metrics: Content of metrics.json.

    Returns:
        By set.
    """
    said = {}
    for name in metrics["comparisons"]:
        rows = [row for row in metrics.get("verdicts", []) if row["set"] == name]
        judged = [row for row in rows if row["inside"] is not None]
        outside = [row for row in judged if not row["inside"]]
        if not judged:
            said[name] = f"no check could be judged; {metrics['reference']} has too few images."
            continue
        inside = len(judged) - len(outside)
        text = f"{inside} of {len(judged)} checks cannot tell it from {metrics['reference']}."
        if outside:
            outside.sort(key=lambda row: -(row["factor"] or 0))
            worst = ", ".join(_small(row["label"]) + _times(row["factor"]) for row in outside[:4])
            more = f", and {len(outside) - 4} more" if len(outside) > 4 else ""
            text += f" It differs in {worst}{more}."
        if len(judged) < len(rows):
            text += f" {len(rows) - len(judged)} could not be judged."
        said[name] = text
    return said


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash when it is undefined.

    Args:
        value: Any number, or None or what a template calls undefined.
        digits: Significant digits.

    Returns:
        For example "0.0312" or "13200".
    """
    if not isinstance(value, int | float):
        return "\N{EN DASH}"
    if isinstance(value, int):
        return str(value)
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:#.{digits}g}".rstrip(".")
    return str(round(value)) if "e" in text else text


def unit(text: str) -> str:
    """A unit as it is printed: "um^2" becomes µm²."""
    return text.replace("um", "µm").replace("^2", "²")


def several(values: list[float | None]) -> str:
    """An interval: "0.1 to 0.3"."""
    return " to ".join(number(value) for value in values)


def percent(share: float | None) -> str:
    """A share in whole percent: "25 %"."""
    return f"{100 * share:.0f} %" if isinstance(share, int | float) else "\N{EN DASH}"


def _content(run: Evaluation, folder: Path) -> dict[str, Any]:
    """Everything the template names."""
    metrics = run.metrics
    charts = figures.charts(run)
    drawn = {path.stem: path for path in (folder / figures.FOLDER).glob("*.png")}
    drawn.pop("tiles", None)  # the same tiles stand there pixel for pixel
    pixels = pictures.write_pixels(run, folder / figures.FOLDER / pictures.PIXELS)
    there = {chart.section for chart in charts if not chart.absent} | {"summary", "images"}
    headings = {key: words for key, words in figures.SECTIONS.items() if key in there}
    last = ("numbers", "definitions", "provenance")
    checks: dict[str, dict[str, Any]] = {}
    for row in metrics.get("verdicts", []):
        checks.setdefault(row["label"], {})[row["set"]] = row
    sampled = metrics["sets"][run.reference].get("sampled") or {}
    sampled = {name: _capital(style.words_for(name)) for name in sampled}
    return {
        "metrics": metrics,
        "provenance": json.loads((folder / "provenance.json").read_text(encoding="utf-8")),
        "looks": run.looks,
        "charts": charts,
        "missing": list(dict.fromkeys(chart.absent for chart in charts if chart.absent)),
        "figures": {name: _figure(path) for name, path in drawn.items()},
        "pixels": {key: [_address(path) for path in paths] for key, paths in pixels.items()},
        "headings": headings | {key: key.capitalize() for key in last},
        "headlines": headlines(metrics),
        "checks": checks,
        "rule": metrics.get("rule") or RULE,
        "quantities": QUANTITIES,
        "sampled": sampled,
        "distant": {name: QUANTITIES[name] for name in COMPARED} | sampled,
        "curve_names": CURVES,
        "frames_from": FRAMES_FROM,
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    """A label inside a sentence; "S2" and "KID" stay as they are."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _times(factor: float | None) -> str:
    return f" ({number(float(factor), 2)} times the band)" if factor else ""


def _digest(text: str) -> str:
    """What a content security policy calls the hash of an inline block."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figure(path: Path) -> dict[str, Any]:
    """A figure as its address, and the size that lets all figures have equal letters."""
    head = path.read_bytes()[16:24]  # PNG: width and height stand first in its first chunk
    sides = (int.from_bytes(head[:4]), int.from_bytes(head[4:]))
    width, height = (round(side * PIXELS_PER_INCH / style.DOTS_PER_INCH) for side in sides)
    return {"address": _address(path), "width": width, "height": height}


def _address(path: Path) -> str:
    """A PNG file as a data address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
