#!/usr/bin/env bash
# As published: 1024 px tiles, 64 px patches, scale 16, 200,000 of each, four GPUs, days.
#
#   scripts/run_paper.sh rock=mine rock.sem=... rock.ct=...
#
# What follows the name goes to all six stages.  Run again, it resumes.
set -euo pipefail
exec "$(dirname "$0")/run_demo.sh" size=paper machine=four_gpus "$@"
