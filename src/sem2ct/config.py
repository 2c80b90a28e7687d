"""Settings of the six commands: what may be set, in which unit, and what excludes what.

One frozen model per command; unknown keys are refused.  The values come from the
YAML files in configs/, which list every setting; here stand the meaning, the type
and the cross-checks.  No torch is imported, so that a typo is answered at once.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
PixelSize = Annotated[float, Field(gt=0)] | Literal["metadata", "unstated"]
Span = tuple[int, int] | Literal["all"]
Percentiles = tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]]


class RunSettings(BaseModel):
    """What every command has: where the run lies, its seed, and the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    run: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")]
    """Name of the run; its folder is <run_root>/<stage>/<run>."""
    run_root: Path
    """Folder of all runs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    """Start of every random stream of this run."""
    dry_run: bool
    """Print counts, bytes and time, and write nothing."""

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
    precision: Literal["float32", "bf16"]
    """Arithmetic of the convolutions; weights, norms and losses stay float32."""


class CtFileSettings(RunSettings):
    """How the micro-CT file is read."""

    ct: str
    """Micro-CT scan: a TIFF stack, a folder of slices, a glob, or a RAW file."""
    ct_raw_shape: tuple[Positive, Positive, Positive] | Literal["none"]
    """Shape (z, y, x) of a RAW file."""
    ct_raw_dtype: Literal["none", "uint8", "uint16", "int16", "float32"]
    """Data type of a RAW file."""
    ct_raw_byte_order: Literal["little", "big"]
    """Byte order of a RAW file."""
    ct_raw_header_bytes: Annotated[int, Field(ge=0)]
    """Bytes before the first voxel of a RAW file."""
    ct_pixel_um: PixelSize
    """Voxel size of the scan in micrometres."""


class ExtractSettings(CtFileSettings):
    """Settings of `sem2ct extract`."""

    source: Literal["files", "toy"]
    """files: the scans named in sem and ct; toy: a generated rock with known porosity."""
    toy_ct_shape: tuple[Positive, Positive, Positive]
    """Shape (z, y, x) of the toy rock's micro-CT volume, in voxels."""
    toy_sem_images: Positive
    """Number of SEM images of the toy rock."""
    toy_sem_px: Positive
    """Side of a SEM image of the toy rock, in SEM pixels."""
    scale: Literal[2, 4, 8, 16, 32]
    """SEM pixels per micro-CT pixel along an axis, after sem_reduce."""
    sem: str | tuple[str, ...]
    """SEM images: files, folders or globs."""
    sem_pixel_um: PixelSize
    """Pixel size of the SEM images in micrometres, before sem_reduce."""
    sem_reduce: Positive
    """Each sem_reduce x sem_reduce block of SEM pixels is averaged to one."""
    sem_crop_bottom: Literal["metadata"] | Annotated[int, Field(ge=0)] | dict[str, int]
    """Rows of data bar to cut: one number, a number per file pattern, or what the file says."""
    sem_window: Percentiles
    """Percentiles of the pooled training images that become black and white."""
    validation_share: Share
    """Share of the SEM images set aside; whole images, because tiles overlap."""
    tile_px: Positive
    """Side of a SEM tile in pixels, after sem_reduce."""
    stride_px: Positive
    """Step from one SEM tile to the next, after sem_reduce."""
    ct_patches: Positive
    """Number of micro-CT patches; they never overlap."""
    ct_patch_px: Positive
    """Side of a micro-CT patch in voxels: tile_px / scale."""
    ct_mask: str
    """found (from the background), none, or an image file that is not 0 inside."""
    ct_window: Percentiles
    """Percentiles of the voxels inside the mask that become black and white."""
    shard_patches: Positive
    """Patches in one file of a store."""
    verify: bool
    """Re-read a finished run's stores and check every checksum."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tile_px != self.scale * self.ct_patch_px:
            raise ValueError(
                f"tile_px={self.tile_px} is not scale={self.scale} times"
                f" ct_patch_px={self.ct_patch_px}; a tile and a patch must show fields of the"
                f" same width: set tile_px={self.scale * self.ct_patch_px}"
            )
        for name in ("sem_window", "ct_window"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(
                    f"{name}=[{low}, {high}] has no width; the first percentile must be lower"
                )
        return self


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


class TrainStyleganSettings(TrainingSettings):
    """Settings of `sem2ct train-stylegan`."""

    sem: Path
    """Store of SEM tiles; their side is the resolution of the networks."""
    z_dim: Positive
    """Length of the latent z."""
    w_dim: Positive
    """Length of the style w."""
    mapping_layers: Positive
    """Fully connected layers between z and w."""
    channel_base: Positive
    """Channels at resolution r are min(channel_base / r, channel_max)."""
    channel_max: Positive
    """Most channels at any resolution."""
    r1_gamma: Annotated[float, Field(ge=0)]
    """Weight of the gradient penalty R1."""
    r1_interval: Positive
    """Steps between two gradient penalties."""
    path_length_weight: Annotated[float, Field(ge=0)]
    """Weight of the path-length penalty; 0 leaves it out."""
    path_length_interval: Positive
    """Steps between two path-length penalties."""
    style_mixing: Annotated[float, Field(ge=0, le=1)]
    """Chance that an image mixes two styles."""
    ema_ramp: Annotated[float, Field(ge=0)]
    """The half-life is at most this share of the images seen; 0 switches the ramp off."""
    symmetries: Literal["none", "mirror", "dihedral"]
    """Symmetries of the rock's SEM images that training may use: a property of the rock."""
    augment: Literal["none", "blit", "sem", "bgc"]
    """Augmentation pipe in front of the discriminator."""
    augment_target: Annotated[float, Field(gt=0, lt=1)]
    """Overfitting heuristic r_t that the controller keeps; it moves the strength towards it."""
    augment_ramp_images: Positive
    """Images in which the strength may go from 0 to 1."""


class SynthesizeSettings(ComputeSettings):
    """Settings of `sem2ct synthesize`."""

    stylegan: Path
    """Run folder of train-stylegan, or one of its checkpoints."""
    mode: Literal["store", "fixed_style", "fixed_noise", "interpolate"]
    """store: independent tiles; the others draw a picture grid."""
    n: Positive
    """Tiles to make, or tiles per row of the grid."""
    rows: Positive
    """Rows of the grid: styles, noises or paths."""
    psi: Annotated[float, Field(ge=0, le=1.5)]
    """Truncation towards the mean style; 1 leaves the styles as they are."""
    batch_per_device: Positive
    """Tiles that go through the generator at once."""
    shard_patches: Positive
    """Tiles in one file of the store."""


class TrainCycleganSettings(TrainingSettings):
    """Settings of `sem2ct train-cyclegan`."""

    ct: Path
    """Store of micro-CT patches."""
    sem: Path | Literal["live"]
    """Store of SEM tiles, or live: drawn from the generator while training."""
    stylegan: Path
    """Run folder of train-stylegan, read with sem=live only."""
    psi: Annotated[float, Field(ge=0, le=1.5)]
    """Truncation of the live tiles."""
    symmetries: Literal["none", "mirror", "dihedral"]
    """Symmetries of the rock that training may use."""
    network: Literal["paper", "robust"]
    """paper: the published networks and objective; robust: tile-invariant, grey-true."""
    width: Positive
    """Channels of the trunk at micro-CT resolution (128 in the paper, 64 in robust)."""
    blocks: Positive
    """Residual blocks of the trunk (3 in the paper, 8 in robust)."""
    discriminator_width: Positive
    """Channels of the discriminators' first layer."""
    constant_images: Annotated[int, Field(ge=0)]
    """Images at constant learning rate; from there it falls linearly to 0."""
    cycle_weight: Annotated[float, Field(ge=0)]
    """Weight of CT -> SEM -> CT (and, in paper, of SEM -> CT -> SEM)."""
    sem_cycle_weight: Annotated[float, Field(ge=0)]
    """Weight of SEM -> CT -> SEM; it decays to 0 in robust."""
    consistency_weight: Annotated[float, Field(ge=0)]
    """Weight of the hinge on |degrade(fake_sem) - ct| above the CT's noise; 0 in paper."""
    history: Annotated[int, Field(ge=0)]
    """Earlier fakes kept to show to the discriminators."""
    guard_images: Annotated[int, Field(ge=0)]
    """Images after which an inverted contrast stops the training."""


class TranslateSettings(CtFileSettings, ComputeSettings):
    """Settings of `sem2ct translate`."""

    cyclegan: Path
    """Run folder of train-cyclegan, or one of its checkpoints."""
    z_range: Span
    """Slices [first, last) of the scan, or all."""
    y_range: Span
    """Rows [first, last) of the scan, or all."""
    x_range: Span
    """Columns [first, last) of the scan, or all."""
    refine_z: bool
    """Interpolate scale slices per slice along z (cubic), so that voxels stay cubes."""
    core_px: Positive
    """Side of a tile's kept part, in CT pixels."""
    halo_px: Literal["network"] | Annotated[int, Field(ge=0)]
    """Context around the core; network: as far as the network can see."""
    ome_zarr_version: Literal["0.4", "0.5"]
    """0.5 is sharded; Fiji and ilastik read only 0.4."""
    chunk_px: Positive
    """Side of a chunk of the output."""


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


MODELS: dict[str, type[RunSettings]] = {
    "extract": ExtractSettings,
    "train_stylegan": TrainStyleganSettings,
    "synthesize": SynthesizeSettings,
    "train_cyclegan": TrainCycleganSettings,
    "translate": TranslateSettings,
    "evaluate": EvaluateSettings,
}


def build(stage: str, values: dict[str, Any]) -> RunSettings:
    """Checks plain values against the settings of one command.

    Args:
        stage: One of `MODELS`, with underscores.
        values: Setting names to plain values.

    Returns:
        The frozen settings.

    Raises:
        pydantic.ValidationError: If a key is unknown, missing, or a value is not allowed.
    """
    return MODELS[stage].model_validate(values)
