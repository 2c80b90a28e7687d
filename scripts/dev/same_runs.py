"""Compares run folders file by file: the same run, or a run that was disturbed.

What says when and where, and not what, is not compared; `LEFT_OUT`, `TIMED`, `TOLD` list it.
"""

import contextlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

LEFT_OUT = {
    "log.txt": "times, and a resumed run says so",
    ".lock": "the process that holds the folder",
    "events.out.tfevents.*": "TensorBoard's copy of values.jsonl, named after host and second",
}
TIMED = {"seconds", "images_per_second", "date", "modified_ns"}
# Who asked, and of which state of the source: of a report its rows of these names.
TOLD = {"command", "commit"}
GROWING = {"values.jsonl", "*.journal*.jsonl"}
REPLACED = {"best.json"}


def left_out() -> str:
    """Says what is not compared, and why."""
    lines = [f"not compared: {name} ({why})" for name, why in LEFT_OUT.items()]
    timed, told = ", ".join(sorted(TIMED)), ", ".join(sorted(TOLD))
    lines.append(f"not compared: {timed} in .json and .jsonl files (they are time)")
    lines.append(f"not compared: {told} in provenance.json; these and date in report.html")
    return "\n".join(lines)


def differences(one: Path, other: Path) -> list[str]:
    """Compares two run folders.

    Args:
        one: The undisturbed run.
        other: The disturbed one.

    Returns:
        What differs, one line for each file.
    """
    files, others = _files(one), _files(other)
    found = [f"{name} is missing" for name in sorted(files - others)]
    found += [f"{name} is one too many" for name in sorted(others - files)]
    return found + [
        f"{name} differs"
        for name in sorted(files & others)
        if _content(one / name) != _content(other / name)
    ]


def taken_for_whole(one: Path, other: Path) -> list[str]:
    """Files of a killed run that have their final name and not their final content.

    Args:
        one: The undisturbed run.
        other: The killed one.
    """
    passing = GROWING | REPLACED
    found = []
    for name in sorted(_files(other)):
        path = Path(name)
        if any(path.match(pattern) for pattern in passing) or ".tmp" in name:
            continue
        if path.suffix == ".pt":
            # Checkpoints come and go; the archive's checksums say whether one is whole.
            if not zipfile.is_zipfile(other / name) or zipfile.ZipFile(other / name).testzip():
                found.append(f"{name} is cut short")
        elif not (one / name).is_file():
            found.append(f"{name} has no business there")
        elif _content(one / name) != _content(other / name):
            found.append(f"{name} was partial")
    return found


def _files(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix()
        for path in files
        if not any(path.match(pattern) for pattern in LEFT_OUT)
    }


def _content(path: Path) -> Any:
    """Bytes; of JSON the values but times; of journals the set of whole entries; see `TOLD`."""
    if path.match("*.journal*.jsonl"):
        # A slab whose entry was lost is noted again; a killed writer leaves half a line.
        return {line for line in path.read_text().splitlines() if _is_json(line)}
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        value = _timeless(json.loads(path.read_text()))
        if path.name == "provenance.json" and isinstance(value, dict):
            value = {name: part for name, part in value.items() if name not in TOLD}
        return value
    if path.name == "report.html":
        return _untold(path.read_bytes())
    return path.read_bytes()


def _untold(report: bytes) -> bytes:
    """A report without its rows of `TOLD` and date, and without the date below its title."""
    names = "|".join(sorted(TOLD | {"date"})).encode()
    report = re.sub(rb"<tr><td>(?:%b)</td><td>.*?</td></tr>" % names, b"", report)
    return re.sub(rb"(?<=</b>, )\d{4}-\d\d-\d\d(?=\.\s)", b"", report, count=1)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name not in TIMED}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def _is_json(line: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(json.loads(line))
    return False
