"""The images of an evaluation: tiles side by side, and the scan beside its translation."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from sem2ct.reporting import record, style
from sem2ct.reporting.style import Look

Arrays = dict[str, NDArray]
MOST_COLUMNS = 8
PORE_TINT = 0.8


def draw(folder: Path) -> list[Path]:
    """Draws all pictures into <folder>/figures.

    Args:
        folder: Holds metrics.json and pictures.npz.

    Returns:
        The PNG files.
    """
    metrics = record.read_metrics(folder)
    pictures = record.read_arrays(folder, record.PICTURES)
    looks = style.looks(list(metrics["sets"]), metrics["reference"])
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    drawn = [figures / "tiles.png", figures / "pores.png"]
    tiles(drawn[0], metrics, pictures, looks, pores=False)
    tiles(drawn[1], metrics, pictures, looks, pores=True)
    for name in looks:
        if f"slice/{name}/whole" in pictures:
            drawn.append(figures / f"slice_{name}.png")
            beside(drawn[-1], name, metrics, pictures)
    return drawn


def tiles(
    path: Path, metrics: dict[str, Any], pictures: Arrays, looks: dict[str, Look], *, pores: bool
) -> None:
    """One row of tiles per set, all on one grey scale.

    Args:
        path: The PNG file.
        metrics: Content of metrics.json.
        pictures: Content of pictures.npz; "tiles/<set>" is (n, side, side).
        looks: Colour of each set.
        pores: Whether pores are tinted.
    """
    columns = min(MOST_COLUMNS, max(len(pictures[f"tiles/{name}"]) for name in looks))
    side = metrics["tile_px"]
    inch = 10.5 / columns
    with style.figure(path, width=10.5, height=(inch + 0.12) * len(looks) + 0.2) as figure:
        grid = figure.subplots(len(looks), columns, squeeze=False)
        for row, (name, look) in zip(grid, looks.items(), strict=True):
            shown = pictures[f"tiles/{name}"][:columns]
            for axes in row:
                axes.set_axis_off()
            for axes, tile in zip(row, shown, strict=False):
                image = tile
                if pores:
                    image = tinted(tile, tile < metrics["threshold"]["level"], style.MARK_COLOUR)
                _image(axes, image)
            style.scale_bar(row[0], side, metrics["pixel_um"])
            row[0].set_title(name, color=look.colour)


def beside(path: Path, name: str, metrics: dict[str, Any], pictures: Arrays) -> None:
    """The scan, its translation and, where known, the truth: whole slice, and enlarged.

    Args:
        path: The PNG file.
        name: The translated set.
        metrics: Content of metrics.json.
        pictures: "slice/<name>/<what>" at "whole" and "zoom", what: ct, (none), truth.
    """
    about = metrics["slices"][name]
    titles = {"ct": "micro-CT", "": f"{name} (slice {about['slice']})", "truth": "truth"}
    shown = [what for what in titles if _key(name, what, "whole") in pictures]
    pixel_um = metrics["pixel_um"]
    with style.figure(path, width=3.5 * len(shown), height=7.4) as figure:
        grid = figure.subplots(2, len(shown), squeeze=False)
        for column, what in enumerate(shown):
            for axes, part in zip(grid[:, column], ("whole", "zoom"), strict=True):
                y, x, height, width = about[part]
                extent = (x, x + width, y + height, y)
                _image(axes, pictures[_key(name, what, part)], extent=extent)
                style.scale_bar(axes, width, pixel_um)
            y, x, height, width = about["zoom"]
            frame = Rectangle(
                (x, y), width, height, fill=False, edgecolor=style.MARK_COLOUR, linewidth=1.5
            )
            grid[0, column].add_patch(frame)
            grid[0, column].set_title(titles[what])
            grid[1, column].set_title("the framed part", fontweight="normal", fontsize=8)


def tinted(grey: NDArray[np.uint8], where: NDArray[np.bool_], colour: str) -> NDArray[np.float64]:
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


def _key(name: str, what: str, part: str) -> str:
    return f"slice/{name}/{part}" + (f"/{what}" if what else "")


def _image(
    axes: Axes, image: NDArray, extent: tuple[float, float, float, float] | None = None
) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    axes.set_axis_off()
