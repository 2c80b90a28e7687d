"""Settings that several commands have, and the types of their values.

Models are frozen and refuse unknown keys.  The values come from the YAML files in
configs/, which list every setting; here stand the meaning, the type and the
cross-checks.  No torch is imported, so that a typo is answered at once.
"""

import inspect
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Larger numbers fit neither an image nor a count of them.
Positive = Annotated[int, Field(gt=0, lt=2**31)]
PixelSize = Annotated[float, Field(gt=0)] | Literal["metadata", "unstated"]

PROSE = {"note"}
LONGEST_NAME_BYTES = 255
_CONTROL, _BROKEN = "Cc", "Cs"


def _refuse_unwritable(name: str, text: str) -> None:
    """Refuses what can be no file's name, or could not be noted in config.yaml."""
    if {_CONTROL, _BROKEN} & set(map(unicodedata.category, text)):
        raise ValueError(
            f"{name}={text!a}: holds a character that cannot be shown; give it another name"
        )
    if max(len(part.encode()) for part in text.split("/")) > LONGEST_NAME_BYTES:
        raise ValueError(
            f"{name}={text[:40]}...: a name of more than {LONGEST_NAME_BYTES} bytes, which no"
            " disk takes; give it a shorter one"
        )


def _texts(value: Any) -> Iterator[str]:
    """All texts in a plain value, names of a dictionary included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value:
            yield from _texts(part)
        if isinstance(value, dict):
            yield from _texts(list(value.values()))


class RunSettings(BaseModel):
    """What every command has: where the run lies, its seed, and the machine."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    LATER: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Settings that runs may be older than, with the values that do what was done before."""

    run: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
    """Name of the run; its folder is <run_root>/<stage>/<run>."""
    run_root: Path
    """Folder of all runs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    """Start of every random stream of this run."""
    dry_run: bool
    """Print counts, bytes and time, and write nothing."""

    @model_validator(mode="before")
    @classmethod
    def _of_plain_text(cls, given: Any) -> Any:
        named = given.items() if isinstance(given, dict) else ()
        for name, value in named:
            for text in _texts(value) if name not in PROSE else ():
                _refuse_unwritable(str(name), text)
        return given

    @property
    def asks_more(self) -> bool:
        """Whether a run that is finished still has something to do."""
        return False

    def arguments_of(self, target: Callable[..., Any]) -> dict[str, Any]:
        """The settings that `target` takes as arguments of the same name."""
        taken = inspect.signature(target).parameters
        return {name: getattr(self, name) for name in type(self).model_fields if name in taken}


class ComputeSettings(RunSettings):
    """What commands that run networks have besides."""

    device: Literal["auto", "cpu", "cuda"]
    """auto takes the GPU where there is one."""
    devices: Positive
    """Processes on this machine, one per GPU (or per share of the CPU)."""
    precision: Literal["float32", "tf32", "bf16", "mixed"]
    """Arithmetic of the convolutions; weights, norms and losses stay float32.  tf32 is for GPUs;
    mixed is float16 for the generator of SEM tiles, on a GPU, and bf16 for all else."""


class CtFileSettings(RunSettings):
    """How the micro-CT file is read."""

    ct: str
    """Micro-CT scan: a file, a folder or glob of slices, or an archive of them."""
    ct_raw_shape: tuple[Positive, Positive, Positive] | Literal["none"]
    """Shape (z, y, x) of a RAW file."""
    ct_raw_dtype: Literal["none", "uint8", "uint16", "int16", "float32"]
    """Data type of a RAW file."""
    ct_raw_byte_order: Literal["little", "big"]
    """Byte order of a RAW file."""
    ct_raw_header_bytes: Annotated[int, Field(ge=0)]
    """Bytes before the first voxel of a RAW file."""
    ct_dataset: Annotated[str, Field(min_length=1)]
    """Which dataset of an HDF5, NetCDF or Zarr file is the scan; only: the only 3-D one."""
    ct_pixel_um: PixelSize
    """Voxel size of the scan in micrometres."""

    @property
    def ct_file(self) -> dict[str, Any]:
        """How the file is read: arguments of `scans.open`."""
        names = ("raw_shape", "raw_dtype", "raw_byte_order", "raw_header_bytes", "dataset")
        return {name: getattr(self, f"ct_{name}") for name in names}


class TrainingSettings(ComputeSettings):
    """What both trainings have."""

    batch_size: Positive
    """Images per step, over all devices."""
    batch_per_device: Positive
    """Images that go through a network at once, at most; the rest is accumulated."""
    total_images: Positive
    """Length of the training, in images shown."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Adam's step size."""
    ema_half_life_images: Positive
    """Half-life of the moving average of the weights, in images."""
    values_images: Positive
    """Images between two lines of values."""
    preview_images: Positive
    """Images between two previews."""
    checkpoint_images: Positive
    """Images between two checkpoints."""
    keep_checkpoints: Positive
    """How many checkpoints stay on disk."""

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        names = ("total_images", "values_images", "preview_images", "checkpoint_images")
        for name in names:
            value = getattr(self, name)
            if value % self.batch_size:
                nearest = max(1, round(value / self.batch_size)) * self.batch_size
                raise ValueError(
                    f"{name}={value} is not a multiple of batch_size={self.batch_size};"
                    f" the nearest that is: {nearest}"
                )
        if self.checkpoint_images % self.values_images:
            raise ValueError(
                f"checkpoint_images={self.checkpoint_images} is not a multiple of"
                f" values_images={self.values_images}; a resumed run could not repeat its values"
            )
        if self.batch_size % self.devices:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be shared by devices={self.devices};"
                f" the nearest that can: {-(-self.batch_size // self.devices) * self.devices}"
            )
        share = self.batch_size // self.devices
        if share % min(self.batch_per_device, share):
            raise ValueError(
                f"batch_per_device={self.batch_per_device} does not divide the {share} images of"
                f" one device (batch_size={self.batch_size}, devices={self.devices})"
            )
        return self
