"""A watch over a generator's training that knows the rock it should learn."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.frames import Frames
from sem2ct.data.store import Store
from sem2ct.metrics.monitor import REAL_TILES, RockMonitor, of_frames
from sem2ct.training.watch import Watch

LOGGER = logging.getLogger(__name__)

Images = Sequence[NDArray[np.uint8]]


def watch(
    draw: Callable[[int], NDArray[np.uint8]],
    store: Store,
    *,
    sem_frames: Path | str,
    evaluate_every: int | str,
    evaluate_tiles: int,
    threshold: int | str,
    collapse_share: float,
    collapse_after_images: int,
    r1_gamma: float,
    learning_rate: float,
    augment: str,
    seed: int,
) -> Watch:
    """Builds the watch of a training from the settings of the same names.

    Args:
        draw: Gives so many tiles of the averaged generator, always of the same latents:
            (n, H, W) uint8.
        store: Store of the tiles; its frames must be of the same extraction.
        sem_frames: Folder of the frames, or none: the tiles of the store stand for them.
        evaluate_every: Images between two measurements, or never.
        evaluate_tiles: Tiles measured each time.
        threshold: Grey level under which a pixel is pore, or otsu.
        collapse_share: Smallest spread, as a share of the real tiles'.
        collapse_after_images: Images before which a small spread is no collapse.
        r1_gamma: For the advice when the training diverges; so are the next two.
        learning_rate: See `r1_gamma`.
        augment: See `r1_gamma`.
        seed: Of the places where real tiles are cut.

    Returns:
        The watch; it measures nothing with evaluate_every=never.

    Raises:
        Refusal: If there are no frames, or they are not of the store's extraction.
    """
    advice = _advice(r1_gamma, learning_rate, augment)
    if isinstance(evaluate_every, str):
        return Watch(advice=advice)
    training, validation = _real(store, sem_frames)

    @cache
    def monitor() -> RockMonitor:
        rock: dict[str, Any] = {"tile_px": store.tile_px, "threshold": threshold, "seed": seed}
        made = of_frames(training, validation, **rock)
        real = " | ".join(f"{name} {value:.3g}" for name, value in made.real().items())
        LOGGER.info("images set aside, against the training images: %s", real or "none there")
        return made

    return Watch(
        every=evaluate_every,
        measure=lambda: monitor().measure(draw(evaluate_tiles)),
        best_by="rock_distance",
        spread="spread",
        least_spread=collapse_share,
        collapse_after=collapse_after_images,
        advice=advice,
    )


def _advice(r1_gamma: float, learning_rate: float, augment: str) -> str:
    return (
        f"raise r1_gamma (now {r1_gamma:g}), lower learning_rate (now {learning_rate:g}) or choose"
        f" another augment (now {augment})"
    )


def _real(store: Store, sem_frames: Path | str) -> tuple[Images, Images]:
    """Training images and those set aside."""
    if sem_frames == "none":
        some = min(len(store), REAL_TILES)
        return list(store.tiles[np.linspace(0, len(store) - 1, some).astype(np.int64)]), []
    frames = Frames(sem_frames)
    frames.refuse_other_grey(store.grey_and_size(), sem=store.folder)
    return frames.training, frames.validation
