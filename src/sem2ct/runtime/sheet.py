"""The settings sheet of a run: what a command given again must agree with.

A sheet may be older than a setting.  What was done before there was the setting is not
what today's default does, so a stage says of every setting that came later which value
stands for it, and the sheet is read as if it had that value.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

# They say where a run lies and how it is done on this machine, not what it computes.
MACHINE_SETTINGS = (
    "run",
    "run_root",
    "dry_run",
    "verify",
    "export",
    "export_range",
    "device",
    "devices",
    "batch_per_device",
    "checkpoint_activations",
    "processes",
)


def plain(value: Any) -> Any:
    """Copies settings into what YAML and JSON can hold."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def completed(sheet: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a sheet with the settings that are younger than it, by the values of `later`."""
    return {**{name: plain(later[name]) for name in later.keys() - sheet.keys()}, **sheet}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Compares what two sheets have a run compute.

    Args:
        before: The run's sheet, complete.
        now: What is asked for, of plain values.

    Returns:
        One line for each setting that differs, nested ones as "sets.real".
    """
    old, new = _deciding(before), _deciding(now)
    return [
        f"{name}: {old.get(name, 'absent')} (this folder) / {new.get(name, 'absent')} (now)"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that decide what a run computes."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name in MACHINE_SETTINGS:
            continue
        if isinstance(value, Mapping):
            flat |= {f"{name}.{part}": inner for part, inner in value.items()}
        else:
            flat[name] = value
    return flat
