#!/usr/bin/env bash
# Makes a virtual environment and installs sem2ct into it; run again, it does nothing.
#
#   scripts/setup.sh          what a user needs
#   scripts/setup.sh dev      with the tools of the tests
#
# On a machine with an NVIDIA GPU pip installs the CUDA build of torch, elsewhere the CPU build.
# Your own environment, and the torch in it: SEM2CT_VENV=$VIRTUAL_ENV (or $CONDA_PREFIX); a torch
# that is there is kept.  Another Python for a new environment: SEM2CT_PYTHON=/path/to/python.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${SEM2CT_VENV:-.venv}
extra=${1:-}
target=.${extra:+[$extra]}
stamp="$venv/.sem2ct-installed${extra:+-$extra}"
wanted=$(cat pyproject.toml constraints.txt | cksum)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

python=${SEM2CT_PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      python=$candidate; break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "setup: needs Python 3.11 or newer; install it, or name it with SEM2CT_PYTHON=/path/to/python" >&2
  exit 2
fi

if [ ! -x "$venv/bin/python" ]; then
  echo "setup: virtual environment in $venv"
  "$python" -m venv "$venv"
fi
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)

if "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  version=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch").split("+")[0])')
  echo "setup: torch $version is there and is kept"
  # The installed torch decides; torchvision may follow it, and pip picks the one that fits.
  constraints=$(mktemp); trap 'rm -f "$constraints"' EXIT
  if grep -q "^torch==$version$" constraints.txt; then cp constraints.txt "$constraints"; else echo "torch==$version" >"$constraints"; fi
else
  constraints=constraints.txt
  torch=$(grep '^torch==' constraints.txt)
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    echo "setup: NVIDIA GPU found, installing $torch with CUDA (several GB)"
    "${pip[@]}" -c "$constraints" "$torch"
  else
    echo "setup: no NVIDIA GPU found, installing $torch for the CPU"
    # The index of CPU builds where it can be reached; else whatever pip is set up to find.
    "${pip[@]}" -c "$constraints" "$torch" --index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 10 2>/dev/null \
      || "${pip[@]}" -c "$constraints" "$torch"
  fi
fi
echo "setup: installing sem2ct${extra:+ with its $extra tools}"
"${pip[@]}" -c "$constraints" -e "$target"
echo "$wanted" >"$stamp"
