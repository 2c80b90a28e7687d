"""Damaged files of runs: refused by name, or nothing that is made of them changes."""

import shutil

import numpy as np
import pytest

from sem2ct.runtime.refusal import Refusal

# Damages for each kind of file; some kinds take longer to look at.
KINDS = {"store": 25, "frames": 25, "rock": 25, "generator": 10, "translator": 6, "volume": 15}
KINDS |= {"numbers": 10, "train_stylegan weights": 15, "extract resumed": 4}
KINDS |= {f"{stage} folder": 15 for stage in ("extract", "train_cyclegan", "evaluate")}


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory):
    """Six finished runs that may be damaged; they know the place where they were made."""
    kept = tmp_path_factory.mktemp("kept") / "outputs"
    shutil.copytree(finished, kept)
    yield finished
    shutil.rmtree(finished)
    shutil.copytree(kept, finished)


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_refused_or_makes_no_difference(name, runs, fuzz_files, tmp_path):
    kind = fuzz_files.kinds(runs)[name]()
    look, run = fuzz_files.quiet(kind.look), runs / kind.stage / fuzz_files.RUN
    files = sorted({file for glob in kind.files for file in run.glob(glob) if file.is_file()})
    shutil.copytree(run, tmp_path / "whole")
    refused = 0
    for k in range(KINDS[name]):
        draw = np.random.default_rng([k, *name.encode()])
        victim = files[int(draw.integers(len(files)))]
        fuzz_files.damage(victim, draw, bytes_only=kind.bytes_only)
        try:
            look(runs)
        except Refusal as refusal:
            refused += 1
            text = str(refusal)
            assert text
        shutil.rmtree(run)
        shutil.copytree(tmp_path / "whole", run)
    assert refused > 0 or name.endswith("resumed")
