"""Settings of `sem2ct train-cyclegan` and `sem2ct translate`."""

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sem2ct.settings.shared import ComputeSettings, CtFileSettings, Positive, TrainingSettings

Between = tuple[int, int]
Span = Between | Literal["all"]


class TrainCycleganSettings(TrainingSettings):
    """Settings of `sem2ct train-cyclegan`."""

    LATER = MappingProxyType(
        {
            "to_grey": False,
            "styles": 1,
            "sem_styles": "all",
            "sem_cycle_interval": 1,
            "raster_weight": 0.0,
            "even_phases": False,
            "greys": "trusted",
        }
    )

    ct: Path
    """Store of micro-CT patches."""
    sem: Path | Literal["live"]
    """Store of SEM tiles, or live: drawn from the generator while training."""
    stylegan: Path
    """Run folder of train-stylegan, read with sem=live only."""
    checkpoint: Literal["latest", "best"] | Path
    """Which of the run's checkpoints draws live tiles, or a file instead, also a *.pkl."""
    to_grey: bool
    """Make a grey generator of a pickle's colour one."""
    psi: Annotated[float, Field(ge=0, le=1.5)]
    """Truncation of the live tiles."""
    greys: Literal["checked", "trusted"]
    """checked: stores whose greys lean opposite ways are refused; trusted: pores are dark."""
    symmetries: Literal["none", "mirror", "dihedral"]
    """Symmetries of the rock that training may use."""
    styles: Annotated[int, Field(ge=1, le=256)]
    """Styles that the translator can be asked for (robust): those that the store of SEM tiles
    tells apart, else clusters of the tiles' descriptors, or of w with sem=live."""
    sem_styles: (
        Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | Literal["all"]
    )
    """Styles whose tiles train, from 0 (the most common): one model for each, as in the paper."""
    network: Literal["paper", "robust"]
    """paper: the published networks and objective; robust: tile-invariant, grey-true."""
    width: Positive
    """Channels of the trunk at micro-CT resolution (128 in the paper, 64 in robust)."""
    blocks: Annotated[int, Field(ge=1, le=1000)]
    """Residual blocks of the trunk (3 in the paper, 8 in robust)."""
    even_phases: bool
    """The phases of a sub-pixel step answer flat greys alike: no mesh of CT pixels (robust)."""
    discriminator_width: Positive
    """Channels of the discriminators' first layer."""
    constant_images: Annotated[int, Field(ge=0)]
    """Images at constant learning rate; from there it falls linearly to 0."""
    cycle_weight: Annotated[float, Field(ge=0)]
    """Weight of CT -> SEM -> CT (and, in paper, of SEM -> CT -> SEM)."""
    sem_cycle_weight: Annotated[float, Field(ge=0)]
    """Weight of SEM -> CT -> SEM; it decays to 0 in robust."""
    sem_cycle_interval: Positive
    """Every so many steps SEM -> CT -> SEM is taken, so many times as heavy."""
    consistency_weight: Annotated[float, Field(ge=0)]
    """Weight of the hinge on |degrade(fake_sem) - ct| above the CT's noise; 0 in paper."""
    raster_weight: Annotated[float, Field(ge=0)]
    """Weight of the share of variance that repeats in every CT pixel; 0 in paper."""
    history: Annotated[int, Field(ge=0)]
    """Earlier fakes kept to show to the discriminators."""
    guard_images: Annotated[int, Field(ge=0)]
    """Images after which an inverted contrast stops the training."""
    checkpoint_activations: bool
    """Compute activations again on the way back instead of keeping them: less memory, slower, the
    same to the last bit."""

    @model_validator(mode="after")
    def _styles_fit(self) -> Self:
        if self.network == "paper" and self.styles > 1:
            raise ValueError(
                f"styles={self.styles}, but network=paper paints in one style: train one model for"
                " each (styles=1 sem_styles=[0], then sem_styles=[1] under another run=), or"
                " set network=robust"
            )
        if self.sem == "live" and self.sem_styles != "all":
            raise ValueError(
                f"sem_styles={list(self.sem_styles)}, but live tiles are drawn in all styles; make"
                " a store with 'sem2ct synthesize styles=K' and name it sem="
            )
        return self


class TranslateSettings(CtFileSettings, ComputeSettings):
    """Settings of `sem2ct translate`."""

    LATER = MappingProxyType(
        {
            "axes": "xy",
            "norm_over": "tile",
            "exact": False,
            "style": 0,
            "labels": False,
            "statistics_only": False,
            "threshold": "none",
            "reach_px": 64,
            "allow_partial": False,
        }
    )

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
    core_px: Literal["auto"] | Positive
    """Side of a tile's kept part, in CT pixels; auto: as large as the free memory allows.  Sums are
    rounded differently with another one, so give a number where bits count (or exact=true)."""
    halo_px: Literal["network"] | Annotated[int, Field(ge=0)]
    """Context around the core; network: as far as the network can see.  The paper's tiles overlap
    by 8: halo_px=4."""
    axes: Literal["xy", "xz", "yz", "average"]
    """Planes that the network is shown; average: the mean of all three.  A check of z."""
    norm_over: Literal["tile", "slice"]
    """What instance norm (network=paper) is taken over; slice has no seams, at 6 times the work."""
    exact: bool
    """On a CPU: tiles agree in every bit, whatever core_px is; it takes 2 to 3 times as long."""
    ome_zarr_version: Literal["0.4", "0.5"]
    """0.5 is sharded; Fiji and ilastik read only 0.4."""
    chunk_px: Positive
    """Side of a chunk of the output."""
    style: Annotated[int, Field(ge=0)]
    """Style to paint in, from 0 (the most common one), if the translator was trained on several."""
    realisations: Positive
    """Volumes that differ where the CT leaves it open; with several, their mean and deviation."""
    labels: Literal["only"] | bool
    """Also write the pores, one bit per voxel (1 is pore); only: instead of the grey levels."""
    statistics_only: bool
    """Write statistics.json (porosity, S2, chords along x, y and z) and no voxel."""
    threshold: Literal["none"] | Annotated[int, Field(ge=1, le=254)] | Path
    """Grey level under which a voxel is pore, an evaluate run that has found one, or none; with one
    statistics.json is written of every volume."""
    reach_px: Positive
    """Longest lag of the statistics."""
    allow_partial: bool
    """Where the disk cannot hold all, translate the first slices that fit, instead of refusing."""
    export: Literal["none", "vti", "nrrd", "raw", "tiff"]
    """Also write the volume, or a box of it, for ParaView (vti), 3D Slicer (nrrd), solvers (raw,
    with JSON beside it) or Fiji (tiff: OME-TIFF)."""
    export_range: tuple[Between, Between, Between] | Literal["all"]
    """Box to export: [first, last) along z, y and x in voxels of the translated volume, or all."""

    @property
    def asks_more(self) -> bool:
        """Whether a run that is finished still has something to do."""
        return self.export != "none"

    @model_validator(mode="after")
    def _can_be_done_together(self) -> Self:
        pores = "labels" if self.labels else "statistics_only" if self.statistics_only else ""
        if pores and self.threshold == "none":
            raise ValueError(
                f"{pores}={str(getattr(self, pores)).lower()} must know which voxels are pore; set"
                " threshold= to a grey level from 1 to 254, or to the folder of an evaluate run"
            )
        if self.exact and self.precision != "float32":
            raise ValueError(
                f"exact=true computes in float32, but precision={self.precision}; set"
                " precision=float32"
            )
        if self.axes != "xy" and not self.refine_z:
            raise ValueError(
                f"axes={self.axes} makes cubes: planes through z show scale rows per slice; set"
                " refine_z=true"
            )
        if self.axes != "xy" and self.norm_over == "slice":
            raise ValueError(
                f"axes={self.axes} reads only a part of each plane, so norm_over=slice has no slice"
                " to look at; set norm_over=tile, or axes=xy"
            )
        self._refuse_voxels_of_statistics()
        return self

    def _refuse_voxels_of_statistics(self) -> None:
        if self.labels == "only" and self.export != "none":
            raise ValueError(
                f"labels=only writes no grey level, so export={self.export} has none to take; set"
                " labels=true, or export=none"
            )
        if not self.statistics_only:
            return
        if self.labels:
            raise ValueError(
                f"statistics_only=true writes no voxel, but labels={str(self.labels).lower()} asks"
                " for some; set one of them to false"
            )
        if self.export != "none":
            raise ValueError(
                f"statistics_only=true writes no voxel, so export={self.export} has none to take;"
                " set export=none"
            )
