"""Settings of `sem2ct evaluate`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sem2ct.settings.shared import PixelSize, Positive, RunSettings


class EvaluateSettings(RunSettings):
    """Settings of `sem2ct evaluate`."""

    sets: dict[str, str]
    """Named sets: a store, a folder or glob of images, or a translate run."""
    reference: str
    """Name of the set that the others are compared with."""
    threshold: Literal["otsu"] | Annotated[int, Field(ge=1, le=254)]
    """Grey level under which a pixel is pore; otsu: from the pooled reference."""
    pixel_um: PixelSize
    """SEM pixel size in micrometres, after reduction; metadata: from the reference store."""
    tile_px: Positive
    """Side of the tiles that larger images are cut into."""
    reach_px: Positive
    """Longest lag of the correlation functions."""
    most_tiles: Positive
    """Tiles looked at per set, evenly spread."""
    ct: str
    """Scan shown beside the translated slice, or none."""
    truth: str
    """Fine truth of the scan (toy rock), or none."""
    note: str
    """A caution of your own for the report, or none: where the images come from, say."""
    figures_tiles: Positive
    """Tiles shown per set."""
    processes: Positive
    """Tiles measured at the same time (threads)."""

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
        return self
