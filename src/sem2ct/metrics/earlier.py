"""Two evaluations side by side: what changed from one run to another."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sem2ct.metrics import verdicts
from sem2ct.metrics.definitions import COMPARED
from sem2ct.metrics.results import SCHEMA
from sem2ct.runtime.refusal import Refusal

FILE = "metrics.json"
CONDITIONS = ("reference", "pixel_um", "tile_px", "reach_px")


def file(where: str | Path) -> Path:
    """The numbers of a run, named by its folder or by the file itself."""
    path = Path(where)
    return path / FILE if path.is_dir() else path


def opened(where: str | Path, *, setting: str) -> dict[str, Any]:
    """Reads the numbers of an earlier run.

    Args:
        where: Folder of a finished evaluate run, or its metrics.json.
        setting: Name of the setting that holds it, for a refusal.

    Returns:
        The content.

    Raises:
        Refusal: If it is absent, no such file, or of another version.
    """
    path = file(where)
    if not path.is_file():
        raise Refusal(
            f"{setting}={where}: no {FILE} there; name the folder of a finished 'sem2ct evaluate'"
            " run, or its file"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or schema != SCHEMA:
        raise Refusal(
            f"{setting}={where}: says '{schema}', but this version of sem2ct writes and compares"
            f" '{SCHEMA}'; run 'sem2ct evaluate' on those sets again, under another run="
        )
    with _as_written(where, setting):
        differences(content, content, where=str(where))
    return content


def complete(where: str | Path) -> dict[str, Any]:
    """Reads the numbers of a run that are told again instead of measuring: earlier=.

    Args:
        where: As for `opened`.

    Raises:
        Refusal: As `opened`, and if a number or a verdict is missing.
    """
    content = opened(where, setting="earlier")
    with _as_written(where, "earlier"):
        verdicts.lines(content)
    return content


@contextlib.contextmanager
def _as_written(where: str | Path, setting: str) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise Refusal(
            f"{setting}={where}: its {FILE} was damaged or changed ({error}); run 'sem2ct evaluate'"
            " on those sets again, under another run="
        ) from error


def opened_if_any(where: str, *, setting: str) -> dict[str, Any] | None:
    """Reads the numbers of an earlier run, unless there is "none"."""
    return None if where == "none" else opened(where, setting=setting)


def threshold(asked: int | str | Path) -> int:
    """A threshold that is given, or that an evaluate run has found.

    Args:
        asked: Grey level; folder of a finished evaluate run, or its metrics.json; or "none".

    Returns:
        Grey level under which a pixel is pore; 0 for none.

    Raises:
        Refusal: If there is no such run, or its pores were given as masks.
    """
    if isinstance(asked, int):
        return asked
    if str(asked) == "none":
        return 0
    level = opened(asked, setting="threshold").get("threshold", {}).get("level")
    if not isinstance(level, int):
        raise Refusal(
            f"threshold={asked}: that run was given its pores as masks, so it has no threshold;"
            " set a grey level from 1 to 254"
        )
    return int(level)


def differences(here: dict[str, Any], there: dict[str, Any], *, where: str) -> dict[str, Any]:
    """What differs between two evaluations, quantity by quantity.

    Args:
        here: Content of this run's metrics.json.
        there: Content of the other's.
        where: The other, as the user wrote it.

    Returns:
        where, run, rows (set, quantity, unit, means here and there, difference, also over
        the other's sd), only_here and only_there (sets), differing (conditions that differ,
        here and there: they may be why numbers do).
    """
    ours, theirs = here["sets"], there["sets"]
    rows = [
        row
        for name in ours
        if name in theirs
        for part in ("scalars", "sampled")
        for row in _rows(name, ours[name].get(part, {}), theirs[name].get(part, {}))
    ]
    conditions = {name: [here.get(name), there.get(name)] for name in CONDITIONS}
    levels = [of.get("threshold", {}).get("level") for of in (here, there)]
    conditions["threshold"] = levels
    return {
        "where": where,
        "run": there.get("run"),
        "rows": rows,
        "only_here": [name for name in ours if name not in theirs],
        "only_there": [name for name in theirs if name not in ours],
        "differing": {name: both for name, both in conditions.items() if both[0] != both[1]},
    }


def _rows(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for quantity, mine in ours.items():
        other = theirs.get(quantity)
        if other is None or other["unit"] != mine["unit"]:
            continue
        here, there, sd = mine["mean"], other["mean"], other["sd"]
        apart = None if here is None or there is None else here - there
        rows.append(
            {
                "set": name,
                "quantity": quantity,
                "unit": mine["unit"],
                "here": here,
                "there": there,
                "difference": apart,
                "difference_sd": apart / sd if apart is not None and sd else None,
            }
        )
    return rows


def lines(found: dict[str, Any]) -> list[str]:
    """The differences as a table for the terminal, main quantities only.

    Args:
        found: Answer of `differences`.

    Returns:
        Aligned lines.
    """
    table = [["set", "quantity", "here", "there", "difference", "over its sd"]]
    for row in found["rows"]:
        if row["quantity"] in COMPARED:
            words = f"{row['quantity']}, {row['unit']}" if row["unit"] else row["quantity"]
            shown = (row[key] for key in ("here", "there", "difference", "difference_sd"))
            table.append([row["set"], words, *("-" if v is None else f"{v:.4g}" for v in shown)])
    said = [f"against {found['where']}:", *verdicts.aligned(table)]
    for name, (here, there) in found["differing"].items():
        said.append(f"measured differently: {name} is {here} here, {there} there")
    for key, words in (("only_here", "only here"), ("only_there", "only there")):
        if found[key]:
            said.append(f"{words}: {', '.join(found[key])}")
    return said
