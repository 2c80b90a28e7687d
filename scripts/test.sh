#!/usr/bin/env bash
# Sets up with development tools, then checks format, lint, types and import directions, then runs all tests.
#
#   scripts/test.sh                 everything
#   scripts/test.sh -k resume       what follows goes to pytest
#   SEM2CT_COVERAGE=no scripts/test.sh    without measuring which lines and branches ran
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

# Lines and branches, of this process and of those that tests start.
if [ "${SEM2CT_COVERAGE:-yes}" = no ]; then exec "$bin/python" -m pytest --durations=15 "$@"; fi
"$bin/python" -m coverage erase
failed=0
"$bin/python" -m coverage run -m pytest --durations=15 "$@" || failed=$?
"$bin/python" -m coverage combine --quiet
"$bin/python" -m coverage report --sort=cover | tail -n "${SEM2CT_COVERAGE_ROWS:-25}"
exit "$failed"
