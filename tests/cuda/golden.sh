#!/bin/sh
# Parity cases on the GPU: golden.sh PSANN_CHECK PRECISION FILE…; 77 (skipped) without a GPU.
set -eu
check=$1 precision=$2
shift 2
nvidia-smi --list-gpus 2>/dev/null | grep -q "GPU " || exit 77
exec "$check" golden --device cuda --precision "$precision" "$@"
