"""The images of an evaluation: tiles side by side, scan beside translation, the nearest pair."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from sem2ct.reporting import style
from sem2ct.reporting.evaluation import Evaluation, Table, file_name, stacked
from sem2ct.runtime.run_folder import writing

MOST_COLUMNS = 8
PORE_TINT = 0.8
MOST_PIXELS = 12_000_000
"""Pixels of tiles kept one for one in the report: about 10 MB."""
PIXELS = "pixels"
Grey = NDArray[np.uint8]
Place = tuple[int, int, int, int]


def tiles(figure: Figure, run: Evaluation) -> Table:
    """One row of tiles per set, all on one grey scale."""
    return _rows(figure, run, pores=False)


def pores(figure: Figure, run: Evaluation) -> Table:
    """The same tiles with the pores tinted."""
    return _rows(figure, run, pores=True)


def beside(figure: Figure, run: Evaluation, name: str) -> Table:
    """Scan, translation and truth at three zooms; without a truth, a real tile of that size.

    Args:
        figure: Empty.
        run: The evaluation; "slice/<name>/<part>/<what>" among its pictures, part whole or zoom.
        name: The translated set.
    """
    about = run.metrics["slices"][name]
    words = {"ct": "micro-CT", "": f"{style.label(name)} (slice {about['slice']})",
             "truth": "truth"}  # fmt: skip
    shown = [what for what in words if _key(name, what, "whole") in run.pictures]
    nearest = None if "truth" in shown else _nearest(run, name)
    columns = len(shown) + (nearest is not None)
    figure.set_size_inches(3.5 * columns, 10.6)
    grid = figure.subplots(3, columns, squeeze=False)
    places = [tuple(about["whole"]), tuple(about["zoom"]), closer(about["zoom"], _sides(run, name))]
    for column, what in enumerate(shown):
        for row, (axes, place) in enumerate(zip(grid[:, column], places, strict=True)):
            image = run.pictures[_key(name, what, "whole" if row == 0 else "zoom")]
            if row == 2:
                image = _part(image, places[1], place)
            _image(axes, image, place)
            style.scale_bar(axes, place[3], run.metrics["pixel_um"])
            if row < 2:
                _frame(axes, places[row + 1])
        grid[0, column].set_title(words[what])
    if nearest is not None:
        for axes in grid[:2, -1]:
            axes.set_axis_off()
        side = nearest.shape[0]
        _image(grid[2, -1], nearest, (0, 0, side, side))
        style.scale_bar(grid[2, -1], side, run.metrics["pixel_um"])
        grid[2, -1].set_title(f"a tile of {style.label(run.reference, most=16)}", fontsize=9)
    keys = ("y_px", "x_px", "height_px", "width_px")
    return {
        "part": ["whole", "framed", "framed twice"],
        **{key: [place[index] for place in places] for index, key in enumerate(keys)},
    }


def pairs(figure: Figure, run: Evaluation) -> Table:
    """Of each set the tile that is most like a real place, and that place."""
    names = [name for name in run.others if f"memorisation/{name}/ours" in run.pictures]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    width = 3.5 * columns if columns > 1 else 5.2
    figure.set_size_inches(width, (0.5 * width / columns + 0.3) * rows)
    grid = figure.subplots(rows, 2 * columns, squeeze=False).ravel()
    parts = []
    for axes in grid:
        axes.set_axis_off()
    for index, name in enumerate(names):
        ours, real = grid[2 * index : 2 * index + 2]
        facts = run.compared(name)["memorisation"]["nearest"]
        for axes, which in ((ours, "ours"), (real, "reference")):
            image = run.pictures[f"memorisation/{name}/{which}"]
            _image(axes, image, (0, 0, *image.shape))
            style.scale_bar(axes, image.shape[1], run.metrics["pixel_um"])
        ours.set_title(style.label(name, most=18), fontsize=9)
        likeness = facts["similarity"]
        said = "unknown" if likeness is None else f"{likeness:.2f}"
        real.set_title(f"nearest real: {said}", fontsize=9)
        parts.append({"set": name, **{key: _cell(facts[key]) for key in sorted(facts)}})
    return stacked(parts)


def write_pixels(run: Evaluation, folder: Path) -> dict[str, list[Path]]:
    """Writes tiles and the enlarged part of slices pixel for pixel, as PNG.

    Args:
        run: The evaluation.
        folder: Where to; made when absent.

    Returns:
        For each row of images ("tiles/<set>", "slice/<set>") its files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    side, names = run.metrics["tile_px"], list(run.looks)
    most = max(2, min(MOST_COLUMNS, MOST_PIXELS // (len(names) * side**2)))
    written: dict[str, list[Path]] = {}
    for name in run.names:
        shown = run.pictures.get(f"tiles/{name}", np.empty((0, 1, 1), np.uint8))[:most]
        rows = {"tiles": list(shown)}
        keys = [_key(name, what, "zoom") for what in ("ct", "", "truth")]
        rows["slice"] = [run.pictures[key] for key in keys if key in run.pictures]
        for kind, images in rows.items():
            for index, image in enumerate(images):
                path = folder / f"{kind}_{file_name(name, names)}_{index}.png"
                encoded = imagecodecs.png_encode(np.ascontiguousarray(image, np.uint8))
                with writing(path) as unfinished:
                    unfinished.write_bytes(encoded)
                written.setdefault(f"{kind}/{name}", []).append(path)
    return written


def tinted(grey: Grey, where: NDArray[np.bool_], colour: str) -> NDArray[np.float64]:
    """Mixes a colour into some pixels of a grey image.

    Args:
        grey: (H, W) uint8.
        where: (H, W) boolean, the pixels to tint.
        colour: Any colour name or code.

    Returns:
        (H, W, 3) in [0, 1].
    """
    image = np.repeat(grey[..., None] / 255, 3, axis=2)
    image[where] = (1 - PORE_TINT) * image[where] + PORE_TINT * np.array(to_rgb(colour))
    return image


def closer(zoom: Place | list[int], sides: tuple[int, int]) -> Place:
    """The middle of an enlarged part, as large as a tile, at whole pixels of the scan.

    Args:
        zoom: y, x, height, width in pixels of the volume.
        sides: Side of a tile, and of a pixel of the scan, in pixels of the volume.

    Returns:
        y, x, height, width; at most half as wide as `zoom`.
    """
    y, x, height, width = zoom
    tile, coarse = sides
    side = max(coarse, min(tile, height // 2, width // 2) // coarse * coarse)
    top, left = ((length - side) // 2 // coarse * coarse for length in (height, width))
    return y + top, x + left, side, side


def _rows(figure: Figure, run: Evaluation, *, pores: bool) -> Table:
    level, side = run.metrics["threshold"]["level"], run.metrics["tile_px"]
    shown = {name: run.pictures[f"tiles/{name}"][:MOST_COLUMNS] for name in run.names}
    columns = max(4, min(MOST_COLUMNS, 2 * len(shown)), *map(len, shown.values()))
    figure.set_size_inches(10.5, (10.5 / columns + 0.14) * len(shown) + 0.2)
    grid = figure.subplots(len(shown), columns, squeeze=False)
    parts = []
    for row, (name, images) in zip(grid, shown.items(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, tile in zip(row, images, strict=False):
            dark = tile < level
            image = tinted(tile, dark, style.MARK_COLOUR) if pores else tile
            _image(axes, image, (0, 0, side, side))
        style.scale_bar(row[0], side, run.metrics["pixel_um"])
        row[0].set_title(style.label(name, most=60))
        parts.append({"set": name, "column": range(len(images)),
                      "mean_grey": images.mean(axis=(1, 2)),
                      "porosity": (images < level).mean(axis=(1, 2))})  # fmt: skip
    return stacked(parts)


def likeness(run: Evaluation, name: str) -> str:
    """In what the real tile beside a translation is like it, for a caption."""
    about = run.metrics["slices"][name].get("nearest", {})
    if "rank_distance" not in about:
        return "with the nearest porosity"
    return (
        "that is most like it in all descriptors together (their ranks differ by"
        f" {about['rank_distance']:.0%} on average)"
    )


def _nearest(run: Evaluation, name: str) -> Grey | None:
    """The real tile most like the innermost part; of earlier runs that of nearest porosity."""
    if "rank_distance" in run.metrics["slices"][name].get("nearest", {}):
        return run.pictures[f"slice/{name}/nearest"]
    real = run.pictures.get(f"tiles/{run.reference}")
    if real is None or not len(real):
        return None
    zoom, level = tuple(run.metrics["slices"][name]["zoom"]), run.metrics["threshold"]["level"]
    place = closer(zoom, _sides(run, name))
    ours = _part(run.pictures[_key(name, "", "zoom")], zoom, place)
    there = (real < level).mean(axis=(1, 2))
    return real[int(np.abs(there - (ours < level).mean()).argmin())]


def _sides(run: Evaluation, name: str) -> tuple[int, int]:
    """Side of a tile and of a pixel of the scan, in pixels of the volume."""
    width = run.metrics["slices"][name]["zoom"][3]
    scan = run.pictures.get(_key(name, "ct", "zoom"))
    coarse = 1 if scan is None else max(1, width // scan.shape[1])
    return run.metrics["tile_px"], coarse


def _part(image: Grey, whole: Any, part: Place) -> Grey:
    """Cuts `part` out of the picture of `whole`, both in pixels of the volume."""
    factor = image.shape[0] / whole[2]
    top, left = (round((part[i] - whole[i]) * factor) for i in (0, 1))
    return image[top : top + round(part[2] * factor), left : left + round(part[3] * factor)]


def _key(name: str, what: str, part: str) -> str:
    return f"slice/{name}/{part}" + (f"/{what}" if what else "")


def _frame(axes: Axes, place: Place) -> None:
    y, x, height, width = place
    for colour, line in (("black", 3.0), (style.MARK_COLOUR, 1.5)):
        axes.add_patch(
            Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=line)
        )


def _image(axes: Axes, image: NDArray, place: Place) -> None:
    y, x, height, width = place
    extent = (x, x + width, y + height, y)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    axes.set_axis_off()


def _cell(value: Any) -> Any:
    return "" if value is None else value
