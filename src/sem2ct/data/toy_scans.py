"""The pretended instruments that look at the toy rock: a SEM and a micro-CT scanner.

Each takes a noise-free picture of the truth and returns what a detector would have
written: the SEM slightly blurred, shaded and noisy in 8 bit; the CT blurred by its
detector, coarse, noisy in 16 bit, in a cylindrical field of view.
"""

from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

BAR_ROWS = 48
CT_BACKGROUND = 0
_CT_AIR, _CT_CONTRAST, _CT_NOISE = 9000.0, 32000.0, 900.0
_SEM_BLUR_PX, _SEM_NOISE, _SEM_SHADING = 0.5, 6.0, 0.05


def resolution(pixel_um: float) -> dict:
    """TIFF resolution tags for `tifffile`: pixels per centimetre."""
    return {"resolution": (1e4 / pixel_um, 1e4 / pixel_um), "resolutionunit": "CENTIMETER"}


def area_mean(volume: np.ndarray, factor: int) -> np.ndarray:
    """Mean of factor x factor x factor blocks.

    Args:
        volume: (z, y, x), every side a multiple of `factor`.
        factor: Voxels per block along each axis.

    Returns:
        float32 (z / factor, y / factor, x / factor).
    """
    z, y, x = (n // factor for n in volume.shape)
    # One axis after the other, the strided first: three times faster than one mean over three.
    rows = volume.reshape(z, factor, y, factor, x * factor).sum((1, 3), dtype=np.float32)
    return rows.reshape(z, y, x, factor).sum(3, dtype=np.float32) / np.float32(factor**3)


def field_radius_px(width: int, height: int) -> float:
    """Radius of the scanner's cylindrical field of view, in voxels."""
    return 0.48 * min(width, height)


def micro_ct(half_voxels: np.ndarray, *, draw: np.random.Generator) -> np.ndarray:
    """A reconstructed micro-CT volume.

    Args:
        half_voxels: float32 (2 z, 2 y, 2 x), attenuation averaged to half voxels, 0 in pore
            and 1 in the densest mineral. It is blurred at this step: on the fine grid that would
            cost (scale / 2)^3 times more for the same picture.
        draw: Source of the noise.

    Returns:
        uint16 (z, y, x); outside the field of view `CT_BACKGROUND`.
    """
    blurred = ndimage.gaussian_filter(half_voxels, sigma=1.0, mode="nearest", truncate=3.0)
    clean = area_mean(blurred, 2)
    noise = draw.standard_normal(clean.shape, dtype=np.float32)
    # A reconstruction filter leaves noise that is a little smoother than white.
    noise = ndimage.gaussian_filter(noise, sigma=(0.0, 0.5, 0.5), mode="wrap")
    noise *= _CT_NOISE / noise.std()
    grey = np.clip(np.rint(_CT_AIR + _CT_CONTRAST * clean + noise), 1, 65535).astype(np.uint16)
    _, height, width = grey.shape
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    grey[:, y**2 + x**2 > field_radius_px(width, height) ** 2] = CT_BACKGROUND
    return grey


def sem_image(grey: np.ndarray, *, draw: np.random.Generator) -> np.ndarray:
    """A backscattered-electron image.

    Args:
        grey: uint8 (y, x), the noise-free picture.
        draw: Source of shading and noise.

    Returns:
        uint8 (y, x).
    """
    height, width = grey.shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    slope_y, slope_x, bowl = draw.uniform(-0.5, 0.5, 3)
    shading = 1 + _SEM_SHADING * (slope_y * y + slope_x * x + bowl * (x**2 + y**2 - 2 / 3))
    seen = ndimage.gaussian_filter(grey.astype(np.float32), _SEM_BLUR_PX, mode="nearest") * shading
    seen += _SEM_NOISE * draw.standard_normal(seen.shape, dtype=np.float32)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def data_bar(width: int) -> np.ndarray:
    """The strip a microscope prints under its image: black, with a white scale and ticks.

    Args:
        width: Columns.

    Returns:
        uint8 (BAR_ROWS, width).
    """
    bar = np.zeros((BAR_ROWS, width), np.uint8)
    bar[0] = 255
    length = width // 3
    left = width // 16
    bar[30:33, left : left + length] = 255
    for tick in np.linspace(left, left + length - 2, 6).astype(int):
        bar[20:33, tick : tick + 2] = 255
    # Blocks that stand for the letters.
    for start in range(width // 2, width - 12, 14):
        bar[16 + start % 5 : 34, start : start + 7] = 255
        bar[22:26, start + 2 : start + 5] = 0
    return bar


def write_stack(path: Path, volume: np.ndarray, *, pixel_um: float) -> None:
    """Writes a volume as ImageJ would, voxel size included.

    Args:
        path: TIFF file.
        volume: uint16 (z, y, x).
        pixel_um: Side of a voxel.
    """
    tifffile.imwrite(
        path,
        volume,
        imagej=True,
        resolution=(1 / pixel_um, 1 / pixel_um),
        metadata={"axes": "ZYX", "spacing": pixel_um, "unit": "um"},
    )
