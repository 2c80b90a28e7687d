"""Settings of `sem2ct extract`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sem2ct.settings.shared import CtFileSettings, PixelSize, Positive

Share = Annotated[float, Field(ge=0, lt=1)]
Percentiles = tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]]


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
    sem_window: Percentiles | Literal["keep"]
    """Percentiles of the pooled training images that become black and white, or keep (8 bit).
    In stores pores are dark: where they are bright, the higher percentile stands first."""
    sem_flat_share: Annotated[float, Field(ge=0, le=1)]
    """SEM tiles are left out if more of them is flat: charging, mount, missing data."""
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
    ct_window: Percentiles | Literal["keep"]
    """Percentiles of the voxels inside the mask that become black and white, or keep (8 bit);
    as in sem_window, the higher one first where pores are bright."""
    ct_ready: bool
    """ct holds patches that are cut already (an archive or folder of images), taken whole."""
    ct_resample: bool
    """Resample the scan as it is read where its voxels are not scale SEM pixels wide."""
    devices: Positive
    """Processes on this machine that share images and patches."""
    shard_patches: Positive
    """Patches in one file of a store."""
    encoding: Literal["npy", "tiff"]
    """How stores lie on disk: npy (fastest), or tiff (BigTIFF, zstd: two thirds of the size)."""
    export: Literal["none", "nvlabs_zip", "png", "tiff"]
    """Also write the stores as archives for NVIDIA's code, or as folders of PNG or TIFF files."""
    verify: bool
    """Re-read a finished run's stores and check every checksum."""

    @property
    def asks_more(self) -> bool:
        """Whether a run that is finished still has something to do."""
        return self.verify or self.export != "none"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tile_px != self.scale * self.ct_patch_px:
            raise ValueError(
                f"tile_px={self.tile_px} is not scale={self.scale} times"
                f" ct_patch_px={self.ct_patch_px}; a tile and a patch must show fields of the"
                f" same width: set tile_px={self.scale * self.ct_patch_px}"
            )
        for name in ("sem_window", "ct_window"):
            window = getattr(self, name)
            if window == "keep":
                continue
            black, white = window
            if black == white:
                raise ValueError(
                    f"{name}=[{black}, {white}] has no width; give two percentiles, the lower one"
                    " first where pores are dark, the higher one first where they are bright"
                )
        return self
