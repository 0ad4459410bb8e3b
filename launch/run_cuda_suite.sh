#!/bin/sh
# All tests that need a GPU, then the validation steps. Without a GPU engine in the build the same operations are tested on the CPU
# engine. Ends with 1 when a test or a step fails.
#
#   launch/run_cuda_suite.sh [option …]           options of psann_bench validate
#
# PSANN_SUITE names another suite of tests. A build that was moved here (launch/gpu_acceptance.py pack) has its GPU tests run as they are, a few
# at a time; nothing is built then. reports/tests/<UTC time>/ gets summary.json, junit.xml, system.json and stdout.log; the validation's reports lie beside it as
# launch/run_gpu_validation.sh says.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

moved=
[ -f "$build/build.ninja" ] || [ ! -f "$build/meson-info/intro-tests.json" ] || moved=yes
if [ ! -f "$build/build.ninja" ] && [ -z "$moved" ]; then
  # shellcheck disable=SC2086
  need_packages $psann_packages libcmocka-dev
  build_psann -Dtests=enabled
fi
stamp=$(date -u +%Y%m%d_%H%M%S)
out=$reports/tests/$stamp
mkdir -p "$out"

code=0
suite=${PSANN_SUITE:-gpu}
if [ -n "$moved" ]; then
  say "tests of the suite gpu, of a build that was moved here"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  launch/gpu_acceptance.py -b "$build" -o "$work" --jobs "$((4 * $(gpu_count) + 1))" tests training >"$out/stdout.log" 2>&1 || code=$?
  grep -E '^(tests|training) ' "$out/stdout.log" | tail -n 40
  cp "$work/junit.xml" "$out/junit.xml"
else
  if [ "$suite" = gpu ] && ! meson test -C "$build" --list 2>/dev/null | grep -q '^psann:gpu '; then
    say "this build has no GPU engine: the suite engine runs in its place"
    suite=engine
  fi
  say "tests of the suite $suite"
  meson test -C "$build" --suite "$suite" --logbase cuda_suite >"$out/stdout.log" 2>&1 || code=$?
  tail -n 12 "$out/stdout.log"
  cp "$build/meson-logs/cuda_suite.junit.xml" "$out/junit.xml"
fi

say "validation"
validated=0
launch/run_gpu_validation.sh "$@" || validated=$?
newest=$(newest_folder "$reports/gpu")
[ ! -f "$newest/system.json" ] || cp "$newest/system.json" "$out/system.json"
python3 launch/test_summary.py "$out/junit.xml" "$stamp" "$code" "$suite" "$validated" >"$out/summary.json"
cat "$out/summary.json"
if [ "$code" != 0 ] || [ "$validated" != 0 ]; then
  die "tests ended with $code, validation with $validated: $out and $newest tell more"
fi
