#!/bin/sh
# What models of this kind learn, measured by one command: the tiny-corpus benchmark beside its published perplexity, then sine against GELU with
# the ablation of the sine's parameters.
#
#   launch/studies.sh [small|large] [option …] [section.key=value …]      options and keys of launch/claim.sh; large where there are GPUs
#
# Reports: reports/benchmarks/<UTC time> and reports/claim/<UTC date>_<size>; PSANN_REPORTS names another folder, PSANN_TINY_MIB the size of the
# tiny corpus.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

size=large
[ "$(gpu_count)" != 0 ] || size=small
case ${1:-} in
  small | large)
    size=$1
    shift
    ;;
esac
launch/tiny_corpus.sh ${PSANN_TINY_MIB:+--mib "$PSANN_TINY_MIB"}
launch/claim.sh "$size" "$@"
