"""What a set of tiles can be made of: a store, image files, or a translated volume.

Each becomes an `ImageSet`: numbered tiles of one side, and beside them the whole images
they were cut from, as far as those can be had.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import scans, tiling
from sem2ct.data.frames import Frames
from sem2ct.data.store import Store
from sem2ct.data.translated import Translated
from sem2ct.runtime.refusal import Refusal

Kind = Literal["store", "images", "translation"]
Origin = Literal["images", "frames", "reassembled", "tiles"]
GRID = "grid"
"""Fact in a store's manifest: its tiles lie in rows and columns of one of these kinds."""
GRIDS = {
    "fixed_style": ("style", "noise"),
    "fixed_noise": ("noise", "style"),
    "interpolate": ("path", "step"),
}
"""Kinds of grid, and the columns of a store's places that number its rows and its columns."""
_PLACES = ("source", "z", "y", "x", "seed")


@dataclass(frozen=True)
class WholeImages:
    """The images that tiles were cut from."""

    origin: Origin
    """Image files; frames that 'sem2ct extract' wrote; tiles laid together; or mere tiles."""
    count: int
    """How many there are."""
    read: Callable[[int], NDArray[np.uint8]]
    """Gives a whole image, (H, W)."""
    frames: NDArray[np.int64]
    """(count,) the frame each is, or is a tile of: what the tiles' frames count."""
    names: list[str]
    """What each frame is called, or nothing where they have no names."""
    shapes: tuple[tuple[int, int], ...] = ()
    """(height, width) of image files."""


@dataclass(frozen=True)
class ImageSet:
    """Tiles of one named set."""

    name: str
    kind: Kind
    where: str
    """As the user wrote it."""
    read: Callable[[int], NDArray[np.uint8]]
    """Gives the tile of an index, (tile_px, tile_px); safe from several threads."""
    frames: NDArray[np.int64]
    """(n,) the image each tile was cut from."""
    available: int
    """Tiles there were to choose from."""
    pixel_um: float | None
    """Side of a pixel in micrometres, if stated."""
    whole: WholeImages
    """What the tiles were cut from."""
    frames_known: bool
    """Whether `frames` tells images apart (tiles of one frame are not independent)."""
    windowed: bool = True
    """Whether the greys went through a stored grey window."""
    labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """By name, (n,) what else a store tells of each tile: style, noise, path, step."""
    grid: str = "none"
    """fixed_style, fixed_noise or interpolate, where a store's tiles lie in rows and columns."""
    part: bool = False
    """Whether it is a part of what lies at `where`."""
    from_um: float | None = None
    """Side of a pixel before it was averaged to a coarser one, if it was."""
    pores: Callable[[int], NDArray[np.uint8]] | None = None
    """Tiles that are 0 in pore and 255 in grain, where masks say what is pore."""
    volume: Translated | None = None
    """The translated volume the tiles were cut from, if any."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.frames)

    def facts(self) -> dict[str, str | int | bool]:
        """What a report says about the set, as plain values."""
        return {
            "kind": self.kind,
            "where": self.where,
            "available": self.available,
            "windowed": self.windowed,
        }


def evenly(count: int, *, most: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Chooses among numbered things, one from each of equal stretches.

    A fixed step could fall in step with the rows of a grid and always see the same corner.

    Args:
        count: Things there are.
        most: Things wanted.
        draw: Chooses within each stretch.

    Returns:
        Ascending indices, all of them when there are no more than wanted.
    """
    if count <= most:
        return np.arange(count)
    edges = np.arange(most + 1) * count // most
    return edges[:-1] + (draw.random(most) * np.diff(edges)).astype(np.int64)


def refuse_small(setting: str, side: int, tile_px: int) -> None:
    """Refuses what is smaller than a tile, and names the side that fits."""
    if side < tile_px:
        raise Refusal(
            f"{setting}: {side} px wide or high, but tile_px={tile_px}; set tile_px={side} or less"
        )


def from_store(
    name: str, where: str, *, tile_px: int, most: int, draw: np.random.Generator
) -> ImageSet:
    """Tiles of a store's patches.

    Args:
        name: Of the set.
        where: Folder of the store.
        tile_px: Side of the tiles; larger patches are cut up.
        most: Most tiles.
        draw: Chooses among more.

    Returns:
        The set.
    """
    store = Store(Path(where), setting=f"sets.{name}")
    refuse_small(f"sets.{name}={where}", store.tile_px, tile_px)
    corners = tiling.grid((store.tile_px, store.tile_px), tile_px=tile_px, stride_px=tile_px)
    chosen = evenly(len(store) * len(corners), most=most, draw=draw)
    patches = chosen // len(corners)
    places = store.places()
    known = "source" in places

    def read(index: int) -> NDArray[np.uint8]:
        y, x = corners[chosen[index] % len(corners)]
        return store.tiles[int(patches[index])][y : y + tile_px, x : x + tile_px]

    frames = places["source"][patches] if known else patches
    return ImageSet(
        name=name,
        kind="store",
        where=where,
        read=read,
        frames=frames,
        available=len(store) * len(corners),
        pixel_um=store.pixel_um,
        whole=_of_store(store, places),
        frames_known=known,
        labels={name: column[patches] for name, column in places.items() if name not in _PLACES},
        grid=store.manifest["facts"].get(GRID, "none"),
    )


def _of_store(store: Store, places: dict[str, NDArray[np.int64]]) -> WholeImages:
    """The images behind a store: frames beside it, else its tiles laid together."""
    if "source" not in places:
        every = np.arange(len(store))
        return WholeImages("tiles", len(store), lambda k: store.tiles[k], every, [])
    sources = store.manifest["sources"]
    names = [Path(str(source.get("path", ""))).name for source in sources]
    every = np.arange(len(sources))
    beside = _frames_beside(store)
    if len(beside) == len(sources):
        return WholeImages("frames", len(beside), lambda k: np.asarray(beside[k]), every, names)

    def reassembled(k: int) -> NDArray[np.uint8]:
        own = np.flatnonzero(places["source"] == k)
        y, x = (places[axis][own] if axis in places else np.zeros(len(own), int) for axis in "yx")
        if not len(own):
            return np.zeros((store.tile_px, store.tile_px), np.uint8)
        side = store.tile_px
        image = np.zeros((int(y.max()) + side, int(x.max()) + side), np.uint8)
        for tile, top, left in zip(own, y, x, strict=True):
            image[top : top + side, left : left + side] = store.tiles[int(tile)]
        return image

    flat = not places["z"].any() if "z" in places else True
    if flat and "y" in places and "x" in places:
        return WholeImages("reassembled", len(sources), reassembled, every, names)
    owners = places["source"]
    return WholeImages("tiles", len(store), lambda k: store.tiles[k], owners, names)


def _frames_beside(store: Store) -> list[NDArray[np.uint8]]:
    """The whole images that `sem2ct extract` wrote beside its stores, if it did."""
    name, _, split = store.folder.name.partition("_")
    folder = store.folder.parent / f"{name}_frames"
    if split not in ("", "validation") or not (folder / "manifest.json").is_file():
        return []
    frames = Frames(folder, setting="sem_frames")
    same = frames.pixel_um == store.pixel_um and frames.window == store.window
    chosen = frames.validation if split else frames.training
    return chosen if same else []


def from_translation(
    name: str, where: str, *, tile_px: int, most: int, draw: np.random.Generator
) -> ImageSet:
    """Tiles of a translated volume that lie wholly inside its field of view.

    Args:
        name: Of the set.
        where: Folder of a translate run.
        tile_px: Side of the tiles.
        most: Most tiles.
        draw: Chooses among more.

    Returns:
        The set.
    """
    run = Translated(Path(where), setting=f"sets.{name}={where}")
    refuse_small(f"sets.{name}={where}", min(run.volume.shape[1:]), tile_px)
    places = run.tiles(tile_px)
    if not len(places):
        raise Refusal(
            f"sets.{name}={where}: no tile of tile_px={tile_px} lies wholly inside the field of"
            " view; lower tile_px"
        )
    chosen = places[evenly(len(places), most=most, draw=draw)]
    depth = run.volume.shape[0]

    def read(index: int) -> NDArray[np.uint8]:
        z, y, x = (int(n) for n in chosen[index])
        return run.read(z, slice(y, y + tile_px), slice(x, x + tile_px))

    return ImageSet(
        name=name,
        kind="translation",
        where=where,
        read=read,
        frames=chosen[:, 0],
        available=len(places),
        pixel_um=run.pixel_um,
        whole=WholeImages("images", depth, run.read, np.arange(depth), []),
        frames_known=False,
        volume=run,
    )


def from_images(
    name: str,
    where: str,
    *,
    tile_px: int,
    most: int,
    draw: np.random.Generator,
    setting: str = "sets",
) -> ImageSet:
    """Tiles of image files.

    Args:
        name: Of the set.
        where: File, folder or glob.
        tile_px: Side of the tiles.
        most: Most tiles.
        draw: Chooses among more.
        setting: Name of the setting, for a refusal: sets, or masks.

    Returns:
        The set.
    """
    pictures, names, places, pixel_um = _pictures(f"{setting}.{name}", where, tile_px)
    chosen = places[evenly(len(places), most=most, draw=draw)]
    recent = _Recent(pictures)

    def read(index: int) -> NDArray[np.uint8]:
        frame, y, x = (int(n) for n in chosen[index])
        return recent.picture(frame)[y : y + tile_px, x : x + tile_px]

    return ImageSet(
        name=name,
        kind="images",
        where=where,
        read=read,
        frames=chosen[:, 0],
        available=len(places),
        pixel_um=pixel_um,
        whole=WholeImages(
            "images",
            len(pictures),
            recent.picture,
            np.arange(len(pictures)),
            names,
            tuple((height, scan.shape[2]) for scan, _, height in pictures),
        ),
        frames_known=True,
        windowed=False,
    )


def _pictures(
    what: str, where: str, tile_px: int
) -> tuple[list[tuple[scans.Scan, int, int]], list[str], NDArray[np.int64], float | None]:
    """Pictures (scan, slice, height), their names, (n, 3) places of tiles, the pixel size."""
    pictures, names, rows, sizes = [], [], [], set()
    for path in scans.find(where, setting=what):
        scan = scans.open(path, setting=what)
        depth, height, width = scan.shape
        height -= scan.data_bar_rows
        _refuse_other_greys(scan, what)
        refuse_small(f"{what}: {path}", min(height, width), tile_px)
        corners = tiling.grid((height, width), tile_px=tile_px, stride_px=tile_px)
        for z in range(depth):
            frame = np.full(len(corners), len(pictures))
            rows.append(np.column_stack([frame, corners]))
            pictures.append((scan, z, height))
            names.append(path.name if depth == 1 else f"{path.name} [{z}]")
        sizes.add(scan.pixel_um)
    return pictures, names, np.concatenate(rows), sizes.pop() if len(sizes) == 1 else None


def _refuse_other_greys(scan: scans.Scan, what: str) -> None:
    if scan.dtype == np.uint8:
        return
    if np.issubdtype(scan.dtype, np.floating):
        numbers = np.isfinite(scan.slice_at(0))
        if not numbers.all():
            raise Refusal(
                f"{what}: {scan.path} holds {int((~numbers).sum())} pixels that are no numbers"
                " (NaN or infinite); repair the image, and give it as 8 bit"
            )
    raise Refusal(
        f"{what}: {scan.path} is {scan.dtype}, but one threshold needs greys of one scale;"
        " give 8-bit images, or a store that 'sem2ct extract' made from them"
    )


class _Recent:
    """The last pictures read, so that one picture is decoded once for all its tiles."""

    def __init__(self, pictures: list[tuple[scans.Scan, int, int]], *, kept: int = 4) -> None:
        self._pictures = pictures
        self._kept = kept
        self._read: dict[int, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def picture(self, number: int) -> NDArray[np.uint8]:
        with self._lock:
            if number not in self._read:
                scan, z, height = self._pictures[number]
                while len(self._read) >= self._kept:
                    del self._read[next(iter(self._read))]
                width = scan.shape[2]
                whole = scan.read(slice(z, z + 1), slice(0, height), slice(0, width))
                self._read[number] = np.asarray(whole[0])
            return self._read[number]
