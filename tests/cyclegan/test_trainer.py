import io
from typing import Any

import pytest
import torch
from torch import Tensor

from sem2ct.cyclegan.trainer import CycleganTrainer
from sem2ct.runtime.distributed import share
from sem2ct.runtime.refusal import Refusal

BATCH, SCALE, PATCH = 4, 2, 8
SETTINGS: dict[str, Any] = {
    "network": "robust",
    "scale": SCALE,
    "patch_px": PATCH,
    "width": 8,
    "blocks": 1,
    "discriminator_width": 4,
    "batch_size": BATCH,
    "batch_per_device": BATCH,
    "learning_rate": 1e-3,
    "constant_images": 12,
    "total_images": 40,
    "cycle_weight": 10.0,
    "sem_cycle_weight": 1.0,
    "sem_cycle_interval": 1,
    "consistency_weight": 10.0,
    "raster_weight": 3.0,
    "even_phases": True,
    "history": 6,
    "guard_images": 1000,
    "ema_half_life_images": 20,
    "precision": "float32",
    "seed": 5,
}


STYLED = {"network": "robust", "styles": 3}


def make(**changes: Any) -> CycleganTrainer:
    changes |= STYLED if changes.get("network") == "styled" else {}
    return CycleganTrainer(**{**SETTINGS, **changes}, device=torch.device("cpu"))


def whole_batch(images_seen: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(images_seen)
    ct = torch.rand(BATCH, 1, PATCH, PATCH, generator=draw) - 0.3
    sem = torch.rand(BATCH, 1, SCALE * PATCH, SCALE * PATCH, generator=draw) * 1.6 - 0.8
    # Trainers of one style take no notice of it.
    return {"ct": ct, "sem": sem, "style": torch.randint(3, (BATCH,), generator=draw)}


def train(trainer: CycleganTrainer, first: int, last: int) -> list[dict[str, float]]:
    rows = []
    for step in range(first, last):
        batch = {name: share(images) for name, images in whole_batch(BATCH * step).items()}
        values = trainer.step(batch, BATCH * step)
        rows.append({name: value.item() for name, value in values.items()})
    return rows


def weights(trainer: CycleganTrainer) -> Tensor:
    state = trainer.state()
    parts = [*state["translators"].values(), *state["judges"].values()]
    return torch.cat([part.flatten() for part in [*parts, *state["ema"]["weights"].values()]])


def one_rank(network: str) -> tuple[list[dict[str, float]], Tensor, dict[str, Any]]:
    trainer = make(network=network, batch_per_device=1)
    return train(trainer, 0, 4), weights(trainer), trainer.state()["histories"]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    return first == second


@pytest.mark.parametrize("network", ["paper", "robust"])
def test_two_processes_and_their_rounds_are_one_process(two_ranks, network: str):
    torch.set_num_threads(1)
    one = make(network=network)
    rows = train(one, 0, 4)
    for ranks_rows, ranks_weights, ranks_histories in two_ranks(one_rank, network):
        scale = weights(one).abs().max()
        assert (ranks_weights - weights(one)).abs().max() <= 1e-5 * scale
        for name, history in one.state()["histories"].items():
            kept = ranks_histories[name]["images"].int() - history["images"].int()
            assert kept.abs().max() <= 1
        for row, ranks_row in zip(rows, ranks_rows, strict=True):
            assert row.keys() == ranks_row.keys()
            assert ranks_row["grey_correlation"] == pytest.approx(row["grey_correlation"], rel=1e-4)


def state_after(network: str, first: int, last: int, before: dict[str, Any]) -> dict[str, Any]:
    """State of this rank after steps first ... last - 1, from nothing or from a state."""
    trainer = make(network=network, batch_per_device=1)
    if before:
        trainer.restore(through_a_file(before))
    train(trainer, first, last)
    return through_a_file(trainer.state())


@pytest.mark.parametrize("network", ["paper", "robust", "styled"])
def test_one_two_and_four_processes_agree_and_go_on_bit_for_bit(
    two_ranks, four_ranks, network: str
):
    torch.set_num_threads(1)
    end = state_after(network, 0, 4, {})
    for ranks in (two_ranks, four_ranks):
        assert all(same(state, end) for state in ranks(state_after, network, 0, 4, {}))
    by_two = two_ranks(state_after, network, 0, 2, {})[0]
    assert all(same(state, end) for state in four_ranks(state_after, network, 2, 4, by_two))
    by_four = four_ranks(state_after, network, 0, 2, {})[0]
    assert same(state_after(network, 2, 4, by_four), end)
    assert all(same(state, end) for state in two_ranks(state_after, network, 2, 4, by_four))


@pytest.mark.parametrize("network", ["paper", "robust", "styled"])
def test_accumulated_rounds_equal_one_round(network: str):
    whole, rounds = make(network=network), make(network=network, batch_per_device=2)
    rows, rounds_rows = train(whole, 0, 4), train(rounds, 0, 4)
    scale = weights(whole).abs().max()
    assert (weights(whole) - weights(rounds)).abs().max() <= 1e-5 * scale
    for row, rounds_row in zip(rows, rounds_rows, strict=True):
        assert rounds_row == pytest.approx(row, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("network", ["paper", "robust", "styled"])
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(network: str):
    one = make(network=network)
    train(one, 0, 3)
    state = through_a_file(one.state())
    rows = train(one, 3, 7)
    other = make(network=network)
    other.restore(state)
    assert train(other, 3, 7) == rows
    assert same(other.state(), one.state())


def test_a_checkpoint_of_another_batch_size_is_not_taken():
    with pytest.raises(ValueError, match="history of"):
        make(batch_size=8).restore(make().state())


def test_a_checkpoint_of_the_other_network_or_of_another_command_is_named():
    state = make(network="paper").state()
    with pytest.raises(ValueError, match="its network is paper, this training has network=robust"):
        make().restore(state)
    state["ema"]["config"] = {"z_dim": 4}
    with pytest.raises(ValueError, match="its network is none, it is of no translator"):
        make(network="paper").restore(state)


def test_the_seed_alone_decides_the_first_weights():
    torch.manual_seed(1)
    first = weights(make())
    torch.manual_seed(2)
    assert torch.equal(first, weights(make()))
    assert not torch.equal(first, weights(make(seed=6)))


def test_making_a_trainer_leaves_the_global_stream_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    make()
    assert torch.equal(torch.rand(3), expected)


def test_the_values_are_scalars_under_their_names():
    values = make().step(whole_batch(0), 0)
    assert set(values) == {
        "d_sem_loss",
        "d_ct_loss",
        "g_loss",
        "g_sem_loss",
        "g_ct_loss",
        "cycle",
        "sem_cycle",
        "consistency_grey",
        "noise_floor_grey",
        "grey_correlation",
        "sem_judged_right",
        "ct_judged_right",
        "hidden_by_noise",
        "hidden_by_rounding",
        "porosity_transfer",
        "raster",
        "mended translators",
        "mended judges",
    }
    assert all(value.ndim == 0 and not value.requires_grad for value in values.values())


def test_the_learning_rate_falls_from_constant_images_on():
    trainer = make()
    seen = []
    for images_seen in (0, 12, 26, 40):
        trainer.step(whole_batch(images_seen), images_seen)
        seen.append([each.param_groups[0]["lr"] for each in trainer.optimizers.values()])
    # Constant to 12, then a line to 0 at 40: half way at 26.
    assert seen == [[1e-3] * 2, [1e-3] * 2, [5e-4] * 2, [0.0] * 2]


def test_the_sem_cycle_fades_in_robust_and_stays_in_paper():
    robust, paper = make(sem_cycle_weight=3.0), make(network="paper", cycle_weight=15.0)
    assert [robust._sem_cycle_weight(seen) for seen in (0, 10, 40)] == [3.0, 2.25, 0.0]
    assert [paper._sem_cycle_weight(seen) for seen in (0, 10, 40)] == [15.0] * 3
    assert "sem_cycle" not in robust.step(whole_batch(40), 40)


def test_the_sem_cycle_is_taken_every_fourth_step_four_times_as_heavy():
    trainer = make(sem_cycle_weight=3.0, sem_cycle_interval=4, total_images=10**9)
    seen = [BATCH * step for step in range(9)]
    weights = [trainer._sem_cycle_weight(images) for images in seen]
    torch.testing.assert_close(weights, [12.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0, 12.0])
    taken = ["sem_cycle" in trainer.step(whole_batch(images), images) for images in seen[:5]]
    assert taken == [True, False, False, False, True]


def test_a_raster_is_unlearned_and_published_networks_are_left_to_theirs():
    left, kept = [], make(network="paper", raster_weight=1e6)
    plain = make(network="paper", raster_weight=0.0)
    for weight in (0.0, 100.0):
        trainer = make(
            raster_weight=weight, even_phases=False, total_images=4000, constant_images=4000
        )
        with torch.no_grad():
            # One of four phases is far brighter than the others.
            trainer.ct_to_sem.steps[0].conv.bias[::4] = 2.0
            trainer.ct_to_sem.tail.weight.mul_(5)
        rows = [trainer.step(whole_batch(0), BATCH * 16 * step) for step in range(60)]
        left.append((rows[0]["raster"].item(), rows[-1]["raster"].item()))
    assert left[0][0] == left[1][0] > 0.1
    assert left[1][1] < 0.2 * left[0][1]
    assert train(kept, 0, 2) == train(plain, 0, 2)


def test_the_translators_learn_to_bring_the_ct_back():
    trainer = make(total_images=4000, constant_images=4000, network="paper", width=16)
    batch = whole_batch(0)
    cycle = [trainer.step(batch, BATCH * step)["cycle"].item() for step in range(60)]
    assert sum(cycle[-5:]) < 0.6 * sum(cycle[:5])


def test_calibration_starts_from_the_greys_of_the_first_batch():
    trainer = make(learning_rate=0.0)
    batch = whole_batch(0)
    trainer.step(batch, 0)
    painted = trainer.ct_to_sem(batch["ct"])
    # sem has mean 0 and ct 0.2; uncalibrated the translation would be as bright as the CT.
    assert abs(painted.mean() - batch["sem"].mean()) < 0.05
    assert torch.equal(trainer.ema.skip.gain, trainer.ct_to_sem.skip.gain)


def inverted(trainer: CycleganTrainer) -> CycleganTrainer:
    """Turns the translator's skip around, which is all that it answers at first."""
    trainer.step(whole_batch(0), 0)
    with torch.no_grad():
        trainer.ct_to_sem.skip.gain.neg_()
    return trainer


def test_an_inverted_contrast_ends_the_training_with_advice():
    trainer = inverted(make(learning_rate=0.0, guard_images=64))
    with pytest.raises(
        Refusal, match=r"grey_correlation is -0\.\d+ after 64 images.*exchanged.*raise"
    ):
        train(trainer, 1, 40)


def test_a_translation_that_hardly_follows_the_ct_is_doubted_after_guard_images():
    trainer = make(guard_images=64)
    trainer.inversion.correlation = torch.tensor(0.31)
    assert trainer.inversion.doubt(63) == ""
    assert "grey_correlation is 0.31 at 64 images (under 0.5)" in trainer.inversion.doubt(64)
    assert "consistency_weight" in trainer.inversion.doubt(64)
    trainer.inversion.correlation = torch.tensor(0.51)
    assert trainer.inversion.doubt(64) == ""


def test_before_guard_images_an_inverted_contrast_may_pass():
    trainer = inverted(make(learning_rate=0.0, guard_images=1000))
    rows = train(trainer, 1, 20)
    assert rows[-1]["grey_correlation"] < -0.5


def test_the_average_of_the_translator_is_what_is_kept_for_use():
    trainer = make()
    train(trainer, 0, 2)
    stored = trainer.state()["ema"]
    assert stored["config"] == trainer.ct_to_sem.config
    current = trainer.ct_to_sem.state_dict()
    assert any(not torch.equal(stored["weights"][name], current[name]) for name in current)


def test_bf16_stays_close_to_float32():
    full, short = make(), make(precision="bf16")
    rows, short_rows = train(full, 0, 2), train(short, 0, 2)
    assert short_rows[-1]["cycle"] == pytest.approx(rows[-1]["cycle"], rel=0.1)
    assert short_rows[-1] != rows[-1]
