"""Settings of `sem2ct evaluate`."""

from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sem2ct.settings.shared import PixelSize, Positive, RunSettings

# It becomes part of the names of files, and the beginning of cells in tables.
SetName = Annotated[str, Field(pattern=r"^\w[\w .,()+-]*$", max_length=64)]


class EvaluateSettings(RunSettings):
    """Settings of `sem2ct evaluate`."""

    LATER = MappingProxyType({"split_by": "none"})

    sets: dict[SetName, str]
    """Named sets: a store, a folder or glob of images, or a translate run; none leaves one out."""
    reference: str
    """Name of the set that the others are compared with."""
    threshold: Literal["otsu", "multi_otsu", "mask"] | Annotated[int, Field(ge=1, le=254)]
    """Grey level under which a pixel is pore; otsu: from the pooled reference; multi_otsu: the
    darkest of three classes; mask: pores are given by masks."""
    masks: dict[str, str]
    """With threshold=mask, for each set a folder or glob of 8-bit masks that are not 0 in pore."""
    pixel_um: PixelSize
    """SEM pixel size in micrometres, after reduction; metadata: from the reference store."""
    resample: bool
    """Average sets of finer pixels to the coarsest, instead of refusing them."""
    split_by: str
    """Label of the tiles of a store (style: synthesize styles=3) by which its set is told apart
    into sets of their own, each held against the reference; or none."""
    tile_px: Positive
    """Side of the tiles that larger images are cut into."""
    reach_px: Positive
    """Longest lag of the correlation functions."""
    most_tiles: Positive
    """Tiles measured per set, evenly spread."""
    looked_tiles: Positive
    """Most tiles per set that are looked up in the real images (copies), evenly spread; at most
    1000 of them also among themselves."""
    features: str
    """Local file inception-2015-12-05.pt for KID and FID, or none."""
    against: str
    """Another evaluate run (folder or metrics.json) whose numbers are set beside, or none."""
    earlier: str
    """An evaluate run whose numbers are taken instead of measuring the sets, or none: with
    against, compares two earlier runs."""
    ct: str
    """Scan shown beside the translated slice, or none."""
    truth: str
    """Fine truth of the scan (toy rock), or none."""
    note: str
    """A caution of your own for the report, or none: where the images come from, say."""
    figures_tiles: Positive
    """Tiles shown per set."""
    devices: Positive
    """Processes on this machine that share the tiles, in chunks of 250."""
    processes: Positive
    """Tiles measured at the same time (threads)."""

    @field_validator("sets", "masks", mode="before")
    @classmethod
    def _leave_out(cls, named: Any) -> Any:
        """A recipe leaves a set of the sheet out by calling it none."""
        if not isinstance(named, dict):
            return named
        return {name: where for name, where in named.items() if where != "none"}

    @model_validator(mode="after")
    def _reference_is_a_set(self) -> Self:
        if self.reference not in self.sets:
            raise ValueError(
                f"reference={self.reference} is not one of the sets: {', '.join(self.sets)}"
            )
        if self.reach_px >= self.tile_px // 2:
            raise ValueError(
                f"reach_px={self.reach_px}, but a tile of tile_px={self.tile_px} supports less"
                f" than {self.tile_px // 2}; lower reach_px or use larger tiles"
            )
        self._refuse_half_stated_masks()
        return self

    def _refuse_half_stated_masks(self) -> None:
        unknown = [name for name in self.masks if name not in self.sets]
        if unknown:
            raise ValueError(
                f"masks.{unknown[0]} belongs to no set; there are: {', '.join(self.sets)}"
            )
        if self.threshold == "mask":
            missing = [name for name in self.sets if name not in self.masks]
            if missing:
                raise ValueError(
                    f"threshold=mask, but sets.{missing[0]} has neither masks nor a threshold;"
                    f" give +masks.{missing[0]}=folder, or a threshold for all sets: otsu, or a"
                    " grey level"
                )
            if self.resample:
                raise ValueError("resample=true cannot average masks; give sets of one pixel size")
        elif self.masks:
            raise ValueError(
                f"masks are given, but threshold={self.threshold}; set threshold=mask to use them"
            )
