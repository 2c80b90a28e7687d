"""Micro-CT into patches: field of view, grey window, random places, cut.

Patches lie wholly inside the field of view and share no voxel.  The volume is read
slice by slice; memory holds a slice and a shard, whatever the volume's size.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from sem2ct.data import scans, tiling
from sem2ct.data.intensity import (
    Percentiles,
    Window,
    choose_window,
    field_of_view,
    is_field_of_view,
    refuse_not_finite,
    refuse_unusable,
)
from sem2ct.data.resampled import resampled_mask
from sem2ct.data.store import Encoding, StoreWriter
from sem2ct.runtime import distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import numpy_generator

_POOLED_SLICES = 32
_POOLED_VOXELS = 8_000_000
_KEPT_MASK_BYTES = 2**26


class Field:
    """Where the CT saw rock; a mask asked for one slice at a time."""

    def __init__(self, scan: scans.Scan, ct_mask: str, *, progress: tqdm | None = None) -> None:
        """Prepares the mask; reads nothing of the scan.

        Args:
            scan: The micro-CT scan.
            ct_mask: found (from each slice's background), none (everything), or an image
                file of the same width and height, for all slices or for each, that is not
                0 inside.
            progress: Advances by one when a slice is asked for the first time.

        Raises:
            Refusal: If the file's shape does not match the scan.
        """
        self.shape = scan.shape
        self._scan = scan
        self._kind = ct_mask
        self._file = None if ct_mask in ("found", "none") else _open_mask(scan, ct_mask)
        self._progress = progress
        self._latest: tuple[int, NDArray[np.bool_]] | None = None
        self._kept: dict[int, NDArray[np.bool_]] = {}
        self._kept_bytes = 0
        self._shares: dict[int, float] = {}

    def __getitem__(self, z: int) -> NDArray[np.bool_]:
        """(H, W), True inside, of slice z; the same array as before if nothing differs."""
        if z in self._kept:
            return self._kept[z]
        if self._latest is None or self._latest[0] != z:
            self._latest = z, self._compared(z)
            if self._progress is not None and z not in self._shares:
                self._progress.update()
        return self._latest[1]

    def _compared(self, z: int) -> NDArray[np.bool_]:
        """Masks of neighbouring slices are mostly one; then it is held, and counted, once."""
        before = self._latest
        inside = self._slice(z, before[1] if before else None)
        if before is not None and (inside is before[1] or np.array_equal(inside, before[1])):
            inside = before[1]
            self._shares[z] = self._shares[before[0]]
        else:
            self._shares[z] = float(inside.mean())
            self._kept_bytes += inside.nbytes
        if self._kept_bytes <= _KEPT_MASK_BYTES:
            self._kept[z] = inside
        return inside

    @property
    def share(self) -> float:
        """Share of voxels inside, over the slices asked for so far."""
        return float(np.mean(list(self._shares.values())))

    def _slice(self, z: int, before: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        if self._file is not None:
            if before is not None and self._file.shape[0] == 1:
                return before
            return self._file.slice_at(z if self._file.shape[0] > 1 else 0) != 0
        if self._kind == "none":
            return before if before is not None else np.ones(self.shape[1:], dtype=np.bool_)
        grey = self._scan.slice_at(z)
        if before is not None and is_field_of_view(before, grey):
            return before
        return field_of_view(grey)


def _open_mask(scan: scans.Scan, ct_mask: str) -> scans.Scan:
    mask = scans.open(ct_mask, setting="ct_mask")
    if scan.step != 1:
        mask = resampled_mask(mask, step=scan.step)
    if mask.shape[1:] != scan.shape[1:] or mask.shape[0] not in (1, scan.shape[0]):
        raise Refusal(
            f"ct_mask={ct_mask}: shape (z, y, x) is {mask.shape}, but the scan's is {scan.shape};"
            f" the mask must have that shape, or (1, {scan.shape[1]}, {scan.shape[2]}) for all"
            " slices"
        )
    return mask


def pooled_window(scan: scans.Scan, field: Field, percentiles: Percentiles) -> Window:
    """Chooses the grey window from voxels inside the field of view.

    Args:
        scan: The micro-CT scan.
        field: Its mask.
        percentiles: The low and the high one, or keep.

    Returns:
        The window, from at most 32 slices spread over the scan.

    Raises:
        Refusal: If values are NaN, all are equal, or the window has no width.
    """
    what = f"ct={scan.path}"
    depth = scan.shape[0]
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, _POOLED_SLICES)).astype(int)).tolist()
    most = _POOLED_VOXELS // len(chosen)
    pooled, extremes = [], []
    for z in chosen:
        grey = scan.slice_at(z)
        refuse_not_finite(grey, what=f"{what}, slice {z}")
        extremes += [grey.min(), grey.max()]
        inside = grey[field[z]]
        pooled.append(inside[:: (inside.size // most) | 1])
    refuse_unusable(np.array(extremes), what=what)
    voxels = np.concatenate(pooled)
    if not voxels.size:
        raise Refusal(
            f"{what}: the mask is empty in all {len(chosen)} slices looked at; look at ct_mask"
        )
    return choose_window(voxels, percentiles, what=f"{what}, inside the mask")


@dataclass(frozen=True)
class Planned:
    """Patches of one scan: chosen, not yet cut."""

    scan: scans.Scan
    """The micro-CT scan."""
    field: Field
    """Its mask."""
    window: Window
    """Raw grey levels that become 0 and 255."""
    places: NDArray[np.int64]
    """(n, 3) z, y, x of the patches, sorted."""
    patch_px: int
    """Side of a patch."""


def plan_patches(
    scan: scans.Scan,
    *,
    ct_mask: str,
    ct_window: Percentiles,
    ct_patches: int,
    ct_patch_px: int,
    ct_ready: bool = False,
    seed: int,
    progress: tqdm,
) -> Planned:
    """Chooses mask, grey window and places, as the settings of the same names say.

    Args:
        scan: The micro-CT scan.
        ct_mask: found, none, or an image file.
        ct_window: Percentiles of the voxels inside the mask, or keep.
        ct_patches: Number of patches.
        ct_patch_px: Side of a patch.
        ct_ready: The slices are patches already, each taken whole.
        seed: Start of the random stream.
        progress: Advances by one per slice.

    Returns:
        The plan.

    Raises:
        Refusal: If the scan is constant or holds NaN, the mask does not match it, or the
            patches do not fit.
    """
    field = Field(scan, ct_mask, progress=progress)
    window = pooled_window(scan, field, ct_window)
    if ct_ready:
        places = _chosen(scan.shape[0], ct_patches, seed)
    else:
        places = tiling.scatter(field, patch_px=ct_patch_px, n=ct_patches, seed=seed)
    return Planned(scan, field, window, places, ct_patch_px)


def _chosen(most: int, n: int, seed: int) -> NDArray[np.int64]:
    """Whole slices, drawn without repetition, in their order."""
    if n > most:
        raise Refusal(
            f"ct_patches={n}, but only {most} patches lie ready; the largest possible is"
            f" ct_patches={most}"
        )
    chosen = numpy_generator(seed, "ready").choice(most, size=n, replace=False)
    return np.column_stack([np.sort(chosen), np.zeros((n, 2), dtype=np.int64)])


def write_patches(
    folder: Path,
    planned: Planned,
    *,
    pixel_um: float | None,
    shard_patches: int,
    encoding: Encoding = "npy",
    progress: tqdm,
) -> None:
    """Cuts patches and writes them as a store; whole shards are skipped.

    Args:
        folder: Where the store will lie.
        planned: What to cut.
        pixel_um: Voxel size, or None.
        shard_patches: Patches in one file.
        encoding: npy or tiff.
        progress: Advances by one per patch.

    Raises:
        Refusal: If a slice holds NaN.
    """
    scan, places, patch_px = planned.scan, planned.places, planned.patch_px
    source = {
        "path": str(scan.path),
        "shape": list(scan.shape),
        "dtype": str(scan.dtype),
    }
    writer = StoreWriter(
        folder,
        tile_px=patch_px,
        domain="ct",
        pixel_um=pixel_um,
        window=planned.window,
        shard_patches=shard_patches,
        sources=[source],
        facts={"field_of_view": planned.field.share},
        encoding=encoding,
    )
    for k in distributed.mine(-(-len(places) // shard_patches)):
        here = places[k * shard_patches : (k + 1) * shard_patches]
        if not writer.has(k):
            patches = np.empty((len(here), patch_px, patch_px), dtype=np.uint8)
            _cut(scan, here, patches, planned.window)
            z, y, x = here.T
            columns = {"source": np.zeros_like(z), "z": z, "y": y, "x": x}
            writer.write_shard(k, patches, columns)
        progress.update(len(here))
    distributed.once(writer.finish)


def _cut(
    scan: scans.Scan, places: NDArray[np.int64], patches: NDArray[np.uint8], window: Window
) -> None:
    px = patches.shape[1]
    for z in np.unique(places[:, 0]):
        grey = scan.slice_at(int(z))
        refuse_not_finite(grey, what=f"ct={scan.path}, slice {z}")
        for row in np.flatnonzero(places[:, 0] == z):
            y, x = places[row, 1:]
            patches[row] = window.to_uint8(grey[y : y + px, x : x + px])


def draw_places(planned: Planned) -> NDArray[np.uint8]:
    """Draws the slice with the most patches: outline of the mask red, patches yellow.

    Args:
        planned: The patches.

    Returns:
        (H, W, 3) uint8.
    """
    places, px = planned.places, planned.patch_px
    z = int(np.argmax(np.bincount(places[:, 0])))
    inside = planned.field[z]
    grey = planned.window.to_uint8(planned.scan.slice_at(z))
    picture = np.repeat(grey[..., None], 3, axis=-1)
    picture[inside & ~ndimage.binary_erosion(inside)] = (255, 40, 40)
    for y, x in places[places[:, 0] == z, 1:]:
        frame = picture[y : y + px, x : x + px]
        frame[[0, -1], :] = frame[:, [0, -1]] = (255, 210, 0)
    return picture
