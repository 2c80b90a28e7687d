"""Stores for other programs: an archive for NVIDIA's trainers, or a folder of pictures."""

import io
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from tqdm import tqdm

from sem2ct.data.store import Store
from sem2ct.runtime import log
from sem2ct.runtime.run_folder import writing

LOGGER = logging.getLogger(__name__)
Kind = Literal["nvlabs_zip", "png", "tiff"]
_PER_FOLDER = 1000
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def write_all(stores: Mapping[str, Store], folder: Path, *, kind: Kind | Literal["none"]) -> None:
    """Exports stores, each under its name, and says where; with "none" nothing."""
    if kind == "none":
        return
    for name, store in stores.items():
        with log.progress(len(store), unit="patches", what=f"export of {name}") as bar:
            made = write(store, folder / name, kind=kind, progress=bar)
        LOGGER.info("%s: %d patches", made, len(store))


def write(store: Store, target: Path, *, kind: Kind, progress: tqdm) -> Path:
    """Exports all patches; what was exported before is kept.

    Args:
        store: What to export.
        target: Where the folder shall lie; an archive gets the ending .zip.
        kind: nvlabs_zip: PNG files 00000/img00000000.png, a thousand in a folder, stored
            unpacked, and dataset.json without labels, as dataset_tool.py of
            stylegan2-ada-pytorch leaves them.  png, tiff: the same folders, as files.
        progress: Advances by one per patch.

    Returns:
        The archive or folder; it appears whole or not at all.

    Raises:
        Refusal: If the disk is full, or a shard of the store is damaged.
    """
    if kind == "nvlabs_zip":
        return _archive(store, target.with_name(target.name + ".zip"), progress)
    return _folder(store, target.with_name(f"{target.name}_{kind}"), kind, progress)


def _archive(store: Store, target: Path, progress: tqdm) -> Path:
    if target.exists():
        progress.update(len(store))
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for name, patch in _named(store, progress):
            archive.writestr(zipfile.ZipInfo(f"{name}.png", _LONG_AGO), _png(patch))
        labels = json.dumps({"labels": None})
        archive.writestr(zipfile.ZipInfo("dataset.json", _LONG_AGO), labels)
    return target


def _folder(store: Store, target: Path, kind: Kind, progress: tqdm) -> Path:
    if target.exists():
        progress.update(len(store))
        return target
    unfinished = target.with_name(target.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name, patch in _named(store, progress):
        file = unfinished / f"{name}.{'png' if kind == 'png' else 'tif'}"
        if name.endswith("000"):
            file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_png(patch) if kind == "png" else _tiff(patch, store.pixel_um))
    unfinished.replace(target)
    return target


def _named(store: Store, progress: tqdm) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for k in range(len(store)):
        yield f"{k // _PER_FOLDER:05d}/img{k:08d}", store.tiles[k]
        progress.update()


def _png(patch: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(patch)))


def _tiff(patch: NDArray[np.uint8], pixel_um: float | None) -> bytes:
    file = io.BytesIO()
    tags = {}
    if pixel_um is not None:
        tags = {"resolution": (1e4 / pixel_um, 1e4 / pixel_um), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(file, patch, photometric="minisblack", metadata=None, **tags)
    return file.getvalue()
