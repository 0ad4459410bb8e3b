#!/bin/sh
# Installs what the tests need, builds, and runs them all. Arguments go to `meson test`, for example:
#
#   launch/test.sh --suite unit
#   launch/test.sh --list
#
# With PSANN_WERROR=1 a warning of the compiler is an error.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

# shellcheck disable=SC2086
need_packages $psann_packages libcmocka-dev sentencepiece python3-h5py python3-venv bible-kjv chromium slurmctld slurmd slurm-client munge
build_psann -Dtests=enabled ${PSANN_WERROR:+-Dwerror=true}
say "testing"
exec meson test -C "$build" --print-errorlogs "$@"
