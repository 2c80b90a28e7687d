"""What the manifests and journals of stores and frames must say, checked as they are read.

A manifest decides which files are opened, how much is read of them, and what the greys
mean.  So it is held against this schema before anything follows it: files lie in the
folder itself, and numbers are what they can be.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sem2ct.runtime.refusal import Refusal

STORE = "sem2ct store 1"
FRAMES = "sem2ct frames 1"

Count = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[int, Field(gt=0, strict=True)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PixelUm = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] | None
Grey = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class _Checked(BaseModel):
    """Says what must be there; whatever else a later version notes is left alone."""

    model_config = ConfigDict(extra="allow")


class GreyWindow(_Checked):
    """Raw grey levels that became 0 and 255."""

    low: Grey
    high: Grey

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"the grey window from {self.low} to {self.high} has no width")
        return self


class Origin(_Checked):
    """What travels with networks about the patches that they learned from."""

    pixel_um: PixelUm
    window: GreyWindow | None


class Shard(_Checked):
    """One file of patches."""

    file: Annotated[str, Field(pattern=r"^shard_\d+\.(npy|tif)$")]
    sha256: Sha256
    count: Positive
    bytes: Positive = 1


class StoreManifest(Origin):
    """manifest.json of a store."""

    format: Literal["sem2ct store 1"]
    domain: Literal["sem", "ct"]
    tile_px: Positive
    shard_patches: Positive
    count: Positive
    shards: Annotated[list[Shard], Field(min_length=1)]
    sources: list[dict[str, Any]]
    facts: dict[str, Any]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        names = [int(shard.file[6:-4]) for shard in self.shards]
        counts = [shard.count for shard in self.shards]
        full = all(count == self.shard_patches for count in counts[:-1])
        if names != list(range(len(names))) or not full or counts[-1] > self.shard_patches:
            raise ValueError("its shards do not follow one another")
        if sum(counts) != self.count:
            raise ValueError(f"count={self.count}, but its shards hold {sum(counts)} patches")
        return self


class Journal(_Checked):
    """shard_<k>.json beside a shard: where its patches came from."""

    made_from: str
    sha256: Sha256
    count: Positive
    places: dict[str, list[Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]]]
    pages: list[tuple[Count, Count]] = []

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, column in self.places.items():
            if len(column) != self.count:
                raise ValueError(f"places.{name} has {len(column)} numbers for {self.count}")
        if self.pages and len(self.pages) != self.count:
            raise ValueError(f"pages has {len(self.pages)} entries for {self.count}")
        return self


class Frame(_Checked):
    """One whole image."""

    file: Annotated[str, Field(pattern=r"^frame_\d+\.npy$")]
    sha256: Sha256
    shape: tuple[Positive, Positive]
    split: Literal["training", "validation"]


class FramesManifest(_Checked):
    """manifest.json of a folder of frames."""

    format: Literal["sem2ct frames 1"]
    pixel_um: PixelUm
    window: GreyWindow
    made_from: str
    frames: list[Frame]


def read(path: Path, schema: type[BaseModel], *, name: str) -> dict[str, Any]:
    """Reads a manifest or a journal.

    Args:
        path: The .json file.
        schema: What it must say.
        name: Setting and value that led to it, for the refusal.

    Returns:
        Its content as it stands there.

    Raises:
        Refusal: If it is unreadable or says something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        said = fault["msg"].removeprefix("Value error, ")
        reason = f"{where}: {said}" if where else said
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or ["it cannot be read"])[0]
    else:
        return content
    raise Refusal(
        f"{name}: its {path.name} cannot be used ({reason}); it was damaged or changed: make the"
        " folder again"
    )
