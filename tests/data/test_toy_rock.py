"""The toy rock against the closed forms of the Boolean model."""

import json
import math

import numpy as np
import pytest
import tifffile

from sem2ct.data import toy_rock
from sem2ct.data.toy_rock import Component, Realisation, components, expected_shares, make
from sem2ct.runtime.refusal import Refusal


def set_covariance(part: Component, h: np.ndarray) -> np.ndarray:
    """Expected overlap volume of a body with itself moved by h, in any direction."""
    total = np.zeros_like(h)
    radii = np.linspace(*part.radii, 41)
    radii = (radii[1:] + radii[:-1]) / 2
    for r in radii:
        if math.isinf(part.thickness):
            x = np.minimum(h / (2 * r), 1)
            total += 4 / 3 * math.pi * r**3 * (1 - 1.5 * x + 0.5 * x**3)
            continue
        cosines = (np.arange(100) + 0.5) / 100
        for u in cosines:
            # Exact for thin bodies alone; only the error bar depends on it.
            x = np.minimum(h * math.sqrt(1 - u * u) / (2 * r), 1)
            lens = 2 * r**2 * (np.arccos(x) - x * np.sqrt(1 - x * x))
            total += np.maximum(part.thickness - h * u, 0) * lens / len(cosines)
    return total / len(radii)


def both_outside(part: Component, h: np.ndarray) -> np.ndarray:
    """Chance that two points a distance h apart both lie outside a Boolean model."""
    return (1 - part.share) ** 2 * np.exp(part.density * set_covariance(part, h))


def both_solid(scale: int, h: np.ndarray) -> np.ndarray:
    parts = components(scale)
    m = parts["micropore"].share
    matrix = 1 - parts["grain"].share
    both_micro = 2 * m - 1 + both_outside(parts["micropore"], h)
    inner = 1 - 2 * matrix * m + both_outside(parts["grain"], h) * both_micro
    return both_outside(parts["vug"], h) * both_outside(parts["fracture"], h) * inner


def standard_error(two_point, mean: float, shape: tuple[int, ...]) -> float:
    """Of the mean over a lattice of points, from its exact double sum."""
    lags = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    weights = np.prod(
        [(n - lag) * np.where(lag, 2, 1) for n, lag in zip(shape, lags, strict=True)], axis=0
    )
    square = sum(lag**2 for lag in lags)
    values, index = np.unique(square, return_inverse=True)
    covariance = two_point(np.sqrt(values.astype(float))) - mean**2
    return math.sqrt((weights * covariance[index].reshape(shape)).sum()) / math.prod(shape)


def drawn(part: Component, shape, seed: int) -> np.ndarray:
    volume = np.zeros(shape, bool)
    bodies = toy_rock.throw(part, shape, np.random.default_rng(seed))
    toy_rock.stamp(volume, bodies)
    return volume


@pytest.mark.parametrize(
    "part",
    [
        Component(0.3, (2.0, 5.0)),
        Component(0.24, (1.5, 3.0)),
        Component(0.1, (6.0, 11.0), thickness=1.8),
        Component(0.2, (3.0, 5.0), thickness=4.0),
    ],
)
def test_the_counted_share_of_a_component_has_the_closed_form_as_expectation(part):
    shape, seeds = (24, 40, 33), range(24)
    counted = np.mean([drawn(part, shape, seed).mean() for seed in seeds])
    error = standard_error(lambda h: both_outside(part, h), 1 - part.share, shape)
    assert abs(counted - part.share) < 3.5 * error / math.sqrt(len(seeds))
    assert error / math.sqrt(len(seeds)) < 0.06 * part.share


def test_the_two_point_probability_of_balls_is_that_of_the_boolean_model():
    part = Component(0.4, (2.0, 5.0))
    lags = np.array([1, 2, 4, 7, 12])
    outside = np.stack([~drawn(part, (20, 30, 60), seed) for seed in range(30)])
    counted = np.stack([(outside[..., k:] & outside[..., :-k]).mean((1, 2, 3)) for k in lags], 1)
    error = counted.std(0, ddof=1) / math.sqrt(len(outside))
    expected = both_outside(part, lags.astype(float))
    assert np.all(np.abs(counted.mean(0) - expected) < 4 * error)
    assert np.all(error < 0.03 * expected)


@pytest.mark.parametrize("shape", [(24, 56, 48), (1, 200, 160)])
def test_the_porosity_of_volumes_and_of_planes_is_the_stated_one(shape):
    seeds = range(16)
    expected = expected_shares(components(2))["porosity"]
    counted = [
        (Realisation(shape, scale=2, seed=s, place="here").labels(0, shape[0]) >= 3).mean()
        for s in seeds
    ]
    error = standard_error(lambda h: both_solid(2, h), 1 - expected, shape)
    assert abs(np.mean(counted) - expected) < 3.5 * error / math.sqrt(len(seeds))
    assert 0.6 * error < np.std(counted, ddof=1) < 1.6 * error


def test_the_expected_porosity_is_between_a_quarter_and_three_tenths_half_of_it_micropores():
    shares = expected_shares(components(8))
    assert 0.25 < shares["porosity"] < 0.3
    assert 0.4 < shares["micropores_visible"] / shares["porosity"] < 0.6
    # 1 - 0.87 * 0.98 * (1 - 0.62 * 0.24), by hand
    assert shares["porosity"] == pytest.approx(0.27426688)


def test_the_rims_have_the_share_that_remains_between_two_boolean_models():
    scale, seeds = 2, range(16)
    grain = components(scale)["grain"]
    core = grain.density * 4 / 3 * math.pi
    low, high = (r - toy_rock.RIM_PX for r in grain.radii)
    core *= (high**4 - low**4) / (4 * (high - low))
    # Visible where neither vug nor fracture lies on top.
    expected = (math.exp(-core) - (1 - grain.share)) * 0.87 * 0.98
    shares = [
        (Realisation((1, 200, 200), scale=scale, seed=s, place="p").labels(0, 1) == 2).mean()
        for s in seeds
    ]
    error = np.std(shares, ddof=1) / math.sqrt(len(seeds))
    assert abs(np.mean(shares) - expected) < 3.5 * error
    assert error < 0.05 * expected


def test_slabs_put_together_are_the_whole():
    rock = Realisation((20, 31, 26), scale=2, seed=5, place="ct")
    slabs = [rock.labels(z, min(z + 7, 20)) for z in range(0, 20, 7)]
    assert np.array_equal(np.concatenate(slabs), rock.labels(0, 20))


def test_many_small_balls_at_once_are_the_same_as_one_after_the_other():
    bodies = toy_rock.throw(Component(0.2, (1.5, 3.0)), (30, 41, 37), np.random.default_rng(2))
    one = np.zeros((12, 41, 37), bool)
    many = np.zeros((12, 41, 37), np.uint8)
    toy_rock.stamp(one, bodies, z0=9)
    toy_rock.stamp_small(many, bodies, z0=9, value=3)
    assert np.array_equal(one, many == 3)
    assert 0.1 < one.mean() < 0.3


def test_a_ball_holds_the_voxels_whose_centre_lies_in_it():
    ball = toy_rock.Bodies(
        np.array([[2.0, 3.0, 4.0]]), np.array([1.0]), np.array([[1.0, 0, 0]]), math.inf
    )
    volume = np.zeros((6, 7, 8), bool)
    toy_rock.stamp(volume, ball)
    assert volume.sum() == 7
    assert volume[2, 3, 3:6].all()
    assert volume[1:4, 3, 4].all()


SIZES = {"seed": 3, "scale": 4, "ct_shape": (6, 20, 24), "sem_images": 3, "sem_px": 96}


@pytest.fixture(scope="module")
def rock_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "rock"
    make(folder, **SIZES)
    return folder


def test_the_scans_have_the_stated_shapes_depths_and_pixel_sizes(rock_folder):
    with tifffile.TiffFile(rock_folder / "ct.tif") as file:
        assert file.series[0].shape == (6, 20, 24)
        assert file.pages[0].dtype == np.uint16
        assert file.imagej_metadata["spacing"] == 2.0
        pixels, per = file.pages[0].tags["XResolution"].value
        assert pixels / per == pytest.approx(1 / 2.0)
    names = sorted(p.name for p in (rock_folder / "sem").iterdir())
    assert names == ["sem_0.tif", "sem_1.tif", "sem_2_bar.tif"]
    with tifffile.TiffFile(rock_folder / "sem" / "sem_2_bar.tif") as file:
        assert file.pages[0].shape == (96 + 48, 96)
        pixels, per = file.pages[0].tags["XResolution"].value
        assert 1e4 / (pixels / per) == pytest.approx(0.5)
    truth = tifffile.imread(rock_folder / "truth" / "pores.tif")
    assert truth.shape == (24, 80, 96)
    assert set(np.unique(truth)) == {0, 255}


def test_the_counted_porosity_of_the_ct_is_that_of_the_truth_written_beside_it(rock_folder):
    rock = json.loads((rock_folder / "rock.json").read_text())
    truth = tifffile.imread(rock_folder / "truth" / "pores.tif")
    grey = tifffile.imread(rock_folder / "truth" / "grey.tif")
    assert rock["ct"]["porosity"] == pytest.approx((truth == 255).mean())
    assert np.array_equal(grey < 90, truth == 255)


def test_one_threshold_finds_the_pores_of_a_sem_image_again(rock_folder):
    rock = json.loads((rock_folder / "rock.json").read_text())
    for facts in rock["sem"]:
        image = tifffile.imread(rock_folder / facts["file"])[:96]
        assert (image < 90).mean() == pytest.approx(facts["porosity"], abs=0.02)


def test_the_ct_is_a_noisy_coarse_picture_of_its_truth_in_a_round_field(rock_folder):
    ct = tifffile.imread(rock_folder / "ct.tif").astype(float)
    truth = tifffile.imread(rock_folder / "truth" / "pores.tif") == 255
    coarse = truth.reshape(6, 4, 20, 4, 24, 4).mean((1, 3, 5))
    inside = ct > 0
    assert inside.mean() == pytest.approx(math.pi * 9.6**2 / (20 * 24), abs=0.03)
    assert not inside[:, 0, 0].any()
    assert not inside[:, -1, -1].any()
    assert np.corrcoef(ct[inside], coarse[inside])[0, 1] < -0.7


def test_the_same_seed_makes_the_same_files_and_another_seed_others(rock_folder, tmp_path):
    make(tmp_path / "again", **SIZES)
    make(tmp_path / "other", **(SIZES | {"seed": 4}))
    for name in ("ct.tif", "sem/sem_1.tif", "truth/pores.tif", "rock.json"):
        first = (rock_folder / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == first
        assert (tmp_path / "other" / name).read_bytes() != first


def test_the_sem_images_show_different_places(rock_folder):
    first, second = (tifffile.imread(rock_folder / "sem" / f"sem_{i}.tif") < 90 for i in range(2))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.25


def test_a_finished_rock_is_kept_and_an_unfinished_one_is_made_anew(rock_folder, tmp_path):
    before = (rock_folder / "ct.tif").stat().st_mtime_ns
    rock = make(rock_folder, **SIZES)
    assert (rock_folder / "ct.tif").stat().st_mtime_ns == before
    assert rock["recipe"]["seed"] == 3
    (tmp_path / "rock.tmp" / "sem").mkdir(parents=True)
    (tmp_path / "rock.tmp" / "sem" / "sem_9.tif").write_bytes(b"half")
    make(tmp_path / "rock", **SIZES)
    assert not (tmp_path / "rock" / "sem" / "sem_9.tif").exists()


def test_a_rock_of_another_recipe_is_refused(rock_folder):
    with pytest.raises(Refusal, match=r"'seed': 3.*'seed': 4.*delete the folder"):
        make(rock_folder, **(SIZES | {"seed": 4}))
