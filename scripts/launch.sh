#!/usr/bin/env bash
# One stage on several machines: the same line on each of them, which differs in NODE_RANK only.
#
#   NODES=2 NODE_RANK=0 HEAD=10.0.0.1 scripts/launch.sh train-stylegan size=paper run=core7
#   NODES=2 NODE_RANK=1 HEAD=10.0.0.1 scripts/launch.sh train-stylegan size=paper run=core7
#
# run_root must be one folder that all of them see.  A machine that drops out is waited for: give its
# line again, and all go on from the last checkpoint.  On one machine `sem2ct STAGE devices=4` does.
#
#   NODES      machines (1)                   PROCESSES  on each of them (one per GPU, or 1)
#   NODE_RANK  which one this is, from 0      RESTARTS   after a failure, until it is given up (3)
#   HEAD       address of number 0            PORT       where the others find it (29500)
#   JOB        a name, where several jobs share a HEAD (sem2ct)
#   LOCAL_ADDRESS  of this machine, where its own name does not lead to it
#   GRACE_S    seconds that a stopped process may take to save (600; torch >= 2.12, else 30)
set -euo pipefail
cd "$(dirname "$0")/.."
bin="${SEM2CT_VENV:-.venv}/bin"
nodes=${NODES:-1}
if [ "$nodes" = 1 ] && [ -z "${PROCESSES:-}" ]; then exec "$bin/sem2ct" "$@"; fi

gpus=$( (nvidia-smi -L 2>/dev/null || true) | grep -c '^GPU' || true)
processes=${PROCESSES:-$((gpus > 0 ? gpus : 1))}
# Several processes of torch on one machine else take each other's cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) > processes ? $(nproc) / processes : 1))}
# With the shared store restarts hang in most cases.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${GRACE_S:-600}
exec "$bin/python" -m torch.distributed.run \
  --nnodes "$nodes" --nproc-per-node "$processes" --max-restarts "${RESTARTS:-3}" \
  --rdzv-backend c10d --rdzv-id "${JOB:-sem2ct}" --rdzv-endpoint "${HEAD:-127.0.0.1}:${PORT:-29500}" \
  --rdzv-conf "is_host=$([ "${NODE_RANK:-0}" = 0 ] && echo 1 || echo 0)" \
  ${LOCAL_ADDRESS:+--local-addr "$LOCAL_ADDRESS"} \
  -m sem2ct.cli "$@"
