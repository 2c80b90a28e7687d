"""Where a training takes its SEM tiles from: a store, or the frames beside it."""

from pathlib import Path

from sem2ct.data.crops import Crops
from sem2ct.data.datasets import Patches, Symmetries
from sem2ct.data.frames import Frames
from sem2ct.data.store import Store


def open_tiles(
    store: Store, *, tiles: str, sem_frames: Path | str, symmetries: Symmetries, seed: int
) -> Patches | Crops:
    """Opens the source that the settings of the same names mean.

    Args:
        store: Store of SEM tiles.
        tiles: stored, or frames: pieces of the training frames, as large as the tiles, and
            no flatter.
        sem_frames: Folder of the frames, read with tiles=frames only; else it may be none.
        symmetries: none, mirror or dihedral.
        seed: Start of the random stream.

    Returns:
        Batches.

    Raises:
        Refusal: If there are no frames, or they are not of the store's extraction.
    """
    if tiles == "stored":
        return Patches(store, symmetries=symmetries, seed=seed)
    frames = Frames(sem_frames)
    frames.refuse_other_grey(store.grey_and_size(), sem=store.folder)
    return Crops(
        frames.training,
        tile_px=store.tile_px,
        symmetries=symmetries,
        seed=seed,
        flat_share=store.manifest["facts"].get("flat_share", 1.0),
    )


def described(source: Patches | Crops, store: Store) -> str:
    """Says in a few words how much there is to learn from.

    Args:
        source: What `open_tiles` gave.
        store: Store of SEM tiles.

    Returns:
        A row of a dry run.
    """
    side = f"{store.tile_px} px"
    if isinstance(source, Patches):
        return f"{len(store)} of {side}"
    return f"{len(source)} places of {side} in {source.frames} training frames"
