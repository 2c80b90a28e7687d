"""One step of the unpaired translation game, and all that a resumed run needs.

Names of the paper: G_LH is `ct_to_sem`, G_HL is `sem_to_ct`, D_H is `judges["sem"]` and
D_L is `judges["ct"]`.  The published code adds the cycle term twice, with weights 5 and
10; here it is computed once with the sum.  The branches CT -> SEM -> CT and
SEM -> CT -> SEM are differentiated one after the other: gradients add, and only one
graph is in memory.

Every draw comes from the seed, the images seen and the index in the global batch, and
everything estimated from images is summed over ranks, so N processes take the step that
one would: bit for bit the one that takes it in N rounds (`runtime.sums`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sem2ct.cyclegan import discriminators, generators, monitors
from sem2ct.cyclegan.causes import CAUSES
from sem2ct.cyclegan.degrade import Degradation
from sem2ct.cyclegan.history import History
from sem2ct.cyclegan.inversion import InversionGuard
from sem2ct.cyclegan.losses import (
    consistency_loss,
    cycle_loss,
    discriminator_loss,
    least_squares,
    raster_loss,
)
from sem2ct.cyclegan.monitors import GREY
from sem2ct.cyclegan.robust_networks import RobustCtToSem, RobustSemToCt
from sem2ct.runtime.device import autocast
from sem2ct.runtime.distributed import share, world_size
from sem2ct.runtime.seeding import mix
from sem2ct.runtime.sums import gradients, woven
from sem2ct.training.averaging import Averaged
from sem2ct.training.schedules import constant_then_linear
from sem2ct.training.soundness import MENDED

BETAS = (0.5, 0.999)


class CycleganTrainer:
    """Two translators, two discriminators, their optimizers and running estimates."""

    causes = CAUSES

    def __init__(
        self,
        *,
        network: str,
        scale: int,
        patch_px: int,
        width: int,
        blocks: int,
        even_phases: bool,
        discriminator_width: int,
        batch_size: int,
        batch_per_device: int,
        learning_rate: float,
        constant_images: int,
        total_images: int,
        cycle_weight: float,
        sem_cycle_weight: float,
        sem_cycle_interval: int,
        consistency_weight: float,
        raster_weight: float,
        history: int,
        guard_images: int,
        ema_half_life_images: float,
        precision: str,
        seed: int,
        device: torch.device,
        styles: int = 1,
    ) -> None:
        """Makes the networks and their optimizers.

        Args: the settings of `train-cyclegan` under the same names; patch_px is the side of a CT
        patch, and paper weights both cycles with `cycle_weight`, without anything else.
        """
        named: dict[str, Any] = {"network": network, "scale": scale, "styles": styles}
        self.network, self.scale, self.seed, self.device = network, scale, seed, device
        self.batch_size, self.batch_per_device, self.styles = batch_size, batch_per_device, styles
        self.learning_rate, self.precision = learning_rate, precision
        self.constant_images, self.total_images = constant_images, total_images
        self.cycle_weight, self.sem_cycle_weight = cycle_weight, sem_cycle_weight
        ours = (consistency_weight, raster_weight) if network == "robust" else (0.0, 0.0)
        self.consistency_weight, self.raster_weight = ours
        self.sem_cycle_interval, self.calibrated = sem_cycle_interval, False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(seed, "cyclegan", "weights"))
            trunk = {"width": width, "blocks": blocks, "even_phases": even_phases}
            translators = generators.pair(**named, **trunk)
            judges = discriminators.pair(**named, patch_px=patch_px, width=discriminator_width)
        self.ct_to_sem, self.sem_to_ct = (module.to(device) for module in translators)
        self.translators = nn.ModuleDict({"ct_to_sem": self.ct_to_sem, "sem_to_ct": self.sem_to_ct})
        self.judges = nn.ModuleDict({"sem": judges[0], "ct": judges[1]}).to(device)
        both = {"translators": self.translators, "judges": self.judges}
        self.learned = {name: _learnable(module) for name, module in both.items()}
        adam = partial(torch.optim.Adam, lr=learning_rate, betas=BETAS, fused=True)
        self.optimizers = {name: adam(learned) for name, learned in self.learned.items()}
        self.averaged = Averaged(self.ct_to_sem, half_life_images=ema_half_life_images)
        self.histories = self._histories(history, patch_px)
        self.degradation = Degradation(
            scale=scale, patch_px=patch_px, half_life_images=100 * batch_size, device=device
        )
        self.inversion = InversionGuard(network, batch_size, guard_images, device)

    @property
    def ema(self) -> nn.Module:
        """The moving average of `ct_to_sem`, for use and for previews."""
        return self.averaged.module

    def step(self, images: dict[str, Tensor], images_seen: int) -> dict[str, Tensor]:
        """Trains all four networks on one batch.

        Args:
            images: "ct" (n, 1, h, w) and "sem" (n, 1, h * scale, w * scale) in [-1, 1]: this
                rank's share of the batch; with several styles "style" (n,) int64, those of the SEM
                tiles. The translation of a CT patch gets that of the tile beside it, which is
                drawn independently of it and as often as the style occurs.
            images_seen: Images before this step.

        Returns:
            Scalars by name, detached: d_sem_loss, d_ct_loss, g_loss, g_sem_loss, g_ct_loss,
            cycle, sem_cycle, consistency_grey (grey levels of 0 to 255 by which the degraded fake
            misses the CT), noise_floor_grey, grey_correlation, sem_judged_right, ct_judged_right,
            and now and then hidden_by_noise, hidden_by_rounding (cycle error with the tile between
            disturbed, over the clean one), porosity_transfer and raster; see `monitors`.

        Raises:
            Refusal: If dark and bright have changed places for good.
        """
        ct, sem = (images[name].to(self.device, non_blocking=True) for name in ("ct", "sem"))
        style = [images["style"].to(self.device)] if self.styles > 1 else []
        self.degradation.observe(ct, sem)
        if not self.calibrated:
            self._calibrate()
        self._set_learning_rate(images_seen)
        indices = share(torch.arange(self.batch_size)) + images_seen
        rounds = -(-len(ct) // self.batch_per_device)
        # Every K-th image, as a process takes every N-th: both cut a batch alike.
        parts = [slice(k, None, rounds) for k in range(rounds)]

        values: dict[str, Tensor] = {}
        fakes: dict[str, dict[int, Tensor]] = {"sem": {}, "ct": {}}

        def translate(k: int) -> None:
            part, weight = parts[k], len(ct[parts[k]]) / len(ct)
            share_of_all = weight / world_size()
            rest = ([each[part] for each in style], indices[part], share_of_all, images_seen)
            there, fakes["sem"][k] = self._there_and_back(ct[part], *rest)
            back, fakes["ct"][k] = self._back_and_there(sem[part], *rest)
            _add(values, {**there, **back}, weight)

        _learn(self.learned["judges"], False)
        mended = {"translators": self._descend("translators", rounds, translate)}

        _learn(self.learned["judges"], True)
        real = {"sem": (sem, *style), "ct": (ct,)}
        fresh = {name: woven(several) for name, several in fakes.items()}
        shown = {
            name: self.histories[name].exchange(fresh[name], images_seen, *real[name][1:])
            for name in fresh
        }

        def judge(k: int) -> None:
            weight = len(ct[parts[k]]) / len(ct)
            for name in ("sem", "ct"):
                sides = [[each[parts[k]] for each in side[name]] for side in (real, shown)]
                loss, right = self._judge(name, *sides)
                (loss * (weight / world_size())).backward()
                judged = {f"d_{name}_loss": loss.detach(), f"{name}_judged_right": right}
                _add(values, judged, weight)

        mended["judges"] = self._descend("judges", rounds, judge)
        self.averaged.update(self.ct_to_sem, images_seen=images_seen, batch_size=self.batch_size)

        if self._looks_closely(images_seen):
            for what in ("noise", "rounding"):
                disturbed = values.pop(f"disturbed_by_{what}")
                hidden = monitors.hidden_information(values["cycle"], disturbed)
                values[f"hidden_by_{what}"] = hidden
            values["porosity_transfer"] = monitors.porosity_transfer(ct, fresh["sem"], sem)
            values["raster"] = monitors.raster(ct, fresh["sem"])
        values |= {MENDED + name: broken for name, broken in mended.items()}
        values["g_loss"] = values["g_sem_loss"] + values["g_ct_loss"]
        values["noise_floor_grey"] = self.degradation.noise_floor * GREY
        values["grey_correlation"] = monitors.correlation(ct, fresh["sem"])
        self.inversion.follow(values["grey_correlation"], images_seen)
        return values

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs; every rank must call it (histories are gathered).

        Returns:
            Plain values and tensors; "ema" holds "config" and "weights" of the averaged
            `ct_to_sem`, which is all that translation reads.
        """
        return {
            "translators": self.translators.state_dict(),
            "judges": self.judges.state_dict(),
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
            "histories": {name: each.state() for name, each in self.histories.items()},
            "degradation": self.degradation.state(),
            "calibrated": self.calibrated,
            "correlation": self.inversion.correlation.cpu(),
            "ema": {"config": self.ct_to_sem.config, "weights": self.ema.state_dict()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave, on any number of ranks.

        Raises:
            RuntimeError, ValueError: If it belongs to other networks or another batch size.
        """
        kept = state["ema"]["config"].get("network", "none, it is of no translator")
        if kept != self.network:
            raise ValueError(f"its network is {kept}, this training has network={self.network}")
        self.translators.load_state_dict(state["translators"])
        self.judges.load_state_dict(state["judges"])
        self.ema.load_state_dict(state["ema"]["weights"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, history in self.histories.items():
            history.restore(state["histories"][name])
        self.degradation.restore(state["degradation"])
        self.calibrated = bool(state["calibrated"])
        self.inversion.correlation = state["correlation"].to(self.device)

    def _histories(self, size: int, patch_px: int) -> dict[str, History]:
        of_both: dict[str, Any] = {"size": size, "seed": self.seed, "device": self.device}
        of_both["batch_size"] = self.batch_size
        sides_px = {"sem": patch_px * self.scale, "ct": patch_px}
        return {name: History(side_px=px, name=name, **of_both) for name, px in sides_px.items()}

    def _there_and_back(
        self, ct: Tensor, style: list[Tensor], indices: Tensor, weight: float, images_seen: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """CT -> SEM -> CT: adds its gradients; returns its values and the fake tiles."""
        with autocast(self.precision, self.device):
            fake_sem = self._paint(ct, style, indices, "ct")
            cycled_ct = self.sem_to_ct(fake_sem)
            logits = self.judges["sem"](fake_sem, *style)
        adversarial, cycle = least_squares(logits, 1.0), cycle_loss(ct, cycled_ct)
        predicted_ct = self.degradation(fake_sem)
        loss = adversarial + self.cycle_weight * cycle
        if self.consistency_weight > 0:
            floor = self.degradation.noise_floor
            loss = loss + self.consistency_weight * consistency_loss(predicted_ct, ct, floor)
        if self.raster_weight > 0:
            loss = loss + self.raster_weight * raster_loss(fake_sem, self.scale)
        (loss * weight).backward()
        fake_sem = fake_sem.detach()
        values = {
            "g_sem_loss": adversarial.detach(),
            "cycle": cycle.detach(),
            "consistency_grey": (predicted_ct.detach() - ct).abs().mean() * GREY,
        }
        if self._looks_closely(images_seen):
            values |= self._disturbed_cycles(ct, fake_sem, indices)
        return values, fake_sem

    def _back_and_there(
        self, sem: Tensor, style: list[Tensor], indices: Tensor, weight: float, images_seen: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """SEM -> CT -> SEM: adds its gradients; returns its values and the fake patches."""
        cycle_weight = self._sem_cycle_weight(images_seen)
        with autocast(self.precision, self.device):
            fake_ct = self.sem_to_ct(sem)
            logits = self.judges["ct"](fake_ct)
            cycled_sem = self._paint(fake_ct, style, indices, "sem") if cycle_weight > 0 else None
        adversarial = least_squares(logits, 1.0)
        values, loss = {"g_ct_loss": adversarial.detach()}, adversarial
        if cycled_sem is not None:
            cycle = cycle_loss(sem, cycled_sem)
            loss = loss + cycle_weight * cycle
            values["sem_cycle"] = cycle.detach()
        (loss * weight).backward()
        return values, fake_ct.detach()

    def _paint(self, ct: Tensor, style: list[Tensor], indices: Tensor, branch: str) -> Tensor:
        """Translates with noise that belongs to each image's number in the whole training."""
        here = torch.zeros_like(indices)
        # A CT slice apart: no two images share noise.
        origin = tuple(axis.to(ct.device) for axis in (indices * self.scale, here, here))
        key = mix(self.seed, "cyclegan", "noise", branch)
        return self.ct_to_sem(ct, key, origin, *style)

    @torch.no_grad()
    def _disturbed_cycles(self, ct: Tensor, fake_sem: Tensor, indices: Tensor) -> dict[str, Tensor]:
        key = mix(self.seed, "cyclegan", "hiding")
        with autocast(self.precision, self.device):
            return monitors.disturbed_cycles(
                self.sem_to_ct, ct, fake_sem, noise_key=key, numbers=indices
            )

    def _looks_closely(self, images_seen: int) -> bool:
        """Whether this step takes the looks that cost extra."""
        return (images_seen // self.batch_size) % monitors.RARELY == 0

    def _judge(self, name: str, real: list[Tensor], shown: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The loss of one discriminator, and its right answers; real and fake go together."""
        with autocast(self.precision, self.device):
            logits = self.judges[name](*map(torch.cat, zip(real, shown, strict=True)))
        n = len(real[0])
        of_real = [scale[:n] for scale in logits]
        of_shown = [scale[n:] for scale in logits]
        right = monitors.judged_right(of_real, of_shown)
        return discriminator_loss(of_real, of_shown), right.detach()

    def _descend(self, name: str, rounds: int, backward: Callable[[int], None]) -> Tensor:
        """One step of Adam on gradients that are computed in rounds; whether any was mended."""
        mended = gradients(self.learned[name], rounds, backward)
        self.optimizers[name].step()
        self.optimizers[name].zero_grad(set_to_none=True)
        return mended

    def _set_learning_rate(self, images_seen: int) -> None:
        factor = constant_then_linear(
            images_seen, constant_images=self.constant_images, total_images=self.total_images
        )
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * factor

    def _sem_cycle_weight(self, images_seen: int) -> float:
        if (images_seen // self.batch_size) % self.sem_cycle_interval:
            return 0.0
        weight = self.cycle_weight
        if self.network == "robust":
            weight = self.sem_cycle_weight * max(0.0, 1 - images_seen / self.total_images)
        return weight * self.sem_cycle_interval

    def _calibrate(self) -> None:
        """Starts the skips with the grey map that the first batch suggests."""
        self.calibrated = True
        if not isinstance(self.ct_to_sem, RobustCtToSem):
            return
        assert isinstance(self.sem_to_ct, RobustSemToCt)
        gain, bias = self.degradation.linear()
        with torch.no_grad():
            self.ct_to_sem.skip.gain.fill_(gain)
            self.ct_to_sem.skip.bias.fill_(bias)
            self.sem_to_ct.skip.gain.fill_(1 / gain)
            self.sem_to_ct.skip.bias.fill_(-bias / gain)
        self.ema.load_state_dict(self.ct_to_sem.state_dict())


def _learnable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _learn(parameters: list[nn.Parameter], learning: bool) -> None:
    """Switches gradients on or off; those that are never learned are not in the list."""
    for parameter in parameters:
        parameter.requires_grad_(learning)


def _add(values: dict[str, Tensor], more: dict[str, Tensor], weight: float) -> None:
    """Adds weighted values to a sum."""
    for name, value in more.items():
        before = values.get(name)
        values[name] = value * weight if before is None else before + value * weight
