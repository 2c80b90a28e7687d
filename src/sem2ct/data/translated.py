"""A finished translate run, opened for looking: its slices, its field, and where it lies.

The volume may be larger than memory, so everything is read by windows.  Slice k of
the volume belongs to a slice of the scan and to a slice of a truth with the pixels of
the SEM; this correspondence stands here and nowhere else.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from sem2ct.data import scans, tiling
from sem2ct.data.intensity import choose_window
from sem2ct.data.readers.stack import reading
from sem2ct.data.resampled import resampled
from sem2ct.runtime import records
from sem2ct.runtime.refusal import Refusal

VOLUME = "translation.ome.zarr"
JOURNAL = VOLUME + ".journal.jsonl"
FIELD = "field_of_view.tif"
LARGEST_PICTURE_PX = 1024
SHOWN_PERCENTILES = (0.5, 99.5)
_FILE_SETTINGS = ("raw_shape", "raw_dtype", "raw_byte_order", "raw_header_bytes", "dataset")


class Translated:
    """What `sem2ct translate` left in its folder.

    Attributes:
        volume: (z, y, x) uint8, read by windows.
        field: (z or 1, y, x) boolean at the CT's resolution, True inside.
        scale: SEM pixels per CT pixel.
        pixel_um: Side of a pixel of the volume in micrometres, or None if not stated.
        origin: First (z, y, x) of the scan that was translated.
        refined: Whether `scale` slices were made per slice of the scan.
    """

    def __init__(self, folder: Path, *, setting: str) -> None:
        """Opens a run folder.

        Args:
            folder: Of a finished translate run.
            setting: Setting and value as the user wrote them, for a refusal.

        Raises:
            Refusal: If the run is not finished, or its field of view does not fit.
        """
        for name in (VOLUME, FIELD):
            if not (folder / name).exists():
                raise Refusal(
                    f"{setting}: {name} is missing, so the run is not finished;"
                    " run 'sem2ct translate' again, it goes on where it stopped (with labels=only"
                    " or statistics_only=true there are no greys: set another run=)"
                )
        with reading(f"{setting}: its {VOLUME}", "OME-Zarr volume"):
            group = zarr.open_group(folder / VOLUME, mode="r")
            facts: Any = group.attrs.asdict()
            multiscale = facts.get("ome", facts)["multiscales"][0]
            level = multiscale["datasets"][0]
            array = group[level["path"]]
            assert isinstance(array, zarr.Array)
            assert array.ndim == 3
            self.pixel_um = _pixel_um(multiscale, level)
        self.volume = array
        with reading(f"{setting}: its {FIELD}", "TIFF file"):
            field = tifffile.imread(folder / FIELD) != 0
            assert field.ndim in (2, 3)
            assert field.size
        self.field = field if field.ndim == 3 else field[None]
        self.scale = array.shape[2] // self.field.shape[2]
        if array.shape[1:] != tuple(self.scale * n for n in self.field.shape[1:]):
            raise Refusal(
                f"{setting}: {VOLUME} has slices of {array.shape[1:]}, which is no multiple of the"
                f" {self.field.shape[1:]} of {FIELD}; delete the folder and translate again"
            )
        with reading(f"{setting}: its config.yaml", "record of a translate run"):
            self._remember(records.read_yaml(folder / "config.yaml", remedy="make it again"), facts)

    def _remember(self, used: dict[str, Any], facts: dict[str, Any]) -> None:
        """Takes over how the run read its scan, from its settings and the volume's facts."""
        spans = [used[f"{axis}_range"] for axis in "zyx"]
        self.origin = tuple(0 if span == "all" else int(span[0]) for span in spans)
        made: dict[str, Any] = facts.get("sem2ct", {})
        self._resampled_by = float(made.get("ct_resampled_by", 1.0))
        if self._resampled_by != 1:
            self.origin = tuple(made["first_voxel"])
        self.refined = bool(used["refine_z"]) and self.scale > 1
        held = {name: f"ct_{name}" for name in _FILE_SETTINGS}
        # Runs of earlier versions have no dataset among their settings.
        self._raw = {name: used[key] for name, key in held.items() if key in used}

    def inside(self, k: int) -> NDArray[np.bool_]:
        """The field of view of slice k.

        Returns:
            (y, x) boolean at the CT's resolution.
        """
        return self.field[k * len(self.field) // self.volume.shape[0]]

    def open_ct(self, path: str) -> scans.Scan:
        """Opens the scan as the translation read it: settings of its file, and resampling."""
        scan = scans.open(path, setting="ct", **self._raw)
        if self._resampled_by == 1:
            return scan
        return resampled(scan, from_um=1.0, to_um=self._resampled_by)

    def inside_fine(self, k: int) -> NDArray[np.bool_]:
        """The field of view of slice k, (y, x) at the volume's resolution."""
        return self.inside(k).repeat(self.scale, axis=0).repeat(self.scale, axis=1)

    def ct_slice(self, k: int) -> int:
        """Slice of the scan that slice k was made from."""
        return self.origin[0] + (k // self.scale if self.refined else k)

    def truth_slice(self, k: int) -> int:
        """Slice of a truth of the whole scan, in SEM pixels, that slice k shows."""
        if self.refined:
            return self.origin[0] * self.scale + k
        return (self.origin[0] + k) * self.scale + self.scale // 2

    def tiles(self, tile_px: int) -> NDArray[np.int64]:
        """Places of all tiles that lie wholly inside the field of view.

        Args:
            tile_px: Side of a tile; the grid starts at the corner, without overlap.

        Returns:
            (n, 3) offsets z, y, x, in that order.
        """
        depth = self.volume.shape[0]
        places, known = [], {}
        for k in range(depth):
            layer = k * len(self.field) // depth
            if layer not in known:
                known[layer] = self._whole(self.field[layer], tile_px)
            rows = known[layer]
            places.append(np.column_stack([np.full(len(rows), k), rows]))
        return np.concatenate(places)

    def _whole(self, field: NDArray[np.bool_], tile_px: int) -> NDArray[np.int64]:
        """Offsets (n, 2) of the tiles of one slice that touch nothing outside."""
        outside = np.zeros(tuple(n + 1 for n in field.shape), np.int64)
        outside[1:, 1:] = (~field).cumsum(0).cumsum(1)
        height, width = (self.scale * n for n in field.shape)
        y, x = tiling.grid((height, width), tile_px=tile_px, stride_px=tile_px).T
        top, left = y // self.scale, x // self.scale
        bottom, right = -(-(y + tile_px) // self.scale), -(-(x + tile_px) // self.scale)
        touched = (
            outside[bottom, right]
            - outside[top, right]
            - outside[bottom, left]
            + outside[top, left]
        )
        return np.column_stack([y, x])[touched == 0].astype(np.int64)

    def read(self, k: int, y: slice | None = None, x: slice | None = None) -> NDArray[np.uint8]:
        """Reads a window of slice k; the whole slice when no window is given."""
        with reading(f"{VOLUME}, slice {k}", "OME-Zarr volume"):
            window = self.volume[k, y or slice(None), x or slice(None)]
        return np.asarray(window, np.uint8)


class Beside:
    """The same place from elsewhere: the scan, and perhaps the truth.

    Attributes:
        scan: The micro-CT scan, or None.
        pores: Fine truth in SEM pixels, or None.
        grey: Fine truth as grey values, or None.
    """

    def __init__(self, run: Translated, *, ct: str, truth: str) -> None:
        """Opens the scan and the truth.

        Args:
            run: The translation.
            ct: Scan that was translated, or none.
            truth: File of fine pores, 0 or 255, of the whole scan; or a folder with pores.tif and
                perhaps grey.tif; or none.

        Raises:
            Refusal: If a file is missing or shows another place.
        """
        self._run = run
        self.scan = None if ct == "none" else run.open_ct(ct)
        if self.scan is not None:
            self._refuse_other_place(self.scan, f"ct={ct}", run.ct_slice, 1)
        self.pores = self.grey = None
        if truth == "none":
            return
        folder = Path(truth)
        file = folder / "pores.tif" if folder.is_dir() else folder
        self.pores = scans.open(file, setting="truth")
        self._refuse_other_place(self.pores, f"truth={file}", run.truth_slice, run.scale)
        if folder.is_dir() and (folder / "grey.tif").is_file():
            self.grey = scans.open(folder / "grey.tif", setting="truth")

    def ct_slice(self, k: int) -> NDArray[Any] | None:
        """The window of the scan that slice k was made from, at the CT's resolution."""
        return self._window(self.scan, self._run.ct_slice(k), 1)

    def truth_slice(self, k: int) -> NDArray[np.bool_] | None:
        """True pores of slice k, in SEM pixels."""
        pores = self._window(self.pores, self._run.truth_slice(k), self._run.scale)
        return None if pores is None else pores > 127

    def grey_slice(self, k: int) -> NDArray[Any] | None:
        """True greys of slice k, in SEM pixels."""
        return self._window(self.grey, self._run.truth_slice(k), self._run.scale)

    def slices(
        self, most: int
    ) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Slices held against the truth, evenly spread.

        Args:
            most: Most slices.

        Yields:
            Number of the slice, its greys, its true pores, and where the field of view is.
        """
        depth = self._run.volume.shape[0]
        for k in np.linspace(0, depth - 1, min(most, depth)).astype(int).tolist():
            truth = self.truth_slice(k)
            if truth is not None:
                yield k, self._run.read(k), truth, self._run.inside_fine(k)

    def pictures(self, *, zoom_px: int) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """The middle slice, and the same place in the scan and the truth, to be looked at.

        Args:
            zoom_px: Least side of the enlarged part, which lies in the middle of the field.

        Returns:
            What they show ("slice", and "whole" and "zoom" as y, x, height, width in pixels
            of the volume), and uint8 pictures "whole" and "zoom", "whole/ct", "zoom/ct" and
            so on; a whole slice is thinned to at most `LARGEST_PICTURE_PX`.
        """
        run = self._run
        k = run.volume.shape[0] // 2
        fine, inside = run.read(k), run.inside(k)
        images = {"": (fine, 1)}
        ct = self.ct_slice(k)
        if ct is not None:
            window = choose_window(ct[inside], SHOWN_PERCENTILES, what="ct")
            images["/ct"] = (window.to_uint8(ct), run.scale)
        truth, grey = self.truth_slice(k), self.grey_slice(k)
        if grey is not None:
            images["/truth"] = (grey, 1)
        elif truth is not None:
            images["/truth"] = (np.where(truth, 0, 255).astype(np.uint8), 1)
        height, width = fine.shape
        y, x, side = self._middle(inside, max(zoom_px, width // 4))
        thin = -(-max(height, width) // LARGEST_PICTURE_PX)
        shown = {}
        for name, (image, factor) in images.items():
            step = max(1, thin // factor)
            shown[f"whole{name}"] = image[::step, ::step]
            rows = slice(y // factor, (y + side) // factor)
            shown[f"zoom{name}"] = image[rows, x // factor : (x + side) // factor]
        about = {"slice": k, "whole": [0, 0, height, width], "zoom": [y, x, side, side]}
        return about, shown

    def _middle(self, inside: NDArray[np.bool_], zoom_px: int) -> tuple[int, int, int]:
        """Corner and side of a square in the middle of the field, whole CT pixels."""
        scale, places = self._run.scale, np.nonzero(inside)
        side = min(-(-zoom_px // scale), *inside.shape)
        corner = [
            int(np.clip(along.mean() - side / 2, 0, length - side))
            for along, length in zip(places, inside.shape, strict=True)
        ]
        return corner[0] * scale, corner[1] * scale, side * scale

    def _window(self, scan: scans.Scan | None, z: int, scale: int) -> NDArray[Any] | None:
        if scan is None:
            return None
        (y, x), (height, width) = self._run.origin[1:], self._run.field.shape[1:]
        rows = slice(y * scale, (y + height) * scale)
        columns = slice(x * scale, (x + width) * scale)
        return scan.read(slice(z, z + 1), rows, columns)[0]

    def _refuse_other_place(
        self, scan: scans.Scan, what: str, slice_of: Callable[[int], int], scale: int
    ) -> None:
        run = self._run
        last = slice_of(run.volume.shape[0] - 1) + 1
        rows, columns = (
            (start + side) * scale
            for start, side in zip(run.origin[1:], run.field.shape[1:], strict=True)
        )
        if any(have < need for have, need in zip(scan.shape, (last, rows, columns), strict=True)):
            raise Refusal(
                f"{what}: its shape is {scan.shape}, but the translation shows a place up to"
                f" {(last, rows, columns)}; give the one of the translated scan, or none"
            )


def side_by_side(
    places: dict[str, Beside], *, zoom_px: int
) -> tuple[dict[str, dict[str, Any]], dict[str, NDArray]]:
    """The pictures of several translations.

    Args:
        places: By name of the translated set.
        zoom_px: As for `Beside.pictures`.

    Returns:
        What they show, by name; and the pictures as "slice/<name>/whole" and so on.
    """
    about, images = {}, {}
    for name, place in places.items():
        about[name], shown = place.pictures(zoom_px=zoom_px)
        images |= {f"slice/{name}/{part}": image for part, image in shown.items()}
    return about, images


def _pixel_um(multiscale: dict[str, Any], level: dict[str, Any]) -> float | None:
    """Pixel size along x, when the axes have a unit."""
    if multiscale["axes"][-1].get("unit") != "micrometer":
        return None
    changes = level.get("coordinateTransformations", [])
    scales = [change["scale"] for change in changes if change["type"] == "scale"]
    return float(scales[0][-1]) if scales else None
