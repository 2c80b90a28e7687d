"""Permeability: a proxy from a section, solvers on volumes, and an export for other codes.

Of a section only the Kozeny-Carman proxy can be had: it knows how much pore and surface
there is, not how the pores connect, so it ranks rocks of one kind and is labelled a proxy
wherever it is printed.  On a region of a translated volume a diffusion solver (taufactor)
gives the tortuosity and a pore network (porespy, openpnm) the permeability; both belong to
the extra `flow` and are imported only when asked for.  For a lattice Boltzmann code of
one's own, the region is exported.

Sources: Carman 1937, Trans. Inst. Chem. Eng. 15, 150; Cooper et al. 2016, SoftwareX 5, 203
(taufactor); Gostick 2017, Phys. Rev. E 96, 023307 (network extraction).
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sem2ct.data import region_export
from sem2ct.metrics import connectivity
from sem2ct.metrics.chords import AXES, Direction
from sem2ct.runtime.refusal import Refusal

KOZENY = 5.0
PORE, GRAIN = 0, 1
"""What an exported region holds, as most lattice Boltzmann codes read it."""


def kozeny_carman(phi: ArrayLike, specific_surface_per_um: ArrayLike) -> Any:
    """Proxy of the permeability from porosity and specific surface.

    Args:
        phi: Porosity, a number or an array.
        specific_surface_per_um: s_V of `surface.specific_surface`, of the same shape.

    Returns:
        phi^3 / (5 s_V^2) in um^2, a number or an array; NaN where there is no surface.
    """
    phi, surface = np.asarray(phi, np.float64), np.asarray(specific_surface_per_um, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(surface > 0, phi**3 / (KOZENY * surface**2), np.nan)
    return found if found.ndim else float(found)


@dataclass(frozen=True)
class Tortuosity:
    """How much harder diffusion through the pores is than through an empty box."""

    tortuosity: float
    """phi over `relative_diffusivity`; infinite when no pore spans the region."""
    relative_diffusivity: float
    """Effective over free diffusivity, 0 to phi."""
    porosity: float
    """Of the whole region, dead ends and closed pores included."""


def _region(pores: NDArray[np.bool_], along: Direction) -> NDArray[np.bool_]:
    """The pores that span a volume along a direction, that direction first."""
    if pores.ndim != 3 or pores.dtype != np.bool_:
        raise Refusal(
            f"pores is {pores.dtype} of shape {pores.shape}, but flow needs a boolean volume"
            " (D, H, W), True in pore"
        )
    named = connectivity.labels(pores, connectivity=6)
    return np.moveaxis(connectivity.spanning(named, along=along), AXES[along], 0)


def _extra(*names: str) -> list[Any]:
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as missing:
        raise Refusal(
            f"{missing.name} is not installed, which flow through a volume needs; install the"
            f" extra: pip install -c constraints.txt '.[flow]' (or: pip install {' '.join(names)})"
        ) from missing


def tortuosity(
    pores: NDArray[np.bool_],
    *,
    along: Direction,
    device: str = "cpu",
    convergence: float = 0.001,
    most_iterations: int = 100_000,
) -> Tortuosity:
    """Solves steady diffusion through the pores of a volume, with the library taufactor.

    Args:
        pores: (D, H, W) boolean, True in pore.
        along: Direction from the rich side to the poor side; no flux through the other sides.
        device: Where torch computes: "cpu", "cuda".
        convergence: Share by which the flux through any two layers may differ.
        most_iterations: Sweeps before giving up.

    Returns:
        Tortuosity and effective diffusivity.

    Raises:
        Refusal: If it is no volume, taufactor is missing, or it does not converge.
    """
    through = _region(pores, along)
    phi = np.count_nonzero(pores) / pores.size
    if not through.any():
        return Tortuosity(float("inf"), 0.0, phi)
    (taufactor,) = _extra("taufactor")
    solver = taufactor.Solver(through.astype(np.uint8), device=device)
    solver.solve(iter_limit=most_iterations, verbose=False, conv_crit=convergence)
    if not solver.converged:
        raise Refusal(
            f"diffusion along {along} has not converged after most_iterations={most_iterations}"
            f" to convergence={convergence:g}; raise the one or the other, or take a smaller region"
        )
    relative = float(np.ravel(np.asarray(solver.D_eff))[0])
    return Tortuosity(phi / relative, relative, phi)


def network_permeability(
    pores: NDArray[np.bool_], *, along: Direction, voxel_size_um: float
) -> float:
    """Permeability of a volume from its pore network, with porespy and openpnm.

    Pores and throats become pyramids and cuboids; against known channels that is right to
    within a factor of 1.6.

    Args:
        pores: (D, H, W) boolean, True in pore.
        along: Direction of the flow; the other sides are closed.
        voxel_size_um: Side of a voxel in micrometres.

    Returns:
        In um^2 (1 um^2 is 1.013 darcy); 0 when no pore spans the region.

    Raises:
        Refusal: If it is no volume, or a library is missing.
    """
    through = _region(pores, along)
    if not through.any():
        return 0.0
    porespy, openpnm = _extra("porespy", "openpnm")
    porespy.settings.tqdm["disable"] = True
    found = porespy.networks.snow2(through, voxel_size=voxel_size_um, boundary_width=[3, 0, 0])
    network = openpnm.io.network_from_porespy(found.network)
    loose = openpnm.utils.check_network_health(network)["disconnected_pores"]
    openpnm.topotools.trim(network=network, pores=loose)
    for name, of in (
        ("pore.diameter", "pore.equivalent_diameter"),
        ("throat.diameter", "throat.inscribed_diameter"),
        ("throat.spacing", "throat.total_length"),
    ):
        network[name] = network[of]
    shapes = openpnm.models.geometry.hydraulic_size_factors.pyramids_and_cuboids
    network.add_model(propname="throat.hydraulic_size_factors", model=shapes)
    fluid = openpnm.phase.Phase(network=network)
    fluid["pore.viscosity"] = 1.0  # cancels: permeability is flux x viscosity x length / area
    conductance = openpnm.models.physics.hydraulic_conductance.generic_hydraulic
    fluid.add_model(propname="throat.hydraulic_conductance", model=conductance)
    flow = openpnm.algorithms.StokesFlow(network=network, phase=fluid)
    inlet, outlet = network.pores("xmin"), network.pores("xmax")
    flow.set_value_BC(pores=inlet, values=1.0)
    flow.set_value_BC(pores=outlet, values=0.0)
    flow.run(verbose=False)
    rate = float(flow.rate(pores=inlet, mode="group")[0])
    length, *sides = (side * voxel_size_um for side in through.shape)
    return rate * length / (sides[0] * sides[1])


def export_region(
    path: Path,
    pores: NDArray[np.bool_],
    *,
    voxel_size_um: float,
    flow_along: Literal["x", "y", "z"] = "z",
) -> tuple[Path, Path]:
    """Writes a volume for a flow code: plain bytes, and what they mean beside them.

    Args:
        path: Without suffix; `.raw` and `.json` are added.
        pores: (D, H, W) boolean, True in pore.
        voxel_size_um: Side of a voxel in micrometres.
        flow_along: Direction meant for the flow; passed on.

    Returns:
        The two files: one byte per voxel, 0 in pore and 1 in grain, x fastest, then y, then z;
        JSON with sizes, voxel size, meaning of the bytes and porosity.

    Raises:
        Refusal: If it is no volume, or the files cannot be written.
    """
    if pores.ndim != 3:
        raise Refusal(f"a region to export is a volume (D, H, W), but this has shape {pores.shape}")
    facts = {
        **region_export.sides(pores.shape),
        "pore": PORE,
        "grain": GRAIN,
        "voxel_size_um": voxel_size_um,
        "flow_along": flow_along,
        "porosity": np.count_nonzero(pores) / pores.size,
    }
    raw = path.with_name(path.name + ".raw")
    bytes_of = (np.where(part, PORE, GRAIN).astype(np.uint8) for part in pores)
    return raw, region_export.write_raw(raw, bytes_of, facts)
