#!/bin/sh
# From a fresh Debian or Ubuntu to a trained model and text that it wrote, as root or with sudo; no GPU needed.
#
#   launch/quickstart.sh
#
# Installs packages, builds, makes a corpus of the King James Bible (package bible-kjv) with twelve whole books held out,
# trains configs/quickstart.ini on two ranks, evaluates on the held-out books, and prints generated text. What is there
# already is used again; a run that was stopped goes on. Remove runs/quickstart to train anew.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

corpus=data/bible
train=data/bible_train.h5
val=data/bible_val.h5
run=runs/quickstart
limit=2.1 # bits per byte on the held-out books

# shellcheck disable=SC2086
need_packages $psann_packages bible-kjv
build_psann
programs=$build/src/programs

if [ ! -d "$corpus" ]; then
  say "writing the corpus to $corpus"
  launch/corpus_bible.sh "$corpus"
fi
if [ ! -f "$train" ] || [ ! -f "$val" ]; then
  say "making token stores"
  "$programs/psann_data" build --force --train-out "$train" --val-out "$val" --val-input "$corpus/val" \
    --tokenizer sentencepiece --model-type bpe --vocab 2048 "$corpus/train"
fi

say "training configs/quickstart.ini on two ranks"
stopped=
trap 'stopped=yes' INT # psann_train saves on Ctrl-C; wait for it
run_ranks 2 "$programs/psann_train" configs/quickstart.ini
trap - INT
if [ -n "$stopped" ]; then
  say "stopped; start $0 again to go on"
  exit 0
fi

say "evaluating on the held-out books"
result=$(run_ranks 2 "$programs/psann_eval" "$run" "$val")
echo "$result"
bits=$(echo "$result" | awk '$1 == "bits/byte" { print $2 }')

say "text that the model wrote"
for prompt in "And it came to pass" "Blessed is the man" "The kingdom of heaven is like"; do
  "$programs/psann_generate" "$run" "$prompt" --max-tokens 80 --temperature 0.7
  echo
done

say "a report for a browser"
write_report "$run"

awk -v bits="$bits" -v limit="$limit" 'BEGIN { exit !(bits > 0 && bits <= limit) }' ||
  die "the model reached ${bits:-no} bits per byte on the held-out books, not the $limit that it should"
say "done: $bits bits per byte on the held-out books"
echo "more text:   $programs/psann_generate $run 'In the beginning' --temperature 0.9 --seed 7"
echo "the tests:   launch/test.sh"
