import errno
import hashlib
import io
from pathlib import Path

import pytest
import torch

from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal

BAG = {"trainer": {"weights": torch.arange(300.0), "steps": 3, "names": ["a", "b"]}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path):
    path = checkpoint.save(tmp_path / "checkpoints", 3200, BAG, keep=2)
    assert path == tmp_path / "checkpoints" / "000003200.pt"
    bag = checkpoint.load(path)
    assert bag["images_seen"] == 3200
    assert bag["trainer"]["names"] == ["a", "b"]
    assert torch.equal(bag["trainer"]["weights"], BAG["trainer"]["weights"])


def test_the_same_bag_gives_the_same_bytes(tmp_path):
    one = checkpoint.save(tmp_path / "one", 5, BAG, keep=1)
    two = checkpoint.save(tmp_path / "two", 5, BAG, keep=1)
    assert one.read_bytes() == two.read_bytes()
    assert checkpoint.digest(one) == hashlib.sha256(two.read_bytes()).hexdigest()


def test_texts_that_were_read_or_put_together_give_the_same_bytes_as_constants(tmp_path):
    layer = torch.nn.Linear(3, 2)
    bag = {"value": "value", "best": {"by": ["value", ("by", 7)]}, "weights": layer.state_dict()}
    one = checkpoint.save(tmp_path / "one", 5, bag, keep=1)
    read = {key: part for key, part in checkpoint.load(one).items() if key != "images_seen"}
    joined = "".join(["val", "ue"])
    put_together = bag | {"best": {"by": [joined, ("by", 7)]}}
    for number, same in enumerate((read, put_together)):
        assert same["best"] == bag["best"]
        two = checkpoint.save(tmp_path / f"two{number}", 5, same, keep=1)
        assert one.read_bytes() == two.read_bytes()
    assert read["weights"]._metadata == layer.state_dict()._metadata


def test_only_the_newest_stay_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "best.pt").write_text("the user's own copy")
    for images_seen in (8, 90, 1000000000, 999999999):
        checkpoint.save(tmp_path, images_seen, BAG, keep=3)
    assert names(tmp_path) == ["000000090.pt", "1000000000.pt", "999999999.pt", "best.pt"]
    assert checkpoint.newest(tmp_path).name == "1000000000.pt"
    assert checkpoint.newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("kept", [0, 1, 200, -1])
def test_a_file_cut_short_is_refused(tmp_path, kept):
    path = checkpoint.save(tmp_path, 5, BAG, keep=1)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(Refusal, match=r"000000005\.pt is damaged.*delete it"):
        checkpoint.load(path)


def test_one_flipped_bit_of_a_weight_is_noticed(tmp_path):
    path = checkpoint.save(tmp_path, 5, BAG, keep=1)
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(300.0).numpy().tobytes())
    content[place + 600] ^= 1
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"000000005\.pt is damaged"):
        checkpoint.load(path)


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trapped"),))


@pytest.mark.parametrize("foreign", [{"images_seen": 1, "x": Trap()}, {"weights": 1}, [1, 2]])
def test_what_is_no_checkpoint_of_ours_is_refused_and_runs_no_code(tmp_path, monkeypatch, foreign):
    monkeypatch.chdir(tmp_path)
    torch.save(foreign, tmp_path / "foreign.pt")
    with pytest.raises(Refusal, match=r"foreign\.pt is no checkpoint of sem2ct"):
        checkpoint.load(tmp_path / "foreign.pt")
    assert not Path("trapped").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 5, BAG, keep=1)

    """A disk takes the beginning of a file before it is full."""

    class Full(io.BytesIO):
        def write(self, content):
            if self.tell() + len(content) > 700:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(Path, "open", lambda path, mode: Full())
    with pytest.raises(Refusal, match=r"000000006\.pt could not be written: no space left"):
        checkpoint.save(tmp_path, 6, BAG, keep=1)
    assert names(tmp_path) == ["000000005.pt"]


def newest_sound(folder):
    return checkpoint.newest_sound(folder).name


def test_all_ranks_go_on_from_the_same_checkpoint(tmp_path, two_ranks):
    for images_seen in (8, 16, 24):
        path = checkpoint.save(tmp_path, images_seen, BAG, keep=3)
    path.write_bytes(path.read_bytes()[:-9])
    assert two_ranks(newest_sound, tmp_path) == ["000000016.pt"] * 2
    assert names(tmp_path) == ["000000008.pt", "000000016.pt", "000000024.pt.damaged"]
    assert two_ranks(newest_sound, tmp_path) == ["000000016.pt"] * 2


def test_where_nothing_was_saved_there_is_nothing_to_go_on_from(tmp_path):
    assert checkpoint.newest_sound(tmp_path / "checkpoints") is None


def test_a_run_means_its_newest_checkpoint_and_a_file_itself(tmp_path):
    for images_seen in (5, 10):
        checkpoint.save(tmp_path / "checkpoints", images_seen, BAG, keep=2)
    earlier = tmp_path / "checkpoints" / "000000005.pt"
    assert checkpoint.find(tmp_path, setting="stylegan").name == "000000010.pt"
    assert checkpoint.find(earlier, setting="stylegan") == earlier


def test_a_file_is_taken_as_it_is_whichever_is_asked_for(tmp_path):
    path = checkpoint.save(tmp_path, 5, BAG, keep=1)
    assert checkpoint.find(path, setting="stylegan", which="best") == path


def test_the_best_of_a_run_that_judged_none_is_refused(tmp_path):
    checkpoint.save(tmp_path / "checkpoints", 5, BAG, keep=2)
    with pytest.raises(Refusal, match=r"stylegan=.*no checkpoint is recorded.*evaluate_every="):
        checkpoint.find(tmp_path, setting="stylegan", which="best")


def test_a_best_that_was_deleted_is_named(tmp_path):
    best = {"file": "000000005.pt", "by": "distance", "value": 1.0}
    checkpoint.save(tmp_path / "checkpoints", 5, BAG, keep=1, best=best)
    checkpoint.save(tmp_path / "checkpoints", 6, BAG, keep=1, best=best)
    assert names(tmp_path / "checkpoints") == ["000000005.pt", "000000006.pt", "best.json"]
    (tmp_path / "checkpoints/000000005.pt").unlink()
    with pytest.raises(Refusal, match=r"000000005\.pt, is not there any more; choose the latest"):
        checkpoint.find(tmp_path, setting="stylegan", which="best")


def test_a_record_of_the_best_that_cannot_be_read_is_none(tmp_path):
    checkpoint.save(tmp_path / "checkpoints", 5, BAG, keep=1)
    for content in ("{", "[1]", "{}"):
        (tmp_path / "checkpoints/best.json").write_text(content)
        with pytest.raises(Refusal, match="no checkpoint is recorded as the best"):
            checkpoint.find(tmp_path, setting="stylegan", which="best")


def test_a_run_without_checkpoints_names_the_setting_and_the_command(tmp_path):
    with pytest.raises(Refusal, match=r"cyclegan=.* holds no checkpoint.*train-cyclegan"):
        checkpoint.find(tmp_path, setting="cyclegan")
    with pytest.raises(Refusal, match=r"stylegan=.*absent does not exist.*train-stylegan"):
        checkpoint.find(tmp_path / "absent", setting="stylegan")
