"""Measures all sets of an evaluation: pores, greys, copies, and network features.

The one place where sets of images meet the numbers; everything below takes arrays,
everything above writes files.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import image_sets
from sem2ct.data.image_sets import ImageSet
from sem2ct.data.set_sources import GRIDS
from sem2ct.metrics import joint, looks, measure, memorisation, segmentation
from sem2ct.metrics.chunks import Journal
from sem2ct.metrics.comparisons import Measured, Search
from sem2ct.metrics.grids import Grid
from sem2ct.metrics.memorisation import Gallery, Match
from sem2ct.runtime import distributed, log

MASK_LEVEL = 128
MANY_PIXELS = 500_000_000
"""Pixels of a set from which on it is worth starting processes, and keeping chunks."""


def threshold(asked: str | int, real: ImageSet) -> int:
    """The grey level under which a pixel is pore, one for all sets.

    Args:
        asked: otsu, multi_otsu (the darkest of three classes), mask, or the level.
        real: The reference; its tiles are pooled.

    Returns:
        The level; 128 for masks, which are 0 in pore and 255 in grain.
    """
    if isinstance(asked, int):
        return asked
    if asked == "mask":
        return MASK_LEVEL
    pooled = segmentation.histogram(map(real.read, range(len(real))))
    if asked == "multi_otsu":
        return segmentation.multi_otsu(pooled, classes=3)[0]
    return segmentation.otsu(pooled)


def threshold_facts(level: int, asked: str | int, reference: str) -> dict[str, Any]:
    """What a report says about the threshold: level, rule, band_levels."""
    rules = {
        "multi_otsu": f"darkest of Otsu's three classes on the pooled tiles of {reference}",
        "mask": "pores are given by masks",
    }
    facts = segmentation.facts(level, asked, reference)
    return facts | ({"rule": rules[asked]} if asked in rules else {})


def numbers(
    one: ImageSet, *, level: int, reach_px: int, workers: int, cut: dict[str, int], kept: Path
) -> measure.SetNumbers:
    """Measures the pores of one set.

    Args:
        one: The set.
        level: Grey level under which a pixel is pore.
        reach_px: Longest lag.
        workers: Threads, or processes for a large set.
        cut: tile_px, most_tiles and seed, as the set was opened.
        kept: Folder for the finished chunks of a large set.

    Returns:
        Its numbers.

    Raises:
        Refusal: If all its pixels have one grey level.
    """
    large = len(one) * cut["tile_px"] ** 2 >= MANY_PIXELS
    shared = distributed.world_size() > 1
    read: Any = one.pores or one.read
    if large and one.pores is None and one.from_um is None and not one.part:
        read = measure.Reopen(partial(image_sets.reader, one.name, one.where, **cut))
    journal: Any = "none"
    if large or shared:
        identity = image_sets.identity(one.name, one.where)
        journal = Journal(kept / one.name.replace("/", "_"), f"{identity} {one.from_um} {cut}")
    with log.progress(len(one), unit="tiles", what=f"measure {one.name}") as bar:
        found = measure.tiles(
            read,
            len(one),
            threshold=level,
            reach_px=reach_px,
            workers=workers,
            on_tile=bar.update,
            journal=journal,
        )
    if one.pores is None:
        image_sets.refuse_constant(one, found.grey)
    return found


class Looking:
    """Looks at tiles of all sets, and looks them up in the reference's whole images."""

    def __init__(self, real: ImageSet, *, tile_px: int, most: int, workers: int) -> None:
        """Reads and reduces the whole images.

        Args:
            real: The reference.
            tile_px: Side of the tiles.
            most: Most tiles looked at per set.
            workers: Threads.
        """
        self._real, self._most, self._workers = real, most, workers
        self._factor = memorisation.reduction(tile_px)
        whole, side = real.whole, tile_px // self._factor
        with log.progress(whole.count, unit="images", what="prepare real images") as bar:
            images = []
            for k in range(whole.count):
                small = memorisation.reduced(whole.read(k), self._factor)
                # Images without a tile of their own keep their number, and match nothing.
                images.append(small if min(small.shape) >= side else np.zeros((side, side), "f4"))
                bar.update()
        self._gallery = Gallery(images, side, frames=whole.frames)
        self.search = Search(whole.frames, whole.origin, self._factor)

    def looked(self, one: ImageSet) -> tuple[looks.Looked, list[Match]]:
        """Looks at one set; each rank at its share of the tiles.

        Args:
            one: The set.

        Returns:
            What was seen, and the place each tile resembles most; the same on all ranks.
        """
        share = len(distributed.mine(min(self._most, len(one))))
        with log.progress(share, unit="tiles", what=f"look at {one.name}") as bar:
            looked = looks.look(
                one.read,
                one.frames,
                most=self._most,
                factor=self._factor,
                gallery=self._gallery,
                held_out=one.name == self._real.name,
                workers=self._workers,
                on_tile=bar.update,
            )
        read = {"read": one.read, "read_image": self._real.whole.read}
        return looked, looks.search(looked, factor=self._factor, **read)

    def measured(
        self, one: ImageSet, found: measure.SetNumbers, features: NDArray[np.float32] | None
    ) -> Measured:
        """Looks at one set.

        Args:
            one: The set.
            found: Its numbers.
            features: Of a network, if there is one.

        Returns:
            All that was measured of it.
        """
        looked, matches = self.looked(one)
        return Measured(
            found,
            one.frames,
            one.frames_known,
            one.facts(),
            names=one.whole.names,
            looked=looked,
            matches=matches,
            features=features,
            grid=_grid(one),
        )

    def pairs(
        self, sets: dict[str, ImageSet], measured: dict[str, Measured]
    ) -> dict[str, NDArray[np.uint8]]:
        """The most similar pair of each set, as "memorisation/<set>/ours" and ".../reference"."""
        shown = {}
        for name, one in measured.items():
            if name == self._real.name or one.looked is None or one.matches is None:
                continue
            both = looks.pair(
                one.looked,
                one.matches,
                read=sets[name].read,
                read_image=self._real.whole.read,
            )
            shown |= {f"memorisation/{name}/{part}": image for part, image in both.items()}
        return shown


def assist(
    sets: dict[str, ImageSet],
    *,
    reference: str,
    level: int,
    reach_px: int,
    looked_tiles: int,
    processes: int,
    cut: dict[str, int],
    kept: Path,
) -> None:
    """What ranks above 0 do for `survey`, with its arguments: their share of the tiles."""
    for one in sets.values():
        numbers(one, level=level, reach_px=reach_px, workers=processes, cut=cut, kept=kept)
    looking = Looking(sets[reference], tile_px=cut["tile_px"], most=looked_tiles, workers=processes)
    for one in sets.values():
        looking.looked(one)


def survey(
    sets: dict[str, ImageSet],
    *,
    reference: str,
    level: int,
    reach_px: int,
    looked_tiles: int,
    features: str,
    processes: int,
    cut: dict[str, int],
    kept: Path,
) -> tuple[dict[str, Measured], Search, dict[str, NDArray[np.uint8]]]:
    """Measures all sets in every way.

    Args:
        sets: By name.
        reference: Name of the real set.
        level: Grey level under which a pixel is pore.
        reach_px: Longest lag.
        looked_tiles: Most tiles of each set that are looked at.
        features: File of a feature network, or none.
        processes: Threads, or processes for large sets.
        cut: tile_px, most_tiles and seed, as the sets were opened.
        kept: Folder for finished chunks of large sets.

    Returns:
        The sets' numbers; where tiles were looked up; the most similar pairs.

    Raises:
        Refusal: If a set is constant, or the feature network cannot be used.
    """
    opened = _network(features)
    how: dict[str, Any] = {"level": level, "reach_px": reach_px, "workers": processes}
    found = {name: numbers(one, cut=cut, kept=kept, **how) for name, one in sets.items()}
    looking = Looking(sets[reference], tile_px=cut["tile_px"], most=looked_tiles, workers=processes)
    measured = {
        name: looking.measured(one, found[name], _features(opened, one))
        for name, one in sets.items()
    }
    return measured, looking.search, looking.pairs(sets, measured)


def _grid(one: ImageSet) -> Grid | None:
    """Where the tiles of a set stand, if they are a grid."""
    if one.grid == "none":
        return None
    names = sorted(GRIDS[one.grid], key=("style", "path", "noise", "step").index)
    outer, inner = (one.labels[name] for name in names)
    return Grid(one.grid, outer, inner)


def _network(path: str) -> Any:
    """Opens the feature network, or nothing for "none"."""
    if path == "none":
        return None
    from sem2ct.metrics.features import Features
    from sem2ct.runtime import device

    return Features(path, device.choose("auto"))


def _features(opened: Any, one: ImageSet) -> NDArray[np.float32] | None:
    """Features of all tiles of a set, if there is a network."""
    if opened is None:
        return None
    with log.progress(len(one), unit="tiles", what=f"features of {one.name}") as bar:
        return opened.of(one.read, len(one), on_tile=bar.update)


def nearest_tiles(
    sets: dict[str, ImageSet],
    measured: dict[str, Measured],
    images: dict[str, NDArray[np.uint8]],
    *,
    reference: str,
    level: int,
    tile_px: int,
    reach_px: int,
) -> tuple[dict[str, dict[str, Any]], dict[str, NDArray[np.uint8]]]:
    """For each translation the real tile that is most like the middle of what is shown of it.

    Args:
        sets: By name.
        measured: By name.
        images: What is shown, pixel for pixel, as "slice/<set>/zoom".
        reference: Name of the real set.
        level: Grey level under which a pixel is pore.
        tile_px: Side of the tiles.
        reach_px: Longest lag.

    Returns:
        By set: "nearest" with tile (its number) and rank_distance (root mean square difference
        of the descriptors' ranks among the real tiles, from 0 to 1); and the tiles as
        "slice/<set>/nearest".
    """
    described = measured[reference].numbers.descriptors.astype(float)
    ranked = joint.ranks(described, described)
    found, shown = {}, {}
    for name, one in sets.items():
        zoom = images.get(f"slice/{name}/zoom")
        if name == reference or one.volume is None or zoom is None or min(zoom.shape) < tile_px:
            continue
        top, left = ((side - tile_px) // 2 for side in zoom.shape)
        middle = zoom[top : top + tile_px, left : left + tile_px]
        numbers = measure.tile(middle, threshold=level, reach_px=reach_px).descriptors
        apart = np.sqrt(((ranked - joint.ranks(described, numbers[None])) ** 2).mean(axis=1))
        best = int(apart.argmin())
        found[name] = {"nearest": {"tile": best, "rank_distance": float(apart[best])}}
        shown[f"slice/{name}/nearest"] = sets[reference].read(best)
    return found, shown
