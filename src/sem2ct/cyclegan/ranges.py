"""Which part of a scan is translated, in voxels of the size that was learned from."""

import logging
from collections.abc import Mapping
from typing import Literal

from sem2ct.data.resampled import resampled
from sem2ct.data.scans import Scan
from sem2ct.runtime.refusal import Refusal

LOGGER = logging.getLogger(__name__)
# Voxel sizes are often stated with three digits.
_VOXEL_SIZES_DIFFER = 0.01
_RESAMPLED_AT_MOST = 1.5

Span = tuple[int, int] | Literal["all"]


def as_learned(
    scan: Scan, ranges: Mapping[str, Span], pixel_um: float | None, learned: float | None
) -> tuple[Scan, list[tuple[int, int]]]:
    """The scan with voxels of the size that was learned from, and the ranges in these voxels.

    Args:
        scan: The scan.
        ranges: z_range, y_range and x_range, in its voxels.
        pixel_um: Side of its voxels; None if not stated.
        learned: Side of those that were learned from; None if not stated.

    Returns:
        The scan, resampled where the sizes differ, and [first, last) along z, y and x.

    Raises:
        Refusal: If a range leaves the scan, or its voxels are too different.
    """
    names = ("slices", "rows", "columns")
    spans = [
        _span(span, length, setting, what)
        for (setting, span), length, what in zip(ranges.items(), scan.shape, names, strict=True)
    ]
    if pixel_um is None or learned is None or abs(pixel_um / learned - 1) <= _VOXEL_SIZES_DIFFER:
        return scan, spans
    if not 1 / _RESAMPLED_AT_MOST <= pixel_um / learned <= _RESAMPLED_AT_MOST:
        raise Refusal(
            f"ct_pixel_um: voxels of {pixel_um:g} um, but the translator learned from {learned:g}"
            " um, which is too far to resample; train one for this scan, or set"
            " ct_pixel_um=unstated to translate it all the same"
        )
    LOGGER.info(
        "ct: voxels of %g um are resampled to the %g um that were learned from", pixel_um, learned
    )
    scan = resampled(scan, from_um=pixel_um, to_um=learned)
    return scan, [
        _resampled_span(span, length, scan.step)
        for span, length in zip(spans, scan.shape, strict=True)
    ]


def _resampled_span(span: tuple[int, int], length: int, step: float) -> tuple[int, int]:
    """A range of the scan as it was given, in voxels of the resampled one; at least one."""
    first = min(round(span[0] / step), length - 1)
    return first, max(first + 1, min(round(span[1] / step), length))


def _span(span: Span, length: int, setting: str, what: str) -> tuple[int, int]:
    if span == "all":
        return 0, length
    first, last = span
    if not 0 <= first < last <= length:
        raise Refusal(
            f"{setting}=[{first},{last}], but the scan has {what} 0 to {length - 1}; write"
            f" [first,last) within [0,{length}], or all"
        )
    return first, last
