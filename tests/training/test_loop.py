import json
import logging
import os
import signal
import threading
import types

import numpy as np
import pytest
import torch

from sem2ct.runtime import checkpoint, distributed, seeding, sums
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.training import loop

LENGTHS = {
    "total_images": 60,
    "batch_size": 4,
    "values_images": 8,
    "preview_images": 20,
    "checkpoint_images": 16,
    "keep_checkpoints": 2,
}


HALF = torch.tensor(0.5)


class Toy:
    """Adam on one weight; a penalty every third step, noise drawn by position."""

    causes = types.MappingProxyType({"loss": "it is of the toy's phase; lower toy_rate"})

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.adam = torch.optim.Adam([self.weight], lr=0.1)
        self.after = {}

    def step(self, images, images_seen):
        noise = torch.randn(3, generator=seeding.generator(7, "noise", images_seen))
        loss = ((self.weight - images["sem"]) * noise).square().sum(dim=1).mean()
        values = {"loss": loss.detach()}
        if images_seen // 4 % 3 == 0:
            loss = loss + self.weight.square().sum()
            values["penalty"] = self.weight.detach().square().sum()
        sums.gradients([self.weight], 1, lambda _: (loss / distributed.world_size()).backward())
        self.adam.step()
        self.after.get(images_seen + 4, lambda: None)()
        return values

    def state(self):
        return {"weight": self.weight.detach().clone(), "adam": self.adam.state_dict()}

    def restore(self, state):
        self.weight.data.copy_(state["weight"])
        self.adam.load_state_dict(state["adam"])


def whole_batch(images_seen):
    return torch.randn(4, 1, generator=seeding.generator(7, "images", images_seen))


def batches(images_seen):
    return {"sem": distributed.share(whole_batch(images_seen))}


def previews(images_seen):
    return {"toy": np.full((2, 3), images_seen, np.uint8)}


def train(path, after=None, settings=LENGTHS, **changed):
    folder = RunFolder.open(path, {"seed": 7}, writer=distributed.is_main())
    toy = Toy()
    toy.after = after or {}
    given = settings | changed
    try:
        end = loop.run(
            toy, batches=batches, folder=folder, previews=previews, what="toy", extra=None, **given
        )
    finally:
        folder.close()
    return toy, end


def rows(path):
    found = [json.loads(line) for line in (path / "values.jsonl").read_text().splitlines()]
    clocked = ("seconds", "images_per_second")
    return [{name: row[name] for name in row if name not in clocked} for row in found]


def ask(number):
    """A signal to this process, which is only heard when it ran in the main thread."""
    return lambda: os.kill(os.getpid(), number)


def crash():
    raise ConnectionError("power cut")


@pytest.fixture
def one_run(tmp_path):
    train(tmp_path / "one")
    return tmp_path / "one"


def same_run(one, other):
    newest = [checkpoint.newest(path / "checkpoints") for path in (one, other)]
    assert newest[0].name == newest[1].name
    assert newest[0].read_bytes() == newest[1].read_bytes()
    assert rows(one) == rows(other)
    pictures = [sorted((path / "previews").iterdir()) for path in (one, other)]
    assert [p.name for p in pictures[0]] == [p.name for p in pictures[1]]


def test_the_events_come_where_they_are_asked_for(one_run):
    assert [row["images"] for row in rows(one_run)] == [8, 16, 24, 32, 40, 48, 56, 60]
    assert [p.stem for p in sorted((one_run / "previews").iterdir())] == [
        "toy_000000020",
        "toy_000000040",
        "toy_000000060",
    ]
    assert [p.stem for p in sorted((one_run / "checkpoints").iterdir())] == [
        "000000048",
        "000000060",
    ]


def test_a_value_is_averaged_over_the_steps_in_which_it_appeared(tmp_path):
    toy = Toy()
    toy.step = lambda images, images_seen: {
        "every": torch.tensor(float(images_seen)),
        **({"seldom": torch.tensor(5.0)} if images_seen == 4 else {}),
    }
    folder = RunFolder.open(tmp_path, {})
    few = LENGTHS | {"total_images": 24, "values_images": 12}
    loop.run(toy, batches=batches, folder=folder, previews=previews, what="toy", **few)
    folder.close()
    assert rows(tmp_path) == [
        {"images": 12, "every": 4.0, "seldom": 5.0},
        {"images": 24, "every": 16.0},
    ]


@pytest.mark.parametrize("at", [4, 20, 32, 36, 56])
def test_a_crash_and_a_second_start_make_one_run(tmp_path, one_run, at):
    with pytest.raises(ConnectionError):
        train(tmp_path / "two", after={at: crash})
    train(tmp_path / "two")
    same_run(one_run, tmp_path / "two")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR2, 140)]
)
def test_a_stop_between_two_rows_and_a_second_start_make_one_run(tmp_path, one_run, number, code):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left:
        train(tmp_path / "two", after={36: ask(number)})
    assert left.value.code == code
    assert checkpoint.newest(tmp_path / "two" / "checkpoints").stem == "000000036"
    assert signal.getsignal(number) is before
    train(tmp_path / "two")
    same_run(one_run, tmp_path / "two")


def test_a_finished_run_has_nothing_left_to_do(one_run):
    _, end = train(one_run, after=dict.fromkeys(range(100), crash))
    assert end == 60


def test_a_batch_system_has_its_say_when_all_is_saved(tmp_path):
    """submitit listens to SIGUSR2, and puts the job back in the queue."""
    saved = []

    def put_back(number, frame):
        saved.append(checkpoint.newest(tmp_path / "run" / "checkpoints").name)

    before = signal.signal(signal.SIGUSR2, put_back)
    try:
        with pytest.raises(SystemExit) as left:
            train(tmp_path / "run", after={36: ask(signal.SIGUSR2)})
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert left.value.code == 140
    assert saved == ["000000036.pt"]


def test_a_second_signal_that_is_meant_stops_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SECOND_SIGNAL_S", 0.0)

    def twice():
        ask(signal.SIGTERM)()
        ask(signal.SIGTERM)()

    with pytest.raises(SystemExit) as left:
        train(tmp_path, after={20: twice})
    assert left.value.code == 143
    assert checkpoint.newest(tmp_path / "checkpoints").stem == "000000016"


def test_a_launchers_copy_of_the_signal_is_no_second_one(tmp_path):
    def twice():
        ask(signal.SIGINT)()
        ask(signal.SIGINT)()

    with pytest.raises(SystemExit):
        train(tmp_path, after={20: twice})
    assert checkpoint.newest(tmp_path / "checkpoints").stem == "000000020"


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    handlers = []
    thread = threading.Thread(
        target=train,
        args=(tmp_path,),
        kwargs={"after": {4: lambda: handlers.append(signal.getsignal(signal.SIGTERM))}},
    )
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert handlers == [before]
    assert rows(tmp_path)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_leads_to_the_same(
    tmp_path, one_run, caplog
):
    with pytest.raises(ConnectionError):
        train(tmp_path / "two", after={56: crash})
    folder = tmp_path / "two" / "checkpoints"
    newest = checkpoint.newest(folder)
    newest.write_bytes(newest.read_bytes()[:-100])
    logging.getLogger("sem2ct").propagate = True
    train(tmp_path / "two")
    (line,) = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    assert "000000048.pt is damaged and was set aside as 000000048.pt.damaged" in line
    assert "going on from 000000032.pt" in line
    assert (folder / "000000048.pt.damaged").exists()
    same_run(one_run, tmp_path / "two")


def test_damaged_checkpoints_alone_are_refused_and_stay(one_run):
    for path in (one_run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Refusal, match=r"000000060.pt is damaged, and so are all before it \(2"):
        train(one_run)
    assert len(list((one_run / "checkpoints").glob("*.pt"))) == 2


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    checkpoint.save(tmp_path / "checkpoints", 16, {"trainer": {"weight": 1}}, keep=1)
    with pytest.raises(Refusal, match=r"000000016.pt does not fit this training"):
        train(tmp_path)


def test_a_value_that_is_no_number_ends_the_training_before_it_is_saved(tmp_path, monkeypatch):
    sound = Toy.step

    def step(self, images, images_seen):
        factor = float("nan") if images_seen == 24 else 1.0
        values = sound(self, images, images_seen)
        return values | {"loss": values["loss"] * factor}

    monkeypatch.setattr(Toy, "step", step)
    with pytest.raises(
        Refusal, match=r"loss became nan before images=32; lower learning_rate.*toy_rate"
    ):
        train(tmp_path)
    assert checkpoint.newest(tmp_path / "checkpoints").stem == "000000016"


def test_a_stop_saves_nothing_that_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "step", lambda *_: {"loss": torch.tensor(float("inf"))} | stop_now())

    def stop_now():
        ask(signal.SIGTERM)()
        return {}

    with pytest.raises(Refusal, match="loss became inf before images=4; lower"):
        train(tmp_path)
    assert checkpoint.newest(tmp_path / "checkpoints") is None


def test_a_mended_gradient_ends_the_training_before_it_is_saved(tmp_path, monkeypatch):
    sound = Toy.step
    monkeypatch.setattr(
        Toy,
        "step",
        lambda self, images, images_seen: (
            sound(self, images, images_seen)
            | {"mended toy": torch.tensor(float(images_seen == 36)), "overflowed toy": HALF}
        ),
    )
    with pytest.raises(
        Refusal, match="the gradients of the toy became nan or inf before images=40"
    ):
        train(tmp_path)
    assert checkpoint.newest(tmp_path / "checkpoints").stem == "000000032"
    # Half of the steps in float16 may overflow, and the row says so; none that is 0 is shown.
    assert sorted(rows(tmp_path)[0]) == [
        "images",
        "loss",
        "overflowed toy",
        "penalty",
    ]


def test_more_than_half_of_the_steps_may_not_overflow(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Toy, "step", lambda *_: {"overflowed toy": torch.tensor(0.51, dtype=torch.float64)}
    )
    with pytest.raises(Refusal, match="most gradients of the toy overflowed in float16"):
        train(tmp_path)


def test_time_goes_on_where_the_last_row_that_stays_left_it(tmp_path):
    with pytest.raises(ConnectionError):
        train(tmp_path, after={36: crash})
    file = tmp_path / "values.jsonl"
    early = [json.loads(line) | {"seconds": 1000.0} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in early))
    train(tmp_path)
    seconds = [json.loads(line)["seconds"] for line in file.read_text().splitlines()]
    assert seconds[:4] == [1000.0] * 4
    assert all(1000 < later < 1100 for later in seconds[4:])


def test_a_full_gpu_names_the_setting_to_lower(tmp_path):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with pytest.raises(Refusal, match=r"Tried to allocate 2 GiB.*lower batch_per_device"):
        train(tmp_path, after={4: full})


def test_what_a_batch_refuses_reaches_the_caller(tmp_path, monkeypatch):
    def missing(images_seen):
        raise Refusal("the store is gone")

    monkeypatch.setitem(globals(), "batches", missing)
    with pytest.raises(Refusal, match="the store is gone"):
        train(tmp_path)


def test_a_row_is_also_a_line_of_the_log(tmp_path, caplog):
    logging.getLogger("sem2ct").propagate = True
    with caplog.at_level(logging.INFO, logger="sem2ct"):
        train(tmp_path)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("images 8 | 0 s | ")
    assert " | loss " in lines[0]


def stop_and_go_on(path):
    """Rank 1 alone gets the signal; then the same command once more."""
    with pytest.raises(SystemExit) as left:
        train(path, {36: ask(signal.SIGTERM)} if distributed.rank() == 1 else {})
    saved = checkpoint.newest(path / "checkpoints").stem
    return left.value.code, saved, train(path)[1]


def test_two_ranks_make_the_run_of_one_and_stop_together(tmp_path, one_run, two_ranks):
    assert two_ranks(stop_and_go_on, tmp_path / "two") == [(143, "000000036", 60)] * 2
    one = checkpoint.load(checkpoint.newest(one_run / "checkpoints"))
    two = checkpoint.load(checkpoint.newest(tmp_path / "two" / "checkpoints"))
    torch.testing.assert_close(two["trainer"]["weight"], one["trainer"]["weight"])
    for row, same in zip(rows(tmp_path / "two"), rows(one_run), strict=True):
        assert row == pytest.approx(same, rel=1e-5)
