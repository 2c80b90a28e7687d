#!/usr/bin/env bash
# The tour: the whole method on a generated rock, on a CPU, in minutes.
#
#   scripts/run_demo.sh                              the toy rock, size=demo
#   scripts/run_demo.sh size=tiny                    the same in a minute, to see the mechanics
#   scripts/run_demo.sh experiment=carbonate_cpu     another recipe
#
# What follows the name goes to all six stages.  Run again, it resumes, or finishes at once.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
sem2ct="${SEM2CT_VENV:-.venv}/bin/sem2ct"

"$sem2ct" extract "$@"         # SEM tiles and micro-CT patches; makes the toy rock first
"$sem2ct" train-stylegan "$@"  # learns the SEM texture from the tiles
"$sem2ct" synthesize "$@"      # multiplies the tiles
"$sem2ct" train-cyclegan "$@"  # learns to paint that texture into the micro-CT
"$sem2ct" translate "$@"       # does so for a part of the volume
"$sem2ct" evaluate "$@"        # and says with numbers and pictures how well it went
