"""Named sets of grey tiles to be compared: stores, image files and translated volumes.

Whatever a set is made of, it becomes tiles of one size without overlap, at most so
many, evenly spread over all there are.  Each tile knows its frame: the image it was
cut from.  Nothing but the tile asked for is read, from any thread.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import scans, set_parts, set_sources
from sem2ct.data.set_sources import ImageSet
from sem2ct.data.translated import FIELD, JOURNAL, VOLUME, Beside
from sem2ct.runtime.checkpoint import digest
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import numpy_generator

_PIXEL_SIZES_DIFFER = 0.01


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
        return set_sources.from_store(name, where, tile_px=tile_px, most=most_tiles, draw=draw)
    if (folder / VOLUME).exists():
        return set_sources.from_translation(
            name, where, tile_px=tile_px, most=most_tiles, draw=draw
        )
    if not folder.exists() and not _is_glob(where):
        raise Refusal(f"{setting}: nothing is there; {_command_for(where)}, or leave the set out")
    if (folder / "config.yaml").is_file() or any(folder.glob("*/manifest.json")):
        _refuse_run_folder(folder, setting)
    return set_sources.from_images(name, where, tile_px=tile_px, most=most_tiles, draw=draw)


def open_sets(
    sets: Mapping[str, str],
    *,
    masks: Mapping[str, str],
    reference: str,
    pixel_um: float | str,
    resample: bool,
    split_by: str,
    tile_px: int,
    most_tiles: int,
    seed: int,
) -> tuple[dict[str, ImageSet], float | None]:
    """Opens all sets that are compared, at one pixel size.

    Args:
        sets: Where each lies.
        masks: Where the masks of each lie, if pores are given by masks.
        reference: Name of the set that the others are compared with.
        pixel_um: A number, "metadata" or "unstated".
        resample: Whether finer sets are averaged to the coarsest pixel.
        split_by: Label by which sets other than the reference are told apart, or none.
        tile_px: Side of the tiles.
        most_tiles: Most tiles per set.
        seed: Decides which tiles are taken.

    Returns:
        The sets by name, and the side of their pixels in micrometres, or None.

    Raises:
        Refusal: If a set cannot be opened or compared.
    """
    how = {"most_tiles": most_tiles, "seed": seed}
    opened = {name: open_set(name, at, tile_px=tile_px, **how) for name, at in sets.items()}
    if resample:
        common = _coarsest(list(opened.values()), pixel_um)
        opened = {
            name: averaged(one, common, tile_px=tile_px, **how) for name, one in opened.items()
        }
        pixel_um = common
    if split_by != "none":
        opened = set_parts.split(opened, split_by, reference=reference)
    for one in opened.values():
        refuse_single_tile(one)
    opened = {
        name: masked(one, masks[name], tile_px=tile_px, **how) if name in masks else one
        for name, one in opened.items()
    }
    every = list(opened.values())
    return opened, common_pixel_um(every, reference=reference, pixel_um=pixel_um)


def _coarsest(opened: Sequence[ImageSet], pixel_um: float | str) -> float:
    """The pixel size that all sets can be averaged to."""
    for one in opened:
        if one.pixel_um is None:
            raise Refusal(
                f"sets.{one.name}={one.where} states no pixel size, so resample=true has nothing"
                " to go by; give images or a store that state it, or set resample=false"
            )
    coarsest = max(opened, key=lambda one: one.pixel_um or 0)
    asked = coarsest.pixel_um if isinstance(pixel_um, str) else pixel_um
    assert asked is not None
    assert coarsest.pixel_um is not None
    if coarsest.pixel_um / asked - 1 > _PIXEL_SIZES_DIFFER:
        raise Refusal(
            f"sets.{coarsest.name}={coarsest.where}: pixels of {coarsest.pixel_um:g} um cannot be"
            f" made finer, but pixel_um={asked:g}; set pixel_um={coarsest.pixel_um:g} or more"
        )
    return asked


def averaged(
    one: ImageSet, pixel_um: float, *, tile_px: int, most_tiles: int, seed: int
) -> ImageSet:
    """The same set at a coarser pixel: every new pixel is the mean of what it covers.

    Args:
        one: The set, with a stated pixel size.
        pixel_um: Side of the new pixels.
        tile_px: Side of the tiles in new pixels.
        most_tiles: Most tiles.
        seed: As for `open_set`.

    Returns:
        The set, cut anew; the set itself where its pixels already have that side.
    """
    assert one.pixel_um is not None
    ratio = pixel_um / one.pixel_um
    if abs(ratio - 1) <= _PIXEL_SIZES_DIFFER:
        return one
    side = round(tile_px * ratio)
    fine = open_set(one.name, one.where, tile_px=side, most_tiles=most_tiles, seed=seed)

    def whole(k: int) -> NDArray[np.uint8]:
        image = fine.whole.read(k)
        return _mean_to(image, tuple(max(round(n / ratio), 1) for n in image.shape))

    return replace(
        fine,
        read=lambda index: _mean_to(fine.read(index), (tile_px, tile_px)),
        pixel_um=pixel_um,
        whole=replace(fine.whole, read=whole),
        from_um=one.pixel_um,
    )


def _mean_to(image: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    from skimage.transform import resize_local_mean  # not above: it takes long to import

    small = resize_local_mean(image.astype(np.float32), shape, preserve_range=True)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def masked(one: ImageSet, where: str, *, tile_px: int, most_tiles: int, seed: int) -> ImageSet:
    """A set whose pores are given by masks, image by image.

    Args:
        one: The set, of image files.
        where: File, folder or glob of 8-bit masks in the same order, not 0 in pore.
        tile_px: Side of the tiles.
        most_tiles: As for `open_set`.
        seed: As for `open_set`.

    Returns:
        The set; its `pores` give (tile_px, tile_px) uint8, 0 in pore and 255 in grain.

    Raises:
        Refusal: If there are no masks for a set of this kind, or they have other shapes.
    """
    if one.kind != "images":
        raise Refusal(
            f"masks.{one.name}={where}: masks belong to image files, but"
            f" sets.{one.name}={one.where} is a {one.kind}; give the images themselves"
        )
    draw = numpy_generator(seed, "image set", one.name)
    masks = set_sources.from_images(
        one.name, where, tile_px=tile_px, most=most_tiles, draw=draw, setting="masks"
    )
    ours, theirs = one.whole, masks.whole
    if ours.count != theirs.count:
        raise Refusal(
            f"masks.{one.name}={where}: {theirs.count} masks, but sets.{one.name} has {ours.count}"
            " images; give one mask per image, in the order of their names"
        )
    for k in range(ours.count):
        shape, other = ours.shapes[k], theirs.shapes[k]
        if shape != other:
            raise Refusal(
                f"masks.{one.name}: {theirs.names[k]} is {other[0]}x{other[1]} pixels, but its"
                f" image {ours.names[k]} is {shape[0]}x{shape[1]}; give masks of the same shape"
            )

    def pores(index: int) -> NDArray[np.uint8]:
        return np.where(masks.read(index) > 0, 0, 255).astype(np.uint8)

    return replace(one, pores=pores)


def reader(
    name: str, where: str, *, tile_px: int, most_tiles: int, seed: int
) -> Callable[[int], NDArray[np.uint8]]:
    """Opens a set in another process, and gives what reads its tiles."""
    return open_set(name, where, tile_px=tile_px, most_tiles=most_tiles, seed=seed).read


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


def identity(name: str, where: str) -> str:
    """Names the content of a set, by the digests of the files that identify it."""
    text = " ".join(f"{path}:{digest(path)}" for path in files(name, where))
    return hashlib.sha256(text.encode()).hexdigest()


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


def examples(
    sets: dict[str, ImageSet], most: int
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, list[int]]]:
    """A few tiles of each set, to be looked at.

    Args:
        sets: By name.
        most: Most tiles per set; evenly spread.

    Returns:
        "tiles/<name>" to (n, tile_px, tile_px), and which tiles of each set they are.
    """
    shown = {
        name: np.linspace(0, len(one) - 1, min(most, len(one))).astype(int).tolist()
        for name, one in sets.items()
    }
    images = {
        f"tiles/{name}": np.stack([sets[name].read(index) for index in chosen])
        for name, chosen in shown.items()
    }
    return images, shown


def refuse_single_tile(one: ImageSet) -> None:
    """Refuses a set of a single tile.

    Raises:
        Refusal: Because one tile has no spread to compare.
    """
    if len(one) < 2:
        raise Refusal(
            f"sets.{one.name}={one.where}: one tile only, but a comparison needs two or more to"
            " see a spread; lower tile_px, raise most_tiles, or add images"
        )


def refuse_constant(one: ImageSet, grey: NDArray[np.integer]) -> None:
    """Refuses a set whose pixels all have one grey level.

    Args:
        one: The set.
        grey: (256,) its pixels at each grey level.

    Raises:
        Refusal: Because nothing can be measured on it.
    """
    if np.count_nonzero(grey) < 2:
        raise Refusal(
            f"sets.{one.name}={one.where}: constant images, every pixel has grey level"
            f" {int(np.argmax(grey))}; look at the images, or leave the set out"
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
                f" comparison are {common:g} um; set resample=true to average the"
                " finer ones, or pixel_um=unstated to compare them pixel by pixel"
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


def resampled(sets: Mapping[str, ImageSet]) -> dict[str, dict[str, float | None]]:
    """Which sets were averaged: {name: {"from_um": ..., "to_um": ...}}."""
    changed = {name: one for name, one in sets.items() if one.from_um is not None}
    return {name: {"from_um": one.from_um, "to_um": one.pixel_um} for name, one in changed.items()}
