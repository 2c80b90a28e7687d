"""Styles of SEM tiles for a translator: those a store states, or clusters of what is measured.

A style shall be what the CT leaves open.  The CT shows how much pore there is, so what goes
with the porosity is taken out of the descriptors first (a line and a parabola, by least
squares); what is left tells coarse from fine, and smooth from rough, at any porosity.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sem2ct.data import styles as clusters
from sem2ct.data.store import Store
from sem2ct.data.styles import Told, Wanted
from sem2ct.data.whole_files import write_json
from sem2ct.metrics import descriptors, measure, segmentation
from sem2ct.runtime import distributed, log
from sem2ct.runtime.checkpoint import digest
from sem2ct.runtime.records import read_json
from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)

DESCRIPTORS = ("specific_surface", "log_correlation_length", "grey_mean_gradient")
"""What tells styles apart, of the names in `descriptors.NAMES`."""
MEASURED = ("porosity", *DESCRIPTORS)
LONGEST_REACH_PX = 256
THRESHOLD_TILES = 1000

Floats = NDArray[np.float64]


def of_store(
    store: Store,
    *,
    styles: int,
    sem_styles: Wanted,
    batch_size: int,
    kept: Path | str,
) -> Told | None:
    """Tiles that train a translator, with their styles.

    Args:
        store: Of SEM tiles.
        styles: Styles that the translator can be asked for; 1 is one translator for all.
        sem_styles: Styles whose tiles train, or all.
        batch_size: Images per step.
        kept: File in which styles that are found here are kept, so that a resumed run has the
            same and a person can see what they are; or "none".

    Returns:
        The tiles; None if styles need not be told apart.

    Raises:
        Refusal: If the store tells another number of styles apart, or tells none though
            sem_styles wants some, or too few tiles are left.
    """
    if styles == 1 and sem_styles == "all":
        return None
    stated = clusters.told(store)
    if stated is None and styles == 1:
        raise Refusal(
            f"sem_styles={list(sem_styles)}, but sem={store.folder} does not say which style its"
            " tiles have; make a store with 'sem2ct synthesize styles=K'"
        )
    if stated is None:
        # One process measures, or all would.
        stated = Told(**distributed.from_main(lambda: vars(_found(store, styles, kept))))
    elif styles not in (1, stated.count):
        raise Refusal(
            f"styles={styles}, but sem={store.folder} tells {stated.count} styles apart; set"
            f" styles={stated.count}, or make a store with 'sem2ct synthesize styles={styles}'"
        )
    used = clusters.only(stated, sem_styles, batch_size=batch_size, sem=store.folder)
    LOGGER.info("styles of sem=%s: %s tiles of each are used", store.folder, used.facts()["tiles"])
    return used


def remainders(table: Floats, porosity: Floats) -> Floats:
    """What the porosity does not say about descriptors, each with spread 1.

    Args:
        table: (n, d); NaN where a number is undefined.
        porosity: (n,).

    Returns:
        (n, d): 0 where a number is undefined, or the same for all tiles of a porosity.
    """
    known = np.stack([np.ones_like(porosity), porosity, porosity**2], axis=1)
    left = np.zeros_like(table)
    for k, column in enumerate(table.T):
        defined = np.isfinite(column)
        if not defined.any():
            continue
        fit, *_ = np.linalg.lstsq(known[defined], column[defined], rcond=None)
        rest = column[defined] - known[defined] @ fit
        spread = rest.std()
        # Rounding must not be blown up to differences.
        if spread > 1e-9 * np.abs(column[defined]).max():
            left[defined, k] = rest / spread
    return left


def _found(store: Store, count: int, kept: Path | str) -> Told:
    """Clusters of the descriptors of a store's tiles, or those kept from before."""
    identity = {"count": count, "store_sha256": digest(store.folder / "manifest.json")}
    if isinstance(kept, Path) and kept.is_file():
        before = read_json(kept, remedy="delete it, it is made again")
        if {name: before.get(name) for name in identity} == identity:
            return Told(count, np.arange(len(store)), np.array(before["labels"], np.int64))
    level, table = _measured(store)
    left = remainders(table[:, 1:], table[:, 0])
    centres = clusters.centres(left, count=count)
    labels = clusters.nearest(left, centres)
    told = Told(count, np.arange(len(store)), labels)
    if isinstance(kept, Path):
        groups = [table[labels == k] for k in range(count)]
        facts: dict[str, Any] = {
            **identity,
            "tiles": told.facts()["tiles"],
            "threshold": level,
            "means_px": {
                name: [_mean(group[:, k]) for group in groups] for k, name in enumerate(MEASURED)
            },
            "clustered": list(DESCRIPTORS),
            "centres": centres.tolist(),
            "labels": labels.tolist(),
        }
        write_json(kept, facts)
    return told


def _measured(store: Store) -> tuple[int, Floats]:
    """Otsu's threshold; and porosity and `DESCRIPTORS` of all tiles, lengths in pixels."""
    some = np.linspace(0, len(store) - 1, min(len(store), THRESHOLD_TILES)).astype(np.int64)
    level = segmentation.otsu(segmentation.histogram(store.tiles[int(k)] for k in some))
    with log.progress(len(store), unit="tiles", what="styles of the SEM tiles") as bar:
        found = measure.tiles(
            lambda index: store.tiles[index],
            len(store),
            threshold=level,
            reach_px=min(store.tile_px // 2 - 1, LONGEST_REACH_PX),
            workers=torch.get_num_threads(),
            on_tile=bar.update,
            sample=1,
        )
    columns = [descriptors.NAMES.index(name) for name in MEASURED]
    return level, found.descriptors[:, columns].astype(np.float64)


def _mean(column: Floats) -> float | str:
    defined = column[np.isfinite(column)]
    return float(defined.mean()) if len(defined) else "undefined"
