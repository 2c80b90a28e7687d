#!/usr/bin/env bash
# Two "hosts" on this machine (network namespaces over veth), as root: a training on both by
# scripts/launch.sh; one host dies in mid-training, comes back, and the result is that of one process.
#
#   scripts/dev/two_hosts.sh [FOLDER]         FOLDER: where the runs lie (default /tmp/two_hosts)
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-/tmp/two_hosts}
bin="${SEM2CT_VENV:-$repo/.venv}/bin"
settings="size=tiny device=cpu rock=toy total_images=256 batch_per_device=2"
export OMP_NUM_THREADS=1
rm -rf "$folder"
mkdir -p "$folder/two" "$folder/one"

names=(sem2ct_a sem2ct_b)
addresses=(10.77.0.1 10.77.0.2)
clean() { for name in "${names[@]}"; do ip netns pids $name 2>/dev/null | xargs -r kill -9 2>/dev/null || true; ip netns del $name 2>/dev/null || true; done; }
trap clean EXIT
clean
for name in "${names[@]}"; do ip netns add $name; done
ip link add sem2ct0 netns ${names[0]} type veth peer name sem2ct0 netns ${names[1]}
for k in 0 1; do
  ip -n ${names[k]} addr add ${addresses[k]}/24 dev sem2ct0
  ip -n ${names[k]} link set sem2ct0 up
  ip -n ${names[k]} link set lo up
done

host() {  # host K: joins as machine K, in the background; its log is appended
  NODES=2 NODE_RANK=$1 HEAD=${addresses[0]} PROCESSES=1 LOCAL_ADDRESS=${addresses[$1]} \
    GLOO_SOCKET_IFNAME=sem2ct0 RESTARTS=3 ip netns exec ${names[$1]} \
    "$repo/scripts/launch.sh" train-stylegan $settings run_root="$folder/two" >>"$folder/host_$1.log" 2>&1 &
  pids[$1]=$!
}

"$bin/sem2ct" extract size=tiny run_root="$folder/two" 2>/dev/null
cp -r "$folder/two/extract" "$folder/one/"
checkpoints="$folder/two/train_stylegan/toy_tiny/checkpoints"
host 0
host 1
until compgen -G "$checkpoints/0*.pt" >/dev/null; do sleep 0.2; kill -0 ${pids[0]} ${pids[1]}; done
echo "two_hosts: host 1 dies at $(basename "$(ls "$checkpoints"/0*.pt | tail -n 1)")"
ip netns pids ${names[1]} | xargs kill -9
wait ${pids[1]} 2>/dev/null || true
sleep 3
echo "two_hosts: host 1 comes back"
host 1
for k in 0 1; do code=0; wait ${pids[k]} || code=$?; echo "two_hosts: host $k ended with $code"; done
"$bin/sem2ct" train-stylegan $settings run_root="$folder/one" 2>/dev/null
"$bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

import torch

from sem2ct.runtime import checkpoint

one, two = (Path(sys.argv[1]) / name / "train_stylegan/toy_tiny/checkpoints" for name in ("one", "two"))


def leaves(value, name=""):
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, part in pairs for k, v in leaves(part, f"{name}/{key}").items()}
    return {name: value}


def same(a, b):
    return torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b


for file in sorted(one.glob("0*.pt")):
    a, b = (leaves(checkpoint.load(folder / file.name)) for folder in (one, two))
    differ = [name for name in {**a, **b} if not same(a.get(name, "missing"), b.get(name, "missing"))]
    print(f"two_hosts: {file.name}: {len(a)} entries, {len(differ)} differ from one process {differ[:3]}")
    if differ:
        sys.exit(1)
PY
