"""Settings of `sem2ct train-cyclegan` and `sem2ct translate`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sem2ct.settings.shared import ComputeSettings, CtFileSettings, Positive, TrainingSettings

Span = tuple[int, int] | Literal["all"]


class TrainCycleganSettings(TrainingSettings):
    """Settings of `sem2ct train-cyclegan`."""

    ct: Path
    """Store of micro-CT patches."""
    sem: Path | Literal["live"]
    """Store of SEM tiles, or live: drawn from the generator while training."""
    stylegan: Path
    """Run folder of train-stylegan, read with sem=live only."""
    checkpoint: Literal["latest", "best"] | Path
    """Which of the run's checkpoints draws live tiles, or a file instead, also a *.pkl."""
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
    realisations: Positive
    """Volumes that differ where the CT leaves it open; with several, their mean and deviation."""
