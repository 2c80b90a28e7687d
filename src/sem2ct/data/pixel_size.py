"""Pixel sizes: what the files state, what the user says, and whether they make the scale."""

import logging
import math
from collections.abc import Sequence

from sem2ct.data.resampled import nearest_scale, resampled
from sem2ct.data.scans import Scan
from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)
_SAME_SIZE = 0.01
_SMALLEST_UM, _LARGEST_UM = 1e-5, 1e4


def settle(scans: Sequence[Scan], given: float | str, *, setting: str) -> float | None:
    """Settles the pixel size of scans that are used together.

    Args:
        scans: The scans, one or more.
        given: Micrometres, "metadata" (what the files state), or "unstated".
        setting: Name of the setting it was given as.

    Returns:
        Micrometres, or None for "unstated".

    Raises:
        Refusal: With "metadata", if a file states no size, an impossible one or pixels that
            are not square, or two files differ by over 1 %.
    """
    if not isinstance(given, str):
        return float(given)
    if given == "unstated":
        return None
    sizes = [_stated(scan, setting) for scan in scans]
    first, size = scans[0], sizes[0]
    for scan, other in zip(scans, sizes, strict=True):
        if abs(other / size - 1) > _SAME_SIZE:
            raise Refusal(
                f"{setting}=metadata, but {scan.path} states {other:g} um and {first.path}"
                f" {size:g} um; images of different magnification cannot be mixed"
            )
    return size


def _stated(scan: Scan, setting: str) -> float:
    size = scan.pixel_um
    ask = f"set {setting}=<micrometres> or {setting}=unstated"
    if size is None:
        raise Refusal(f"{setting}=metadata, but {scan.path} states no pixel size; {ask}")
    if not _SMALLEST_UM <= size <= _LARGEST_UM:
        raise Refusal(
            f"{setting}=metadata, but {scan.path} states a pixel of {size:g} um, which no"
            f" microscope has; {ask}"
        )
    if scan.spacing_um is not None:
        z, y, x = scan.spacing_um
        if not abs(y / x - 1) <= _SAME_SIZE:
            raise Refusal(
                f"{setting}=metadata, but {scan.path} states pixels of {y:g} um by {x:g} um, which"
                f" are not square; resample it, or {ask}"
            )
        if scan.shape[0] > 1 and math.isfinite(z) and not abs(z / x - 1) <= _SAME_SIZE:
            LOGGER.warning(
                "%s: slices are %g um apart, but its pixels are %g um wide; patches are cut within"
                " slices, and everything along z will be out of proportion",
                scan.path,
                z,
                x,
            )
    return size


def matched(
    scan: Scan, sem_um: float | None, ct_um: float | None, *, scale: int
) -> tuple[Scan, float | None]:
    """Resamples a scan whose voxels are not quite `scale` SEM pixels wide.

    Args:
        scan: The micro-CT scan.
        sem_um: SEM pixel after reduction in micrometres, or None if not stated.
        ct_um: Micro-CT voxel in micrometres, or None if not stated.
        scale: SEM pixels per micro-CT pixel.

    Returns:
        Scan and voxel size: as they are if a size is not stated, if they agree within 1 %, or
        if another supported scale is nearer; else resampled to `scale` SEM pixels.
    """
    if sem_um is None or ct_um is None:
        return scan, ct_um
    ratio = ct_um / sem_um
    if abs(ratio / scale - 1) <= _SAME_SIZE or nearest_scale(ratio) != scale:
        return scan, ct_um
    LOGGER.info(
        "ct: voxels of %g um are %.4g SEM pixels wide; the scan is resampled to %g um as it is"
        " read, which are %d",
        ct_um,
        ratio,
        sem_um * scale,
        scale,
    )
    return resampled(scan, from_um=ct_um, to_um=sem_um * scale), sem_um * scale


def refuse_unmatched(sem_um: float | None, ct_um: float | None, *, scale: int) -> None:
    """Refuses pixel sizes whose ratio is not the scale.

    Args:
        sem_um: SEM pixel after reduction in micrometres, or None if not stated.
        ct_um: Micro-CT voxel in micrometres, or None if not stated.
        scale: SEM pixels per micro-CT pixel.

    Raises:
        Refusal: If both are known and the ratio is off by more than 1 %.
    """
    if sem_um is None or ct_um is None:
        return
    ratio = ct_um / sem_um
    if abs(ratio / scale - 1) > _SAME_SIZE:
        raise Refusal(
            f"scale={scale}, but a micro-CT voxel of {ct_um:g} um is {ratio:.4g} SEM pixels of"
            f" {sem_um:g} um (after sem_reduce); change scale (nearest: {nearest_scale(ratio)}) or"
            " sem_reduce; with ct_resample=true the nearest scale is enough"
        )
