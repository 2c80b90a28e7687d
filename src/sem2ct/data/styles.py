"""Styles of SEM tiles: groups of like ones, so that a translation can be asked for one of them.

A style is a cluster that k-means finds in what is known of the tiles: the latent style w of
drawn ones, the descriptors of real ones.  Styles are numbered from 0, the most common first.

Source: Lloyd 1982, doi:10.1109/TIT.1982.1056489; first centres as in Arthur & Vassilvitskii
2007 (k-means++).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import vq

from sem2ct.data.store import Store
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import numpy_generator

COLUMN = "style"
"""Name of the column of a store's places that holds the labels, and of the fact beside it."""
_STARTS = 8
_SETTLED = 1e-9

Points = NDArray[np.float64]
Labels = NDArray[np.int64]
Wanted = Sequence[int] | Literal["all"]


def centres(points: Points, *, count: int) -> Points:
    """Finds the middles of groups of like points; the same points always give the same.

    Args:
        points: (n, d), their columns of comparable spread.
        count: Number of groups.

    Returns:
        (count, d), that of the largest group first.

    Raises:
        Refusal: If the points do not fall into so many groups.
    """
    tries = [
        vq.kmeans(points, _spread_out(points, count, k), thresh=_SETTLED) for k in range(_STARTS)
    ]
    found, _ = min(tries, key=lambda one: (-len(one[0]), one[1]))
    if len(found) < count:
        raise Refusal(
            f"styles={count}, but the tiles differ in {len(found)} ways only; lower styles"
        )
    sizes = np.bincount(nearest(points, found), minlength=count)
    return np.asarray(found[np.argsort(-sizes, kind="stable")], np.float64)


def nearest(points: Points, middles: Points) -> Labels:
    """Numbers of the centres that points lie nearest to.

    Args:
        points: (n, d).
        middles: (count, d), as from `centres`.

    Returns:
        (n,) int64, from 0.
    """
    return np.asarray(vq.vq(points, middles)[0], np.int64)


def _spread_out(points: Points, count: int, start: int) -> Points:
    """First centres: points drawn the likelier the further they are from those before."""
    random = numpy_generator(start, "first centres")
    chosen = [points[random.integers(len(points))]]
    for _ in range(count - 1):
        apart = np.min([np.sum((points - one) ** 2, axis=1) for one in chosen], axis=0)
        likely = apart / apart.sum() if apart.any() else None
        chosen.append(points[random.choice(len(points), p=likely)])
    return np.array(chosen)


@dataclass(frozen=True)
class Told:
    """Tiles of a store whose styles are known, and which of them train."""

    count: int
    """Styles that are told apart, over the whole store."""
    tiles: Labels
    """(n,) numbers of the tiles that train, ascending."""
    labels: Labels
    """(n,) their styles."""

    def facts(self) -> dict[str, Any]:
        """Plain values for the checkpoint: how many styles there are, and tiles of each."""
        return {
            "count": self.count,
            "tiles": np.bincount(self.labels, minlength=self.count).tolist(),
        }


def told(store: Store) -> Told | None:
    """Reads the styles that a store states.

    Args:
        store: Of SEM tiles.

    Returns:
        All its tiles, or None if it states no styles.
    """
    stated = store.manifest["facts"].get(COLUMN)
    if stated is None:
        return None
    return Told(stated["count"], np.arange(len(store)), store.places()[COLUMN])


def only(known: Told, wanted: Wanted, *, batch_size: int, sem: object) -> Told:
    """Keeps the tiles of some styles.

    Args:
        known: Tiles with their styles.
        wanted: Numbers of the styles, or all.
        batch_size: Images per step.
        sem: What the tiles come from, as the user named it.

    Returns:
        The tiles of these styles.

    Raises:
        Refusal: If there is no such style, or fewer tiles than a batch.
    """
    if wanted == "all":
        return known
    asked = f"sem_styles={list(wanted)}"
    if max(wanted) >= known.count:
        raise Refusal(f"{asked}, but the tiles of sem={sem} have styles 0 to {known.count - 1}")
    kept = np.isin(known.labels, list(wanted))
    if np.count_nonzero(kept) < batch_size:
        numbers = known.facts()["tiles"]
        raise Refusal(
            f"{asked} leaves {np.count_nonzero(kept)} tiles of sem={sem}, fewer than"
            f" batch_size={batch_size} (tiles of each style: {numbers}); name more styles, lower"
            " batch_size, or make a larger store"
        )
    return Told(known.count, known.tiles[kept], known.labels[kept])
