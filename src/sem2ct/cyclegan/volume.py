"""A part of a scan as a translated volume, slab by slab; the scan may exceed memory."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sem2ct.cyclegan import apply, directions, slice_norm
from sem2ct.cyclegan.exact import make as make_exact
from sem2ct.cyclegan.ranges import Span, as_learned
from sem2ct.data import manifests, pyramid
from sem2ct.data.intensity import Window, to_network
from sem2ct.data.refinement import RefinedSlices
from sem2ct.data.scans import Scan
from sem2ct.runtime import checkpoint
from sem2ct.runtime.device import autocast, choose
from sem2ct.runtime.seeding import mix

LOGGER = logging.getLogger(__name__)
LARGEST_CORE_PX = 512
# Planes through z read a halo of slices for every slab.
THICKER_THROUGH_Z = 32


@dataclass(frozen=True)
class VolumeTranslator:
    """A translator, the slices it is shown, and how they are cut."""

    generator: Any
    """CT-to-SEM translator, on `device`."""
    slices: RefinedSlices
    """What it is shown."""
    region: apply.Box
    """(y0, y1, x0, x1) of the scan; what lies around it serves as halo."""
    core_px: int
    """Side of the part that is kept of a tile, in CT pixels."""
    halo_px: int
    """CT pixels around it that are read too."""
    noise_key: int
    """Names the realisation."""
    precision: str
    """float32, tf32, bf16 or mixed."""
    device: torch.device
    """Where the network runs."""
    ct_pixel_um: float | None
    """Voxel size of the scan in micrometres; None if not stated."""
    facts: dict[str, Any]
    """Plain values that belong to the volume: origin of the weights, grey windows."""
    axes: str = "xy"
    """Planes that the network is shown: xy, xz, yz, or average of all three."""
    norm_over: str = "tile"
    """What instance norm is taken over: tile, or slice."""
    core_because: str = "as asked"
    """Why the cores have this size."""
    corner: tuple[int, int] = (0, 0)
    """Where the slices begin in the scan, in its rows and columns: places the noise."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) of the translated volume."""
        top, bottom, left, right = self.region
        scale = self.generator.scale
        return len(self.slices), (bottom - top) * scale, (right - left) * scale

    @property
    def pixel_um(self) -> float | None:
        """Pixel size of the translated slices in micrometres; None if not stated."""
        return None if self.ct_pixel_um is None else self.ct_pixel_um / self.generator.scale

    @property
    def placement(self) -> dict[str, Any]:
        """Size and origin of the voxels in the frame of the scan, for a `PyramidWriter`.

        The origin of that frame is the centre of the scan's first voxel, so a viewer lays
        both over one another.
        """
        scale, pixel = self.generator.scale, self.pixel_um or 1.0
        depth = pixel if self.slices.refine else pixel * scale
        first = (self.slices.number(0), self.region[0] * scale, self.region[2] * scale)
        # Both grids begin at one corner, so larger voxels have their centre further in.
        step = self.slices.scan.step
        corner = (1 - 1 / step) / 2 * scale * pixel
        shift = (scale - 1) / 2
        z, y, x = ((at - shift) * pixel + corner for at in first)
        if not self.slices.refine:
            z = self.slices.first * depth + corner
        return {
            "voxel": (depth, pixel, pixel),
            "origin": (z, y, x),
            "unit_um": self.pixel_um is not None,
        }

    def slab_slices(self, chunk_px: int) -> int:
        """Output slices that are made together: a slab of the written volume."""
        thicker = 1 if self.axes == "xy" else THICKER_THROUGH_Z
        slab_bytes = pyramid.SLAB_BYTES * thicker
        return pyramid.slab_slices(self.shape, chunk_px=chunk_px, slab_bytes=slab_bytes)

    @property
    def tiles(self) -> int:
        """Number of tiles in all slices."""
        return len(apply.cores(self.region, core_px=self.core_px)) * len(self.slices)

    def slab(
        self, first: int, count: int, *, on_tile: Callable[[int], object] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Translates output slices first ... first + count - 1.

        Args:
            first: First output slice.
            count: How many.
            on_tile: Told the number of output pixels after each tile.

        Returns:
            uint8 (count, y, x), 0 outside the field of view; and the steps at the seams, as
            from `apply.seam_steps`.
        """
        made, steps = [], np.zeros(4)
        for plane in directions.PLANES[self.axes]:
            if plane == "xy":
                part, at_seams = self._across_z(first, count, on_tile)
            else:
                part, at_seams = directions.seen_along(self, plane, first, count, on_tile=on_tile)
            made.append(part)
            steps += at_seams
        volume = made[0] if len(made) == 1 else directions.mean(made)
        self._blacken(volume, first)
        return volume, steps

    def _across_z(
        self, first: int, count: int, on_tile: Callable[[int], object] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        volume = np.empty((count, *self.shape[1:]), np.uint8)
        steps = np.zeros(4)
        for i, image in enumerate(volume):
            self._paint(torch.from_numpy(image), first + i, self.region, on_tile)
            steps += self.seam_steps(image, self.field(first + i))
        return volume, steps

    def _blacken(self, slab: NDArray[np.uint8], first: int) -> None:
        """Makes 0 of all outside the field of view, without a mask of the slab's size."""
        scale = self.generator.scale
        for i, image in enumerate(slab):
            field = self.field(first + i)
            if not field.all():
                blocks = image.reshape(field.shape[0], scale, field.shape[1], scale)
                blocks *= field[:, None, :, None]

    def pores(self, first: int, slab: NDArray[np.uint8], *, threshold: int) -> NDArray[np.uint8]:
        """Where a slab from `slab` is pore: 1, and 0 in grain and outside the field of view.

        Args:
            first: Its first output slice.
            slab: uint8 (count, y, x).
            threshold: Grey level under which a voxel is pore.
        """
        found = slab < threshold
        pores = found.view(np.uint8)
        self._blacken(pores, first)
        return pores

    def inside(self, i: int) -> NDArray[np.bool_]:
        """Field of view of output slice `i`, in its pixels."""
        scale = self.generator.scale
        return self.field(i).repeat(scale, 0).repeat(scale, 1)

    def image(
        self,
        i: int,
        *,
        region: apply.Box | None = None,
        on_tile: Callable[[int], object] | None = None,
    ) -> NDArray[np.uint8]:
        """Output slice `i` in grey levels, painted outside the field of view too.

        Args:
            i: Output slice.
            region: The part (y0, y1, x0, x1) of the scan to translate; None is that of the job.
            on_tile: Told the number of output pixels after each tile.

        Returns:
            uint8 (y, x).
        """
        y0, y1, x0, x1 = region or self.region
        scale = self.generator.scale
        result = torch.empty((y1 - y0) * scale, (x1 - x0) * scale, dtype=torch.uint8)
        self._paint(result, i, (y0, y1, x0, x1), on_tile)
        return result.numpy()

    def seam_steps(
        self, image: NDArray[np.uint8], inside: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Steps at the seams of an image from `image`, given its field of view in CT pixels."""
        cut = {"core_px": self.core_px, "scale": self.generator.scale}
        return apply.seam_steps(image, inside, self.region, **cut)

    def _paint(
        self,
        result: torch.Tensor,
        i: int,
        region: apply.Box,
        on_tile: Callable[[int], object] | None,
    ) -> None:
        grey = to_network(torch.from_numpy(self.slices.grey(i)))
        cut = {"core_px": self.core_px, "halo_px": self.halo_px, "device": self.device}
        with contextlib.ExitStack() as held:
            held.enter_context(autocast(self.precision, self.device))
            if self.norm_over == "slice":
                found = slice_norm.statistics(self.generator, grey, **cut)
                held.enter_context(slice_norm.frozen(found))
            apply.translate_slice(
                self.generator,
                grey,
                z=self.slices.number(i),
                noise_key=self.noise_key,
                on_tile=on_tile,
                origin=self.corner,
                region=region,
                out=result,
                **cut,
            )

    def grey(self, i: int) -> NDArray[np.uint8]:
        """What output slice `i` is made from, in CT pixels."""
        return self.slices.grey(i)[self._in_region]

    def field(self, i: int) -> NDArray[np.bool_]:
        """Field of view of output slice `i`, in CT pixels."""
        return self.slices.field(i)[self._in_region]

    @property
    def _in_region(self) -> tuple[slice, slice]:
        return slice(*self.region[:2]), slice(*self.region[2:])


def prepare(
    scan: Scan,
    *,
    cyclegan: Path,
    ct_pixel_um: float | str,
    z_range: Span,
    y_range: Span,
    x_range: Span,
    refine_z: bool,
    core_px: int | Literal["auto"],
    halo_px: int | Literal["network"],
    seed: int,
    precision: str,
    device: str,
    style: int = 0,
    axes: str = "xy",
    norm_over: str = "tile",
    exact: bool = False,
) -> VolumeTranslator:
    """Reads the translator and checks that it and the ranges fit the scan.

    The arguments are the settings of the same name; see `TranslateSettings` for what they mean.
    With core_px=auto cores are as large as they may become; see `core_size.settled`.

    Raises:
        Refusal: If there is no such checkpoint or style, a range leaves the scan, or the voxels
            have another size than those learned from.
    """
    generator, learned, facts = _learned(cyclegan, style)
    ranges: dict[str, Span] = {"z_range": z_range, "y_range": y_range, "x_range": x_range}
    pixel_um = _pixel_um(ct_pixel_um, scan)
    scan, (planes, rows, columns) = as_learned(scan, ranges, pixel_um, learned["pixel_um"])
    machine, halo = choose(device), _halo(halo_px, generator, norm_over)
    if exact:
        make_exact(generator, device=machine)
    return VolumeTranslator(
        generator=generator.to(machine),
        slices=_slices(scan, planes, generator.scale, refine_z, learned),
        region=(*rows, *columns),
        core_px=LARGEST_CORE_PX if core_px == "auto" else core_px,
        halo_px=halo,
        noise_key=mix(seed, "translate"),
        precision=precision,
        device=machine,
        ct_pixel_um=None if pixel_um is None else pixel_um * scan.step,
        axes=axes,
        norm_over=norm_over,
        facts=facts
        | _resampling(scan, (planes[0], rows[0], columns[0]))
        | ({} if axes == "xy" else {"axes": axes})
        | ({} if norm_over == "tile" else {"norm_over": norm_over}),
    )


def _slices(
    scan: Scan, planes: tuple[int, int], scale: int, refine: bool, learned: dict[str, Any]
) -> RefinedSlices:
    first, last = planes
    window = Window.from_dict(learned["window"])
    return RefinedSlices(scan, first=first, last=last, scale=scale, refine=refine, window=window)


def _learned(cyclegan: Path, style: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The translator, what is kept of the CT it learned from, and what the volume must say."""
    path = checkpoint.find(cyclegan, setting="cyclegan")
    bag = checkpoint.load(path)
    generator = apply.from_bag(bag, what=f"cyclegan={path}")
    with checkpoint.fitting(
        path, "holds no record of its store", remedy="train the translator again"
    ):
        painted = apply.in_style(generator, style, bag)
        learned, made = bag["ct_store"], _facts(bag, generator, path)
        manifests.Origin.model_validate(learned)
        Window.from_dict(learned["window"])
    return generator, learned, made | painted


def _facts(bag: dict[str, Any], generator: Any, path: Path) -> dict[str, Any]:
    return {
        "network": generator.config,
        "images_seen": bag["images_seen"],
        "weights_sha256": checkpoint.digest(path),
        "ct_grey_window": bag["ct_store"]["window"],
        "sem_grey_window": bag["sem_store"]["window"],
        "outside_field_of_view": 0,
    }


def _halo(halo_px: int | Literal["network"], generator: Any, norm_over: str) -> int:
    if norm_over == "slice":
        with slice_norm.frozen(slice_norm.neutral(generator)):
            reach = apply.receptive_half_width(generator)
    else:
        reach = apply.receptive_half_width(generator)
    if reach == "whole image":
        LOGGER.warning(
            "network=%s looks at a tile as a whole (instance norm), so tiles differ at their"
            " seams; the contrast of the seams is reported",
            generator.config["network"],
        )
        return apply.PUBLISHED_HALO_PX if halo_px == "network" else halo_px
    return reach if halo_px == "network" else halo_px


def _pixel_um(asked: float | str, scan: Scan) -> float | None:
    if asked == "unstated":
        return None
    return scan.pixel_um if asked == "metadata" else float(asked)


def _resampling(scan: Scan, first: tuple[int, int, int]) -> dict[str, Any]:
    """What a reader of the volume must know of a resampled scan; nothing of another."""
    return {} if scan.step == 1 else {"ct_resampled_by": scan.step, "first_voxel": list(first)}
