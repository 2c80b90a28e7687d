import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from sem2ct.metrics import permeability, surface
from sem2ct.runtime.refusal import Refusal


def test_the_proxy_is_porosity_cubed_over_five_surfaces_squared():
    assert permeability.kozeny_carman(0.3, 0.2) == pytest.approx(0.027 / (5 * 0.04))
    many = permeability.kozeny_carman(np.array([0.3, 0.5]), np.array([0.2, 0.4]))
    np.testing.assert_allclose(many, [0.135, 0.15625])


def test_twice_the_pixel_size_gives_four_times_the_proxy():
    pores = np.random.default_rng(0).random((40, 50)) < 0.3
    found = [
        permeability.kozeny_carman(0.3, surface.specific_surface(pores, pixel_size_um=size))
        for size in (1, 2)
    ]
    assert found[1] == pytest.approx(4 * found[0])


def test_without_a_surface_there_is_no_proxy():
    assert np.isnan(permeability.kozeny_carman(0.0, 0.0))
    assert np.isnan(permeability.kozeny_carman(1.0, 0.0))
    assert np.isnan(permeability.kozeny_carman(np.zeros(2), np.array([0.0, 1.0]))).tolist() == [
        True,
        False,
    ]


def channels() -> np.ndarray:
    """Straight square channels along z, and a closed pore beside them."""
    pores = np.zeros((12, 15, 20), bool)
    pores[:, 2:5, 3:9] = True
    pores[:, 8:12, 12:16] = True
    pores[4:7, 13:15, 2:4] = True
    return pores


def test_nothing_flows_where_no_pore_spans_the_region():
    found = permeability.tortuosity(channels(), along="x")
    assert (found.tortuosity, found.relative_diffusivity) == (np.inf, 0)
    assert found.porosity == channels().mean()
    assert permeability.network_permeability(channels(), along="y", voxel_size_um=0.5) == 0


@pytest.mark.parametrize("solve", ["tortuosity", "network_permeability"])
def test_a_missing_solver_is_named_with_the_command_that_installs_it(solve, monkeypatch):
    def absent(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    size = {} if solve == "tortuosity" else {"voxel_size_um": 1.0}
    with pytest.raises(Refusal, match=r"is not installed.*pip install -c constraints.txt"):
        getattr(permeability, solve)(channels(), along="z", **size)


def test_flow_asks_for_a_boolean_volume():
    with pytest.raises(Refusal, match=r"bool of shape \(4, 5\), but flow needs a boolean volume"):
        permeability.tortuosity(np.zeros((4, 5), bool), along="x")
    with pytest.raises(Refusal, match="uint8 of shape"):
        permeability.tortuosity(np.zeros((4, 5, 6), np.uint8), along="x")


class StraightFlux:
    """Stands in for the solver: flux through the pixels that are open in every layer."""

    seen: tuple[np.ndarray, str]
    converged = True

    def __init__(self, image: np.ndarray, device: str) -> None:
        type(self).seen = (image, device)
        self.D_eff = np.array([image.all(axis=0).mean()])

    def solve(self, **how) -> None:
        assert how["verbose"] is False


def test_the_solver_gets_the_spanning_pores_with_the_direction_first(monkeypatch):
    stand_in = SimpleNamespace(Solver=StraightFlux)
    monkeypatch.setattr(importlib, "import_module", lambda name: stand_in)
    sideways = np.moveaxis(channels(), 0, 2)
    found = permeability.tortuosity(sideways, along="x", device="cuda")
    image, device = StraightFlux.seen
    spanning = channels()
    spanning[4:7, 13:15, 2:4] = False
    np.testing.assert_array_equal(np.sort(image.sum(axis=(1, 2))), spanning.sum(axis=(1, 2)))
    assert (image.shape[0], image.dtype, device) == (12, np.uint8, "cuda")
    share = (18 + 16) / 300
    assert found.relative_diffusivity == pytest.approx(share)
    assert found.tortuosity == pytest.approx(channels().mean() / share)


def test_a_diffusion_that_does_not_converge_is_refused(monkeypatch):
    monkeypatch.setattr(StraightFlux, "converged", False)
    stand_in = SimpleNamespace(Solver=StraightFlux)
    monkeypatch.setattr(importlib, "import_module", lambda name: stand_in)
    with pytest.raises(
        Refusal, match=r"not converged after most_iterations=9 to convergence=0\.001"
    ):
        permeability.tortuosity(channels(), along="z", most_iterations=9)


def test_straight_channels_are_not_tortuous():
    pytest.importorskip("taufactor", reason="the extra flow is not installed")
    pores = channels()
    along = pores[:, 2:5, 3:9].size + pores[:, 8:12, 12:16].size
    found = permeability.tortuosity(pores, along="z")
    assert found.relative_diffusivity == pytest.approx(along / pores.size, rel=1e-3)
    assert found.tortuosity == pytest.approx(pores.sum() / along, rel=1e-3)
    turned = permeability.tortuosity(np.moveaxis(pores, 0, 2), along="x")
    assert turned.tortuosity == pytest.approx(found.tortuosity, rel=1e-6)


def test_layers_of_wide_and_narrow_channel_resist_one_after_the_other():
    # One quarter of the length has twice the resistance of the rest, plus the spreading of
    # the lines at the steps: more than the sum, less than a channel narrow all along.
    pytest.importorskip("taufactor", reason="the extra flow is not installed")
    pores = np.ones((40, 12, 12), bool)
    pores[15:25, :, 6:] = False
    found = permeability.tortuosity(pores, along="z", convergence=1e-4)
    in_a_row = 1 / (0.75 + 0.25 * 2)
    assert 0.5 < found.relative_diffusivity < in_a_row
    assert found.relative_diffusivity == pytest.approx(in_a_row, rel=0.12)


def test_a_tube_with_bulges_lets_through_what_its_narrow_parts_do():
    pytest.importorskip("openpnm", reason="the extra flow is not installed")
    pytest.importorskip("porespy", reason="the extra flow is not installed")
    y, x = np.mgrid[:40, :40] - 19.5
    radius = 8 + 4 * np.cos(2 * np.pi * np.arange(120) / 40)
    tube = (y**2 + x**2)[None] < radius[:, None, None] ** 2
    poiseuille = np.pi / 8 / 40**2 / np.mean(radius**-4.0)
    found = permeability.network_permeability(tube, along="z", voxel_size_um=1)
    assert poiseuille / 1.7 < found < 1.7 * poiseuille
    assert permeability.network_permeability(tube, along="z", voxel_size_um=3) == pytest.approx(
        9 * found, rel=1e-6
    )


def test_an_exported_region_is_read_back_from_its_bytes_and_what_stands_beside_them(tmp_path):
    pores = np.random.default_rng(2).random((3, 5, 7)) < 0.4
    raw, beside = permeability.export_region(
        tmp_path / "core.7", pores, voxel_size_um=0.25, flow_along="y"
    )
    assert (raw.name, beside.name) == ("core.7.raw", "core.7.json")
    facts = json.loads(beside.read_text())
    values = np.fromfile(raw, facts["dtype"]).reshape(facts["nz"], facts["ny"], facts["nx"])
    np.testing.assert_array_equal(values == facts["pore"], pores)
    np.testing.assert_array_equal(values == facts["grain"], ~pores)
    assert raw.read_bytes()[1] == (facts["pore"] if pores[0, 0, 1] else facts["grain"])
    assert facts["porosity"] == pytest.approx(pores.mean())
    assert (facts["voxel_size_um"], facts["flow_along"]) == (0.25, "y")
    with pytest.raises(Refusal, match=r"shape \(5, 7\)"):
        permeability.export_region(tmp_path / "flat", pores[0], voxel_size_um=1)
