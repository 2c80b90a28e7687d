"""What the figures amount to: one line per check, by a rule that is written out.

Measured on 60 images of one population, 30 judged by the other 30, forty times: 6 of
280 checks (porosity, surface, length, sharpness, three joint ones) fell outside.
"""

from typing import Any

from sem2ct.metrics.definitions import COMPARED, LOOKED, unit_of

RULE = (
    "A set passes a check when its distance from the reference is no larger than the 95th"
    " percentile of the same distance between random halves of the reference's source images, of"
    " which one is thinned to as many tiles as the set has: then it differs no more than the"
    " reference differs from itself. Scalars are judged by the Wasserstein-1 distance, curves by"
    " the largest difference of the means, all descriptors together by the energy distance of"
    " their ranks, before and after whitening, and by the largest difference of their"
    " correlations. Copies and repetitions: the 95th percentile of the similarity must not be more"
    " than half-way from the highest of any source image held against the others to 1, and no tile"
    " may be a copy. Halves hold fewer images than the whole, so the rule forgives what the"
    " reference cannot decide."
)
LABELS = {
    "porosity": "Porosity",
    "specific_surface": "Specific surface",
    "correlation_length": "Correlation length",
    "grey_slope": "Sharpness (grey slope)",
    "seam": "Seams (straight lines)",
    "s2_radial": "S2, all directions",
    "s2_x": "S2 along x",
    "s2_y": "S2 along y",
    "r_radial": "R, all directions",
    "lineal_path_x": "Lineal path along x",
    "lineal_path_y": "Lineal path along y",
    "joint": "All descriptors together",
    "joint_whitened": "All descriptors, whitened",
    "correlations": "Correlations of descriptors",
    "memorisation": "Copies of real images",
    "diversity": "Repetitions within the set",
    "kid": "Network features (KID)",
}
CURVES = {
    "radial": "s2_radial",
    "x": "s2_x",
    "y": "s2_y",
    "r": "r_radial",
    "lineal_path_x": "lineal_path_x",
    "lineal_path_y": "lineal_path_y",
}


def rows(comparisons: dict[str, dict[str, Any]], pixel_um: float | None) -> list[dict[str, Any]]:
    """All verdicts as one table, set by set.

    Args:
        comparisons: Facts of `comparisons.against`, by name of the set.
        pixel_um: Side of a pixel, or None.

    Returns:
        Rows with set, check, label, value, band, unit, factor, inside, verdict.
    """
    found = []
    for name, facts in comparisons.items():
        checks = {quantity: _of_scalar(facts["scalars"][quantity]) for quantity in COMPARED}
        looked = (name for name in LOOKED if name in facts["sampled"])
        checks |= {quantity: _of_scalar(facts["sampled"][quantity]) for quantity in looked}
        for curve, check in CURVES.items():
            if curve in facts["curves"]:
                checks[check] = _of_distance(facts["curves"][curve], "largest_difference")
        for check, distance, before in (
            ("joint", "energy", ""),
            ("joint_whitened", "energy_whitened", "whitened_"),
            ("correlations", "correlations", "correlations_"),
        ):
            checks[check] = _of_distance(facts["joint"], distance, before)
        if "memorisation" in facts:
            checks["memorisation"] = _of_memorisation(facts["memorisation"])
        if "diversity" in facts:
            entry = facts["diversity"]
            checks["diversity"] = (entry["p95"], entry["band"], entry)
        if "features" in facts:
            entry = facts["features"]
            checks["kid"] = (entry["kid"]["value"], entry["kid"]["real_vs_real"], entry)
        found += [_row(name, check, pixel_um, *parts) for check, parts in checks.items()]
    return found


def _of_scalar(entry: dict[str, Any]) -> tuple[float, float | None, dict[str, Any]]:
    return _of_distance(entry, "wasserstein")


def _of_distance(
    entry: dict[str, Any], name: str, before: str = ""
) -> tuple[float, float | None, dict[str, Any]]:
    row = entry["distances"][name]
    said = {key: entry[before + key] for key in ("verdict", "inside")}
    return row["value"], row["real_vs_real"], said


def _of_memorisation(entry: dict[str, Any]) -> tuple[float, float | None, dict[str, Any]]:
    """Copies speak for themselves; else the distribution is judged."""
    if entry["copies"]:
        return entry["highest"], entry["copy_limit"], entry
    return entry["p95"], entry["band"], entry


def _row(
    name: str,
    check: str,
    pixel_um: float | None,
    value: float,
    band: float | None,
    said: dict[str, Any],
) -> dict[str, Any]:
    known = band is not None and band > 0 and value == value
    return {
        "set": name,
        "check": check,
        "label": LABELS[check],
        "value": value,
        "band": band,
        "unit": unit_of(check, pixel_um) if check in COMPARED else "",
        "factor": abs(value) / band if known and band else None,
        "inside": said["inside"],
        "verdict": said["verdict"],
    }


def lines(metrics: dict[str, Any]) -> list[str]:
    """A short table for the terminal: the sets, then what each check says of them.

    Args:
        metrics: Answer of `results.collect`.

    Returns:
        Aligned lines.
    """
    header = ["set", "tiles", *(_headed(name, metrics) for name in COMPARED)]
    table = [header]
    for name, one in metrics["sets"].items():
        row = [name, str(one["tiles"])]
        for quantity in COMPARED:
            numbers = one["scalars"][quantity]
            row.append(f"{numbers['mean']:.4g} ({numbers['sd']:.2g})")
        table.append(row)
    said = aligned(table)
    others = list(metrics["comparisons"])
    if others:
        by_check: dict[str, dict[str, str]] = {}
        for row in metrics["verdicts"]:
            by_check.setdefault(row["label"], {})[row["set"]] = _short(row)
        table = [["check", *others]]
        table += [
            [label, *(of_set.get(name, "-") for name in others)]
            for label, of_set in by_check.items()
        ]
        said += ["", *aligned(table)]
    return said


def _short(row: dict[str, Any]) -> str:
    """A verdict in a word or two, for a narrow column."""
    if row["inside"]:
        return "inside"
    if row["inside"] is None:
        return "no band"
    if "copies" in row["verdict"] or row["factor"] is None:
        return row["verdict"].split(" (")[0]
    return f"outside x{row['factor']:.2g}"


def _headed(name: str, metrics: dict[str, Any]) -> str:
    unit = unit_of(name, metrics["pixel_um"])
    words = f"{name}, {unit}" if unit else name
    return f"{words}: mean (sd)"


def aligned(table: list[list[str]]) -> list[str]:
    """Lays a table out in columns.

    Args:
        table: Rows of equal length.

    Returns:
        One line per row, columns two spaces apart, without blanks at the end.
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
