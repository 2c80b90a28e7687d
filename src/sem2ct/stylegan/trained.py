"""A trained generator as the settings name it: a run, one of its checkpoints, or a pickle.

Which file is meant is never guessed: of a run the newest checkpoint or the recorded best,
as asked, and the log says which file it was.  A foreign pickle knows nothing of the store its
generator was trained on, so its tiles have no grey window, and a pixel size only if given.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sem2ct.data import manifests
from sem2ct.runtime import checkpoint
from sem2ct.runtime.checkpoint import Which
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import nvlabs, sample
from sem2ct.stylegan.generator import Generator

LOGGER = logging.getLogger(__name__)

PICKLE = ".pkl"


@dataclass(frozen=True)
class Trained:
    """A generator, and where it comes from."""

    path: Path
    """Its file."""
    generator: Generator
    """The averaged one, on the CPU, not trainable."""
    images_seen: int
    """Images it was trained with; 0 if the file does not say."""
    store: dict[str, Any]
    """domain, tile_px, pixel_um and window of the tiles it draws."""


def find(run: Path, which: Which | Path) -> Path:
    """Finds the file of a generator.

    Args:
        run: Run folder of train-stylegan, one of its checkpoints, or a pickle.
        which: latest or best, of a run folder; or a file, which is taken instead of `run`.

    Returns:
        An existing file.

    Raises:
        Refusal: If there is none.
    """
    if not isinstance(which, Path):
        return checkpoint.find(run, setting="stylegan", which=which)
    if not which.is_file():
        raise Refusal(
            f"checkpoint={which} is no file; allowed are latest, best, a checkpoint of"
            " train-stylegan, or a network pickle of StyleGAN2-ADA (*.pkl)"
        )
    return which


def bag(path: Path, *, to_grey: bool = False) -> dict[str, Any]:
    """Reads the networks of a training, ours or a foreign one.

    Args:
        path: A checkpoint of train-stylegan, or a pickle.
        to_grey: Make grey networks of a pickle's colour ones.

    Returns:
        As `checkpoint.load`; of a pickle the networks only.

    Raises:
        Refusal: If the file is neither.
    """
    if path.suffix != PICKLE:
        return checkpoint.load(path)
    networks = nvlabs.read(path, to_grey=to_grey)
    for remark in networks.remarks:
        LOGGER.info("%s: %s", path, remark)
    return nvlabs.to_checkpoint(networks)


def load(
    run: Path,
    which: Which | Path,
    *,
    pixel_um: float | Literal["unstated"] = "unstated",
    to_grey: bool = False,
) -> Trained:
    """Opens a generator, and says in the log which.

    Args:
        run: As for `find`.
        which: As for `find`.
        pixel_um: Pixel size of the tiles, where the file does not state it.
        to_grey: Make a grey generator of a pickle's colour one.

    Returns:
        The generator.

    Raises:
        Refusal: If there is none, or the file states another pixel size.
    """
    path = find(run, which)
    content = bag(path, to_grey=to_grey)
    generator = sample.from_bag(content, path)
    images_seen = content.get("images_seen", 0)
    LOGGER.info("generator: %s, %s images seen", path, images_seen or "unknown")
    store = _store(path, content, generator.resolution, pixel_um)
    return Trained(path, generator, images_seen, store)


def _store(
    path: Path, content: dict[str, Any], tile_px: int, pixel_um: float | str
) -> dict[str, Any]:
    stated = content.get("store")
    if stated is None and path.suffix != PICKLE:
        raise Refusal(
            f"{path} says nothing about the store it was trained on, so grey window and"
            " pixel size are unknown; give a run folder of train-stylegan"
        )
    if stated is None:
        size = None if pixel_um == "unstated" else float(pixel_um)
        LOGGER.info("%s states no grey window and no pixel size; pixel_um=%s", path, pixel_um)
        return {"domain": "sem", "tile_px": tile_px, "pixel_um": size, "window": None}
    with checkpoint.fitting(
        path, "holds no record of its store", remedy="train the generator again"
    ):
        manifests.Origin.model_validate(stated)
    if pixel_um not in ("unstated", stated["pixel_um"]):
        raise Refusal(
            f"pixel_um={pixel_um}, but {path} was trained on pixels of"
            f" {stated['pixel_um'] or 'unstated size'}; leave pixel_um=unstated"
        )
    return stated
