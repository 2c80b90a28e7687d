"""Training of the two networks of StyleGAN2-ADA: what one step does.

A step is up to four phases, each with its own pass and its own step of Adam: the
generator against the discriminator; now and then its path-length penalty, on half a
batch; the discriminator on real and generated images; now and then its gradient
penalty R1.  What is done every k-th step only counts k-fold, and Adam's step size and
memory are corrected for the extra steps.

Everything random is drawn for the whole batch from (seed, phase, images seen); a process
takes its share of it, and each round of a share that is too large for the device takes
every K-th of those.  Both cuts leave the groups of the minibatch deviation whole, so N
processes or K rounds compute what one would, up to the order of sums, and bit for bit
where N K is the same (`runtime.sums`).

Sources: Karras et al. 2020, arXiv:1912.04958 (section B: lazy regularisation) and
arXiv:2006.06676.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sem2ct.runtime import distributed, seeding, sums
from sem2ct.runtime.device import autocast, send
from sem2ct.runtime.refusal import Refusal
from sem2ct.stylegan import augment as augmentation
from sem2ct.stylegan import augment_draws, augment_pipes, causes, descent, inputs, losses, transfer
from sem2ct.stylegan.discriminator import Discriminator
from sem2ct.stylegan.generator import Generator
from sem2ct.stylegan.penalty import gradient_penalty_of
from sem2ct.training.averaging import Averaged

PATH_LENGTH_DECAY = 0.01


class StyleganTrainer:
    """Generator, discriminator, their optimizers, the averaged generator, and p.

    Args:
        resolution: Side of the images, a power of two.
        z_dim: Length of the latent z.
        w_dim: Length of the style w.
        mapping_layers: Fully connected layers between z and w.
        channel_base: Channels at resolution r are min(channel_base / r, channel_max).
        channel_max: Most channels at any resolution.
        batch_size: Images per step, over all processes.
        batch_per_device: Images that go through a network at once.
        learning_rate: Adam's step size.
        ema_half_life_images: Half-life of the averaged generator, in images.
        ema_ramp: The half-life is at most this share of the images seen; 0: no ramp.
        r1_gamma: Weight of R1; 0 leaves it out.
        r1_interval: Steps between two R1 phases.
        path_length_weight: Weight of the path-length penalty; 0 leaves it out.
        path_length_interval: Steps between two path-length phases.
        style_mixing: Chance that an image mixes two styles.
        augment: none, blit, sem, bgc, bgcfnc or diffaugment.
        augment_target: r_t that the controller keeps.
        augment_ramp_images: Images in which p may go from 0 to 1.
        precision: float32, tf32, bf16 or mixed, of the networks' arithmetic.
        seed: Start of every random stream.
        device: Where to compute.
        symmetries: none, mirror or dihedral; what augment=sem may turn and mirror.
        augment_strengths: Numbers that replace those of the pipe, by name.
        deviation_group: Images in a group of the discriminator's minibatch deviation.
        freeze_d: Blocks of the discriminator that do not learn (FreezeD).

    Raises:
        Refusal: If half a batch cannot be shared among the processes.
    """

    causes = causes.CAUSES

    def __init__(
        self,
        *,
        resolution: int,
        z_dim: int,
        w_dim: int,
        mapping_layers: int,
        channel_base: int,
        channel_max: int,
        batch_size: int,
        batch_per_device: int,
        learning_rate: float,
        ema_half_life_images: int,
        ema_ramp: float,
        r1_gamma: float,
        r1_interval: int,
        path_length_weight: float,
        path_length_interval: int,
        style_mixing: float,
        augment: str,
        augment_target: float,
        augment_ramp_images: int,
        precision: str,
        seed: int,
        device: torch.device,
        symmetries: str = "dihedral",
        augment_strengths: Mapping[str, float] = MappingProxyType({}),
        deviation_group: int = 4,
        freeze_d: int = 0,
    ) -> None:
        """Draws all weights from the seed; see the class for the arguments."""
        _refuse_half_batch(batch_size, path_length_weight)
        self._batch_size = batch_size
        self._batch_per_device = batch_per_device
        self._r1 = (r1_gamma, r1_interval)
        self._path_length = (path_length_weight, path_length_interval)
        self._style_mixing = style_mixing
        self._pipe = augment_pipes.pipe(augment, symmetries=symmetries, strengths=augment_strengths)
        self._precision = precision
        self._seed = seed
        self._device = device
        shape = {"resolution": resolution, "channel_base": channel_base, "channel_max": channel_max}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.mix(seed, "weights"))
            self.generator = Generator(
                z_dim=z_dim, w_dim=w_dim, mapping_layers=mapping_layers, **shape
            )
            self.discriminator = Discriminator(group=deviation_group, **shape)
        transfer.freeze(self.discriminator, freeze_d)
        self.generator.to(device).requires_grad_(False)
        self.discriminator.to(device).requires_grad_(False)
        self._averaged = Averaged(
            self.generator, half_life_images=ema_half_life_images, ramp=ema_ramp
        )
        self._generator_adam = descent.adam(self.generator, learning_rate, *self._path_length)
        self._discriminator_adam = descent.adam(self.discriminator, learning_rate, *self._r1)
        self._mean_path_length = torch.zeros((), device=device)
        self._strength = augmentation.Strength(
            target=augment_target, ramp_images=augment_ramp_images, device=device
        )

    @property
    def ema(self) -> Generator:
        """The averaged generator, for pictures."""
        assert isinstance(self._averaged.module, Generator)
        return self._averaged.module

    def step(self, images: dict[str, Tensor], images_seen: int) -> dict[str, Tensor]:
        """Learns from one batch.

        Args:
            images: "sem": this process's share, (n, 1, R, R) float32 in [-1, 1].
            images_seen: Images before this step; a multiple of the batch size.

        Returns:
            Detached values, 0-d, of this process's share: g_loss, d_loss, real_logit,
            fake_logit (means), real_sign (r_t), augment (p), and, in steps that measure
            them, path_length, r1; over all processes the norms of the gradients of the
            two losses, generator_gradient and discriminator_gradient.
        """
        real = send(images["sem"], self._device)
        steps = images_seen // self._batch_size
        values = self.generator_phase(images_seen)
        if descent.due(steps, *self._path_length):
            values |= self.path_length_phase(images_seen)
        values |= self.discriminator_phase(real, images_seen)
        if descent.due(steps, *self._r1):
            values |= self.gradient_penalty_phase(real, images_seen)
        self._averaged.update(self.generator, images_seen=images_seen, batch_size=self._batch_size)
        return values

    def state(self) -> dict[str, Any]:
        """Returns plain values and tensors: all that `restore` needs, and the ema to use."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_adam": self._generator_adam.state_dict(),
            "discriminator_adam": self._discriminator_adam.state_dict(),
            "ema": {"config": self.generator.config, "weights": self.ema.state_dict()},
            "mean_path_length": self._mean_path_length,
            "strength": self._strength.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken.

        Raises:
            RuntimeError: If the networks have other shapes.
        """
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self._generator_adam.load_state_dict(state["generator_adam"])
        self._discriminator_adam.load_state_dict(state["discriminator_adam"])
        self.ema.load_state_dict(state["ema"]["weights"])
        self._mean_path_length.copy_(state["mean_path_length"])
        self._strength.restore(state["strength"])

    def generator_phase(self, images_seen: int) -> dict[str, Tensor]:
        """The generator against the discriminator: one step of Adam and its values."""
        drawn = self._draw("generator", images_seen, self._batch_size)
        changes = self._changes("generator", images_seen)
        rounds = descent.rounds(len(drawn.z), self._batch_per_device)
        styles: dict[int, Tensor] = {}

        def loss(k: int) -> Iterator[Tensor]:
            fake, _, w = self._fake("generator", drawn.part(k, rounds))
            styles[k] = w.detach().sum(0, keepdim=True)
            yield losses.generator_loss(self._judge(fake, changes.part(k, rounds)))

        done = descent.descend(self.generator, self._generator_adam, loss, rounds, len(drawn.z))
        self.generator.mapping.track(sums.of_rounds(styles) / self._batch_size)
        mended = self._mended("generator", done)
        return {"g_loss": done.loss, "generator_gradient": done.gradient, **mended}

    def path_length_phase(self, images_seen: int) -> dict[str, Tensor]:
        """The generator's path-length penalty, on half a batch."""
        weight, interval = self._path_length
        drawn = self._draw("path length", images_seen, max(self._batch_size // 2, 1))
        rounds = descent.rounds(len(drawn.z), max(self._batch_per_device // 2, 1))
        # The average before this step: the one after it would need the lengths of all
        # rounds and processes before the first of them could be differentiated.
        target = self._mean_path_length
        measured: dict[int, Tensor] = {}

        def loss(k: int) -> Iterator[Tensor]:
            part = drawn.part(k, rounds)
            fake, ws, _ = self._fake("path length", part)
            key = seeding.mix(self._seed, "path length direction")
            (direction,) = inputs.noise_planes(
                key, send(part.number, self._device), fake.shape[-1:]
            )
            lengths = losses.path_lengths(fake, ws, direction)
            measured[k] = lengths.detach().sum()
            yield (lengths - target).square() * (weight * interval)

        done = descent.descend(self.generator, self._generator_adam, loss, rounds, len(drawn.z))
        length = sums.of_rounds(measured) / max(self._batch_size // 2, 1)
        target.lerp_(length, PATH_LENGTH_DECAY)
        return {"path_length": length, **self._mended("path length", done)}

    def discriminator_phase(self, real: Tensor, images_seen: int) -> dict[str, Tensor]:
        """The discriminator on generated and on real images, which count for p."""
        drawn = self._draw("discriminator", images_seen, self._batch_size)
        fake_changes = self._changes("fake", images_seen)
        real_changes = self._changes("real", images_seen)
        rounds = descent.rounds(len(real), self._batch_per_device)
        seen: tuple[list[Tensor], list[Tensor]] = [], []

        # One after the other, not summed: the memory of one pass at a time, and faster.
        def loss(k: int) -> Iterator[Tensor]:
            with torch.no_grad():
                fake, _, _ = self._fake("discriminator", drawn.part(k, rounds))
            logits = self._judge(fake, fake_changes.part(k, rounds))
            seen[0].append(logits.detach())
            yield losses.discriminator_loss_fake(logits)
            del fake, logits
            logits = self._judge(real[k::rounds], real_changes.part(k, rounds))
            seen[1].append(logits.detach())
            yield losses.discriminator_loss_real(logits)

        done = descent.descend(
            self.discriminator, self._discriminator_adam, loss, rounds, len(real)
        )
        fake_logits, real_logits = (torch.cat(logits) for logits in seen)
        real_signs = real_logits.sign()
        values = {
            "d_loss": done.loss,
            "discriminator_gradient": done.gradient,
            "real_logit": real_logits.mean(),
            "fake_logit": fake_logits.mean(),
            "real_sign": real_signs.mean(),
            **self._mended("discriminator", done),
        }
        if self._pipe.adaptive:
            values["augment"] = torch.full((), self._strength.value, device=self._device)
            self._strength.observe(real_signs, batch_size=self._batch_size)
        return values

    def gradient_penalty_phase(self, real: Tensor, images_seen: int) -> dict[str, Tensor]:
        """The discriminator's gradient penalty, through the augmentation."""
        gamma, interval = self._r1
        changes = self._changes("gradient penalty", images_seen)
        rounds = descent.rounds(len(real), self._batch_per_device)

        def loss(k: int) -> Iterator[Tensor]:
            part = changes.part(k, rounds)
            with autocast(self._precision, self._device):
                penalty, _ = gradient_penalty_of(
                    self.discriminator,
                    real[k::rounds],
                    lambda images: augmentation.apply(images, part),
                )
            yield penalty * (gamma / 2 * interval)

        done = descent.descend(
            self.discriminator, self._discriminator_adam, loss, rounds, len(real)
        )
        mended = self._mended("gradient penalty", done)
        return {"r1": done.loss / (gamma / 2 * interval), **mended}

    def _mended(self, phase: str, done: descent.Descent) -> dict[str, Tensor]:
        return causes.mended(phase, done, precision=self._precision, device=self._device)

    def _draw(self, phase: str, images_seen: int, count: int) -> inputs.Draw:
        """Latents of this process's share of a batch."""
        whole = inputs.draw(
            self._seed,
            phase,
            first=images_seen,
            count=count,
            z_dim=self.generator.config["z_dim"],
            style_count=self.generator.style_count,
            style_mixing=self._style_mixing,
        )
        return whole.share()

    def _changes(self, phase: str, images_seen: int) -> augment_draws.Changes:
        """Augmentation of this process's share of a batch."""
        whole = augment_draws.draw(
            self._pipe,
            strength=self._strength.value,
            seed=self._seed,
            phase=phase,
            first=images_seen,
            count=self._batch_size,
            side_px=self.generator.resolution,
        )
        return whole.share()

    def _fake(self, phase: str, drawn: inputs.Draw) -> tuple[Tensor, Tensor, Tensor]:
        """Generated images, the styles they are made of, and the unmixed first styles."""
        key = seeding.mix(self._seed, "noise", phase)
        numbers = send(drawn.number, self._device)
        planes = inputs.noise_planes(key, numbers, self.generator.noise_shapes)
        with autocast(self._precision, self._device, mixed="float16"):
            ws, w = inputs.styles(self.generator, drawn, self._device)
            return self.generator.synthesis(ws, planes), ws, w

    def _judge(self, images: Tensor, changes: augment_draws.Changes) -> Tensor:
        """Logits of augmented images."""
        changed = augmentation.apply(images, changes)
        with autocast(self._precision, self._device):
            return self.discriminator(changed)


def _refuse_half_batch(batch_size: int, path_length_weight: float) -> None:
    if path_length_weight > 0 and max(batch_size // 2, 1) % distributed.world_size():
        raise Refusal(
            f"batch_size={batch_size}: half of it, for the path-length penalty, cannot be shared"
            f" by devices={distributed.world_size()}; set a multiple of"
            f" {2 * distributed.world_size()}, or path_length_weight=0"
        )
