import numpy as np
import pytest
import torch

from sem2ct.data import styles
from sem2ct.data.datasets import Patches
from sem2ct.data.store import Store, StoreWriter
from sem2ct.data.styles import Told
from sem2ct.runtime.refusal import Refusal

LABELS = np.array([0, 2, 1, 0, 2, 2, 0, 1, 0, 2], np.int64)


def store(folder, **facts):
    """Ten tiles of one grey each, their number; the styles are `LABELS`."""
    writer = StoreWriter(
        folder,
        tile_px=4,
        domain="sem",
        pixel_um=None,
        window=None,
        shard_patches=4,
        sources=[],
        facts=facts,
    )
    for k in range(3):
        numbers = np.arange(4 * k, min(4 * k + 4, 10))
        tiles = np.tile(numbers.astype(np.uint8)[:, None, None], (1, 4, 4))
        writer.write_shard(k, tiles, {"seed": numbers, "style": LABELS[numbers]})
    writer.finish()
    return Store(folder)


def test_centres_are_the_means_of_separate_groups_the_largest_first():
    draw = np.random.default_rng(4)
    sizes, means = (40, 70, 25), np.array([[0.0, 5.0], [-6.0, 0.0], [7.0, -3.0]])
    groups = [mean + draw.uniform(-1, 1, (n, 2)) for n, mean in zip(sizes, means, strict=True)]
    found = styles.centres(draw.permutation(np.concatenate(groups)), count=3)
    expected = np.array([groups[k].mean(axis=0) for k in (1, 0, 2)])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    for k, group in zip((1, 0, 2), groups, strict=True):
        assert (styles.nearest(group, found) == k).all()


def test_tiles_that_differ_in_two_ways_make_no_three_styles():
    points = np.repeat([[0.0], [1.0]], 5, axis=0)
    assert len(styles.centres(points, count=2)) == 2
    with pytest.raises(Refusal, match="styles=3, but the tiles differ in 2 ways only"):
        styles.centres(points, count=3)


def test_a_store_that_states_no_styles_has_none(tmp_path):
    assert styles.told(store(tmp_path / "plain")) is None
    stated = styles.told(store(tmp_path / "stated", style={"of": "w", "count": 3}))
    assert stated is not None
    assert stated.labels.tolist() == LABELS.tolist()
    assert stated.facts() == {"count": 3, "tiles": [4, 2, 4]}


def test_only_the_tiles_of_the_wanted_styles_are_left():
    known = Told(3, np.arange(10), LABELS)
    some = styles.only(known, (2, 1), batch_size=6, sem="x")
    assert some.tiles.tolist() == [1, 2, 4, 5, 7, 9]
    assert some.labels.tolist() == [2, 1, 2, 2, 1, 2]
    assert some.facts() == {"count": 3, "tiles": [0, 2, 4]}
    assert styles.only(known, "all", batch_size=10, sem="x") is known


def test_styles_that_are_not_there_or_too_rare_are_refused():
    known = Told(3, np.arange(10), LABELS)
    with pytest.raises(Refusal, match=r"sem_styles=\[0, 3\].*sem=x have styles 0 to 2"):
        styles.only(known, (0, 3), batch_size=1, sem="x")
    with pytest.raises(
        Refusal, match=r"sem_styles=\[1\] leaves 2 tiles.*batch_size=3.*\[4, 2, 4\]"
    ):
        styles.only(known, (1,), batch_size=3, sem="x")


def shown(patches: Patches, first: int, count: int) -> list[tuple[int, int]]:
    """Number of each tile of a share, and the style it is said to have."""
    batch = patches.named(first, count)
    greys = ((batch["sem"][:, 0, 0, 0] + 1) * 127.5).round().int()
    return list(zip(greys.tolist(), batch["style"].tolist(), strict=True))


def wanted(folder: str) -> Patches:
    known = Told(3, np.arange(10), LABELS)
    told = styles.only(known, (2, 1), batch_size=6, sem="x")
    return Patches(Store(folder), symmetries="dihedral", seed=3, told=told)


def share_of_a_rank(folder: str) -> list[tuple[int, int]]:
    return shown(wanted(folder), 6, 6)


def test_each_pass_shows_every_tile_of_the_wanted_styles_once_with_its_style(tmp_path):
    store(tmp_path / "sem")
    patches = wanted(str(tmp_path / "sem"))
    for first in (0, 6, 12):
        expected = [(k, int(LABELS[k])) for k in (1, 2, 4, 5, 7, 9)]
        assert sorted(shown(patches, first, 6)) == expected
    assert shown(patches, 0, 6) != shown(patches, 6, 6)


def test_two_processes_see_together_what_one_sees(tmp_path, two_ranks):
    store(tmp_path / "sem")
    folder = str(tmp_path / "sem")
    first, second = two_ranks(share_of_a_rank, folder)
    whole = share_of_a_rank(folder)
    assert [first, second] == [whole[0::2], whole[1::2]]


def test_without_styles_a_batch_is_of_images_alone(tmp_path):
    patches = Patches(store(tmp_path / "sem"), symmetries="none", seed=3)
    batch = patches.named(4, 4)
    assert list(batch) == ["sem"]
    assert torch.equal(batch["sem"], patches.share(4, 4))
