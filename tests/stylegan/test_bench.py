import json
import subprocess
import sys
from pathlib import Path


def test_the_bench_measures_every_phase_on_a_cpu(tmp_path):
    script = Path(__file__).resolve().parents[2] / "scripts/bench/stylegan.py"
    size = "--resolution 8 --batch 4 --channel-base 64 --channel-max 8 --z-dim 8 --repeats 1"
    command = [sys.executable, str(script), *size.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    row = json.loads((tmp_path / "outputs/bench.jsonl").read_text())["ours"]
    for phase in ("Gmain", "Greg", "Dmain", "Dreg", "inference"):
        assert row["seconds"][phase] > 0
        assert phase in done.stdout
    took = row["seconds"]["Gmain"] + row["seconds"]["Greg"] / 4
    took += row["seconds"]["Dmain"] + row["seconds"]["Dreg"] / 16
    assert abs(row["images_per_second"] * took / 4 - 1) < 0.01
