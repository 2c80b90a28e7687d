from pathlib import Path

import numpy as np
import pytest

from sem2ct.data import pairs
from sem2ct.data.store import Store, StoreWriter
from sem2ct.runtime.refusal import Refusal


def store(
    folder: Path,
    *,
    px: int = 8,
    domain: str = "ct",
    count: int = 6,
    pixel_um: float | None = None,
    flat: bool = False,
    levels: int = 256,
    dark_share: float = 0.0,
) -> Store:
    writer = StoreWriter(
        folder,
        tile_px=px,
        domain=domain,
        pixel_um=pixel_um,
        window=None,
        shard_patches=4,
        sources=[],
        facts={},
    )
    drawn = np.random.default_rng(px).integers(0, levels, (count, px, px))
    tiles = (drawn * (1 if levels == 256 else 28)).astype(np.uint8)
    if dark_share:
        tiles[:] = np.where(np.arange(px) < dark_share * px, 40, 200)
    if flat:
        tiles[:] = np.arange(count)[:, None, None]
    places = {name: np.arange(count) for name in ("source", "z", "y", "x")}
    for k, part in enumerate((slice(0, 4), slice(4, count))):
        writer.write_shard(k, tiles[part], {name: where[part] for name, where in places.items()})
    writer.finish()
    return Store(folder)


def test_a_store_of_the_other_side_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"ct=.*holds SEM tiles, wanted are micro-CT patches; exch"):
        pairs.refuse_unfit(store(tmp_path / "a", domain="sem"), setting="ct", batch_size=2)


def test_fewer_patches_than_a_batch_are_refused_and_as_many_are_enough(tmp_path):
    six = store(tmp_path / "a")
    pairs.refuse_unfit(six, setting="ct", batch_size=6)
    with pytest.raises(Refusal, match="holds 6 micro-CT patches, fewer than batch_size=7"):
        pairs.refuse_unfit(six, setting="ct", batch_size=7)


def test_patches_of_one_grey_each_are_refused(tmp_path):
    with pytest.raises(Refusal, match="each of 6 micro-CT patches looked at is of one grey"):
        pairs.refuse_unfit(store(tmp_path / "a", flat=True), setting="ct", batch_size=2)


@pytest.mark.parametrize(("tile_px", "scale"), [(16, 2), (64, 8), (256, 32)])
def test_the_scale_is_the_ratio_of_the_sides(tmp_path, tile_px, scale):
    ct = store(tmp_path / "ct")
    assert pairs.scale_of(ct, {"tile_px": tile_px, "pixel_um": None}, sem="s") == scale


@pytest.mark.parametrize("tile_px", [8, 24, 40, 512])
def test_other_ratios_are_refused_with_the_sides_that_would_fit(tmp_path, tile_px):
    with pytest.raises(Refusal, match=rf"tiles of {tile_px} px.*\(16, 32, 64, 128, 256\)"):
        pairs.scale_of(store(tmp_path / "ct"), {"tile_px": tile_px, "pixel_um": None}, sem="s")


def test_pixel_sizes_that_make_another_scale_are_refused(tmp_path):
    ct = store(tmp_path / "ct", pixel_um=2.0)
    assert pairs.scale_of(ct, {"tile_px": 32, "pixel_um": 0.502}, sem="s") == 4
    with pytest.raises(Refusal, match=r"2 um is 3\.846 SEM pixels of 0\.52 um.*make scale 4"):
        pairs.scale_of(ct, {"tile_px": 32, "pixel_um": 0.52}, sem="s")


@pytest.mark.parametrize(("levels", "fit"), [(2, False), (8, False), (9, True)])
def test_patches_of_a_few_grey_levels_are_refused_as_segmented(tmp_path, levels, fit):
    segmented = store(tmp_path / "a", levels=levels)
    if fit:
        pairs.refuse_unfit(segmented, setting="ct", batch_size=2)
        return
    with pytest.raises(Refusal, match=rf"hold {levels} grey levels only \(0, 28.*segmented"):
        pairs.refuse_unfit(segmented, setting="ct", batch_size=2)


def test_the_skewness_of_two_greys_is_bernoullis():
    for dark in (0.1, 0.25, 0.6):
        images = np.where(np.arange(40) < dark * 40, 40, 200).astype(np.uint8)
        expected = (2 * dark - 1) / np.sqrt(dark * (1 - dark))
        assert pairs.skewness(images) == pytest.approx(expected)
    assert pairs.skewness(np.full((3, 3), 7, np.uint8)) == 0


# Skewness of a dark share of 1/8 is -2.27, of 1/4 -1.15, of 3/8 -0.52, of 1/2 none.
@pytest.mark.parametrize(
    ("ct_dark", "sem_dark", "said"),
    [
        (1 / 8, 1 / 4, "nothing"),
        (7 / 8, 3 / 4, "nothing"),
        (1 / 4, 1 / 2, "nothing"),
        (3 / 8, 7 / 8, "warned"),
        (1 / 4, 7 / 8, "refused"),
        (3 / 4, 1 / 8, "refused"),
    ],
)
def test_stores_whose_greys_lean_opposite_ways_are_refused(
    tmp_path, caplog, ct_dark, sem_dark, said
):
    ct = store(tmp_path / "ct", dark_share=ct_dark)
    sem = store(tmp_path / "sem", domain="sem", px=32, dark_share=sem_dark)
    pairs.hold_greys_together(ct, sem, greys="trusted")
    assert not caplog.messages
    if said == "refused":
        with pytest.raises(Refusal, match=r"lean opposite ways.*sem_window=\[99.9,0.1\].*trusted"):
            pairs.hold_greys_together(ct, sem, greys="checked")
        return
    pairs.hold_greys_together(ct, sem, greys="checked")
    assert any("lean opposite ways" in line for line in caplog.messages) == (said == "warned")
