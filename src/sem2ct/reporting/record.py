"""The files of an evaluation, which everything else in this room reads.

metrics.json holds every number, tiles.csv one row per tile, curves.npz the
correlation curves and grey histograms, pictures.npz what the figures show.
"""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.run_folder import writing

METRICS, TILES = "metrics.json", "tiles.csv"
CURVES, PICTURES = "curves.npz", "pictures.npz"


def plain(value: Any) -> Any:
    """Copies numbers into what JSON can hold; NaN and infinity become null.

    Args:
        value: Nested mappings and sequences of numbers, texts and None.

    Returns:
        The same with plain types.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write(
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    tiles: Mapping[str, Mapping[str, NDArray]],
    curves: Mapping[str, NDArray],
    pictures: Mapping[str, NDArray],
) -> None:
    """Writes the four files.

    Args:
        folder: The run's folder.
        metrics: Every number, as `plain` can take it.
        tiles: For each set its columns.
        curves: Correlation curves and grey histograms.
        pictures: What the figures show.
    """
    write_tiles(folder, tiles)
    write_arrays(folder, CURVES, curves)
    write_arrays(folder, PICTURES, pictures)
    write_metrics(folder, metrics)


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes metrics.json.

    Args:
        folder: The run's folder.
        metrics: Everything, as `plain` can take it.
    """
    write_json(folder / METRICS, metrics)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Writes numbers as JSON that any reader takes: NaN and infinity become null.

    Args:
        file: Where to.
        content: As `plain` can take it.
    """
    text = json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False)
    with writing(file) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Reads metrics.json."""
    return json.loads((folder / METRICS).read_text(encoding="utf-8"))


def write_tiles(folder: Path, columns: Mapping[str, Mapping[str, NDArray]]) -> None:
    """Writes tiles.csv: one row per tile, undefined values left empty.

    Args:
        folder: The run's folder.
        columns: For each set its columns, all sets with the same names, in metrics.json's units.
    """
    with (
        writing(folder / TILES) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file)
        names = list(next(iter(columns.values())))
        rows.writerow(["set", "tile", *names])
        for name, of_set in columns.items():
            for index, row in enumerate(zip(*(of_set[column] for column in names), strict=True)):
                rows.writerow([name, index, *("" if _absent(v) else f"{v:.9g}" for v in row)])


def read_tiles(folder: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Reads tiles.csv.

    Returns:
        For each set its columns; undefined values are NaN.
    """
    with (folder / TILES).open(newline="", encoding="utf-8") as file:
        names, *rows = list(csv.reader(file))
    sets: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        of_set = sets.setdefault(row[0], {name: [] for name in names[2:]})
        for name, text in zip(names[2:], row[2:], strict=True):
            of_set[name].append(float(text) if text else math.nan)
    return {
        name: {column: np.array(values) for column, values in of_set.items()}
        for name, of_set in sets.items()
    }


def write_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Writes the data of a figure: one column per name, undefined values left empty.

    Args:
        path: The CSV file.
        columns: Texts and numbers, all columns of one length.
    """
    with (
        writing(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows([_cell(v) for v in row] for row in zip(*columns.values(), strict=True))


def write_arrays(folder: Path, name: str, arrays: Mapping[str, NDArray]) -> None:
    """Writes an .npz file.

    Args:
        folder: The run's folder.
        name: `CURVES` or `PICTURES`.
        arrays: By key, for instance "real/s2_mean".
    """
    with writing(folder / name) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))


def read_arrays(folder: Path, name: str) -> dict[str, NDArray]:
    """Reads an .npz file; empty when it was not written."""
    path = folder / name
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        # A spreadsheet would run a text that begins like a formula: a file may be named so.
        return f"'{value}" if value and value[0] in "=+-@\t\r" else value or ""
    return f"{value:.9g}" if math.isfinite(value) else ""


def _absent(value: float) -> bool:
    return not math.isfinite(value)
