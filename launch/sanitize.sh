#!/bin/sh
# The unit tests under sanitizers, in builds of their own without CUDA. Arguments go to `meson test`.
#
#   launch/sanitize.sh                    AddressSanitizer and UndefinedBehaviorSanitizer: all suites of unit tests
#   launch/sanitize.sh --suite model
#   launch/sanitize.sh --threads          ThreadSanitizer: the tests of what has threads of its own
#   launch/sanitize.sh --threads 'ckpt writer'
#
# Leaks are not looked for: Open MPI and HDF5 leave memory behind at exit. GCC's OpenMP synchronizes in ways that
# ThreadSanitizer can't see, so with --threads take tests that run no such loops.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

# shellcheck disable=SC2086
need_packages $psann_packages libcmocka-dev
sanitizers=address,undefined
folder=${PSANN_BUILD:-build}-sanitize
if [ "${1:-}" = --threads ]; then
  shift
  sanitizers=thread
  folder=${PSANN_BUILD:-build}-threads
  [ $# -gt 0 ] || set -- 'base activity' 'ckpt writer' 'train saves'
fi
if [ ! -f "$folder/build.ninja" ]; then
  meson setup "$folder" -Dcuda=disabled -Dtests=enabled -Dbuildtype=debugoptimized -Db_sanitize=$sanitizers -Db_lundef=false
fi
[ $sanitizers = thread ] || ninja -C "$folder"
export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
[ $# -gt 0 ] || set -- --suite unit --suite engine --suite model --suite golden
exec meson test -C "$folder" --print-errorlogs --timeout-multiplier 5 "$@"
