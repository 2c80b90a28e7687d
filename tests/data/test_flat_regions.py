import numpy as np
import pytest

from sem2ct.data import flat_regions
from sem2ct.runtime.refusal import Refusal

NOISE = np.random.default_rng(5).integers(1, 250, (48, 72)).astype(np.uint8)


def charged():
    """Three of the left four columns of blocks are saturated."""
    image = NOISE.copy()
    image[:, :24] = 255
    image[8:16, 40:48] = 0
    return image


def places_of(*tiles):
    source, y, x = np.array(tiles).T
    return {"source": source, "z": np.zeros_like(source), "y": y, "x": x}


def test_blocks_of_one_grey_are_flat():
    expected = np.zeros((6, 9), dtype=bool)
    expected[:, :3] = expected[1, 5] = True
    np.testing.assert_array_equal(flat_regions.flat_blocks(charged()), expected)
    ramp = np.repeat(NOISE[:1], 48, axis=0)  # every row alike, no block of one value
    assert not flat_regions.flat_blocks(ramp).any()
    assert flat_regions.flat_blocks(charged()[:47, :71]).shape == (5, 8)


def test_tiles_that_are_mostly_flat_are_left_out(caplog):
    tiles = places_of((0, 0, 0), (0, 0, 16), (0, 16, 40), (1, 0, 0))
    frames = [charged(), NOISE]
    # Shares of flat blocks in the 4 x 4 of each: 12, 5, 0 and 0.
    kept, covered = flat_regions.leave_out(
        frames, tiles, tile_px=32, most=0.5, names=["a.tif", "b.tif"]
    )
    assert kept["x"].tolist() == [16, 40, 0]
    assert kept["source"].tolist() == [0, 0, 1]
    flat = (18 + 1) / 54
    union = 32 * 32 + 32 * 32 - 8 * 16  # two tiles that share 8 columns over 16 rows
    assert covered[0] == {
        "flat_share": pytest.approx(flat, abs=1e-4),
        "tiles": 2,
        "left_out": 1,
        "coverage": pytest.approx(union / (48 * 72), abs=1e-4),
    }
    assert covered[1]["tiles"] == 1
    assert "a.tif: tiles left out because they are mostly flat" in caplog.text
    assert "b.tif: tiles left out" not in caplog.text


def test_a_share_of_one_keeps_everything():
    kept, covered = flat_regions.leave_out(
        [charged()], places_of((0, 0, 0), (0, 16, 0)), tile_px=16, most=1.0, names=["a"]
    )
    assert len(kept["source"]) == 2
    assert covered[0]["left_out"] == 0


def test_nothing_left_is_refused_by_the_name_of_the_setting():
    with pytest.raises(Refusal, match=r"sem_flat_share=0\.1: all 1 tiles are flatter"):
        flat_regions.leave_out([charged()], places_of((0, 0, 0)), tile_px=16, most=0.1, names=["a"])
