"""HDF5, NeXus and NetCDF-4: the dataset in a file that is the scan.

Such files hold many things.  The scan is the dataset named, or the only one with three
dimensions.  Pixel sizes stand in attributes of a dozen names; one without a unit is not
believed.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.readers.stack import (
    Spacing,
    Stack,
    need,
    reading,
    refuse_impossible,
    spacing_um,
)
from sem2ct.runtime.refusal import Refusal

_CHUNK_CACHE_BYTES = 2**28
_SIZES = ("element_size", "voxel_size", "pixel_size", "spacing", "resolution", "voxel_size_xyz")
_UNITS = ("units", "unit", "voxel_unit", "spacing_unit", "resolution_unit")
_SUFFIXES = {"_um": "um", "_mm": "mm", "_nm": "nm"}


def open_stack(path: Path, *, dataset: str, what: str, setting: str) -> Stack:
    """Opens a dataset of an HDF5, NeXus or NetCDF-4 file; reads no voxels.

    Args:
        path: The file.
        dataset: Its name inside the file, or "only".
        what: The file as the user wrote it.
        setting: Name of the setting that holds the path.

    Returns:
        The stack.

    Raises:
        Refusal: If the file is damaged, h5py is absent, or it is not clear which
            dataset is the scan.
    """
    h5py = need("h5py", package="h5py", what=what)
    with reading(what, "HDF5 file"):
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
        found = _volumes(file, h5py)
        name = choose(found, dataset, what=what, setting=setting)
        volume = file[name]
        dtype = np.dtype(volume.dtype)
        kept = volume_axes(volume.shape, what=f"{what}, dataset '{name}'")
        _refuse_hollow(volume, path, f"{what}, dataset '{name}'")
        spacing = _spacing(volume, file)
    shape = as_zyx([volume.shape[axis] for axis in kept])

    def read(z: int, rows: slice, columns: slice) -> NDArray[Any]:
        index: list[int | slice] = [0] * volume.ndim
        for axis, part in zip(kept, (z, rows, columns)[3 - len(kept) :], strict=True):
            index[axis] = part
        with reading(f"{what}, slice {z}", "HDF5 file"):
            return np.asarray(volume[tuple(index)]).astype(dtype.newbyteorder("="), copy=False)

    return Stack(shape, dtype.newbyteorder("="), read, spacing)


def _volumes(file: Any, h5py: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of everything in the file that could be a scan."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "uif" and item.shape:
            found[name] = tuple(item.shape)

    file.visititems(note)
    return found


def choose(found: Mapping[str, tuple[int, ...]], dataset: str, *, what: str, setting: str) -> str:
    """Chooses the dataset that is the scan.

    Args:
        found: Shapes of all numeric datasets by name.
        dataset: The one named, or "only".
        what: The file as the user wrote it.
        setting: Name of the setting that holds the path.

    Returns:
        Its name.

    Raises:
        Refusal: Listing the candidates, if the name is none, or not exactly one has three
            dimensions (or else two).
    """
    if dataset != "only":
        if dataset.strip("/") in found:
            return dataset.strip("/")
        raise Refusal(
            f"{what}: no dataset '{dataset}' of numbers in it; {setting}_dataset= one of:"
            f" {_listed(found)}"
        )
    for dimensions in (3, 2):
        fitting = [
            name
            for name, shape in found.items()
            if sum(side != 1 for side in shape) == dimensions
            or (len(shape) == dimensions and dimensions == 3)
        ]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise Refusal(
                f"{what}: it holds {len(fitting)} datasets that could be the scan; name one with"
                f" {setting}_dataset=: {_listed({name: found[name] for name in fitting})}"
            )
    raise Refusal(
        f"{what}: no dataset with three dimensions in it; it holds {_listed(found) or 'none'}"
    )


def _listed(found: Mapping[str, tuple[int, ...]]) -> str:
    named = [f"{name} {'x'.join(map(str, shape))}" for name, shape in found.items()]
    return ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")


def volume_axes(shape: Sequence[int], *, what: str) -> list[int]:
    """Axes that are z, y, x (or y, x) once those of length 1 beyond three are left out.

    Args:
        shape: Of the dataset, any number of axes.
        what: Its name, for a refusal.

    Returns:
        Two or three numbers of axes, in order.

    Raises:
        Refusal: If more than three axes are longer than 1, or there are fewer than two.
    """
    axes = list(range(len(shape)))
    while len(axes) > 3:
        single = [axis for axis in axes if shape[axis] == 1]
        if not single:
            raise Refusal(
                f"{what}: shape {tuple(shape)} has {len(shape)} axes, but a scan has three"
                " (z, y, x); save one channel and one time step"
            )
        axes.remove(single[0])
    if len(axes) < 2:
        raise Refusal(f"{what}: shape {tuple(shape)} is no image; a scan has axes z, y and x")
    return axes


def as_zyx(sides: Sequence[int]) -> tuple[int, int, int]:
    """Gives an image of two sides the one slice that it has."""
    z, y, x = [1] * (3 - len(sides)) + [int(side) for side in sides]
    return z, y, x


def _refuse_hollow(volume: Any, path: Path, what: str) -> None:
    """A dataset can be declared and never written; then it reads as zeros, however large."""
    needed = int(np.prod(volume.shape, dtype=np.float64)) * volume.dtype.itemsize
    held = volume.id.get_storage_size()
    if volume.chunks is None and held < needed:
        raise Refusal(
            f"{what}: {held} of its {needed} bytes were written; the file is unfinished or damaged:"
            " copy it again"
        )
    refuse_impossible(needed, path.stat().st_size, what=what)


def _spacing(volume: Any, file: Any) -> Spacing | None:
    for holder in (volume, volume.parent, file):
        sizes = attribute_spacing(dict(holder.attrs.items()))
        if sizes is not None:
            return sizes
    return _nexus(volume.parent) or _nexus(file)


def attribute_spacing(attributes: Mapping[str, Any]) -> Spacing | None:
    """Finds the voxel size among the attributes of a dataset.

    Args:
        attributes: Names to values.

    Returns:
        (z, y, x) in micrometres, or None where none is stated with a unit.
    """
    plain = {name.lower().replace("-", "_"): value for name, value in attributes.items()}
    unit = next((plain[name] for name in _UNITS if name in plain), None)
    for name, value in plain.items():
        ending = next((end for end in _SUFFIXES if name.endswith(end)), "")
        bare = name.removesuffix(ending)
        if bare not in _SIZES or not _numbers(value):
            continue
        said = _SUFFIXES.get(ending, plain.get(f"{name}_unit", plain.get(f"{name}_units", unit)))
        sizes = np.ravel(value).tolist()
        found = spacing_um(sizes[::-1] if bare.endswith("_xyz") else sizes, _text(said))
        if found is not None:
            return found
    return None


def _numbers(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in "uif" and 1 <= array.size <= 3


def _text(value: Any) -> object:
    """A unit may be text, bytes, or an array with one of them."""
    array = np.ravel(np.asarray(value, dtype=object))
    return array[0] if array.size else None


def _nexus(group: Any) -> Spacing | None:
    """The fields of NXdetector and NXdata: x_pixel_size and y_pixel_size, with units."""
    sizes: dict[str, float] = {}
    for axis in "zyx":
        for name in (f"{axis}_pixel_size", f"pixel_size_{axis}", f"{axis}_voxel_size"):
            field = group.get(name)
            if field is not None and hasattr(field, "dtype") and _numbers(field[()]):
                per = spacing_um([float(np.ravel(field[()])[0])], _text(field.attrs.get("units")))
                if per is not None:
                    sizes[axis] = per[0]
    if "x" not in sizes:
        return None
    return sizes.get("z", math.nan), sizes.get("y", sizes["x"]), sizes["x"]
