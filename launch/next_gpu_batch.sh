#!/bin/sh
# Everything that is measured, one after another: the validation steps, speed of the bench models on one GPU and on all, the
# tiny-corpus benchmark; then the figures of all validation reports in one folder, and a page about this batch (report.html) where gnuplot
# is installed.
#
#   launch/next_gpu_batch.sh [option …]           options of psann_bench validate
#
# PSANN_MODELS names the models of the sweep (psann_bench throughput --models; all of them on a GPU, cpu elsewhere), PSANN_TINY_MIB the size of
# the tiny corpus. Reports: reports/gpu, reports/benchmarks; PSANN_REPORTS names another folder.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

need_programs
programs=$build/src/programs
failed=

before=$(newest_folder "$reports/gpu")
say "validation"
launch/run_gpu_validation.sh "$@" || failed="$failed validation"

gpus=$(gpu_count)
sweep=$reports/benchmarks/$(date -u +%Y%m%d_%H%M%S)
say "speed of the bench models on one rank"
# shellcheck disable=SC2086
"$programs/psann_bench" throughput ${PSANN_MODELS:+--models $PSANN_MODELS} --mode both --out "$sweep" || failed="$failed throughput"
if [ "$gpus" -gt 1 ]; then
  say "and on $gpus"
  # shellcheck disable=SC2086
  run_ranks "$gpus" "$programs/psann_bench" throughput ${PSANN_MODELS:+--models $PSANN_MODELS} --out "$sweep/ranks_$gpus" ||
    failed="$failed throughput_on_$gpus"
fi

say "tiny corpus"
launch/tiny_corpus.sh ${PSANN_TINY_MIB:+--mib "$PSANN_TINY_MIB"} --out "$sweep" || failed="$failed tiny_corpus"

say "figures of all validations"
"$programs/psann_bench" aggregate --reports "$reports" --out "$sweep" || failed="$failed aggregate"
if [ -n "$(ls "$sweep")" ]; then
  validated=$(newest_folder "$reports/gpu")
  [ "$validated" != "$before" ] || validated=
  write_report "$sweep" ${validated:+"$validated"}
fi
ls "$sweep"
[ -z "$failed" ] || die "failed:$failed"
