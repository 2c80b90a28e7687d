"""report.html: one file that holds every number, figure, definition and origin.

It reads only what lies in the run's folder, so it can be made again at any time.
"""

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sem2ct.reporting import figures, pictures, record, style
from sem2ct.runtime.run_folder import writing

REPORT = "report.html"
NUMBERS = {
    "porosity": "Porosity",
    "specific_surface": "Specific surface",
    "correlation_length": "Correlation length",
    "one_over_e_length": "1/e length",
    "slope_length": "Slope length",
    "rms_misfit": "Misfit of the exponential",
}
CURVES = {"radial": "Mean S2, all directions", "x": "Mean S2 along x", "y": "Mean S2 along y"}


def draw(folder: Path) -> Path:
    """Draws all figures of an evaluation, then writes its report.

    Args:
        folder: Holds what `record.write` writes, and provenance.json.

    Returns:
        report.html.
    """
    figures.draw(folder)
    pictures.draw(folder)
    return write(folder)


def write(folder: Path) -> Path:
    """Writes report.html.

    Args:
        folder: Holds metrics.json, figures/*.png and provenance.json.

    Returns:
        The report.
    """
    metrics = record.read_metrics(folder)
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    environment = Environment(
        loader=PackageLoader("sem2ct.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "unit": unit, "several": several}
    text = environment.get_template("report.html.j2").render(
        metrics=metrics,
        provenance=provenance,
        figures=_embedded(folder / "figures"),
        looks=style.looks(list(metrics["sets"]), metrics["reference"]),
        numbers=NUMBERS,
        curve_names=CURVES,
    )
    path = folder / REPORT
    with writing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return path


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash when it is undefined.

    Args:
        value: Any number or None.
        digits: Significant digits.

    Returns:
        For example "0.0312" or "13200".
    """
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int):
        return str(value)
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:#.{digits}g}".rstrip(".")
    return str(round(value)) if "e" in text else text


def unit(text: str) -> str:
    """A unit as it is printed: "um" becomes µm."""
    return text.replace("um", "µm")


def several(values: list[float | None]) -> str:
    """An interval: "0.1 to 0.3"."""
    return " to ".join(number(value) for value in values)


def _embedded(folder: Path) -> dict[str, Any]:
    """PNG files by name, as data addresses."""
    return {
        path.stem: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        for path in sorted(folder.glob("*.png"))
    }
