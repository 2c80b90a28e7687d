"""Whole prepared SEM images on disk, and the notes that say which of them may train.

Tiles at a fixed stride are a few hundred of the pictures that an image holds; a
training that cuts its own needs the image itself, without its data bar, reduced and in
the same grey window as the tiles.  One .npy file per image, memory-mapped; the manifest
is written last, so a folder without one is not finished.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import manifests, whole_files
from sem2ct.data.intensity import Window
from sem2ct.data.whole_files import write_bands, write_json
from sem2ct.runtime.refusal import Refusal

Split = Literal["training", "validation"]
_LEAST_HEADER_BYTES = 64


def fingerprint(described: Mapping[str, Any]) -> str:
    """Returns a digest of what frames are made from: plain values, in any order of keys."""
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(f"{manifests.FRAMES} {text}".encode()).hexdigest()


def write_frame(folder: Path, k: int, grey: NDArray[np.uint8]) -> dict[str, Any]:
    """Writes one frame that is in memory, (H, W) uint8; as `write_bands_of_frame`."""
    height, width = grey.shape
    return write_bands_of_frame(folder, k, [grey], shape=(height, width))


def write_bands_of_frame(
    folder: Path, k: int, bands: Iterable[NDArray[np.uint8]], *, shape: tuple[int, int]
) -> dict[str, Any]:
    """Writes one frame: complete under its name, or not at all.

    Args:
        folder: Folder of the frames; made when absent.
        k: Number of the frame, from 0.
        bands: Its rows from top to bottom, (h, W) uint8 each.
        shape: (H, W).

    Returns:
        What the manifest says about the file: file, sha256, shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"frame_{k:05d}.npy"
    return {"file": path.name, "sha256": write_bands(path, shape, bands), "shape": list(shape)}


def write_manifest(
    folder: Path,
    entries: Sequence[Mapping[str, Any]],
    *,
    window: Window,
    pixel_um: float | None,
    made_from: str,
) -> None:
    """Writes the manifest, which makes the folder complete.

    Args:
        folder: Folder of the frames.
        entries: Per frame what `write_frame` returned, with split and source.
        window: Raw grey levels that became 0 and 255.
        pixel_um: Side of a stored pixel in micrometres; None if not stated.
        made_from: `fingerprint` of the origin.
    """
    content = {
        "format": manifests.FRAMES,
        "domain": "sem",
        "pixel_um": pixel_um,
        "window": window.as_dict(),
        "made_from": made_from,
        "frames": [dict(entry) for entry in entries],
    }
    write_json(folder / "manifest.json", content)


class Frames:
    """A finished folder of frames, opened for reading.

    Attributes:
        folder: Where it lies.
        manifest: Content of manifest.json.
        pixel_um: Side of a pixel in micrometres, or None if not stated.
        window: Raw grey levels that became 0 and 255.
        training: (H, W) uint8 each, memory-mapped, of any shapes.
        validation: As `training`; empty if no image was set aside.
    """

    def __init__(self, folder: str | Path, *, setting: str = "sem_frames") -> None:
        """Opens the folder; reads the manifest and the sizes of the files.

        Args:
            folder: Where it lies.
            setting: Name of the setting that holds the folder, for a refusal.

        Raises:
            Refusal: If the frames are not there or not finished, or one is cut short.
        """
        self.folder = Path(folder)
        self._name = f"{setting}={folder}"
        self.manifest = self._read_manifest()
        self.pixel_um: float | None = self.manifest["pixel_um"]
        self.window = Window.from_dict(self.manifest["window"])
        for entry in self.manifest["frames"]:
            self._refuse_short(entry)
        self.training = self._opened("training")
        self.validation = self._opened("validation")

    def verify(self) -> None:
        """Reads every frame again and compares checksums.

        Raises:
            Refusal: Naming the first frame whose content changed.
        """
        whole_files.verify(self.folder, self.manifest["frames"])

    def refuse_other_grey(self, facts: Mapping[str, Any], *, sem: Path) -> None:
        """Refuses frames that are not of the images that a store was cut from.

        Args:
            facts: `Store.grey_and_size` of the store.
            sem: Its folder, for the refusal.

        Raises:
            Refusal: If grey window or pixel size differ.
        """
        ours = {"pixel_um": self.pixel_um, "window": self.window.as_dict()}
        for name, value in ours.items():
            if facts[name] != value:
                raise Refusal(
                    f"{self._name} has {name} {value}, but sem={sem} has {facts[name]}; they are"
                    " not of one extraction: name the frames that lie beside the store"
                )

    def _opened(self, split: Split) -> list[NDArray[np.uint8]]:
        chosen = [entry for entry in self.manifest["frames"] if entry["split"] == split]
        return [whole_files.opened(self.folder / entry["file"], entry["shape"]) for entry in chosen]

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise Refusal(
                f"{self._name}: no finished frames there (no manifest.json); 'sem2ct extract'"
                " writes them beside the store of SEM tiles: run it again under another run=, or"
                " set sem_frames=none tiles=stored to do without"
            )
        return manifests.read(path, manifests.FramesManifest, name=self._name)

    def _refuse_short(self, entry: Mapping[str, Any]) -> None:
        path = self.folder / entry["file"]
        least = _LEAST_HEADER_BYTES + int(np.prod(entry["shape"]))
        size = path.stat().st_size if path.is_file() else 0
        if size < least:
            raise Refusal(
                f"{path}: {size} bytes, but its frame needs {least}; the file is missing or was"
                f" cut short: delete {self.folder} and make it again"
            )
