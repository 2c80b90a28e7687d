"""Published settings of StyleGAN2-ADA, resolved for a resolution and a number of GPUs.

`auto` follows a rule: the batch grows with the GPUs up to 64, the weight of R1 with the
pixels and against the batch, the half-life of the average with the batch.  The others are
the recipes that papers report: `paper256`, `paper512` and `paper1024` of ADA, `stylegan2`
of config F of StyleGAN2, which had no augmentation.  On few GPUs a published batch is
accumulated in the parts that eight would have had.

Sources: Karras et al. 2020, arXiv:2006.06676 (appendix, training configurations) and
arXiv:1912.04958 (section B: lazy regularisation).
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan.descent import ADAM_BETA2
from sem2ct.stylegan.generator import resolutions

PUBLISHED_GPUS = 8
LARGEST_AUTO_BATCH = 64

# Lengths in images, and what each is a multiple of: another length, or the batch.
LENGTHS = {
    "total_images": "batch_size",
    "values_images": "batch_size",
    "preview_images": "batch_size",
    "checkpoint_images": "values_images",
    "evaluate_every": "checkpoint_images",
}

Sheet = TypeVar("Sheet", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of one training; names, where there are such, as in train_stylegan.yaml."""

    batch_size: int
    """Images per step, over all GPUs."""
    batch_per_device: int
    """Images that go through a network at once."""
    r1_gamma: float
    """Weight of R1."""
    learning_rate: float
    """Step size of both Adams, before the correction for lazy penalties."""
    ema_half_life_images: int
    """Half-life of the averaged generator."""
    ema_ramp: float
    """The half-life is at most this share of the images seen; 0: no ramp."""
    mapping_layers: int
    """Layers between z and w."""
    channel_base: int
    """Channels at resolution r are min(channel_base / r, channel_max)."""
    deviation_group: int
    """Samples in a group of the minibatch deviation."""
    augmented: bool
    """Whether the discriminator's images are augmented adaptively."""
    z_dim: int = 512
    """Length of the latent z."""
    w_dim: int = 512
    """Length of the style w."""
    channel_max: int = 512
    """Most channels at any resolution."""
    r1_interval: int = 16
    """Steps between two R1 penalties."""
    path_length_weight: float = 2.0
    """Weight of the path-length penalty."""
    path_length_interval: int = 4
    """Steps between two path-length penalties."""
    style_mixing: float = 0.9
    """Chance that an image mixes two styles."""

    @property
    def generator_adam(self) -> tuple[float, tuple[float, float]]:
        """Step size and betas of the generator's Adam, corrected for the lazy penalty."""
        return self._adam(self.path_length_interval)

    @property
    def discriminator_adam(self) -> tuple[float, tuple[float, float]]:
        """Step size and betas of the discriminator's Adam, corrected for the lazy penalty."""
        return self._adam(self.r1_interval)

    def settings(self, *, augment: str, batch_per_device: int) -> dict[str, Any]:
        """The settings of train-stylegan that the recipe decides, by name.

        Args:
            augment: The pipe that was set; the recipe says only whether there is one.
            batch_per_device: What fits into a device; accumulating changes no result.
        """
        fits = range(1, min(batch_per_device, self.batch_per_device) + 1)
        at_once = max(part for part in fits if self.batch_per_device % part == 0)
        own = {name: value for name, value in vars(self).items() if name != "augmented"}
        own["batch_per_device"] = at_once
        if not self.augmented:
            return own | {"augment": "none"}
        return own | {"augment": "sem" if augment == "none" else augment}

    def _adam(self, interval: int) -> tuple[float, tuple[float, float]]:
        share = interval / (interval + 1)
        return self.learning_rate * share, (0.0, ADAM_BETA2**share)


# Batch, weight of R1, step size, half-life of the average, channel base, deviation group.
PUBLISHED = {
    "paper256": (64, 1.0, 0.0025, 20000, 16384, 8),
    "paper512": (64, 0.5, 0.0025, 20000, 32768, 8),
    "paper1024": (32, 2.0, 0.002, 10000, 32768, 4),
    "stylegan2": (32, 10.0, 0.002, 10000, 32768, 4),
}


def resolve(recipe: str, *, resolution: int, gpus: int) -> Recipe:
    """Works out a recipe.

    Args:
        recipe: auto, paper256, paper512, paper1024 or stylegan2.
        resolution: Side of the images, a power of two from 4 to 1024.
        gpus: Devices that share a batch.

    Returns:
        The settings.

    Raises:
        Refusal: If the recipe is unknown, the resolution not allowed, or the batch cannot
            be shared by so many devices.
    """
    resolutions(resolution)
    if recipe == "auto":
        return _auto(resolution, gpus)
    if recipe not in PUBLISHED:
        raise Refusal(f"recipe={recipe} is not one of auto, {', '.join(PUBLISHED)}")
    batch, gamma, rate, half_life, base, group = PUBLISHED[recipe]
    if batch % gpus:
        raise Refusal(f"recipe={recipe} has batch_size={batch}, not to be shared by devices={gpus}")
    return Recipe(
        batch_size=batch,
        batch_per_device=min(batch // gpus, batch // PUBLISHED_GPUS),
        r1_gamma=gamma,
        learning_rate=rate,
        ema_half_life_images=half_life,
        ema_ramp=0.0,
        mapping_layers=8,
        channel_base=base,
        deviation_group=group,
        augmented=recipe != "stylegan2",
    )


def applied(settings: Sheet, *, resolution: int) -> Sheet:
    """Replaces the settings of train-stylegan that the recipe among them decides.

    Args:
        settings: All of them.
        resolution: Side of the images.

    Returns:
        Settings of the same kind; the recipe "none" changes nothing.

    Raises:
        Refusal: As `resolve`, or if the recipe's batch does not fit what stays.
    """
    values = settings.model_dump()
    name = values["recipe"]
    if name == "none":
        return settings
    recipe = resolve(name, resolution=resolution, gpus=values["devices"])
    kept = {name: values[name] for name in ("augment", "batch_per_device")}
    changed = recipe.settings(**kept) | _whole_steps(values, recipe.batch_size)
    try:
        return type(settings).model_validate(values | changed)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise Refusal(f"recipe={name}: {reason}") from error


def sheet(settings: BaseModel, *, resolution: int) -> dict[str, str]:
    """What the recipe among the settings comes to, for a person.

    Args:
        settings: As `applied` returned them.
        resolution: Side of the images.

    Returns:
        Rows of a table, name to value; none for the recipe "none".
    """
    values = settings.model_dump()
    if values["recipe"] == "none":
        return {}
    gpus = values["devices"]
    found = resolve(values["recipe"], resolution=resolution, gpus=gpus)
    names = [*LENGTHS, *found.settings(augment="none", batch_per_device=1)]
    adams = {"generator": found.generator_adam, "discriminator": found.discriminator_adam}
    return {
        "recipe": f"{values['recipe']} for {resolution} px and devices={gpus}",
        **{f"  {name}": f"{values[name]}" for name in names},
        **{
            f"  Adam of the {who}": f"step {rate:.6g}, betas {betas[0]:g} and {betas[1]:.6g}"
            for who, (rate, betas) in adams.items()
        },
    }


def _whole_steps(values: dict[str, Any], batch: int) -> dict[str, int]:
    """Lengths rounded up, so that the recipe's batch divides them as the settings ask for."""
    rounded: dict[str, int] = {}
    for name, part in LENGTHS.items():
        if values[name] != "never":
            step = rounded.get(part, batch)
            rounded[name] = -(-values[name] // step) * step
    return rounded


def _auto(resolution: int, gpus: int) -> Recipe:
    per_gpu = min(4096 // resolution, 32)
    batch = max(min(gpus * per_gpu, LARGEST_AUTO_BATCH), gpus)
    if batch % gpus:
        raise Refusal(
            f"recipe=auto has batch_size={batch}, not to be shared by devices={gpus};"
            " take a power of two of them"
        )
    return Recipe(
        batch_size=batch,
        batch_per_device=batch // gpus,
        r1_gamma=0.0002 * resolution**2 / batch,
        learning_rate=0.002 if resolution >= 1024 else 0.0025,
        ema_half_life_images=batch * 10_000 // 32,
        ema_ramp=0.05,
        mapping_layers=2,
        channel_base=32768 if resolution >= 512 else 16384,
        deviation_group=min(batch // gpus, 4),
        augmented=True,
    )
