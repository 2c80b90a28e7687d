"""What an OME-Zarr volume says about itself: axes, units, and where each resolution lies.

Source: OME-Zarr 0.4 and 0.5, https://ngff.openmicroscopy.org/specifications/.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sem2ct.data.pyramid import Level


def ome_attributes(
    pyramid: Sequence["Level"],
    name: str,
    *,
    voxel: tuple[float, float, float],
    unit_um: bool,
    origin: tuple[float, float, float],
    version: str,
) -> dict[str, Any]:
    """Makes the attributes of an image with its resolutions.

    Args:
        pyramid: The resolutions, the full one first.
        name: Of its folder.
        voxel: Size of a voxel (z, y, x), in micrometres if `unit_um`, else relative.
        unit_um: Whether the size of a voxel is known.
        origin: Where the centre of the first voxel lies, in the unit of `voxel`.
        version: 0.4 or 0.5.
    """
    unit = {"unit": "micrometer"} if unit_um else {}
    datasets = []
    for level in pyramid:
        size = [v * f for v, f in zip(voxel, level.factor, strict=True)]
        # The centre of a coarse voxel lies between those of the fine ones it stands for.
        first = [o + v * (f - 1) / 2 for o, v, f in zip(origin, voxel, level.factor, strict=True)]
        transformations = [
            {"type": "scale", "scale": size},
            {"type": "translation", "translation": first},
        ]
        datasets.append({"path": level.path, "coordinateTransformations": transformations})
    multiscale = {
        "name": name.split(".")[0],
        "type": "mean",
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": datasets,
    }
    if version == "0.5":
        return {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    return {"multiscales": [{"version": version, **multiscale}]}
