"""Whether two stores can train a translation: said before anything is trained."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.resampled import SCALES
from sem2ct.data.store import Store
from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)
LOOKED_AT = 64
_SAME_SIZE = 0.01
FEWEST_LEVELS = 9
LEANING, STRONGLY = 0.25, 1.0  # skewness: sandstone at 6 um has -1.1, a tight carbonate -0.4
_WHAT = {"ct": "micro-CT patches", "sem": "SEM tiles"}


def opened(folder: Path | str, *, setting: str, batch_size: int) -> Store:
    """Opens a store that shall be one side of a training.

    Args:
        folder: Where it lies.
        setting: ct or sem: the side it was named for.
        batch_size: Images per step.

    Returns:
        The store.

    Raises:
        Refusal: If there is none, or it cannot be that side; see `refuse_unfit`.
    """
    store = Store(folder, setting=setting)
    refuse_unfit(store, setting=setting, batch_size=batch_size)
    return store


def refuse_unfit(store: Store, *, setting: str, batch_size: int) -> None:
    """Refuses a store that cannot be one side of a training.

    Args:
        store: The store.
        setting: ct or sem: the side it was named for.
        batch_size: Images per step.

    Raises:
        Refusal: If it holds the other side, fewer images than a batch, or only flat or segmented
            ones.
    """
    what = f"{setting}={store.folder}"
    if store.domain != setting:
        raise Refusal(
            f"{what} holds {_WHAT[store.domain]}, wanted are {_WHAT[setting]}; exchange ct= and"
            " sem="
        )
    if len(store) < batch_size:
        raise Refusal(
            f"{what} holds {len(store)} {_WHAT[setting]}, fewer than batch_size={batch_size}; lower"
            " batch_size, or make a larger store"
        )
    looked_at = _some(store)
    if (looked_at == looked_at[:, :1, :1]).all():
        raise Refusal(
            f"{what}: each of {len(looked_at)} {_WHAT[setting]} looked at is of one grey; look at"
            " the grey window and the mask that extract used"
        )
    levels = np.flatnonzero(np.bincount(looked_at.ravel(), minlength=256)).tolist()
    if len(levels) < FEWEST_LEVELS:
        raise Refusal(
            f"{what}: {len(looked_at)} {_WHAT[setting]} looked at hold {len(levels)} grey levels"
            f" only ({', '.join(map(str, levels))}), so they are segmented; translation reads the"
            " greys of a microscope: extract from the image before its segmentation"
        )


def hold_greys_together(ct: Store, sem: Store, *, greys: str) -> None:
    """Refuses stores of which one looks as if its pores were bright.

    In stores pores are dark.  A rock has less pore than solid, so its greys lean to the dark
    side: their skewness is negative, at CT resolution as well.  Where both lean strongly, one
    way and the other, black and white have changed places in one of them; where they lean
    little the histograms cannot tell, and only the log says so.

    Args:
        ct: Store of patches.
        sem: Store of tiles.
        greys: checked or trusted: the latter says that pores are dark in both.

    Raises:
        Refusal: If they are checked, and both skewnesses are beyond 1, with opposite signs.
    """
    first, second = skewness(_some(ct)), skewness(_some(sem))
    if greys == "trusted" or first * second >= 0 or min(abs(first), abs(second)) < LEANING:
        return
    lean = (
        f"the greys of ct={ct.folder} and sem={sem.folder} lean opposite ways (skewness"
        f" {first:+.1f} and {second:+.1f}), as if pores were dark in one and bright in the other"
    )
    if min(abs(first), abs(second)) < STRONGLY:
        LOGGER.warning("%s; look at the previews of extract", lean)
        return
    raise Refusal(
        f"{lean}; extract the one with bright pores with the higher percentile of its window"
        " first (sem_window=[99.9,0.1]), or say greys=trusted if pores are dark in both"
    )


def skewness(images: NDArray[np.uint8]) -> float:
    """Third standardised moment of the greys of all images together; 0 where they are all one.

    Args:
        images: Any shape.
    """
    counts = np.bincount(images.ravel(), minlength=256)
    levels = np.arange(256) - float(np.average(np.arange(256), weights=counts))
    second, third = (np.average(levels**power, weights=counts) for power in (2, 3))
    return float(third / second**1.5) if second > 0 else 0.0


def _some(store: Store) -> NDArray[np.uint8]:
    """A few images from everywhere in a store."""
    places = np.linspace(0, len(store) - 1, min(len(store), LOOKED_AT)).astype(int)
    return store.tiles[places]


def scale_of(ct: Store, tiles: Mapping[str, Any], *, sem: object) -> int:
    """SEM pixels per CT pixel of two sides that show fields of one width.

    Args:
        ct: Store of patches.
        tiles: Of the SEM tiles tile_px, and pixel_um in micrometres, or None if not stated.
        sem: What the tiles come from, as the user named it.

    Returns:
        2, 4, 8, 16 or 32.

    Raises:
        Refusal: If the sides make no such scale, or the pixel sizes another one.
    """
    tile_px, sem_um = tiles["tile_px"], tiles["pixel_um"]
    scale = tile_px // ct.tile_px
    if scale * ct.tile_px != tile_px or scale not in SCALES:
        fitting = ", ".join(str(ct.tile_px * each) for each in SCALES)
        raise Refusal(
            f"sem={sem} has tiles of {tile_px} px, ct={ct.folder} patches of"
            f" {ct.tile_px} px; the one must be 2, 4, 8, 16 or 32 times the other ({fitting})"
        )
    if sem_um is None or ct.pixel_um is None:
        return scale
    ratio = ct.pixel_um / sem_um
    if abs(ratio / scale - 1) > _SAME_SIZE:
        raise Refusal(
            f"ct={ct.folder}: its pixel of {ct.pixel_um:g} um is {ratio:.4g} SEM pixels of"
            f" {sem_um:g} um, but patches of {ct.tile_px} px and tiles of {tile_px} px make scale"
            f" {scale}; extract both with one scale"
        )
    return scale
