#!/usr/bin/env bash
# Sets up with development tools, then checks format, lint, types and import directions, then runs all tests.
#
#   scripts/test.sh                 everything
#   scripts/test.sh -k resume       what follows goes to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh dev
bin="${SEM2CT_VENV:-.venv}/bin"
# The tests are small; on a busy machine several threads would wait for one another.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

"$bin/ruff" format --check .
"$bin/ruff" check .
"$bin/pyright" --pythonpath "$bin/python"
"$bin/lint-imports"
"$bin/python" -m pytest "$@"
