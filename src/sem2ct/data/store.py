"""Patches on disk: memory-mapped shards and a manifest.

A store is a folder.  Each shard is an ordinary .npy file, written whole or not at
all, with a journal beside it (checksum, and where each patch came from).  The
manifest is written last: a folder without one is no store yet, and running the
same command again skips every shard that verifies and makes the others.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.intensity import Window
from sem2ct.runtime.checkpoint import digest
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import writing

Domain = Literal["sem", "ct"]
_FORMAT = "sem2ct store 1"


class StoreWriter:
    """Writes a store, shard by shard, in any order, from any number of processes.

    Two processes must not write the same shard; process r of N takes the shards
    r, r + N, r + 2N, and so on, and one of them calls `finish` in the end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tile_px: int,
        domain: Domain,
        pixel_um: float | None,
        window: Window | None,
        shard_patches: int,
        sources: Sequence[Mapping[str, Any]],
        facts: Mapping[str, Any],
    ) -> None:
        """Creates the folder; writes nothing into it yet.

        Args:
            folder: Where the store will lie.
            tile_px: Side of a patch in pixels.
            domain: sem or ct.
            pixel_um: Side of a stored pixel in micrometres; None if not stated.
            window: Raw grey levels that became 0 and 255; None if there are none.
            shard_patches: Patches in each shard but the last.
            sources: What the patches came from; `places["source"]` counts in it.
            facts: Whatever else belongs in the manifest; plain values.
        """
        self.folder = folder
        self._shard_patches = shard_patches
        self._description: dict[str, Any] = {
            "format": _FORMAT,
            "domain": domain,
            "tile_px": tile_px,
            "dtype": "uint8",
            "pixel_um": pixel_um,
            "window": window.as_dict() if window else None,
            "shard_patches": shard_patches,
            "sources": [dict(source) for source in sources],
            "facts": dict(facts),
        }
        text = json.dumps(self._description, sort_keys=True)
        self._made_from = hashlib.sha256(text.encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, k: int) -> bool:
        """Says whether shard k lies there whole, made from the same description."""
        journal = _journal(self.folder, k)
        shard = _shard(self.folder, k)
        return (
            journal is not None
            and journal["made_from"] == self._made_from
            and shard.is_file()
            and digest(shard) == journal["sha256"]
        )

    def write_shard(
        self,
        k: int,
        patches: NDArray[np.uint8],
        places: Mapping[str, NDArray[np.integer]],
    ) -> None:
        """Writes one shard: complete under its name, or not at all.

        Args:
            k: Number of the shard, from 0.
            patches: (m, H, W) uint8; m is `shard_patches` except in the last shard.
            places: Where each patch came from: integer columns of length m, for
                instance source, z, y, x, or seed.
        """
        tile_px = self._description["tile_px"]
        assert patches.dtype == np.uint8
        assert patches.shape[1:] == (tile_px, tile_px)
        assert 0 < len(patches) <= self._shard_patches
        assert all(len(column) == len(patches) for column in places.values())
        checksum = _write_array(_shard(self.folder, k), patches)
        journal = {
            "made_from": self._made_from,
            "sha256": checksum,
            "count": len(patches),
            "places": {name: np.asarray(column).tolist() for name, column in places.items()},
        }
        _write_json(_journal_path(self.folder, k), journal)

    def finish(self) -> Path:
        """Writes the manifest, from the journals of all shards.

        Returns:
            Path of the manifest.

        Raises:
            Refusal: If a shard is missing, or made from something else.
        """
        shards = []
        journals = sorted(self.folder.glob("shard_*.json"))
        for k in range(len(journals)):
            journal = _journal(self.folder, k) or {"made_from": "nothing"}
            whole = journal["made_from"] == self._made_from and _shard(self.folder, k).is_file()
            if not whole:
                raise Refusal(
                    f"store {self.folder}: {_shard(self.folder, k).name} is missing or from"
                    " another run; delete the folder and run the same command again"
                )
            shards.append(
                {
                    "file": _shard(self.folder, k).name,
                    "sha256": journal["sha256"],
                    "count": journal["count"],
                }
            )
        assert shards, "a store without patches"
        assert all(shard["count"] == self._shard_patches for shard in shards[:-1])
        count = sum(shard["count"] for shard in shards)
        manifest = self.folder / "manifest.json"
        _write_json(manifest, {**self._description, "count": count, "shards": shards})
        return manifest


class Tiles:
    """The patches of a store as one array on disk; only what is asked for is read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: Sequence[Path], *, shard_patches: int, count: int, px: int) -> None:
        """Notes where the shards lie; each is mapped when first read.

        Args:
            shards: Their files, in order.
            shard_patches: Patches in each shard but the last.
            count: Patches in all.
            px: Side of a patch in pixels.
        """
        self.shape = (count, px, px)
        self._shards = shards
        self._shard_patches = shard_patches
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        """Number of patches."""
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        """Reads patches.

        Args:
            index: One number, a slice, or an array of numbers; negative ones count
                from the end.

        Returns:
            A copy: (H, W) for one number, else (n, H, W), in the order asked for.

        Raises:
            IndexError: If a number lies outside.
        """
        if isinstance(index, slice):
            return self[np.arange(*index.indices(len(self)))]
        wanted = np.asarray(index, dtype=np.int64)
        if np.any((wanted < -len(self)) | (wanted >= len(self))):
            raise IndexError(f"patch {index} of a store of {len(self)}")
        wanted = wanted % len(self)
        if wanted.ndim == 0:
            k, row = divmod(int(wanted), self._shard_patches)
            return np.array(self._mapped(k)[row])
        patches = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)
        for place, number in enumerate(wanted):
            k, row = divmod(int(number), self._shard_patches)
            patches[place] = self._mapped(k)[row]
        return patches

    def _mapped(self, k: int) -> NDArray[np.uint8]:
        if k not in self._maps:
            self._maps[k] = np.load(self._shards[k], mmap_mode="r")
        return self._maps[k]


class Store:
    """A finished store, opened for reading.

    Attributes:
        folder: Where it lies.
        manifest: Content of manifest.json.
        domain: sem or ct.
        tile_px: Side of a patch in pixels.
        pixel_um: Side of a pixel in micrometres, or None if not stated.
        window: Raw grey levels that became 0 and 255, or None.
        tiles: The patches, (n, tile_px, tile_px) uint8, read on demand.
    """

    def __init__(self, folder: str | Path, *, setting: str = "store") -> None:
        """Opens a store; reads the manifest and the sizes of the shards.

        Args:
            folder: Where it lies.
            setting: Name of the setting that holds the folder, for a refusal.

        Raises:
            Refusal: If there is no finished store, or a shard is missing or too short.
        """
        self.folder = Path(folder)
        self._name = f"{setting}={folder}"
        self.manifest = self._read_manifest()
        self.domain: Domain = self.manifest["domain"]
        self.tile_px: int = self.manifest["tile_px"]
        self.pixel_um: float | None = self.manifest["pixel_um"]
        window = self.manifest["window"]
        self.window = Window.from_dict(window) if window else None
        shards = self.manifest["shards"]
        for shard in shards:
            self._refuse_short(shard["file"], shard["count"] * self.tile_px**2)
        self.tiles = Tiles(
            [self.folder / shard["file"] for shard in shards],
            shard_patches=self.manifest["shard_patches"],
            count=self.manifest["count"],
            px=self.tile_px,
        )

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.tiles)

    def places(self) -> dict[str, NDArray[np.int64]]:
        """Reads where every patch came from.

        Returns:
            Columns by name (source, z, y, x, or seed), each of length `len(store)`.
        """
        journals = [_journal(self.folder, k) for k in range(len(self.manifest["shards"]))]
        if None in journals:
            raise Refusal(f"{self._name}: a shard's .json file is missing; make the store again")
        names = journals[0]["places"] if journals[0] else {}
        return {
            name: np.concatenate(
                [np.asarray(journal["places"][name], np.int64) for journal in journals if journal]
            )
            for name in names
        }

    def grey_and_size(self) -> dict[str, Any]:
        """Returns what must travel with networks trained on these patches: plain values."""
        names = ("domain", "tile_px", "pixel_um", "window")
        return {name: self.manifest[name] for name in names}

    def verify(self) -> None:
        """Reads every shard again and compares checksums.

        Raises:
            Refusal: Naming the first shard whose content changed.
        """
        for shard in self.manifest["shards"]:
            path = self.folder / shard["file"]
            if digest(path) != shard["sha256"]:
                raise Refusal(
                    f"{path}: content does not match its checksum in manifest.json; the file was"
                    " damaged or changed: delete the store's folder and make it again"
                )

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        if not path.is_file():
            self._refuse_absent()
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
            raise Refusal(f"{self._name}: its manifest.json does not say '{_FORMAT}'")
        return manifest

    def _refuse_absent(self) -> None:
        if any(self.folder.glob("shard_*")):
            raise Refusal(
                f"{self._name}: the store is unfinished (no manifest.json); run the command that"
                " makes it again, it goes on where it stopped"
            )
        inside = [path.parent.name for path in sorted(self.folder.glob("*/manifest.json"))]
        if inside:
            raise Refusal(f"{self._name} is no store but holds some; name one: {', '.join(inside)}")
        raise Refusal(
            f"{self._name}: no store there (no manifest.json); make one with 'sem2ct extract' or,"
            " for synthetic SEM tiles, 'sem2ct synthesize'"
        )

    def _refuse_short(self, name: str, least: int) -> None:
        path = self.folder / name
        size = path.stat().st_size if path.is_file() else 0
        if size < least:
            raise Refusal(
                f"{path}: {size} bytes, but its patches need {least}; the file is missing or was"
                " cut short: delete the store's folder and make it again"
            )


def _shard(folder: Path, k: int) -> Path:
    return folder / f"shard_{k:05d}.npy"


def _journal_path(folder: Path, k: int) -> Path:
    return folder / f"shard_{k:05d}.json"


def _journal(folder: Path, k: int) -> dict[str, Any] | None:
    path = _journal_path(folder, k)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with writing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=None) + "\n", encoding="utf-8")


def _write_array(path: Path, array: NDArray[np.uint8]) -> str:
    """Writes an .npy file and returns the sha256 of what was meant to be written."""
    head = io.BytesIO()
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    checksum = hashlib.sha256(head.getvalue())
    checksum.update(array.data)
    with writing(path) as unfinished, unfinished.open("wb") as file:
        file.write(head.getvalue())
        file.write(array.data)
    return checksum.hexdigest()
