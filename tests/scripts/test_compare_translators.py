import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile

from sem2ct.data.store import Store

DEV = Path(__file__).resolve().parents[2] / "scripts" / "dev"


def script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, DEV / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """A scan whose greys tell how far along the long axis they lie, made into a pair."""
    paired_rock = script("paired_rock")
    (tmp_path / "micro_ct").mkdir()
    scan = np.broadcast_to(np.arange(100, dtype=np.uint8), (3, 18, 100))
    tifffile.imwrite(tmp_path / paired_rock.FILE, scan, photometric="minisblack")
    monkeypatch.setenv("SEM2CT_REAL_DATA", str(tmp_path))
    monkeypatch.setattr(paired_rock, "PERCENTILES", (0, 100))
    arguments = ["x", "--out", str(tmp_path / "out"), "--scale", "2", "--patch-px", "8"]
    monkeypatch.setattr(sys, "argv", arguments)
    paired_rock.main()
    return tmp_path / "out"


def raw(store: Store) -> np.ndarray:
    assert store.window is not None
    return store.tiles[:] / 255 * (store.window.high - store.window.low) + store.window.low


def test_both_sides_and_the_held_out_half_show_different_places(pair):
    ct, sem = Store(pair / "ct"), Store(pair / "sem")
    # Columns 0 to 23 and 24 to 49; the strides leave the last CT pixel and two SEM pixels out.
    assert (raw(ct).min(), raw(ct).max()) == pytest.approx((0.5, 20.5), abs=0.1)
    assert (raw(sem).min(), raw(sem).max()) == pytest.approx((24, 47), abs=0.1)
    truth = tifffile.imread(pair / "held_out_truth.tif")
    assert truth.shape == (3, 18, 50)
    assert len(np.unique(truth)) == 1  # 50 to 99 lie beyond the window of the SEM side


def test_a_ct_pixel_is_the_mean_of_the_fine_ones_and_twice_as_wide(pair):
    ct = Store(pair / "ct")
    steps = np.diff(raw(ct)[0, 0])
    assert steps == pytest.approx(2, abs=0.15)
    assert (ct.pixel_um, Store(pair / "sem").pixel_um) == (4.0, 2.0)
    assert tifffile.imread(pair / "held_out_ct.tif").shape == (3, 9, 25)


def test_the_truth_agrees_with_itself_and_its_negative_with_nothing():
    compare = script("compare_translators")
    grey = np.random.default_rng(2).integers(0, 256, (2, 96, 90)).astype(np.uint8)
    own = compare.against_truth(grey, grey)
    assert (own["rmse_grey"], own["voxels"], own["s2_error"]) == (0, 1, 0)
    assert (own["truth_correlation"], own["ssim"]) == pytest.approx((1, 1))
    other = compare.against_truth(255 - grey, grey)
    assert other["truth_correlation"] == pytest.approx(-1)
    assert other["voxels"] < 0.02
    assert other["porosity"] == pytest.approx(1 - own["porosity"], abs=0.02)


def test_the_table_leaves_empty_what_a_column_does_not_have():
    compare = script("compare_translators")
    text = compare.table({"a_0": {"cpu_s": 170.2, "ssim": 0.5}, "truth": {"ssim": 1.0}})
    assert text.splitlines() == [
        "| | a_0 | truth |",
        "|---|---|---|",
        "| CPU time of the training, s | 170 |  |",
        "| structural similarity to the truth | 0.5 | 1 |",
    ]


def test_what_is_measured_in_training_is_averaged_over_its_last_fifth(tmp_path):
    compare = script("compare_translators")
    row = '{{"images": {}, "grey_correlation": {}, "consistency_grey": 2, "noise_floor_grey": 1{}}}'
    hidden = ', "hidden_by_noise": 3, "hidden_by_rounding": 4, "porosity_transfer": 0.5'
    rows = [row.format(80, -1, hidden), row.format(90, 0.25, hidden), row.format(100, 0.75, "")]
    (tmp_path / "values.jsonl").write_text("\n".join(rows))
    means = compare.while_training(tmp_path)
    assert means["grey_correlation"] == 0.5
    assert (means["hidden_by_noise"], means["porosity_transfer"]) == (3, 0.5)
