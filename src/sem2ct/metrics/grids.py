"""What the style of a tile decides and what its noise: numbers of tiles in rows and columns.

`synthesize` draws grids: every style with every noise, or paths from one style to
another.  In the first a number of tile ij is thought of as

    mean + style_i + noise_j + rest_ij

with independent parts, whose variances follow from mean squares.  The part `noise` is
what one noise does alike to every style, `rest` what it does to each in its own way.
Along a path a generator that knows pictures by heart jumps, another one walks.

Source: Searle, Casella & McCulloch, Variance Components (1992), chapter 4 (balanced data).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.runtime.refusal import Refusal

Floats = NDArray[np.float64]
QUANTITIES = ("porosity", "specific_surface", "correlation_length", "one_over_e_length")
PARTS = ("style", "noise", "rest")


@dataclass(frozen=True)
class Grid:
    """Where the tiles of a set stand."""

    mode: str
    """fixed_style and fixed_noise (the same in other order), or interpolate."""
    outer: NDArray[np.integer]
    """(n,) number of each tile's style, or path."""
    inner: NDArray[np.integer]
    """(n,) number of its noise, or step."""

    def cells(self, values: Floats) -> Floats:
        """Lays a quantity out.

        Args:
            values: (n,) one value per tile.

        Returns:
            (styles, noises) or (paths, steps); the mean where several tiles share a cell.

        Raises:
            Refusal: If a cell has no tile.
        """
        _, row = np.unique(self.outer, return_inverse=True)
        _, column = np.unique(self.inner, return_inverse=True)
        shape = (int(row.max()) + 1, int(column.max()) + 1)
        at = row * shape[1] + column
        held = np.bincount(at, minlength=shape[0] * shape[1])
        if not held.all():
            raise Refusal(
                f"a grid of {shape[0]} x {shape[1]} tiles ({self.mode}), but only"
                f" {np.count_nonzero(held)} of them are measured; set most_tiles to"
                f" {held.size} or more"
            )
        return (np.bincount(at, weights=values, minlength=held.size) / held).reshape(shape)


def variances(cells: Floats) -> Floats:
    """Unbiased variances of the three parts.

    Args:
        cells: (styles, noises), two or more each, no NaN.

    Returns:
        (3,) in the order of `PARTS`; chance may make the first two negative.
    """
    styles, noises = cells.shape
    mean = cells.mean()
    of_style, of_noise = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True)
    square_style = noises * ((of_style - mean) ** 2).sum() / (styles - 1)
    square_noise = styles * ((of_noise - mean) ** 2).sum() / (noises - 1)
    left = cells - of_style - of_noise + mean
    rest = (left**2).sum() / ((styles - 1) * (noises - 1))
    return np.array([(square_style - rest) / noises, (square_noise - rest) / styles, rest])


def shares(cells: Floats) -> dict[str, Any]:
    """How much of a quantity's variance the style explains, and how much the noise.

    Args:
        cells: (styles, noises); styles with a NaN are left out.

    Returns:
        styles (used); sd_within_style and sd_within_noise (root of the mean variance of the
        tiles of one style, of one noise); share_style, share_noise, share_rest, which add up
        to 1 (negative ones count as 0), and share_style_error, the standard error of the
        first when styles, and then noises, are left out one at a time; NaN for fewer than
        three of one of them.
    """
    whole = cells[np.isfinite(cells).all(axis=1)]
    found: dict[str, Any] = {"styles": len(whole)}
    if min(whole.shape) < 3:
        names = ("sd_within_style", "sd_within_noise", *(f"share_{part}" for part in PARTS))
        return found | dict.fromkeys((*names, "share_style_error"), float("nan"))
    found["sd_within_style"] = float(np.sqrt(whole.var(axis=1, ddof=1).mean()))
    found["sd_within_noise"] = float(np.sqrt(whole.var(axis=0, ddof=1).mean()))
    found |= {f"share_{part}": share for part, share in zip(PARTS, _shares(whole), strict=True)}
    found["share_style_error"] = float(np.sqrt(_left_out(whole) + _left_out(whole, axis=1)))
    return found


def _left_out(cells: Floats, *, axis: int = 0) -> float:
    """Jackknife variance of the style's share, over the styles or over the noises.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 11.2.
    """
    count = cells.shape[axis]
    shares = [_shares(np.delete(cells, k, axis=axis))[0] for k in range(count)]
    return (count - 1) * float(np.var(shares))


def _shares(cells: Floats) -> list[float]:
    parts = np.maximum(variances(cells), 0)
    total = parts.sum()
    return (parts / total).tolist() if total > 0 else [float("nan")] * len(PARTS)


def paths(cells: Floats) -> dict[str, Any]:
    """How a quantity goes from one style to another.

    Args:
        cells: (paths, steps), three or more steps; paths with a NaN are left out.

    Returns:
        paths (used); change (mean difference of the two ends, whatever its sign);
        largest_step (median over the paths of the largest step over the range of the path: 1
        is a jump, `even_step` an even walk); detour (median of the length of the way over the
        range: 1 is a way without turning back).
    """
    whole = cells[np.isfinite(cells).all(axis=1)]
    steps = np.abs(np.diff(whole, axis=1))
    ways = np.ptp(whole, axis=1)
    moved = ways > 0
    found: dict[str, Any] = {"paths": len(whole), "even_step": 1 / (cells.shape[1] - 1)}
    found["change"] = float(np.abs(whole[:, -1] - whole[:, 0]).mean()) if len(whole) else np.nan
    for name, of_path in (("largest_step", steps.max(axis=1)), ("detour", steps.sum(axis=1))):
        share = of_path[moved] / ways[moved]
        found[name] = float(np.median(share)) if len(share) else float("nan")
    return found


def described(grid: Grid, scalars: dict[str, Floats], units: dict[str, str]) -> dict[str, Any]:
    """What metrics.json says of a grid.

    Args:
        grid: Where the tiles stand.
        scalars: (n,) each, of all tiles, in units.
        units: Of each.

    Returns:
        mode, outer, inner (how many there are) and, by name, quantities.
    """
    how = paths if grid.mode == "interpolate" else shares
    laid = {name: grid.cells(scalars[name]) for name in QUANTITIES}
    outer, inner = laid[QUANTITIES[0]].shape
    return {
        "mode": grid.mode,
        "outer": outer,
        "inner": inner,
        "quantities": {name: {"unit": units[name], **how(cells)} for name, cells in laid.items()},
    }
