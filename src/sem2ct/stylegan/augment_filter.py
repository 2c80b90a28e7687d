"""Amplifying and damping the octaves of an image's spatial frequencies.

A half-band low-pass L, the autocorrelation of an orthonormal wavelet's scaling filter,
and its complement H = 1 - L split the frequencies in two; the low half is split again
with the filters spread by zeros (a trous).  The four bands H(z), L(z) H(z^2),
L(z) L(z^2) H(z^4) and L(z) L(z^2) L(z^4) add up to 1, so an image with equal gains in
all bands is only scaled.

Sources: Karras et al. 2020, arXiv:2006.06676, appendix B; Vetterli 1984 (filter banks);
Daubechies, Ten Lectures on Wavelets (1992), table 6.1 (the filter with two vanishing
moments).
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

BANDS = 4
_ROOT = math.sqrt(3)
SYM2 = tuple(tap / math.sqrt(32) for tap in (1 + _ROOT, 3 + _ROOT, 3 - _ROOT, 1 - _ROOT))
_BLOCK = 64


def band_filters() -> np.ndarray:
    """The four filters, lowest band first, (4, 43), symmetric, with a sum of 1 at the centre."""
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    high = -low
    high[len(low) // 2] += 1
    passed, bands = np.ones(1), []
    for octave in range(BANDS - 1):
        bands.append(np.convolve(passed, _spread(high, 2**octave)))
        passed = np.convolve(passed, _spread(low, 2**octave))
    bands.append(passed)
    wide = len(passed)
    return np.stack([np.pad(band, (wide - len(band)) // 2) for band in reversed(bands)])


def amplify_bands(images: Tensor, gains: Tensor) -> Tensor:
    """Multiplies each octave band of each image by a factor, along x and along y.

    Args:
        images: (N, 1, H, H) float32 or float64; the result has the same type.
        gains: (N, 4), lowest band first.

    Returns:
        (N, 1, H, H); outside its frame the image is mirrored, the edge pixels not
        repeated.  Differentiable in the images any number of times.

    Source: Karras et al. 2020, arXiv:2006.06676, appendix B.
    """
    taps = gains.detach().cpu().double() @ torch.from_numpy(band_filters())
    taps = taps.to(images.dtype).to(images.device, non_blocking=True)
    return _filtered(_filtered(images, taps).mT, taps).mT


def _spread(filter_: np.ndarray, step: int) -> np.ndarray:
    spread = np.zeros((len(filter_) - 1) * step + 1)
    spread[::step] = filter_
    return spread


def _filtered(images: Tensor, taps: Tensor) -> Tensor:
    """Filters along the last axis, as a product with a small matrix over blocks of it."""
    count, _, height, width = images.shape
    index, position, inside = _blocks(width, taps.shape[1], images.device)
    kernel = taps[:, position] * inside
    blocks = images.index_select(-1, index).reshape(count, -1, kernel.shape[1]) @ kernel
    return blocks.reshape(count, 1, height, -1)[..., :width]


@lru_cache(maxsize=64)
def _blocks(width: int, taps: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels go into each block, and which tap leads from each of them to the result."""
    block = min(_BLOCK, width)
    count = -(-width // block)
    first = torch.arange(count)[:, None] * block - taps // 2
    pixel = (first + torch.arange(block + taps - 1)).flatten().remainder(2 * (width - 1))
    mirrored = torch.minimum(pixel, 2 * (width - 1) - pixel)
    tap = torch.arange(block + taps - 1)[:, None] - torch.arange(block)[None]
    inside = (tap >= 0) & (tap < taps)
    return mirrored.to(device), tap.clamp(0, taps - 1).to(device), inside.to(device)
