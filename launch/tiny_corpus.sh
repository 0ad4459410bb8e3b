#!/bin/sh
# The tiny-corpus benchmark: 50 MiB of shuffled sentences, one pass with configs/tiny_corpus.ini on one rank, evaluation on the 2 % held out.
# Its metrics.csv and metrics.json have the reference's columns and keys, with the published figures beside ours.
#
#   launch/tiny_corpus.sh [--mib N] [--out DIR] [section.key=value …]
#
#   --mib N     size of the corpus (50; 0.5 without a GPU)
#   --out DIR   where the files go (reports/benchmarks/<UTC time>)
#
# On one H200 a pass takes seconds. Without a GPU, where it takes hours, the model is small (see the keys below) and so is the corpus, unless
# others are given.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

mib=50
keys=
if [ "$(gpu_count)" = 0 ]; then
  mib=0.5
  keys="model.d_model=64 model.n_layers=2 model.d_mlp=256 data.seq_len=128 train.batch_tokens=4096 train.micro_batch=4 train.lr=0.003"
fi
out=$reports/benchmarks/$(date -u +%Y%m%d_%H%M%S)
while [ $# -gt 0 ]; do
  case $1 in
    --mib) [ $# -gt 1 ] || die "--mib needs a value"; mib=$2; shift 2 ;;
    --out) [ $# -gt 1 ] || die "--out needs a value"; out=$2; shift 2 ;;
    --*) die "unknown option $1: there are --mib and --out" ;;
    *) break ;;
  esac
done
echo "$mib" | grep -Eqx '[0-9]+(\.[0-9]+)?' || die "--mib is '$mib': it must be a number of MiB"

need_programs
programs=$build/src/programs
corpus=$data/tiny_corpus_$mib.txt
train=$data/tiny_corpus_${mib}_train.h5
val=$data/tiny_corpus_${mib}_val.h5
mkdir -p "$data" "$out"
if [ ! -f "$train" ] || [ ! -f "$val" ]; then
  say "writing $mib MiB of sentences"
  python3 launch/tiny_corpus.py make "$corpus" "$mib"
  # 561: the published vocabulary of 305, and the 256 bytes that ours has beside its words.
  "$programs/psann_data" build --force --train-out "$train" --val-out "$val" --val-fraction 0.02 --split-documents line \
    --tokenizer sentencepiece --model-type bpe --vocab 561 --sample-mib 4 "$corpus"
fi
tokens=$("$programs/psann_data" info "$train" | awk '$1 == "tokens" { print $2 }')

say "one pass over $tokens tokens${keys:+, small, since there is no GPU here}"
run=$out/tiny_corpus_run
[ ! -e "$run" ] || die "$run is there already: give another --out"
# shellcheck disable=SC2086
"$programs/psann_train" configs/tiny_corpus.ini $keys "data.train=$train" "data.val=$val" "train.tokens_target=$tokens" "$@" "run.dir=$run"
"$programs/psann_eval" "$run" "$val" --json >"$out/tiny_corpus_evaluation.json"
python3 launch/tiny_corpus.py report "$run" "$out/tiny_corpus_evaluation.json" "$corpus" "$out"
rm -r "$run/checkpoints"
say "$out"
