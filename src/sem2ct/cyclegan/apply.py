"""A trained translator applied to a whole slice, tile by tile.

A tile is read with a halo around the part that is kept.  If the halo is as wide as
the network can see, and no layer looks at the tile as a whole, the tiled slice is
the slice translated in one piece: where tiles meet there is nothing to see.  With
instance norm (the published networks) no halo is wide enough; then the seams are
measured instead.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sem2ct.cyclegan import generators
from sem2ct.data.intensity import from_network
from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal

# The overlap of the authors' published translations, in CT pixels.
PUBLISHED_HALO_PX = 8
_FIELDS_PX = (17, 33, 65)
_BAND_ROWS = 64  # what is between network and greys stays in the cache

Box = tuple[int, int, int, int]


def load(path: Path) -> Any:
    """Reads the averaged CT-to-SEM translator from a checkpoint.

    Args:
        path: Checkpoint file of train-cyclegan.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        Refusal: If the file is damaged or from another command.
    """
    return from_bag(checkpoint.load(path), what=str(path))


def from_bag(bag: dict[str, Any], *, what: str) -> Any:
    """As `load`, from a checkpoint that was read already.

    Args:
        bag: Content of the checkpoint.
        what: Its path, for a refusal.

    Returns:
        The network, in evaluation mode, on the CPU.

    Raises:
        Refusal: If the checkpoint is from another command.
    """
    remedy = "cyclegan= must name a run folder of train-cyclegan or one of its checkpoints"
    with checkpoint.fitting(what, "holds no CT-to-SEM translator", remedy=remedy):
        averaged = bag["trainer"]["ema"]
        assert averaged["config"]["direction"] == "ct_to_sem", "its network is another one"
        network = generators.build(averaged["config"])
        network.load_state_dict(averaged["weights"])
    return network.eval().requires_grad_(False)


def in_style(network: Any, style: int, bag: dict[str, Any]) -> dict[str, Any]:
    """Makes a translator paint in one of its styles.

    Args:
        network: As from `from_bag`.
        style: Number of the style.
        bag: Content of its checkpoint.

    Returns:
        What the volume must say about it; nothing if the translator has one style only.

    Raises:
        Refusal: If it has not learned this style.
    """
    if network.config.get("styles", 1) == 1:
        if style:
            raise Refusal(
                f"style={style}, but the translator paints in one style only; set style=0, or train"
                " one with 'sem2ct train-cyclegan styles=K'"
            )
        return {}
    learned = [k for k, tiles in enumerate(bag["styles"]["tiles"]) if tiles]
    if style not in learned:
        raise Refusal(f"style={style}, but the translator has learned the styles {learned}")
    network.style = style
    return {"style": style}


@torch.no_grad()
def receptive_half_width(generator: nn.Module) -> int | Literal["whole image"]:
    """How far the translator sees: one input pixel is spoilt, and what moves is looked at.

    The pixel becomes NaN, which spreads along every path however small its weight,
    where a perturbation would drown in rounding.

    Args:
        generator: CT-to-SEM translator, on the CPU.

    Returns:
        CT pixels beyond which nothing moves, or "whole image" if everything does
        (instance norm).
    """
    for side in _FIELDS_PX:
        middle = side // 2
        ct = torch.zeros(1, 1, side, side)
        ct[..., middle, middle] = torch.nan
        moved = _forward(generator, ct, key=0, z=0, y=0, x=0).isnan()[0, 0]
        scale = moved.shape[-1] // side
        rows = torch.nonzero(moved.any(1))[:, 0] // scale
        columns = torch.nonzero(moved.any(0))[:, 0] // scale
        reach = int(max((rows - middle).abs().max(), (columns - middle).abs().max()))
        if reach < middle:
            return reach
    return "whole image"


@torch.no_grad()
def translate_slice(
    generator: nn.Module,
    ct: Tensor | np.ndarray,
    *,
    z: int,
    core_px: int,
    halo_px: int,
    noise_key: int,
    device: torch.device | str,
    on_tile: Callable[[int], object] | None = None,
    origin: tuple[int, int] = (0, 0),
    region: Box | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Translates a slice tile by tile.

    Args:
        generator: CT-to-SEM translator, on `device`.
        ct: (H, W) float32 in [-1, 1].
        z: Number of the slice, in output slices from the beginning of the scan: places the
            noise.
        core_px: Side of the part that is kept of a tile, in CT pixels.
        halo_px: CT pixels read around it, where the slice goes on.
        noise_key: Names the realisation.
        device: Where the network runs.
        on_tile: Told the number of output pixels after each tile.
        origin: Where `ct` begins in the scan (y, x).
        region: The part (y0, y1, x0, x1) of `ct` to translate; None is all of it. What lies
            around it serves as halo.
        out: Where the result goes, on the CPU: float32, or uint8 for grey levels; None makes
            float32. A large slice needs no memory besides but a tile's.

    Returns:
        (height * scale, width * scale) of the region, on the CPU.
    """
    whole = torch.as_tensor(ct, dtype=torch.float32)
    top, bottom, left, right = region or (0, whole.shape[0], 0, whole.shape[1])
    scale = int(generator.scale)  # pyright: ignore[reportArgumentType]
    result = torch.empty((bottom - top) * scale, (right - left) * scale) if out is None else out
    for y0, y1, x0, x1 in cores((top, bottom, left, right), core_px=core_px):
        read_y, read_x = max(0, y0 - halo_px), max(0, x0 - halo_px)
        window = whole[read_y : y1 + halo_px, read_x : x1 + halo_px]
        place = {"z": z, "y": origin[0] + read_y, "x": origin[1] + read_x}
        tile = _forward(generator, window[None, None].to(device), key=noise_key, **place)[0, 0]
        kept = tile[
            (y0 - read_y) * scale : (y1 - read_y) * scale,
            (x0 - read_x) * scale : (x1 - read_x) * scale,
        ]
        place = result[
            (y0 - top) * scale : (y1 - top) * scale, (x0 - left) * scale : (x1 - left) * scale
        ]
        rows = _BAND_ROWS if kept.is_cpu else len(kept)
        for band, there in zip(kept.split(rows), place.split(rows), strict=True):
            there.copy_(from_network(band) if result.dtype == torch.uint8 else band)
        if on_tile is not None:
            on_tile(kept.numel())
    return result


def cores(region: Box, *, core_px: int) -> list[Box]:
    """The parts of a region that tiles keep: equal as far as possible, none above `core_px`.

    Args:
        region: (y0, y1, x0, x1).
        core_px: Longest side.
    """
    top, bottom, left, right = region
    rows = _cuts(top, bottom, core_px)
    columns = _cuts(left, right, core_px)
    return [(y0, y1, x0, x1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns)]


def seam_steps(
    image: np.ndarray, inside: np.ndarray, region: Box, *, core_px: int, scale: int
) -> np.ndarray:
    """Grey steps across the seams between tiles, and across pixel borders right beside them.

    The steps beside are taken at borders of CT pixels too, because a translator may leave
    a faint grid with that period that is no seam; and not further than 2 CT pixels away,
    because the rock may be smoother elsewhere.

    Args:
        image: uint8 (y, x), a translated region.
        inside: Boolean, of its CT pixels; steps to or from pixels outside do not count.
        region: (y0, y1, x0, x1) in CT pixels, as given to `translate_slice`.
        core_px: As given to `translate_slice`.
        scale: SEM pixels per CT pixel.

    Returns:
        float64 (4,): sum and number of the absolute steps at seams, then beside them; of
        several slices they may be added.
    """
    total = np.zeros(4)
    for axis, (first, last) in enumerate([region[:2], region[2:]]):
        seams = np.array(_cuts(first, last, core_px)[1:-1])
        near = {int(s + shift) for s in seams for shift in (-2, -1, 1, 2)} - set(seams.tolist())
        beside = np.array([border for border in near if first < border < last], int)
        for part, borders in enumerate((seams, beside)):
            if not len(borders):
                continue
            after = borders - first
            both = np.take(inside, after - 1, axis) & np.take(inside, after, axis)
            both = both.repeat(scale, 1 - axis)
            after *= scale
            one, two = (np.take(image, at, axis).astype(np.int16) for at in (after - 1, after))
            total[2 * part] += np.abs(two - one)[both].sum(dtype=np.float64)
            total[2 * part + 1] += np.count_nonzero(both)
    return total


def seam_contrast(steps: np.ndarray) -> float | None:
    """Mean grey step across seams over that beside them; 1 is seamless.

    Args:
        steps: (4,), as from `seam_steps`.

    Returns:
        The ratio; None if there is no seam, or no step beside one.
    """
    at_seams, seams, beside, others = steps
    if not seams or not beside:
        return None
    return float((at_seams / seams) / (beside / others))


def _forward(generator: nn.Module, ct: Tensor, *, key: int, z: int, y: int, x: int) -> Tensor:
    z_at, y_at, x_at = (torch.full((len(ct),), at, dtype=torch.int64) for at in (z, y, x))
    return generator(ct, noise_key=key, origin=(z_at, y_at, x_at))


def _cuts(first: int, last: int, core_px: int) -> list[int]:
    """Borders between cores along one axis, the two ends included."""
    parts = -(-(last - first) // core_px)
    return [first + (last - first) * i // parts for i in range(parts + 1)]
