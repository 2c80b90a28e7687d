"""Slabs of a volume as the network sees them along other planes than the scan's own.

The network knows slices.  Slices through z serve as well as those across it: then z is
what is painted, and y (or x) what is interpolated between slices.  A volume that looks
alike along all axes is alike in z and in the plane whichever way it was made, so this
checks the slice by slice translation; the mean of all three ways belongs to none.

A slab needs only the scan's slices around it, as far as the network sees; they are held
in memory, turned.  So every slab is made by itself, at the price of that halo: thin slabs
cost many times the work of thick ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.intensity import refuse_not_finite
from sem2ct.data.refinement import RefinedSlices
from sem2ct.runtime.seeding import mix

if TYPE_CHECKING:
    from sem2ct.cyclegan.volume import VolumeTranslator

PLANES: dict[str, tuple[str, ...]] = {
    "xy": ("xy",),
    "xz": ("xz",),
    "yz": ("yz",),
    "average": ("xy", "xz", "yz"),
}
# Axes of the scan that become slices, rows and columns.
_TURNED = {"xz": (1, 0, 2), "yz": (2, 0, 1)}


def turned(
    job: "VolumeTranslator", plane: str, first: int, count: int
) -> tuple["VolumeTranslator", slice]:
    """The job whose slices are planes through a slab.

    Args:
        job: Translates slices that are refined along z.
        plane: xz or yz.
        first: First output slice of the slab.
        count: How many it has.

    Returns:
        The turned job, all of whose output belongs to the slab but for rows at its ends (a
        slab may begin and end within a slice of the scan); and the rows of the slab.

    Raises:
        Refusal: If the scan holds NaN or infinite values there.
    """
    scan, scale, halo = job.slices.scan, job.generator.scale, job.halo_px
    z0 = job.slices.number(first)
    top, bottom = z0 // scale, -(-(z0 + count) // scale)
    above, below = max(0, top - halo), min(scan.shape[0], bottom + halo)
    grey = scan.read(slice(above, below), slice(None), slice(None))
    refuse_not_finite(grey, what=f"ct={scan.path}, slices {above} to {below - 1}")
    grey = grey.transpose(_TURNED[plane])
    along, across = (job.region[:2], job.region[2:])[:: 1 if plane == "xz" else -1]
    slices = RefinedSlices(
        replace(scan, shape=grey.shape, slice_at=grey.__getitem__, read_window=None),
        first=along[0],
        last=along[1],
        scale=scale,
        refine=True,
        window=job.slices.window,
    )
    return replace(
        job,
        slices=slices,
        region=(top - above, bottom - above, *across),
        corner=(above, 0),
        noise_key=mix(job.noise_key, plane),
        axes="xy",
    ), slice(z0 - top * scale, z0 - top * scale + count)


def seen_along(
    job: "VolumeTranslator",
    plane: str,
    first: int,
    count: int,
    *,
    on_tile: Callable[[int], object] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A slab, translated in planes through it.

    Args:
        job: As for `turned`; so are the next three.
        plane: See there.
        first: See there.
        count: See there.
        on_tile: Told the number of output voxels after each tile.

    Returns:
        uint8 (count, y, x), and the steps at the seams, as from `VolumeTranslator.images`.
    """
    through, rows = turned(job, plane, first, count)
    made = np.empty((count, *job.shape[1:]), np.uint8)
    # A view: what is written to its planes lands in the slab.
    planes = made.transpose(_TURNED[plane])
    waste = through.shape[1] / count
    told = None if on_tile is None else lambda voxels: on_tile(round(voxels / waste))
    inside = _fields(job, through, first).transpose(_TURNED[plane])
    steps = np.zeros(4)
    for i in range(len(planes)):
        image = through.image(i, on_tile=told)
        steps += through.seam_steps(image, inside[i // job.generator.scale])
        planes[i] = image[rows]
    return made, steps


def _fields(job: "VolumeTranslator", through: "VolumeTranslator", first: int) -> NDArray[np.bool_]:
    """(z, y, x) field of view of the slices of the scan that a slab lies in, in CT pixels."""
    scale = job.generator.scale
    begin = first - job.slices.number(first) % scale
    return np.stack([job.field(begin + k * scale) for k in range(through.shape[1] // scale)])


def mean(volumes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Mean of volumes of one shape, rounded to whole grey levels; slice by slice."""
    result = np.empty_like(volumes[0])
    for i, target in enumerate(result):
        total = np.sum([volume[i] for volume in volumes], axis=0, dtype=np.float32)
        target[...] = np.rint(total / len(volumes))
    return result
