#!/bin/sh
# Fuzzes the readers of files from elsewhere with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer, in a build of
# their own.
#
#   launch/fuzz.sh [SECONDS] [TARGET…]      600 seconds each, all targets, one after another
#
# What is found grows in <build>-fuzz/corpus/TARGET; an input that fails is kept in <build>-fuzz/failures, where libFuzzer names it.
# Ends with 1 when there was one. A summary goes to <build>-fuzz/summary.txt.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

seconds=${1:-600}
[ $# -eq 0 ] || shift
# Clang 14, Debian 12's first, has no _Float16 on x86.
# shellcheck disable=SC2086
need_packages $psann_packages libcmocka-dev clang-16 libclang-rt-16-dev libomp-16-dev
build=${PSANN_BUILD:-build}-fuzz
if [ ! -f "$build/build.ninja" ]; then
  CC=clang-16 CXX=clang++-16 meson setup "$build" -Dfuzz=true -Dcuda=disabled -Dtests=enabled -Dbuildtype=debugoptimized \
    -Db_sanitize=address,undefined -Db_lundef=false
fi
targets=$(ninja -C "$build" -t targets all | sed -n 's|^\(tests/fuzz/fuzz_[a-z]*\): .*|\1|p')
# shellcheck disable=SC2086
ninja -C "$build" $targets src/programs/psann_probe
[ $# -gt 0 ] || set -- $(for target in $targets; do echo "${target#tests/fuzz/fuzz_}"; done)

export ASAN_OPTIONS=detect_leaks=1:detect_odr_violation=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export LSAN_OPTIONS=suppressions=$PWD/tests/fuzz/leaks.txt:print_suppressions=0
mkdir -p "$build/failures"
failed=0
for target in "$@"; do
  say "fuzzing $target for $seconds s"
  mkdir -p "$build/corpus/$target"
  code=0
  "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=90 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$build/failures/$target-" "$build/corpus/$target" "tests/fuzz/seeds/$target" >"$build/$target.log" 2>&1 || code=$?
  coverage=$(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$build/$target.log" | tail -n 1)
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log")
  echo "$target: ${runs:-?} inputs in $seconds s, ${coverage:-no coverage}, $([ $code -eq 0 ] && echo "no failure" || echo "FAILED, see $build/$target.log")" |
    tee -a "$build/summary.txt"
  [ "$code" -eq 0 ] || failed=1
done
exit $failed
