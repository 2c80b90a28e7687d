"""What the user brought for one rock: SEM images and a micro-CT scan, checked together.

Only headers are read here, so that most of what can be wrong is said before anything
is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sem2ct.data import pixel_size, ready, scans, sem_tiles
from sem2ct.data.sem_tiles import SemImage
from sem2ct.runtime.refusal import Refusal


@dataclass(frozen=True)
class Brought:
    """SEM images and a scan that fit together; nothing is read yet."""

    images: dict[str, list[SemImage]]
    """Images by the store they go to: sem, and sem_validation if any are set aside."""
    tiles: dict[str, int]
    """Tiles that will be cut from them."""
    sem_um: float | None
    """SEM pixel in micrometres after reduction, or None if not stated."""
    scan: scans.Scan
    """The micro-CT scan."""
    ct_um: float | None
    """Its voxel in micrometres, or None if not stated."""

    @property
    def pixels(self) -> int:
        """Pixels of all SEM images as they are used: bytes of their frames."""
        shapes = [image.shape for part in self.images.values() for image in part]
        return sum(height * width for height, width in shapes)


def open_brought(
    *,
    sem: str | Sequence[str],
    sem_crop_bottom: int | str | Mapping[str, int],
    sem_reduce: int,
    sem_pixel_um: float | str,
    validation_share: float,
    tile_px: int,
    stride_px: int,
    ct: str,
    ct_raw_shape: Sequence[int] | str,
    ct_raw_dtype: str,
    ct_raw_byte_order: str,
    ct_raw_header_bytes: int,
    ct_dataset: str,
    ct_ready: bool,
    ct_pixel_um: float | str,
    ct_patch_px: int,
    ct_resample: bool,
    scale: int,
    seed: int,
) -> Brought:
    """Opens SEM images and scan and holds them against the settings of the same names.

    Returns:
        What was brought.

    Raises:
        Refusal: If a file cannot be used, the slices are smaller than a patch, or the
            pixel sizes do not make the scale.
    """
    images = sem_tiles.open_images(
        sem, crop_bottom=sem_crop_bottom, reduce=sem_reduce, tile_px=tile_px
    )
    files = [image.scan for image in images]
    sem_um = pixel_size.settle(files, sem_pixel_um, setting="sem_pixel_um")
    sem_um = sem_um * sem_reduce if sem_um is not None else None
    file: dict[str, Any] = {
        "raw_shape": ct_raw_shape,
        "raw_dtype": ct_raw_dtype,
        "raw_byte_order": ct_raw_byte_order,
        "raw_header_bytes": ct_raw_header_bytes,
        "dataset": ct_dataset,
    }
    scan = ready.open_patches(ct, ct_patch_px) if ct_ready else scans.open(ct, **file)
    ct_um = pixel_size.settle([scan], ct_pixel_um, setting="ct_pixel_um")
    if ct_resample and not ct_ready:
        scan, ct_um = pixel_size.matched(scan, sem_um, ct_um, scale=scale)
    _refuse_small(scan, ct_patch_px)
    pixel_size.refuse_unmatched(sem_um, ct_um, scale=scale)
    training, validation = sem_tiles.split(images, share=validation_share, seed=seed)
    parts = {"sem": training} | ({"sem_validation": validation} if validation else {})
    tiles = {
        name: sem_tiles.count_tiles(part, tile_px=tile_px, stride_px=stride_px)
        for name, part in parts.items()
    }
    return Brought(parts, tiles, sem_um, scan, ct_um)


def _refuse_small(scan: scans.Scan, patch_px: int) -> None:
    _, height, width = scan.shape
    if min(height, width) < patch_px:
        raise Refusal(
            f"ct={scan.path}: slices of {height}x{width} are smaller than a patch of"
            f" ct_patch_px={patch_px}; choose another scan or lower ct_patch_px"
        )
