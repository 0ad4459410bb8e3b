#!/bin/sh
# Sine against GELU at equal parameters, data and steps, two seeds each, and what each of the sine's parameters gives. Writes a table
# and what it shows.
#
#   launch/claim.sh small [option …] [section.key=value …]    1.3 million parameters on the King James Bible: minutes a run on a CPU core
#   launch/claim.sh large [option …] [section.key=value …]    the size of the published comparison, on 100 MB of English: for GPUs
#
#   --seeds "1 2"            of weights and order of the data
#   --rates "0.003 0.006"    learning rates that each arm may choose among, by the first seed
#   --arms "sine gelu"       what is compared: sine, gelu, transformer (all three)
#   --ablation no            leave it out
#   --jobs N                 runs at once, each on GPUs of its own (one a GPU)
#   --ranks N                ranks of a run (1)
#   --runs DIR               where the runs go (runs/claim_<size>); runs that are done are used again
#   --out DIR                where report.md, results.csv, results.json go (reports/claim/<UTC date>_<size>)
#
# Size is a matter of keys: model.d_model=512 train.max_steps=2000.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

size=${1:-}
case $size in
  small) rates="0.003 0.006 0.012" ;;
  large) rates="0.001 0.002 0.004" ;;
  *) die "give a size first: small or large" ;;
esac
shift
need_programs
programs=$build/src/programs
jobs=$(gpu_count)
[ "$jobs" -gt 0 ] || jobs=1

if [ "$size" = small ]; then
  train=$data/bible_train.h5 val=$data/bible_val.h5
  if [ ! -f "$train" ] || [ ! -f "$val" ]; then
    need_bible
    "$programs/psann_data" build --force --train-out "$train" --val-out "$val" --val-input "$data/bible/val" \
      --tokenizer sentencepiece --model-type bpe --vocab 2048 "$data/bible/train"
  fi
else
  train=$data/english16k_train.h5 val=$data/english16k_val.h5
  if [ ! -f "$train" ] || [ ! -f "$val" ]; then
    [ -d "$data/english" ] || launch/corpus_english.sh "$data/english"
    "$programs/psann_data" build --force --train-out "$train" --val-out "$val" --val-fraction 0.01 --tokenizer sentencepiece \
      --model-type bpe --vocab 16384 --split-documents mark --mark %% "$data/english/text"
  fi
fi
exec python3 launch/claim.py --config "configs/claim/$size.ini" --programs "$programs" --runs "runs/claim_$size" \
  --out "$reports/claim/$(date -u +%Y-%m-%d)_$size" --jobs "$jobs" --rates "$rates" --said "$size $*" "$@" \
  "data.train=$train" "data.val=$val"
