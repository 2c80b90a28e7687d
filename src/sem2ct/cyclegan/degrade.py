"""What a micro-CT scanner would make of a SEM tile, learned without pairs.

A tile is blurred (Gaussian, half a CT pixel wide), averaged over each CT pixel, and
its greys are moved to the CT's by the monotone map that carries the grey quantiles
of averaged SEM tiles onto those of CT patches.  The map is estimated while training,
from running histograms; nothing is assumed about which tile shows what, nor about
the porosity of either.

The CT's noise is estimated beside it: the 3x3 kernel [1 -2 1] x [1 -2 1] is blind to
linear ramps and answers white noise of standard deviation s with 6 s (Immerkaer 1996,
doi:10.1006/cviu.1996.0060); the median of its magnitude in each patch is blind to edges.
Smooth (correlated) noise is underestimated.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from sem2ct.runtime.distributed import world_size
from sem2ct.runtime.sums import over_ranks

BLUR_CT_PX = 0.5
LEVELS = 256
FINE_STEPS = 256  # a grey level is counted in 1/256 parts, in whole numbers
QUANTILES = 33
LEAST_SLOPE, MOST_SLOPE = 0.2, 5.0
NOISE_SPREADS = 1.5  # 87 % of white noise stays under so many standard deviations
MEDIAN_TO_SPREAD = 1.4826


class Degradation:
    """From SEM tiles to the CT patches they would give, with running estimates."""

    def __init__(
        self, *, scale: int, patch_px: int, half_life_images: float, device: torch.device
    ) -> None:
        """Starts with the identity as grey map and no noise.

        Args:
            scale: SEM pixels per CT pixel.
            patch_px: Side of a CT patch.
            half_life_images: Images after which earlier ones count half.
            device: Where the tensors are.
        """
        self.scale, self.half_life_images = scale, half_life_images
        self.rows = blur_and_average(patch_px, scale).to(device)
        self.counts = torch.zeros(2, LEVELS + 1, dtype=torch.float64, device=device)
        self.noise_sum = torch.zeros(2, dtype=torch.float64, device=device)
        self.map = torch.linspace(-1, 1, LEVELS + 1, device=device)

    @torch.no_grad()
    def observe(self, ct: Tensor, sem: Tensor) -> None:
        """Learns from this rank's share of real images; all ranks learn the same.

        Args:
            ct: (N, 1, h, w) in [-1, 1].
            sem: (N, 1, h * scale, w * scale) in [-1, 1].
        """
        fresh = torch.stack([soft_counts(self.averaged(sem)), soft_counts(ct)])
        spreads = noise_spread(ct).double()
        noise = torch.stack([spreads.sum(), torch.ones_like(spreads).sum()])
        fresh = over_ranks(torch.cat([fresh.flatten(), noise]))
        fading = 0.5 ** (float(len(ct) * world_size()) / self.half_life_images)
        self.counts = self.counts * fading + fresh[:-2].view_as(self.counts)
        self.noise_sum = self.noise_sum * fading + fresh[-2:]
        self.map = matched_greys(self.counts[0], self.counts[1])

    @property
    def noise_floor(self) -> Tensor:
        """Scalar: differences below it are put down to the CT's noise."""
        spread = self.noise_sum[0] / self.noise_sum[1].clamp(min=1)
        return (NOISE_SPREADS * spread).float()

    def averaged(self, sem: Tensor) -> Tensor:
        """Blurs and averages (N, 1, H, W) to (N, 1, h, w), float32."""
        return self.rows @ sem.float() @ self.rows.T

    def __call__(self, sem: Tensor) -> Tensor:
        """Predicts the CT of (N, 1, H, W): (N, 1, h, w), float32, differentiable."""
        place = (self.averaged(sem).clamp(-1, 1) + 1) * (LEVELS / 2)
        below = place.detach().floor().clamp(max=LEVELS - 1)
        # What is no number stays none below; it must not become a place outside the map.
        index = below.nan_to_num().long()
        low, high = self.map[index], self.map[index + 1]
        return low + (place - below) * (high - low)

    def linear(self) -> tuple[float, float]:
        """Gain and bias that carry CT greys to averaged SEM greys: equal mean and spread."""
        greys = torch.linspace(-1, 1, LEVELS + 1, dtype=torch.float64, device=self.counts.device)
        share = self.counts / self.counts.sum(1, keepdim=True).clamp(min=1)
        means = (share * greys).sum(1)
        spreads = ((share * greys**2).sum(1) - means**2).clamp(min=1e-6).sqrt()
        gain = (spreads[0] / spreads[1]).clamp(0.1, 10)
        return float(gain), float(means[0] - gain * means[1])

    def state(self) -> dict[str, Any]:
        """The running estimates, on the CPU."""
        return {
            "counts": self.counts.cpu().clone(),
            "noise_sum": self.noise_sum.cpu().clone(),
            "map": self.map.cpu().clone(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name in ("counts", "noise_sum", "map"):
            getattr(self, name).copy_(state[name])


def blur_and_average(patch_px: int, scale: int, blur_ct_px: float = BLUR_CT_PX) -> Tensor:
    """Weights of a Gaussian blur followed by the mean over a CT pixel, along one axis.

    Args:
        patch_px: CT pixels along the axis.
        scale: SEM pixels per CT pixel.
        blur_ct_px: Standard deviation of the blur, in CT pixels.

    Returns:
        float32 (patch_px, patch_px * scale); each row sums to 1, at the edges too.
    """
    centres = torch.arange(patch_px * scale, dtype=torch.float64) + 0.5
    edges = torch.arange(patch_px + 1, dtype=torch.float64).view(-1, 1) * scale
    reached = torch.special.erf((edges - centres) / (math.sqrt(2) * blur_ct_px * scale))
    weights = reached[1:] - reached[:-1]
    return (weights / weights.sum(1, keepdim=True)).float()


def soft_counts(greys: Tensor) -> Tensor:
    """Histogram of greys in [-1, 1] on 257 levels, each value shared by its two neighbours.

    Counted in whole numbers (256 per value), so that the order and the split of a batch over
    ranks change nothing.

    Args:
        greys: Any shape; values outside are put at the ends.

    Returns:
        float64 (257,); sums to the number of values.
    """
    fine = ((greys.flatten().double() + 1) * (LEVELS / 2 * FINE_STEPS)).round().long()
    fine = fine.clamp(0, LEVELS * FINE_STEPS)
    level, rest = fine // FINE_STEPS, fine % FINE_STEPS
    counts = torch.zeros(LEVELS + 2, dtype=torch.int64, device=greys.device)
    counts.index_add_(0, level, FINE_STEPS - rest)
    counts.index_add_(0, level + 1, rest)
    return counts[: LEVELS + 1].double() / FINE_STEPS


def noise_spread(ct: Tensor) -> Tensor:
    """Standard deviation of the white noise in each patch.

    Args:
        ct: (N, 1, h, w), sides at least 3.

    Returns:
        (N,), in the units of `ct`.
    """
    kernel = ct.new_tensor([1.0, -2.0, 1.0])
    kernel = torch.outer(kernel, kernel).view(1, 1, 3, 3)
    residual = F.conv2d(ct.float(), kernel).flatten(1).abs()
    return residual.median(1).values * (MEDIAN_TO_SPREAD / 6)


def matched_greys(from_counts: Tensor, to_counts: Tensor) -> Tensor:
    """The monotone map that carries the quantiles of one histogram onto those of another.

    Its slope is kept within 0.2 and 5, so that a gradient passes everywhere and none explodes;
    beyond the 1st and 99th percentile it continues straight.

    Args:
        from_counts: (257,), levels from -1 to 1.
        to_counts: (257,).

    Returns:
        float32 (257,): the grey that each level is carried to.
    """
    levels = torch.linspace(0.01, 0.99, QUANTILES, dtype=torch.float64, device=from_counts.device)
    start, end = _quantiles(from_counts, levels), _quantiles(to_counts, levels)
    greys = torch.linspace(-1, 1, LEVELS + 1, dtype=torch.float64, device=from_counts.device)
    right = torch.searchsorted(start.contiguous(), greys).clamp(1, QUANTILES - 1)
    run = (start[right] - start[right - 1]).clamp(min=1e-6)
    slopes = ((end[right] - end[right - 1]) / run).clamp(LEAST_SLOPE, MOST_SLOPE)
    outside = (greys < start[0]) | (greys > start[-1])
    overall = (end[-1] - end[0]) / (start[-1] - start[0]).clamp(min=1e-6)
    slopes = torch.where(outside, overall.clamp(LEAST_SLOPE, MOST_SLOPE), slopes)
    climbed = torch.cumsum(slopes, 0) * (2 / LEVELS)
    # The clamps shift the curve; it is put back where the two histograms' bulk agrees.
    offset = _mean(to_counts, greys) - _mean(from_counts, climbed)
    return (climbed + offset).float()


def _quantiles(counts: Tensor, levels: Tensor) -> Tensor:
    """Greys below which the given shares of a histogram lie."""
    cumulative = torch.cumsum(counts, 0)
    cumulative = cumulative / cumulative[-1].clamp(min=1e-12)
    right = torch.searchsorted(cumulative, levels).clamp(1, LEVELS)
    low, high = cumulative[right - 1], cumulative[right]
    part = ((levels - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return (right - 1 + part) * (2 / LEVELS) - 1


def _mean(counts: Tensor, values: Tensor) -> Tensor:
    return (counts * values).sum() / counts.sum().clamp(min=1e-12)
