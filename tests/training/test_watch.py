import json
import math
import types

import pytest
import torch

from sem2ct.runtime import checkpoint, distributed
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.training import loop
from sem2ct.training.watch import Best, Watch

LENGTHS = {
    "total_images": 60,
    "batch_size": 4,
    "values_images": 4,
    "preview_images": 60,
    "checkpoint_images": 8,
    "keep_checkpoints": 2,
}


class Counter:
    """Learns nothing but how far it is; crashes where it is told to."""

    causes = types.MappingProxyType({})

    def __init__(self):
        self.seen = 0
        self.crash_at = -1
        self.bad_at = -1

    def step(self, images, images_seen):
        self.seen = images_seen + 4
        if self.seen == self.crash_at:
            raise ConnectionError("power cut")
        return {"loss": torch.tensor(math.nan if self.seen == self.bad_at else 1.0)}

    def state(self):
        return {"seen": self.seen}

    def restore(self, state):
        self.seen = state["seen"]


DISTANCES = {16: 5.0, 32: 2.0, 48: 3.0, 60: 2.5}


def train(path, *, crash_at=-1, bad_at=-1, distances=DISTANCES, spreads=None, **watched):
    folder = RunFolder.open(path, {}, writer=distributed.is_main())
    counter = Counter()
    counter.crash_at, counter.bad_at = crash_at, bad_at
    looked = []

    def measure():
        looked.append(counter.seen)
        spread = (spreads or {}).get(counter.seen, 1.0)
        return {"distance": distances[counter.seen], "spread": spread}

    watched = {"every": 16, "best_by": "distance", "spread": "spread", **watched}
    try:
        loop.run(
            counter,
            batches=lambda images_seen: {},
            previews=lambda images_seen: {},
            folder=folder,
            what="counter",
            watch=Watch(measure=measure, **watched),
            **LENGTHS,
        )
    finally:
        folder.close()
    return looked


def left(path):
    return sorted(file.name for file in (path / "checkpoints").iterdir())


def rows(path):
    return [json.loads(line) for line in (path / "values.jsonl").read_text().splitlines()]


def test_it_looks_every_so_many_images_and_at_the_end(tmp_path):
    assert train(tmp_path) == [16, 32, 48, 60]
    told = {row["images"]: row["distance"] for row in rows(tmp_path) if "distance" in row}
    assert told == DISTANCES


def test_the_best_checkpoint_stays_beside_the_newest(tmp_path):
    train(tmp_path)
    assert left(tmp_path) == ["000000032.pt", "000000056.pt", "000000060.pt", "best.json"]
    best = json.loads((tmp_path / "checkpoints/best.json").read_text())
    assert best == {"file": "000000032.pt", "by": "distance", "value": 2.0}
    assert checkpoint.find(tmp_path, setting="stylegan", which="best").name == "000000032.pt"
    assert checkpoint.find(tmp_path, setting="stylegan", which="latest").name == "000000060.pt"


def test_a_former_best_is_removed_like_any_other(tmp_path):
    train(tmp_path, distances={16: 5.0, 32: 2.0, 48: 1.0, 60: 0.5})
    assert left(tmp_path) == ["000000056.pt", "000000060.pt", "best.json"]


def test_of_equally_good_checkpoints_the_first_stays_and_nan_is_never_the_best(tmp_path):
    train(tmp_path, distances={16: math.nan, 32: 2.0, 48: 2.0, 60: math.nan})
    best = checkpoint.find(tmp_path, setting="stylegan", which="best")
    assert best.name == "000000032.pt"


@pytest.mark.parametrize("at", [4, 36, 44, 60])
def test_a_crash_and_a_second_start_leave_what_one_run_leaves(tmp_path, at):
    train(tmp_path / "one")
    with pytest.raises(ConnectionError):
        train(tmp_path / "two", crash_at=at)
    train(tmp_path / "two")
    assert left(tmp_path / "two") == left(tmp_path / "one")
    for name in left(tmp_path / "one"):
        one, two = (tmp_path / run / "checkpoints" / name for run in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name


def test_a_crash_between_a_checkpoint_and_the_record_of_it_is_mended(tmp_path):
    with pytest.raises(ConnectionError):
        train(tmp_path, crash_at=36)
    (tmp_path / "checkpoints/best.json").write_text('{"file": "000000016.pt", "value": 5.0}')
    train(tmp_path)
    assert checkpoint.find(tmp_path, setting="stylegan", which="best").name == "000000032.pt"


def test_a_record_of_what_the_run_went_back_behind_is_forgotten(tmp_path):
    with pytest.raises(ConnectionError):
        train(tmp_path, crash_at=20)
    (tmp_path / "checkpoints/000000016.pt").unlink()  # the user goes back to image 8
    with pytest.raises(ConnectionError):
        train(tmp_path, crash_at=12)
    assert left(tmp_path) == ["000000008.pt"]


def test_without_a_watch_there_is_no_best(tmp_path):
    assert train(tmp_path, every=0) == []
    assert left(tmp_path) == ["000000056.pt", "000000060.pt"]
    assert "best" not in checkpoint.load(tmp_path / "checkpoints/000000060.pt")


def test_a_collapse_ends_the_training_and_keeps_the_checkpoint_before_it(tmp_path):
    watched = {"least_spread": 0.2, "collapse_after": 20, "advice": "raise r1_gamma (now 4)"}
    spreads = {16: 0.01, 32: 0.2, 48: 0.19}
    message = (
        r"collapsed at images=48: .* by 0\.190 of what real tiles do, collapse_share=0\.2;"
        r" .*000000040\.pt is the last good; to train anew, raise r1_gamma \(now 4\) under"
    )
    with pytest.raises(Refusal, match=message):
        train(tmp_path, spreads=spreads, **watched)
    assert left(tmp_path) == ["000000032.pt", "000000040.pt", "best.json"]
    assert rows(tmp_path)[-1]["spread"] == 0.19  # the row tells it, too


def test_a_spread_that_is_no_number_is_a_collapse(tmp_path):
    with pytest.raises(Refusal, match="collapsed at images=32"):
        train(tmp_path, spreads={32: math.nan}, least_spread=0.1, collapse_after=20)


def test_a_loss_that_is_no_number_names_the_checkpoint_and_the_advice(tmp_path):
    with pytest.raises(Refusal) as refused:
        train(tmp_path, bad_at=28, advice="raise r1_gamma (now 4) or lower learning_rate (now 1)")
    said = str(refused.value)
    assert said.startswith("loss became nan before images=28; raise r1_gamma (now 4)")
    assert "the last checkpoint (000000024.pt)" in said


def test_a_better_value_alone_replaces_the_record():
    watch = Watch(best_by="distance")
    best = Best({"file": "old.pt", "by": "distance", "value": 1.0})
    best.consider({"distance": 1.5}, watch, 8)
    best.consider({"other": 0.1}, watch, 12)
    assert best.record["file"] == "old.pt"
    best.consider({"distance": 0.9}, watch, 16)
    assert best.record == {"file": "000000016.pt", "by": "distance", "value": 0.9}


def collapse(path):
    with pytest.raises(Refusal, match="collapsed at images=32") as refused:
        train(path, spreads={32: 0.1 if distributed.is_main() else 1.0}, least_spread=0.5)
    return str(refused.value)[:30]


def look(path):
    return train(path), train(path / "again", distances={k: distributed.rank() for k in DISTANCES})


def test_rank_0_looks_and_every_rank_stops(tmp_path, two_ranks):
    assert len(set(two_ranks(collapse, tmp_path / "collapse"))) == 1
    (first, again), (idle, idle_again) = two_ranks(look, tmp_path / "look")
    assert (first, again) == ([16, 32, 48, 60],) * 2
    assert (idle, idle_again) == ([], [])
    told = [row["distance"] for row in rows(tmp_path / "look/again") if "distance" in row]
    assert told == [0.0] * 4
