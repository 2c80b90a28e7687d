"""One evaluation as the figures see it: numbers, tiles, curves and pictures, read once.

A figure takes an empty canvas and an `Evaluation`, draws, and returns the table of what it
drew.  Whatever a run does not hold is absent here too; nothing is computed anew.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.reporting import record, style
from sem2ct.reporting.style import Look

Table = dict[str, Any]
"""Columns by name, all of one length: what a figure shows, for its CSV file."""


@dataclass(frozen=True)
class Evaluation:
    """What lies in the folder of one run of `evaluate`."""

    metrics: dict[str, Any]
    tiles: dict[str, dict[str, NDArray[np.float64]]]
    curves: dict[str, NDArray]
    pictures: dict[str, NDArray]
    looks: dict[str, Look]

    @property
    def reference(self) -> str:
        """Name of the real set."""
        return self.metrics["reference"]

    @property
    def names(self) -> list[str]:
        """All sets, the reference first."""
        return sorted(self.looks, key=lambda name: name != self.reference)

    @property
    def others(self) -> list[str]:
        """All sets but the reference."""
        return [name for name in self.looks if name != self.reference]

    @property
    def length_unit(self) -> str:
        """Unit of every length: "um", or "px" when no pixel size is stated."""
        return "px" if self.metrics["pixel_um"] is None else "um"

    @property
    def pixel(self) -> float:
        """Side of a pixel in `length_unit`."""
        return self.metrics["pixel_um"] or 1.0

    @property
    def lags(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lags of the radial curves and of those along an axis, in `length_unit`."""
        return self.curves["lags_radial"] * self.pixel, self.curves["lags_axis"] * self.pixel

    def values(self, name: str, quantity: str) -> NDArray[np.float64]:
        """The tiles of a set where a quantity is defined.

        Args:
            name: The set.
            quantity: A column of tiles.csv.

        Returns:
            (n,) finite; empty when the column is absent.
        """
        column = self.tiles.get(name, {}).get(quantity, np.empty(0))
        return column[np.isfinite(column)]

    def unit(self, quantity: str) -> str:
        """Unit of a quantity, as metrics.json states it."""
        return self.metrics["sets"][self.reference]["scalars"][quantity]["unit"]

    def compared(self, name: str) -> dict[str, Any]:
        """What metrics.json says of a set against the reference; empty for the reference."""
        return self.metrics["comparisons"].get(name, {})


def read(folder: Path) -> Evaluation:
    """Opens the folder of a run.

    Args:
        folder: Holds metrics.json, tiles.csv, curves.npz and pictures.npz.

    Returns:
        The evaluation.
    """
    metrics = record.read_metrics(folder)
    return Evaluation(
        metrics,
        record.read_tiles(folder),
        record.read_arrays(folder, record.CURVES),
        record.read_arrays(folder, record.PICTURES),
        style.looks(list(metrics["sets"]), metrics["reference"]),
    )


def file_name(name: str, names: Sequence[str]) -> str:
    """A set's name as part of a file name: plain letters only, different for each set.

    Args:
        name: The set, as the user wrote it.
        names: All sets.

    Returns:
        The name itself where it can be one.
    """
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", name)[:40]
    return plain if plain == name else f"{plain}_{list(names).index(name)}"


def stacked(parts: Sequence[Mapping[str, Any]]) -> Table:
    """Puts tables under one another; single values are repeated down their part.

    Args:
        parts: Tables with the same columns.

    Returns:
        One table; empty for no parts.
    """
    table: dict[str, list[Any]] = {}
    for part in parts:
        lengths = [len(column) for column in part.values() if not np.isscalar(column)]
        rows = lengths[0] if lengths else 1
        for name, column in part.items():
            cells = [column] * rows if np.isscalar(column) else list(column)
            table.setdefault(name, []).extend(cells)
    return table
