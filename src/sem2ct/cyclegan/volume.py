"""A part of a scan as a translated volume, slab by slab; the scan may exceed memory."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sem2ct.cyclegan import apply, directions, slice_norm
from sem2ct.cyclegan.exact import make as make_exact
from sem2ct.data import manifests, pyramid
from sem2ct.data.intensity import Window, from_network, to_network
from sem2ct.data.refinement import RefinedSlices
from sem2ct.data.resampled import resampled
from sem2ct.data.scans import Scan
from sem2ct.runtime import checkpoint
from sem2ct.runtime.device import autocast, choose
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import mix

LOGGER = logging.getLogger(__name__)
# Voxel sizes are often stated with three digits.
_VOXEL_SIZES_DIFFER = 0.01
_RESAMPLED_AT_MOST = 1.5

Span = tuple[int, int] | Literal["all"]


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
        return pyramid.slab_slices(self.shape, chunk_px=chunk_px)

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
        for i in range(count):
            volume[i][~self.inside(first + i)] = 0
        return volume, steps

    def _across_z(
        self, first: int, count: int, on_tile: Callable[[int], object] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        volume = np.empty((count, *self.shape[1:]), np.uint8)
        steps = np.zeros(4)
        for i in range(count):
            volume[i] = self.image(first + i, on_tile=on_tile)
            steps += self.seam_steps(volume[i], self.field(first + i))
        return volume, steps

    def pores(self, first: int, slab: NDArray[np.uint8], *, threshold: int) -> NDArray[np.uint8]:
        """Where a slab from `slab` is pore: 1, and 0 in grain and outside the field of view.

        Args:
            first: Its first output slice.
            slab: uint8 (count, y, x).
            threshold: Grey level under which a voxel is pore.
        """
        found = np.empty_like(slab)
        for i, grey in enumerate(slab):
            found[i] = (grey < threshold) & self.inside(first + i)
        return found

    def inside(self, i: int) -> NDArray[np.bool_]:
        """Field of view of output slice `i`, in its pixels."""
        return _enlarged(self.field(i), self.generator.scale)

    def image(self, i: int, *, on_tile: Callable[[int], object] | None = None) -> NDArray[np.uint8]:
        """Output slice `i` in grey levels, painted outside the field of view too."""
        return from_network(self.translate(i, on_tile=on_tile)).numpy()

    def seam_steps(
        self, image: NDArray[np.uint8], inside: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Steps at the seams of an image from `image`, given its field of view in CT pixels."""
        scale = self.generator.scale
        return apply.seam_steps(
            image, _enlarged(inside, scale), self.region, core_px=self.core_px, scale=scale
        )

    def translate(
        self,
        i: int,
        *,
        region: apply.Box | None = None,
        on_tile: Callable[[int], object] | None = None,
    ) -> torch.Tensor:
        """Translates output slice `i`, or a region (y0, y1, x0, x1) of it; float32."""
        grey = to_network(torch.from_numpy(self.slices.grey(i)))
        cut = {"core_px": self.core_px, "halo_px": self.halo_px, "device": self.device}
        with contextlib.ExitStack() as held:
            held.enter_context(autocast(self.precision, self.device))
            if self.norm_over == "slice":
                found = slice_norm.statistics(self.generator, grey, **cut)
                held.enter_context(slice_norm.frozen(found))
            return apply.translate_slice(
                self.generator,
                grey,
                z=self.slices.number(i),
                noise_key=self.noise_key,
                on_tile=on_tile,
                origin=self.corner,
                region=region or self.region,
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
    core_px: int,
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

    Raises:
        Refusal: If there is no such checkpoint or style, a range leaves the scan, or the voxels
            have another size than those learned from.
    """
    generator, learned, facts = _learned(cyclegan, style)
    ranges: dict[str, Span] = {"z_range": z_range, "y_range": y_range, "x_range": x_range}
    pixel_um = _pixel_um(ct_pixel_um, scan)
    scan, (planes, rows, columns) = _as_learned(scan, ranges, pixel_um, learned["pixel_um"])
    machine, halo = choose(device), _halo(halo_px, generator, norm_over)
    if exact:
        make_exact(generator, device=machine)
    return VolumeTranslator(
        generator=generator.to(machine),
        slices=_slices(scan, planes, generator.scale, refine_z, learned),
        region=(*rows, *columns),
        core_px=core_px,
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


def _enlarged(inside: NDArray[np.bool_], scale: int) -> NDArray[np.bool_]:
    return inside.repeat(scale, 0).repeat(scale, 1)


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


def _pixel_um(asked: float | str, scan: Scan) -> float | None:
    if asked == "unstated":
        return None
    return scan.pixel_um if asked == "metadata" else float(asked)


def _as_learned(
    scan: Scan, ranges: Mapping[str, Span], pixel_um: float | None, learned: float | None
) -> tuple[Scan, list[tuple[int, int]]]:
    """The scan with voxels of the size that was learned from, and the ranges in these voxels."""
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


def _resampling(scan: Scan, first: tuple[int, int, int]) -> dict[str, Any]:
    """What a reader of the volume must know of a resampled scan; nothing of another."""
    return {} if scan.step == 1 else {"ct_resampled_by": scan.step, "first_voxel": list(first)}
