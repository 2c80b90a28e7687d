"""The small files of a run folder read back; a damaged one is named, never guessed at.

Disks lose bytes and people edit files by hand.  What these files say decides whether
work is repeated, so each is read through here: content of the right kind, or a refusal.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from sem2ct.runtime.refusal import Refusal

# What parsers raise on bytes that are no text, text that is no JSON or YAML, and mad numbers.
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)


def read_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """Reads an object of a .json file.

    Args:
        path: The file.
        remedy: What to do if it is damaged, for the refusal.

    Raises:
        Refusal: If it cannot be read, or holds no object.
    """
    return _mapping(path, json.loads, remedy)


def read_yaml(path: Path, *, remedy: str) -> dict[str, Any]:
    """As `read_json`, of a .yaml file; nothing in it is called."""
    return _mapping(path, yaml.safe_load, remedy)


def row_of(line: str) -> dict[str, Any] | None:
    """Reads a line of values.jsonl: a row with its progress, or None if it is spoilt."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("images")) is not int:
        return None
    seconds = row.get("seconds", 0)
    return row if type(seconds) in (int, float) and math.isfinite(seconds) else None


def _mapping(path: Path, parse: Callable[[str], Any], remedy: str) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (*_UNREADABLE, yaml.YAMLError) as error:
        raise _damaged(path, error, remedy) from error
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no names", remedy)
    return content


def _damaged(path: Path, reason: object, remedy: str) -> Refusal:
    said = (str(reason).strip().splitlines() or ["it cannot be read"])[0]
    return Refusal(f"{path} is damaged ({said}); {remedy}")
