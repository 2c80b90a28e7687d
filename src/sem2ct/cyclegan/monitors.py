"""What tells during training whether a translation can be trusted.

The losses do not: a cycle closes as well when dark and bright have changed places, or
when the CT is hidden in the tile as faint noise that the way back has learned to read.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from sem2ct.cyclegan.losses import cycle_loss, grey_correlation, per_ct_pixel
from sem2ct.runtime.distributed import mean_over_ranks
from sem2ct.runtime.seeding import hashed_normal

GREY = 127.5
"""Grey levels of 0 to 255 per unit of a network's input."""
HIDING_NOISE = 2 / GREY
RARELY = 16
"""Steps between two looks at what costs extra."""
_LEVELS = 256


def disturbed_cycles(
    sem_to_ct: nn.Module, ct: Tensor, fake_sem: Tensor, *, noise_key: int, numbers: Tensor
) -> dict[str, Tensor]:
    """Cycle errors when faint signals in the tiles between are destroyed.

    Args:
        sem_to_ct: The way back.
        ct: (N, 1, h, w), what went in.
        fake_sem: (N, 1, H, W), its translation.
        noise_key: Names the noise.
        numbers: (N,) int64, the images' numbers, which place the noise.

    Returns:
        disturbed_by_noise: with normal noise of two grey levels on the tiles;
        disturbed_by_rounding: with tiles rounded to 8 bit.  0-d each.

    Source: Chu et al. 2017, arXiv:1712.02950 (CycleGAN hides information in faint noise).
    """
    number = numbers.to(ct.device).view(-1, 1, 1, 1)
    rows = torch.arange(fake_sem.shape[2], device=ct.device).view(-1, 1)
    columns = torch.arange(fake_sem.shape[3], device=ct.device)
    noisy = fake_sem + HIDING_NOISE * hashed_normal(noise_key, number, rows, columns)
    rounded = ((fake_sem + 1) * GREY).round() / GREY - 1
    return {
        "disturbed_by_noise": cycle_loss(ct, sem_to_ct(noisy)),
        "disturbed_by_rounding": cycle_loss(ct, sem_to_ct(rounded)),
    }


def hidden_information(cycle: Tensor, disturbed: Tensor) -> Tensor:
    """A disturbed cycle error over the clean one: 1 when nothing was hidden, far above if so."""
    return disturbed / cycle.clamp(min=1e-6)


def porosity_transfer(ct: Tensor, fake_sem: Tensor, real_sem: Tensor) -> Tensor:
    """How closely the porosity of translated patches follows the darkness of the CT.

    Args:
        ct: (N, 1, h, w) in [-1, 1], this rank's patches.
        fake_sem: (N, 1, H, W), their translations.
        real_sem: (M, 1, H, W); the threshold between pore and grain is Otsu's for them.

    Returns:
        Correlation over the patches of all ranks of mean CT grey, sign changed, and
        porosity: 1 when a darker patch always gets proportionally more pore, 0 when porosity
        does not depend on the CT (or one of the two is the same in all patches), negative when
        pore and grain have changed places.
    """
    pores = (fake_sem < otsu(real_sem)).float().mean((1, 2, 3))
    return grey_correlation(-ct.float().mean((1, 2, 3)), pores)


def otsu(images: Tensor) -> Tensor:
    """The grey that separates two classes best, of the images of all ranks.

    Args:
        images: Any shape, in [-1, 1].

    Returns:
        0-d float32.

    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    level = ((images.float() + 1) * GREY).round().clamp(0, _LEVELS - 1).long().flatten()
    counts = torch.bincount(level, minlength=_LEVELS).double()
    share = mean_over_ranks(counts)
    share = share / share.sum()
    greys = torch.arange(_LEVELS, dtype=torch.float64, device=images.device)
    below, moment = share.cumsum(0), (share * greys).cumsum(0)
    between = (moment[-1] * below - moment).square() / (below * (1 - below)).clamp(min=1e-12)
    # Between two far classes every level separates alike; the middle one is fair.
    best = (between >= between.max() * (1 - 1e-9)).double()
    middle = (best * (greys + 0.5)).sum() / best.sum()
    return (middle / GREY - 1).float()


def judged_right(real_logits: Sequence[Tensor], fake_logits: Sequence[Tensor]) -> Tensor:
    """Share of a discriminator's answers that lie on the right side of 1/2.

    Args:
        real_logits: One tensor (N, ...) per scale.
        fake_logits: The same of fakes.

    Returns:
        0-d; 1/2 when it cannot tell real from fake, 1 when the fakes deceive it nowhere.
    """
    right = [(scale > 0.5).float().mean() for scale in real_logits]
    right += [(scale <= 0.5).float().mean() for scale in fake_logits]
    return torch.stack(right).mean()


def raster(ct: Tensor, fake_sem: Tensor) -> Tensor:
    """How much of a translation is a pattern that repeats in every CT pixel.

    A translator that knows the CT only can meet its mean grey with one dot per CT pixel, as a
    newspaper prints grey; it looks sharp, and holds no structure of a rock.

    Args:
        ct: (N, 1, h, w).
        fake_sem: (N, 1, H, W), its translation.

    Returns:
        0-d: share of the variance of all pixels that is the mean over the cells, one per CT
        pixel; about 1 / (N h w) for a picture without such a pattern, at most 1.
    """
    cells = per_ct_pixel(fake_sem.float(), fake_sem.shape[-1] // ct.shape[-1])
    repeated = cells.mean((0, 1, 3)).var(correction=0)
    return repeated / cells.var(correction=0).clamp(min=1e-12)


def correlation(ct: Tensor, fake_sem: Tensor) -> Tensor:
    """Correlation of CT pixels and area-averaged translation: negative when inverted; 0-d."""
    scale = fake_sem.shape[-1] // ct.shape[-1]
    return grey_correlation(ct, F.avg_pool2d(fake_sem, scale))
