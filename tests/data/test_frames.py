from pathlib import Path

import numpy as np
import pytest

from sem2ct.data.frames import Frames, write_frame, write_manifest
from sem2ct.data.intensity import Window
from sem2ct.runtime.refusal import Refusal

GREY = np.random.default_rng(3).integers(0, 256, (9, 13)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    entry = write_frame(tmp_path / "frames", 0, GREY) | {"split": "training", "source": {}}
    write_manifest(
        tmp_path / "frames", [entry], window=Window(3, 200), pixel_um=None, made_from="here"
    )
    return tmp_path / "frames"


def test_what_is_written_is_read(folder):
    frames = Frames(folder)
    np.testing.assert_array_equal(frames.training[0], GREY)
    assert not frames.validation
    assert (frames.window, frames.pixel_um) == (Window(3, 200), None)


def test_a_frame_cannot_be_changed_by_its_reader(folder):
    with pytest.raises(ValueError, match="read-only"):
        Frames(folder).training[0][0, 0] = 1


def test_a_folder_without_a_manifest_names_the_way_out(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(Refusal, match=r"sem_frames=.*manifest\.json.*extract.*sem_frames=none"):
        Frames(folder)


def test_a_manifest_of_something_else_is_refused(folder):
    (folder / "manifest.json").write_text('{"format": "sem2ct store 1"}')
    with pytest.raises(Refusal, match=r"manifest\.json cannot be used"):
        Frames(folder)


def test_a_frame_cut_short_is_refused_when_it_is_opened(folder):
    path = folder / "frame_00000.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Refusal, match=r"frame_00000\.npy: 100 bytes, but its frame needs 181"):
        Frames(folder)
    path.unlink()
    with pytest.raises(Refusal, match=r"frame_00000\.npy: 0 bytes"):
        Frames(folder)


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"pixel_um": 0.5, "window": {"low": 3.0, "high": 200.0}}, "pixel_um None"),
        ({"pixel_um": None, "window": {"low": 3.0, "high": 199.0}}, "window"),
        ({"pixel_um": None, "window": None}, "window"),
    ],
)
def test_frames_of_another_extraction_are_refused(folder, facts, named):
    with pytest.raises(Refusal, match=f"{named}.*but sem=elsewhere has"):
        Frames(folder).refuse_other_grey(facts, sem=Path("elsewhere"))


def test_frames_of_the_same_extraction_are_taken(folder):
    same = {"pixel_um": None, "window": {"low": 3.0, "high": 200.0}}
    Frames(folder).refuse_other_grey(same, sem=Path("beside"))
