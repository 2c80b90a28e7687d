"""What a translation leaves to be looked at: field of view, previews, a slice as a file."""

from pathlib import Path

import numpy as np

from sem2ct.cyclegan.volume import VolumeTranslator
from sem2ct.data import ome_tiff, pictures
from sem2ct.data.pyramid import open_levels, read_level
from sem2ct.data.translated import FIELD

LARGEST_PREVIEW_PX = 2048


def leave(job: VolumeTranslator, finished: Path, folder: Path, *, black_and_white: bool) -> None:
    """Writes the field of view and previews, and a single slice also as PNG and OME-TIFF.

    Args:
        job: What was translated.
        finished: Folder of the volume.
        folder: Run folder.
        black_and_white: Whether the volume holds pores, 0 and 1, instead of greys.
    """
    _field_of_view(job, folder)
    _previews(job, finished, folder, black_and_white=black_and_white)
    if job.shape[0] == 1 and not black_and_white:
        whole = read_level(finished, 0)
        pictures.write_png(folder / "translation.png", whole)
        levels = [whole[None], *open_levels(finished)[1:]]
        ome_tiff.write_slice(folder / "translation.ome.tif", levels, pixel_um=job.pixel_um)


def _field_of_view(job: VolumeTranslator, folder: Path) -> None:
    step = job.generator.scale if job.slices.refine else 1
    fields = (job.field(i) * np.uint8(255) for i in range(0, job.shape[0], step))
    pictures.write_pages(folder / FIELD, fields, pixel_um=job.ct_pixel_um)


def _previews(
    job: VolumeTranslator, finished: Path, folder: Path, *, black_and_white: bool
) -> None:
    """The middle slice, and what it was made from."""
    i = job.shape[0] // 2
    preview = read_level(finished, i, largest_px=LARGEST_PREVIEW_PX)
    preview = preview * np.uint8(255 if black_and_white else 1)
    pictures.write_png(folder / "previews" / "translation.png", preview)
    ct = pictures.enlarge(job.grey(i), *preview.shape)
    pictures.write_png(folder / "previews" / "ct.png", ct)
