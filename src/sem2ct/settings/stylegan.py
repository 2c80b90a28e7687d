"""Settings of `sem2ct train-stylegan` and `sem2ct synthesize`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sem2ct.settings.shared import ComputeSettings, Positive, TrainingSettings


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
