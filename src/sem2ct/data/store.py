"""Patches on disk: shards and a manifest.

A store is a folder.  Each shard is an ordinary .npy file, memory-mapped (or, where
space is short, a BigTIFF), written whole or not at all, with a journal beside it
(checksum, and where each patch came from).  The manifest is written last: a folder
without one is no store yet, and running the same command again skips every shard that
verifies and makes the others.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sem2ct.data import manifests, tiff_shards, whole_files
from sem2ct.data.intensity import Window
from sem2ct.data.whole_files import write_bands, write_json
from sem2ct.runtime.checkpoint import digest
from sem2ct.runtime.refusal import Refusal

Domain = Literal["sem", "ct"]
Encoding = Literal["npy", "tiff"]

# Reading more than this a second time, in every process, costs more than it is worth.
VERIFIED_BYTES = 2**31


class Patches(Protocol):
    """Patches of a shard, (m, H, W) uint8: an array, or what makes them one at a time."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, H, W)."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """(H, W) uint8 each."""
        ...


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
        encoding: Encoding = "npy",
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
            encoding: npy (memory-mapped, fastest) or tiff (two thirds of the size).
        """
        self.folder = folder
        self._shard_patches = shard_patches
        self._suffix = tiff_shards.SUFFIX if encoding == "tiff" else ".npy"
        self._description: dict[str, Any] = {
            "format": manifests.STORE,
            "domain": domain,
            "tile_px": tile_px,
            "dtype": "uint8",
            "encoding": encoding,
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
        try:
            journal = _journal(self.folder, k)
        except Refusal:
            return False
        shard = self._shard(k)
        return (
            journal is not None
            and journal["made_from"] == self._made_from
            and shard.is_file()
            and digest(shard) == journal["sha256"]
        )

    def write_shard(
        self,
        k: int,
        patches: Patches,
        places: Mapping[str, NDArray[np.integer]],
    ) -> None:
        """Writes one shard: complete under its name, or not at all.

        Args:
            k: Number of the shard, from 0.
            patches: (m, H, W) uint8, an array or made one at a time; m is `shard_patches`
                except in the last shard.
            places: Where each patch came from: integer columns of length m, for
                instance source, z, y, x, or seed.
        """
        tile_px = self._description["tile_px"]
        assert patches.dtype == np.uint8
        assert patches.shape[1:] == (tile_px, tile_px)
        count = patches.shape[0]
        assert 0 < count <= self._shard_patches
        assert all(len(column) == count for column in places.values())
        packed: dict[str, Any] = {}
        if self._suffix == tiff_shards.SUFFIX:
            checksum, packed["pages"] = tiff_shards.write(self._shard(k), patches)
        else:
            whole = isinstance(patches, np.ndarray)
            bands = [patches] if whole else patches
            checksum = write_bands(self._shard(k), patches.shape, bands)
        journal = {
            **packed,
            "made_from": self._made_from,
            "sha256": checksum,
            "count": count,
            "places": {name: np.asarray(column).tolist() for name, column in places.items()},
        }
        write_json(_journal_path(self.folder, k), journal)

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
            whole = journal["made_from"] == self._made_from and self._shard(k).is_file()
            if not whole:
                raise Refusal(
                    f"store {self.folder}: {self._shard(k).name} is missing or from"
                    " another run; delete the folder and run the same command again"
                )
            shards.append(
                {
                    "file": self._shard(k).name,
                    "sha256": journal["sha256"],
                    "count": journal["count"],
                    "bytes": self._shard(k).stat().st_size,
                }
            )
        assert shards, "a store without patches"
        assert all(shard["count"] == self._shard_patches for shard in shards[:-1])
        count = sum(shard["count"] for shard in shards)
        manifest = self.folder / "manifest.json"
        write_json(manifest, {**self._description, "count": count, "shards": shards})
        return manifest

    def _shard(self, k: int) -> Path:
        return self.folder / f"shard_{k:05d}{self._suffix}"


class Tiles:
    """The patches of a store as one array on disk; only what is asked for is read."""

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        folder: Path,
        shards: Sequence[Mapping[str, Any]],
        *,
        shard_patches: int,
        count: int,
        px: int,
    ) -> None:
        """Notes where the shards lie; each is mapped when first read.

        In a store of up to 2 GiB each is then verified too; a larger one is by `Store.verify`.

        Args:
            folder: Where they lie.
            shards: Their entries in the manifest.
            shard_patches: Patches in each shard but the last.
            count: Patches in all.
            px: Side of a patch in pixels.
        """
        self.shape = (count, px, px)
        self._folder, self._shards = folder, shards
        self._shard_patches = shard_patches
        self._verified = count * px**2 <= VERIFIED_BYTES
        self._maps: dict[int, NDArray[np.uint8] | tiff_shards.Pages] = {}
        self._bytes: dict[int, int] = {}

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

    def _mapped(self, k: int) -> NDArray[np.uint8] | tiff_shards.Pages:
        if k not in self._maps:
            if self._verified:
                # A flipped bit would be learned without complaint.
                whole_files.verify(self._folder, [self._shards[k]])
            self._maps[k] = self._opened(k)
            self._bytes[k] = self._shard(k).stat().st_size
        whole_files.refuse_shrunk(self._shard(k), self._bytes[k])
        return self._maps[k]

    def _shard(self, k: int) -> Path:
        return self._folder / self._shards[k]["file"]

    def _opened(self, k: int) -> NDArray[np.uint8] | tiff_shards.Pages:
        shard, shape = self._shard(k), (self._shards[k]["count"], *self.shape[1:])
        if shard.suffix == tiff_shards.SUFFIX:
            journal = _journal(self._folder, k)
            pages = journal["pages"] if journal else []
            if len(pages) != shape[0]:
                raise Refusal(f"{shard.with_suffix('.json')} is missing; make the store again")
            return tiff_shards.Pages(shard, pages, self.shape[1])
        return whole_files.opened(shard, shape)


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
            # Stores made before there were two encodings do not tell their bytes.
            self._refuse_short(shard["file"], shard.get("bytes", shard["count"] * self.tile_px**2))
        self.tiles = Tiles(
            self.folder,
            shards,
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
        whole_files.verify(self.folder, self.manifest["shards"])

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        if not path.is_file():
            self._refuse_absent()
        return manifests.read(path, manifests.StoreManifest, name=self._name)

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


def _journal_path(folder: Path, k: int) -> Path:
    return folder / f"shard_{k:05d}.json"


def _journal(folder: Path, k: int) -> dict[str, Any] | None:
    path = _journal_path(folder, k)
    if not path.is_file():
        return None
    return manifests.read(path, manifests.Journal, name=f"store {folder}")
