#!/usr/bin/env bash
# A real SLURM of one node on this machine, as root, in a folder of its own; ends with the shell or `down`.
#
#   scripts/dev/slurm_here.sh up                 apt-get install slurmctld slurmd slurm-client munge first
#   scripts/dev/slurm_here.sh run COMMAND ...    any command that may submit jobs
#   scripts/dev/slurm_here.sh demo               the toy pipeline as jobs, one put back in mid-training
#   scripts/dev/slurm_here.sh down
#
# SLURM_HERE names the folder (default /tmp/slurm_here).  `demo` needs the extra `slurm` and compares with
# an undisturbed run of the same commands, file by file (scripts/dev/same_runs.py).
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
here=${SLURM_HERE:-/tmp/slurm_here}
node=$(hostname -s)
export SLURM_CONF=$here/slurm.conf
bin="$repo/${SEM2CT_VENV:-.venv}/bin"
case ${SEM2CT_VENV:-} in /*) bin="$SEM2CT_VENV/bin" ;; esac

write_conf() {
  cat >"$SLURM_CONF" <<CONF
ClusterName=here
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$here/munge.socket
CredType=cred/munge
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$here/completed.txt
SelectType=select/cons_tres
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2
ReturnToService=2
MpiDefault=none
KillWait=60
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN
PartitionName=here Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
}

up() {
  mkdir -p "$here/state" "$here/spool"
  chmod 755 "$here"
  head -c 1024 /dev/urandom >"$here/munge.key" && chmod 400 "$here/munge.key"
  munged --force --key-file "$here/munge.key" --socket "$here/munge.socket" \
    --pid-file "$here/munge.pid" --log-file "$here/munge.log" --seed-file "$here/munge.seed"
  write_conf
  slurmctld -c
  slurmd
  for _ in $(seq 30); do
    if sinfo --noheader --format %t | grep -q idle; then sinfo; return; fi
    sleep 1
  done
  echo "slurm_here: the node did not come up; see $here/slurmd.log" >&2
  exit 1
}

down() {
  scontrol shutdown 2>/dev/null || true
  sleep 1
  for name in slurmd slurmctld munge; do
    if [ -s "$here/$name.pid" ]; then kill "$(cat "$here/$name.pid")" 2>/dev/null || true; fi
  done
}

settings() { echo "size=tiny run_root=o"; [ "$1" != train-stylegan ] || echo "total_images=128"; }

# A stage as a job; train-stylegan is put back in the queue in mid-training.
as_job() {
  local stage=$1 job client
  "$bin/sem2ct" "$stage" -m hydra/launcher=slurm hydra.launcher.timeout_min=30 $(settings "$stage") &
  client=$!
  if [ "$stage" = train-stylegan ]; then
    until compgen -G "o/train_stylegan/*/checkpoints/0*.pt" >/dev/null; do sleep 0.2; done
    job=$(squeue --noheader --states=R --format %A | tail -n 1)
    scontrol requeue "$job"
    echo "slurm_here: job $job put back at $(basename "$(ls o/train_stylegan/*/checkpoints/0*.pt | tail -n 1)")"
    until squeue --noheader --jobs "$job" --states=PD | grep -q .; do sleep 1; done
    scontrol release "$job" 2>/dev/null || true
    scontrol update jobid="$job" starttime=now
  fi
  wait $client
}

compare() {
  "$bin/python" - "$repo/scripts/dev" "$@" <<'PY'
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from same_runs import differences

one, other = map(Path, sys.argv[2:])
found = [line for line in differences(one, other) if "provenance.json" not in line]
files = sum(path.is_file() for path in one.rglob("*"))
print(f"{one.parent.name}: {files} files,", "; ".join(found) or "all equal (provenance.json names the host)")
sys.exit(bool(found))
PY
}

demo() {
  local stage stages="extract train-stylegan synthesize train-cyclegan translate evaluate"
  rm -rf "$here/job" "$here/straight"
  mkdir -p "$here/job" "$here/straight"
  for stage in $stages; do (cd "$here/job" && as_job "$stage"); done
  for stage in $stages; do (cd "$here/straight" && "$bin/sem2ct" "$stage" $(settings "$stage") 2>/dev/null); done
  for stage in $stages; do
    run=${stage/-/_}/toy_tiny
    compare "$here/straight/o/$run" "$here/job/o/$run"
  done
}

command=${1:-help}
shift || true
case $command in
  up | down | demo) "$command" ;;
  run) "$@" ;;
  *) sed -n '2,12p' "$0" ;;
esac
