"""A folder that turns read-only under a run, as a disk with errors does."""

import numpy as np
import pytest
import torch

from sem2ct.data import pictures
from sem2ct.runtime import checkpoint, log
from sem2ct.runtime.disk import refusing_all
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder, writing

READ_ONLY = r"could not be written: (read-only file system|permission denied); make room or choose"


@pytest.fixture
def place(make_read_only):
    """A run with results, that can no longer be written."""
    folder, lock = make_read_only
    # Not by `open`: a disk that holds a file open for writing is not made read-only.
    run = RunFolder(folder / "run", writer=True)
    run.path.mkdir()
    run.values(8, {"loss": 0.5})
    checkpoint.save(run.path / "checkpoints", 8, {"weights": torch.zeros(9)}, keep=1)
    run.close()
    lock()
    return run


def test_a_run_cannot_begin_there(place):
    with pytest.raises(Refusal, match=READ_ONLY):
        RunFolder.open(place.path.parent / "other", {"seed": 5})


def test_a_file_of_the_run_cannot_be_replaced(place):
    with pytest.raises(Refusal, match=READ_ONLY), writing(place.path / "done.json") as unfinished:
        unfinished.write_text("{}")


def test_a_row_cannot_be_added(place):
    with pytest.raises(Refusal, match=READ_ONLY):
        place.values(16, {"loss": 0.25})


def test_neither_a_picture_nor_its_folder_can_be_made(place):
    with pytest.raises(Refusal, match=READ_ONLY):
        place.picture("tiles", 16, np.zeros((2, 2), np.uint8))
    with pytest.raises(Refusal, match=READ_ONLY), refusing_all(place.path):
        pictures.write_png(place.path / "figures" / "a.png", np.zeros((2, 2), np.uint8))


def test_the_checkpoint_that_is_there_can_be_used(place):
    with pytest.raises(Refusal, match=READ_ONLY):
        checkpoint.save(place.path / "checkpoints", 16, {"weights": torch.zeros(9)}, keep=1)
    with pytest.raises(Refusal, match=READ_ONLY):
        checkpoint.save(place.path / "first", 16, {"weights": torch.zeros(9)}, keep=1)
    path = checkpoint.newest_sound(place.path / "checkpoints")
    assert checkpoint.load(path)["images_seen"] == 8


def test_the_log_says_that_it_cannot_be_kept(place):
    with pytest.raises(Refusal, match=rf"log\.txt {READ_ONLY}"):
        log.start(place.path)
    log.stop()
