#!/bin/sh
# How training scales over the GPUs of this host: weak and strong scaling of the bench models under several strategies, the exchange's own rates, and
# what a model of the cost predicts from them; table, JSON and pictures. Everything in under ten minutes on eight GPUs.
#
#   launch/scaling.sh                   all GPUs: 1, 2, 4, … of them
#   launch/scaling.sh --cpu             ranks on the CPU and a small model in their place
#   launch/scaling.sh --help
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh
exec python3 launch/scaling.py --build "$build" "$@"
