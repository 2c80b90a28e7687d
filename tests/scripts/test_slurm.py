"""A real SLURM of one node, where it is installed: scripts/dev/slurm_here.sh."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2] / "scripts" / "dev" / "slurm_here.sh"
NEEDS = ("slurmctld", "slurmd", "munged", "sbatch")
absent = [name for name in NEEDS if shutil.which(name) is None]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM of one's own needs root"),
]


@pytest.fixture
def slurm(tmp_path):
    environment = os.environ | {"SLURM_HERE": str(tmp_path / "slurm")}

    def call(*words):
        done = subprocess.run(
            [HERE, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    call("up")
    yield call
    call("down")


def test_a_job_that_is_put_back_in_the_queue_runs_again(slurm, tmp_path):
    log = tmp_path / "log.txt"
    script = tmp_path / "job.sh"
    script.write_text(
        "#!/bin/bash\n#SBATCH --requeue\n#SBATCH --open-mode=append\n"
        "echo start ${SLURM_RESTART_COUNT:-0}\n"
        '[ "${SLURM_RESTART_COUNT:-0}" = 1 ] || { scontrol requeue $SLURM_JOB_ID; }\n'
    )
    job = slurm("run", "sbatch", "--parsable", f"--output={log}", str(script)).strip()
    slurm(
        "run",
        "bash",
        "-c",
        f"while squeue -h -j {job} | grep -q .; do"
        f" scontrol update jobid={job} starttime=now 2>/dev/null; sleep 0.5; done",
    )
    lines = [line for line in log.read_text().splitlines() if line.startswith("start")]
    assert lines == ["start 0", "start 1"]
