import numpy as np
import pytest

from sem2ct.data import image_sets, set_parts
from sem2ct.data.store import StoreWriter
from sem2ct.runtime.refusal import Refusal

STYLES = (2, 0, 0, 2, 0, 2, 2)


def opened(folder, *, styles=STYLES, facts=(), name="synthetic"):
    writer = StoreWriter(
        folder,
        tile_px=8,
        domain="sem",
        pixel_um=0.5,
        window=None,
        shard_patches=7,
        sources=[{}],
        facts=dict(facts),
    )
    patches = np.arange(7, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    told = {"style": np.array(styles)} if styles else {}
    writer.write_shard(0, patches, {"seed": np.arange(7), **told})
    writer.finish()
    return image_sets.open_set(name, str(folder), tile_px=4, most_tiles=1000, seed=0)


def test_each_style_becomes_a_set_of_its_own_tiles(tmp_path):
    sets = {
        "real": opened(tmp_path / "real", name="real"),
        "plain": opened(tmp_path / "plain", styles=(), name="plain"),
        "synthetic": opened(tmp_path / "synthetic"),
    }
    found = set_parts.split(sets, "style", reference="real")
    assert list(found) == ["real", "plain", "synthetic style 0", "synthetic style 2"]
    assert found["real"] is sets["real"]
    lowest = found["synthetic style 0"]
    greys = [int(lowest.read(index)[0, 0]) for index in range(len(lowest))]
    assert greys == [patch for patch in (1, 2, 4) for _ in range(4)]
    part = found["synthetic style 2"]
    assert (part.name, len(part), part.available, part.part) == ("synthetic style 2", 16, 16, True)
    greys = [int(part.read(index)[0, 0]) for index in range(len(part))]
    assert greys == [patch for patch in (0, 3, 5, 6) for _ in range(4)]  # four tiles of a patch
    assert part.frames.tolist() == greys
    assert set(part.labels["style"]) == {2}


def test_a_label_that_no_set_has_is_refused(tmp_path):
    sets = {"real": opened(tmp_path / "real", name="real"), "other": opened(tmp_path / "other")}
    with pytest.raises(Refusal, match=r"split_by=noise.*labels there are: style.*styles=3"):
        set_parts.split(sets, "noise", reference="real")
    only = {"real": sets["real"]}
    with pytest.raises(Refusal, match=r"split_by=style, but no set compared with real"):
        set_parts.split(only, "style", reference="real")


def test_a_part_of_a_grid_is_no_grid(tmp_path):
    sets = {"synthetic": opened(tmp_path / "grid", facts={"grid": "fixed_style"})}
    assert sets["synthetic"].grid == "fixed_style"
    found = set_parts.split(sets, "style", reference="real")
    assert [one.grid for one in found.values()] == ["none", "none"]
