#!/bin/sh
# Training speed of psann on CPU cores: one rank on one core against PyTorch (Debian's python3-torch) with the same model
# and batch, then two ranks on two cores against one. Writes reports/cpu_speed_<date>.md and .json.
#
#   tests/speed/speed.sh [--rounds N] [--steps N]
#
# Needs a machine with nothing else to do. Installs python3-torch.
set -eu
cd "$(dirname "$0")/../.."
. launch/lib.sh

# shellcheck disable=SC2086
need_packages $psann_packages python3-torch
build_psann
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
exec /usr/bin/python3 tests/speed/speed.py --build "$build" "$@"
