#!/bin/sh
# The unit tests under AddressSanitizer and UndefinedBehaviorSanitizer, in a build of their own without CUDA. Arguments go to `meson test`.
#
#   launch/sanitize.sh                    all suites of unit tests
#   launch/sanitize.sh --suite model
#
# Leaks are not looked for: Open MPI and HDF5 leave memory behind at exit.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

# shellcheck disable=SC2086
need_packages $psann_packages libcmocka-dev
build=${PSANN_BUILD:-build}-sanitize
if [ ! -f "$build/build.ninja" ]; then
  meson setup "$build" -Dcuda=disabled -Dtests=enabled -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
fi
ninja -C "$build"
export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
[ $# -gt 0 ] || set -- --suite unit --suite engine --suite model --suite golden
exec meson test -C "$build" --print-errorlogs --timeout-multiplier 5 "$@"
