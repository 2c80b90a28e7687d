"""Named sets of grey tiles to be compared: stores, image files and translated volumes.

Whatever a set is made of, it becomes tiles of one size without overlap, at most so
many, evenly spread over all there are.  Each tile knows its frame: the image it was
cut from.  Nothing but the tile asked for is read, from any thread.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import scans, tiling
from sem2ct.data.store import Store
from sem2ct.data.translated import FIELD, JOURNAL, VOLUME, Beside, Translated
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import numpy_generator

Kind = Literal["store", "images", "translation"]
_PIXEL_SIZES_DIFFER = 0.01


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
    frames_known: bool
    """Whether `frames` tells images apart (tiles of one frame are not independent)."""
    windowed: bool = True
    """Whether the greys went through a stored grey window."""
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


def open_set(name: str, where: str, *, tile_px: int, most_tiles: int, seed: int) -> ImageSet:
    """Opens a set, whatever it is.

    Args:
        name: Its name in the settings.
        where: Folder of a store, folder or glob of images, or folder of a translate run.
        tile_px: Side of the tiles.
        most_tiles: Most tiles to take.
        seed: Decides which tiles of each stretch are taken, when there are more.

    Returns:
        The set.

    Raises:
        Refusal: If there is nothing, or no tile of that size, or the images are not 8 bit.
    """
    folder = Path(where)
    setting = f"sets.{name}={where}"
    draw = numpy_generator(seed, "image set", name)
    if (folder / "manifest.json").is_file():
        return _open_store(name, where, tile_px=tile_px, most=most_tiles, draw=draw)
    if (folder / VOLUME).exists():
        return _open_translation(name, where, tile_px=tile_px, most=most_tiles, draw=draw)
    if not folder.exists() and not _is_glob(where):
        raise Refusal(f"{setting}: nothing is there; {_command_for(where)}, or leave the set out")
    if (folder / "config.yaml").is_file() or any(folder.glob("*/manifest.json")):
        _refuse_run_folder(folder, setting)
    return _open_images(name, where, tile_px=tile_px, most=most_tiles, draw=draw)


def files(name: str, where: str) -> list[Path]:
    """The files that identify a set: of a store its manifest, of a volume its checksums.

    Args:
        name: Its name in the settings.
        where: As for `open_set`.

    Returns:
        Existing files.
    """
    folder = Path(where)
    known = [folder / "manifest.json", folder / JOURNAL, folder / FIELD]
    found = [path for path in known if path.is_file()]
    if found or not (folder.exists() or _is_glob(where)):
        return found
    return scans.find(where, setting=f"sets.{name}")


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


def beside(sets: dict[str, ImageSet], *, ct: str, truth: str) -> dict[str, Beside]:
    """Opens what lies beside the translated volumes among the sets.

    Args:
        sets: By name.
        ct: The scan, or none.
        truth: Its fine truth, or none.

    Returns:
        By name of the translated sets.

    Raises:
        Refusal: If the scan or the truth is missing or shows another place.
    """
    volumes = {name: one.volume for name, one in sets.items() if one.volume is not None}
    return {name: Beside(volume, ct=ct, truth=truth) for name, volume in volumes.items()}


def examples(sets: dict[str, ImageSet], most: int) -> dict[str, NDArray[np.uint8]]:
    """A few tiles of each set, to be looked at.

    Args:
        sets: By name.
        most: Most tiles per set; evenly spread.

    Returns:
        "tiles/<name>" to (n, tile_px, tile_px).
    """
    found = {}
    for name, one in sets.items():
        chosen = np.linspace(0, len(one) - 1, min(most, len(one))).astype(int).tolist()
        found[f"tiles/{name}"] = np.stack([one.read(index) for index in chosen])
    return found


def refuse_single_tile(reference: ImageSet) -> None:
    """Refuses a reference of a single tile.

    Raises:
        Refusal: Because one tile has no spread to compare with.
    """
    if len(reference) < 2:
        raise Refusal(
            f"sets.{reference.name}={reference.where}: one tile only, but a reference needs two or"
            " more to have a spread; lower tile_px, raise most_tiles, or add images"
        )


def common_pixel_um(
    compared: Sequence[ImageSet], *, reference: str, pixel_um: float | str
) -> float | None:
    """The pixel size that all sets share.

    Args:
        compared: All that are compared.
        reference: Name of the set that decides when nothing is given.
        pixel_um: A number, "metadata" (what the reference states) or "unstated".

    Returns:
        Micrometres, or None.

    Raises:
        Refusal: If a set states another pixel size: lengths could not be compared.
    """
    if pixel_um == "unstated":
        return None
    real = next(one for one in compared if one.name == reference)
    common = real.pixel_um if pixel_um == "metadata" else float(pixel_um)
    for one in compared:
        if common is None or one.pixel_um is None:
            continue
        if abs(one.pixel_um / common - 1) > _PIXEL_SIZES_DIFFER:
            raise Refusal(
                f"sets.{one.name}={one.where}: pixels of {one.pixel_um:g} um, but those of the"
                f" comparison are {common:g} um; compare sets of one pixel size, or set"
                " pixel_um=unstated to compare them pixel by pixel"
            )
    return common


def _command_for(where: str) -> str:
    """The command that makes such a folder, as far as its name tells."""
    for stage in ("extract", "synthesize", "translate"):
        if stage in Path(where).parts:
            return f"make it with 'sem2ct {stage}' first"
    return "make it with 'sem2ct extract', 'sem2ct synthesize' or 'sem2ct translate' first"


def _is_glob(where: str) -> bool:
    return any(mark in where for mark in "*?[")


def _refuse_run_folder(folder: Path, setting: str) -> None:
    stores = [path.parent.name for path in sorted(folder.glob("*/manifest.json"))]
    if stores:
        raise Refusal(
            f"{setting}: a run folder with several stores; name one: "
            + ", ".join(f"{folder}/{store}" for store in stores)
        )
    raise Refusal(
        f"{setting}: a run folder without a finished result; run the command that makes it"
        " again, it goes on where it stopped"
    )


def _refuse_small(setting: str, side: int, tile_px: int) -> None:
    if side < tile_px:
        raise Refusal(
            f"{setting}: {side} px wide or high, but tile_px={tile_px}; set tile_px={side} or less"
        )


def _open_store(
    name: str, where: str, *, tile_px: int, most: int, draw: np.random.Generator
) -> ImageSet:
    store = Store(Path(where), setting=f"sets.{name}")
    _refuse_small(f"sets.{name}={where}", store.tile_px, tile_px)
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
        frames_known=known,
    )


def _open_translation(
    name: str, where: str, *, tile_px: int, most: int, draw: np.random.Generator
) -> ImageSet:
    run = Translated(Path(where), setting=f"sets.{name}={where}")
    _refuse_small(f"sets.{name}={where}", min(run.volume.shape[1:]), tile_px)
    places = run.tiles(tile_px)
    if not len(places):
        raise Refusal(
            f"sets.{name}={where}: no tile of tile_px={tile_px} lies wholly inside the field of"
            " view; lower tile_px"
        )
    chosen = places[evenly(len(places), most=most, draw=draw)]

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
        frames_known=False,
        volume=run,
    )


def _open_images(
    name: str, where: str, *, tile_px: int, most: int, draw: np.random.Generator
) -> ImageSet:
    setting = f"sets.{name}"
    pictures, rows, sizes = [], [], set()
    for path in scans.find(where, setting=setting):
        scan = scans.open_scan(path, setting=setting)
        depth, height, width = scan.shape
        height -= scan.data_bar_rows
        if scan.dtype != np.uint8:
            raise Refusal(
                f"{setting}: {path} is {scan.dtype}, but one threshold needs greys of one scale;"
                " give 8-bit images, or a store that 'sem2ct extract' made from them"
            )
        _refuse_small(f"{setting}: {path}", min(height, width), tile_px)
        corners = tiling.grid((height, width), tile_px=tile_px, stride_px=tile_px)
        for z in range(depth):
            frame = np.full(len(corners), len(pictures))
            rows.append(np.column_stack([frame, corners]))
            pictures.append((scan, z, height))
        sizes.add(scan.pixel_um)
    places = np.concatenate(rows)
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
        pixel_um=sizes.pop() if len(sizes) == 1 else None,
        frames_known=True,
        windowed=False,
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
