"""Settings of `sem2ct train-stylegan` and `sem2ct synthesize`."""

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sem2ct.settings.shared import ComputeSettings, Positive, TrainingSettings


def _empty_if_none(given: Any) -> Any:
    return {} if given == "none" else given


class TrainStyleganSettings(TrainingSettings):
    """Settings of `sem2ct train-stylegan`."""

    sem: Path
    """Store of SEM tiles; their side is the resolution of the networks."""
    tiles: Literal["stored", "frames"]
    """stored: the tiles of the store; frames: pieces cut anywhere from the images it came from."""
    sem_frames: Path | Literal["none"]
    """Whole prepared SEM images, which extract writes beside the store; none: there are none, and
    generated tiles are judged by the tiles of the store."""
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
    augment: Literal["none", "blit", "sem", "bgc", "bgcfnc", "diffaugment"]
    """Augmentation pipe in front of the discriminator: whole-pixel moves; what a SEM might show;
    as published; with filter, noise and cutout as well; or every change always, uncontrolled."""
    augment_strengths: Annotated[dict[str, float], BeforeValidator(_empty_if_none)]
    """none, or chances and sizes that replace those of the pipe, by name: {noise: 1},
    say; a wrong name is answered with the right ones."""
    augment_target: Annotated[float, Field(gt=0, lt=1)]
    """Overfitting heuristic r_t that the controller keeps; it moves the strength towards it."""
    augment_ramp_images: Positive
    """Images in which the strength may go from 0 to 1."""
    deviation_group: Positive
    """Images in a group of the discriminator's minibatch deviation."""
    recipe: Literal["none", "auto", "paper256", "paper512", "paper1024", "stylegan2"]
    """A published recipe of StyleGAN2-ADA for the tiles' side and these devices; it replaces batch,
    networks, penalties, rates and averages of this sheet; dry_run=true shows what it comes to."""
    resume_from: Path | Literal["none"]
    """Weights to begin with: a run folder of train-stylegan, one of its checkpoints, or a network
    pickle of StyleGAN2-ADA (*.pkl); the average then has no ramp."""
    freeze_d: Annotated[int, Field(ge=0)]
    """Blocks of the discriminator, from the highest resolution down, that stay as resume_from
    has them (FreezeD)."""
    to_grey: bool
    """Make grey networks of a pickle's colour ones."""

    @model_validator(mode="after")
    def _frozen_weights_are_trained_ones(self) -> Self:
        if self.freeze_d and self.resume_from == "none":
            raise ValueError(
                f"freeze_d={self.freeze_d} would keep untrained weights; name trained ones with"
                " resume_from="
            )
        return self

    evaluate_every: Positive | Literal["never"]
    """Images between two looks at generated tiles, beside the real ones of sem_frames: a multiple
    of checkpoint_images.  The best of these checkpoints stays on disk."""
    evaluate_tiles: Annotated[int, Field(ge=2)]
    """Generated tiles that each look measures."""
    threshold: Literal["otsu"] | Annotated[int, Field(ge=1, le=254)]
    """Grey level under which a pixel is pore; otsu: from the pooled training frames."""
    collapse_share: Annotated[float, Field(ge=0, lt=1)]
    """Training stops when generated tiles differ among themselves by less than this share of what
    real ones do; 0 never stops."""
    collapse_after_images: Annotated[int, Field(ge=0)]
    """Images before which that is no collapse yet."""

    @model_validator(mode="after")
    def _judged_and_saved(self) -> Self:
        if self.tiles == "frames" and self.sem_frames == "none":
            raise ValueError("tiles=frames needs frames, but sem_frames=none; set tiles=stored")
        every = self.evaluate_every
        if every != "never" and every % self.checkpoint_images:
            nearest = max(1, round(every / self.checkpoint_images)) * self.checkpoint_images
            raise ValueError(
                f"evaluate_every={every} is not a multiple of"
                f" checkpoint_images={self.checkpoint_images}, so what is judged could not be kept;"
                f" the nearest that is: {nearest}"
            )
        return self


class SynthesizeSettings(ComputeSettings):
    """Settings of `sem2ct synthesize`."""

    LATER = MappingProxyType({"styles": 1, "encoding": "npy"})

    stylegan: Path
    """Run folder of train-stylegan, or one of its checkpoints."""
    checkpoint: Literal["latest", "best"] | Path
    """Which of the run: the newest, or the one nearest to the real tiles (evaluate_every); or a
    file instead of the run: a checkpoint, or a network pickle of StyleGAN2-ADA (*.pkl)."""
    to_grey: bool
    """Make a grey generator of a pickle's colour one."""
    pixel_um: Annotated[float, Field(gt=0)] | Literal["unstated"]
    """Pixel size of the tiles in micrometres, where the checkpoint does not state it: a pickle."""
    mode: Literal["store", "fixed_style", "fixed_noise", "interpolate"]
    """store: independent tiles; the others: a grid of rows x n tiles, and a picture of it."""
    n: Positive
    """Tiles to make, or tiles per row of the grid."""
    rows: Positive
    """Rows of the grid: styles, noises or paths."""
    psi: Annotated[float, Field(ge=0, le=1.5)]
    """Truncation towards the mean style; 1 leaves the styles as they are."""
    styles: Annotated[int, Field(ge=1, le=256)]
    """Styles (clusters of w) to tell apart; with several the store says which each tile has."""
    batch_per_device: Positive
    """Tiles that go through the generator at once."""
    shard_patches: Positive
    """Tiles in one file of the store."""
    encoding: Literal["npy", "tiff"]
    """How the store lies on disk: npy (fastest), or tiff (BigTIFF, zstd: two thirds of size)."""
