"""Whether two stores can train a translation: said before anything is trained."""

import numpy as np

from sem2ct.data.resampled import SCALES
from sem2ct.data.store import Store
from sem2ct.runtime.refusal import Refusal

LOOKED_AT = 64
_SAME_SIZE = 0.01
_WHAT = {"ct": "micro-CT patches", "sem": "SEM tiles"}


def refuse_unfit(store: Store, *, setting: str, batch_size: int) -> None:
    """Refuses a store that cannot be one side of a training.

    Args:
        store: The store.
        setting: ct or sem: the side it was named for.
        batch_size: Images per step.

    Raises:
        Refusal: If it holds the other side, fewer images than a batch, or only flat ones.
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
    places = np.linspace(0, len(store) - 1, min(len(store), LOOKED_AT)).astype(int)
    if all(store.tiles[int(place)].min() == store.tiles[int(place)].max() for place in places):
        raise Refusal(
            f"{what}: each of {len(places)} {_WHAT[setting]} looked at is of one grey; look at the"
            " grey window and the mask that extract used"
        )


def scale_of(ct: Store, *, tile_px: int, sem_um: float | None, sem: object) -> int:
    """SEM pixels per CT pixel of two sides that show fields of one width.

    Args:
        ct: Store of patches.
        tile_px: Side of the SEM tiles.
        sem_um: SEM pixel in micrometres, or None if not stated.
        sem: What the tiles come from, as the user named it.

    Returns:
        2, 4, 8, 16 or 32.

    Raises:
        Refusal: If the sides make no such scale, or the pixel sizes another one.
    """
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
