"""The toy rock: a three-dimensional medium with structure on two scales and known porosity.

Grains and vugs are some micro-CT voxels wide, so a CT sees them; micropores, the
rims of the grains and the fractures are one to three SEM pixels wide, so only an
SEM does.  Every component is a Boolean model (bodies thrown independently at the
points of a Poisson process), so the expected share of each is 1 - exp(-density x
mean volume of a body), exactly.  Centres are continuous and uniform in a padded
domain and a voxel belongs to a body if its centre does: counted shares have the
closed form as their expectation, whatever the pixel size.

The SEM images are planes of other realisations (other places of the same rock),
the CT volume is one realisation; its fine truth is kept for checking alone.

Source: Chiu, Stoyan, Kendall, Mecke, Stochastic Geometry (2013), chapter 3.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from sem2ct.data import toy_scans
from sem2ct.runtime import records
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.seeding import numpy_generator

SEM_PIXEL_UM = 0.5
RIM_PX = 1.5
MATRIX, GRAIN, RIM, MICROPORE, FRACTURE, VUG = range(6)
SEM_GREY = np.array([140, 178, 222, 40, 40, 40], np.uint8)
ATTENUATION = np.array([0.6, 0.85, 1.0, 0.0, 0.0, 0.0], np.float32)


@dataclass(frozen=True)
class Component:
    """A Boolean model of balls, or of balls cut by a slab through their centre.

    Args:
        share: Expected volume fraction, in (0, 1).
        radii: Radii are uniform between these two, in SEM pixels.
        thickness: Thickness of the slab in SEM pixels; infinite leaves the ball whole.
    """

    share: float
    radii: tuple[float, float]
    thickness: float = math.inf

    @property
    def mean_volume(self) -> float:
        """Expected volume of one body, in cubic SEM pixels."""
        low, high = self.radii
        if math.isinf(self.thickness):
            return 4 / 3 * math.pi * (high**4 - low**4) / (4 * (high - low))
        half = self.thickness / 2
        mean_square = (high**3 - low**3) / (3 * (high - low))
        return 2 * math.pi * (mean_square * half - half**3 / 3)

    @property
    def density(self) -> float:
        """Bodies per cubic SEM pixel that give the share."""
        return -math.log1p(-self.share) / self.mean_volume


def components(scale: int) -> dict[str, Component]:
    """The four kinds of bodies; grains include their rims.

    Args:
        scale: SEM pixels per CT voxel; grains and vugs grow with it.
    """
    return {
        "grain": Component(0.38, (2.5 * scale, 4.5 * scale)),
        "micropore": Component(0.24, (1.5, 3.0)),
        "fracture": Component(0.02, (14.0, 28.0), thickness=1.8),
        "vug": Component(0.13, (1.75 * scale, 3.0 * scale)),
    }


def expected_shares(parts: dict[str, Component]) -> dict[str, float]:
    """Expected volume fractions of what is visible, and the porosity, in closed form.

    Args:
        parts: As from `components`.

    Returns:
        Shares before anything overlaps (`vug`, `fracture`, `grain`, `micropore`), the
        share of matrix turned into `micropores_visible`, and `porosity`.
    """
    shares = {name: part.share for name, part in parts.items()}
    outside_large = (1 - shares["vug"]) * (1 - shares["fracture"])
    in_matrix = (1 - shares["grain"]) * shares["micropore"]
    return shares | {
        "micropores_visible": outside_large * in_matrix,
        "porosity": 1 - outside_large * (1 - in_matrix),
    }


@dataclass(frozen=True)
class Bodies:
    """The bodies of one component that can reach into a volume, in voxel coordinates."""

    centres: np.ndarray
    radii: np.ndarray
    normals: np.ndarray
    half_thickness: float


def throw(part: Component, shape: tuple[int, int, int], draw: np.random.Generator) -> Bodies:
    """Throws the bodies of a component at a volume and a margin of the largest radius.

    Args:
        part: The component.
        shape: (z, y, x) of the volume in SEM pixels; z = 1 is a plane.
        draw: Source of randomness.

    Returns:
        Centres (n, 3) where voxel (0, 0, 0) has its centre at 0, radii (n,), normals (n, 3).
    """
    padded = np.array(shape) + 2 * part.radii[1]
    count = draw.poisson(part.density * float(padded.prod()))
    centres = draw.random((count, 3)) * padded - part.radii[1] - 0.5
    radii = draw.uniform(*part.radii, count)
    normals = draw.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Bodies(centres, radii, normals, part.thickness / 2)


class Realisation:
    """One place in the toy rock, drawn by slabs.

    Args:
        shape: (z, y, x) in SEM pixels; z = 1 is a plane, as a SEM sees it.
        scale: SEM pixels per CT voxel.
        seed: Seed of the rock.
        place: Name of the place; other places are independent.
    """

    def __init__(self, shape: tuple[int, int, int], *, scale: int, seed: int, place: str) -> None:
        """Throws the bodies that can be seen in the volume."""
        self.shape = shape
        self._bodies = {
            name: throw(part, shape, numpy_generator(seed, "toy rock", place, name))
            for name, part in components(scale).items()
        }

    def labels(self, z0: int, z1: int) -> np.ndarray:
        """What the voxels of slices z0 <= z < z1 are.

        Returns:
            uint8 (z1 - z0, y, x) of MATRIX, GRAIN, RIM, MICROPORE, FRACTURE, VUG; from
            MICROPORE on they are pores.
        """
        shape = (z1 - z0, *self.shape[1:])
        grains = self._bodies["grain"]
        outer, core = np.zeros((2, *shape), bool)
        stamp(outer, grains, z0=z0)
        stamp(core, grains, z0=z0, shrink=RIM_PX)
        labels = np.zeros(shape, np.uint8)
        stamp_small(labels, self._bodies["micropore"], z0=z0, value=MICROPORE)
        labels[outer] = RIM
        labels[core] = GRAIN
        for name, value in (("fracture", FRACTURE), ("vug", VUG)):
            hit = np.zeros(shape, bool)
            stamp(hit, self._bodies[name], z0=z0)
            labels[hit] = value
        return labels


def stamp(volume: np.ndarray, bodies: Bodies, *, z0: int = 0, shrink: float = 0.0) -> None:
    """Sets the voxels whose centre lies in a body to True, body after body.

    Args:
        volume: Boolean (z, y, x), changed in place.
        bodies: Balls, or balls cut by a slab.
        z0: The first slice of `volume` in the coordinates of the bodies.
        shrink: Taken off every radius, in voxels.
    """
    for centre, radius, normal in zip(
        bodies.centres, bodies.radii - shrink, bodies.normals, strict=True
    ):
        middle = centre - (z0, 0, 0)
        first = np.maximum(np.ceil(middle - radius), 0).astype(int)
        last = np.minimum(np.floor(middle + radius) + 1, volume.shape).astype(int)
        if radius <= 0 or (first >= last).any():
            continue
        z, y, x = (
            np.arange(a, b, dtype=np.float32) - np.float32(m)
            for a, b, m in zip(first, last, middle, strict=True)
        )
        z, y = z[:, None, None], y[:, None]
        inside = (z * z + y * y) + x * x <= radius**2
        if math.isfinite(bodies.half_thickness):
            n_z, n_y, n_x = normal.astype(np.float32)
            inside &= np.abs((n_z * z + n_y * y) + n_x * x) <= bodies.half_thickness
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        volume[box] |= inside


def stamp_small(volume: np.ndarray, bodies: Bodies, *, z0: int, value: int) -> None:
    """As `stamp` for a great many balls of a few voxels, thousands at a time.

    Args:
        volume: uint8 (z, y, x), changed in place.
        bodies: Balls.
        z0: The first slice of `volume` in the coordinates of the bodies.
        value: What the voxels of a ball become.
    """
    if not len(bodies.radii):
        return
    reach = float(bodies.radii.max())
    height = bodies.centres[:, 0] - z0
    near = np.flatnonzero((height > -reach - 1) & (height < volume.shape[0] + reach))
    span = np.arange(int(2 * reach) + 1)
    for some in np.array_split(near, max(1, len(near) // 4096)):
        middles = bodies.centres[some] - (z0, 0, 0)
        first = np.ceil(middles - reach).astype(np.int64)
        index = first[:, :, None] + span
        square = ((index - middles[:, :, None]) ** 2).astype(np.float32)
        in_volume = (index >= 0) & (index < np.array(volume.shape)[:, None])
        square[~in_volume] = np.inf
        inside = (
            square[:, 0, :, None, None] + square[:, 1, None, :, None] + square[:, 2, None, None, :]
        ) <= (bodies.radii[some] ** 2).astype(np.float32)[:, None, None, None]
        body, z, y, x = np.nonzero(inside)
        volume[index[body, 0, z], index[body, 1, y], index[body, 2, x]] = value


def make(
    folder: Path,
    *,
    seed: int,
    scale: int,
    ct_shape: tuple[int, int, int],
    sem_images: int,
    sem_px: int,
) -> dict:
    """Writes the rock's scans and its truth; a rock that is already there is kept.

    Args:
        folder: Gets `ct.tif` (uint16), `sem/sem_<i>.tif` (uint8; `sem_<i>_bar.tif` has a
            data bar of 48 rows below), `truth/pores.tif` (uint8, 255 in pore, SEM pixels, the
            place of the CT), `truth/grey.tif` (uint8, as a SEM without noise would see it) and
            `rock.json`.
        seed: Seed of the rock.
        scale: SEM pixels per CT voxel.
        ct_shape: (z, y, x) of the CT volume in voxels.
        sem_images: Number of SEM images.
        sem_px: Side of their field in SEM pixels.

    Returns:
        The content of `rock.json`: recipe, expected shares, counted porosities, pixel sizes.

    Raises:
        Refusal: If the folder holds a rock of another recipe.
    """
    arguments = {
        "seed": seed,
        "scale": scale,
        "ct_shape": ct_shape,
        "sem_images": sem_images,
        "sem_px": sem_px,
    }
    recipe = arguments | {"ct_shape": list(ct_shape)}
    if (folder / "rock.json").exists():
        rock = records.read_json(folder / "rock.json", remedy=f"delete {folder}")
        if rock.get("recipe") != recipe:
            raise Refusal(
                f"{folder} holds a toy rock made with {rock.get('recipe')}, asked for is {recipe};"
                " delete the folder or choose another run="
            )
        return rock
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in ("sem", "truth"):
        (unfinished / name).mkdir(parents=True)
    rock = _write(unfinished, **arguments)
    rock = {"recipe": recipe, "expected": expected_shares(components(scale)), **rock}
    (unfinished / "rock.json").write_text(json.dumps(rock, indent=2) + "\n")
    unfinished.rename(folder)
    return rock


def _write(
    folder: Path,
    *,
    seed: int,
    scale: int,
    ct_shape: tuple[int, int, int],
    sem_images: int,
    sem_px: int,
) -> dict:
    with_bar = min(2, sem_images - 1)
    names = [f"sem/sem_{i}{'_bar' if i == with_bar else ''}.tif" for i in range(sem_images)]
    return {
        "sem_pixel_um": SEM_PIXEL_UM,
        "ct_pixel_um": SEM_PIXEL_UM * scale,
        "sem_bar_rows": toy_scans.BAR_ROWS,
        "ct": _write_ct(folder, seed=seed, scale=scale, ct_shape=ct_shape),
        "sem": [_write_sem(folder, name, seed=seed, scale=scale, sem_px=sem_px) for name in names],
    }


def _slabs(rock: Realisation, thickness: int) -> Iterator[np.ndarray]:
    depth = rock.shape[0]
    for z0 in range(0, depth, thickness):
        yield rock.labels(z0, min(z0 + thickness, depth))


def _write_ct(folder: Path, *, seed: int, scale: int, ct_shape: tuple[int, int, int]) -> dict:
    z, y, x = (n * scale for n in ct_shape)
    half_voxels = []
    counts = np.zeros(6, np.int64)
    pages = {
        "compression": "zstd",
        "metadata": None,
        "photometric": "minisblack",
        **toy_scans.resolution(SEM_PIXEL_UM),
    }
    with (
        tifffile.TiffWriter(folder / "truth" / "pores.tif", bigtiff=True) as pores,
        tifffile.TiffWriter(folder / "truth" / "grey.tif", bigtiff=True) as grey,
    ):
        rock = Realisation((z, y, x), scale=scale, seed=seed, place="ct")
        # Slabs of whole voxels: large enough to share the work on a grain, small in memory.
        for labels in _slabs(rock, scale * max(1, 32 // scale)):
            counts += np.bincount(labels.ravel(), minlength=6)
            half_voxels.append(toy_scans.area_mean(ATTENUATION[labels], scale // 2))
            for page in labels:
                pores.write(np.where(page >= MICROPORE, np.uint8(255), np.uint8(0)), **pages)
                grey.write(SEM_GREY[page], **pages)
    volume = toy_scans.micro_ct(
        np.concatenate(half_voxels), draw=numpy_generator(seed, "toy rock", "ct", "detector")
    )
    toy_scans.write_stack(folder / "ct.tif", volume, pixel_um=SEM_PIXEL_UM * scale)
    return {"file": "ct.tif", "porosity": float(counts[MICROPORE:].sum() / counts.sum())}


def _write_sem(folder: Path, name: str, *, seed: int, scale: int, sem_px: int) -> dict:
    rock = Realisation((1, sem_px, sem_px), scale=scale, seed=seed, place=name)
    labels = rock.labels(0, 1)[0]
    image = toy_scans.sem_image(
        SEM_GREY[labels], draw=numpy_generator(seed, "toy rock", name, "detector")
    )
    if "bar" in name:
        image = np.concatenate([image, toy_scans.data_bar(sem_px)])
    tifffile.imwrite(
        folder / name,
        image,
        photometric="minisblack",
        metadata=None,
        **toy_scans.resolution(SEM_PIXEL_UM),
    )
    return {"file": name, "porosity": float((labels >= MICROPORE).mean())}
