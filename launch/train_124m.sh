#!/bin/sh
# Trains configs/124m.ini on all GPUs of this machine, evaluates on the held-out documents, lets the model write, and gathers in
# runs/124m/report/ what a report needs: report.md, metrics.csv, config.ini, system.json, evaluation.json, text.txt.
#
#   launch/train_124m.sh [section.key=value …]      for example train.max_steps=1000 run.dir=runs/124m_long
#   launch/train_124m.sh --stores                   makes the token stores alone, also packed as .xz: needs no GPU
#
# The token stores are data/english_train.h5 and data/english_val.h5. Where they are missing they are unpacked from the same names with
# .xz, for machines that can't reach Debian's archive, or made: launch/corpus_english.sh, then a tokenizer of 32000 tokens (six minutes).
# A run that was stopped goes on; remove its folder to train anew. PSANN_BUILD names a build elsewhere.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

config=configs/124m.ini
corpus=data/english
train=data/english_train.h5
val=data/english_val.h5
run=runs/124m
stores_only=
for argument in "$@"; do
  case $argument in
    run.dir=*) run=${argument#run.dir=} ;;
    --stores) stores_only=yes ;;
    *=*) ;;
    *) die "'$argument' is neither --stores nor section.key=value" ;;
  esac
done
programs=$build/src/programs

gpus=$(gpu_count)
[ "$gpus" -gt 0 ] || [ -n "$stores_only" ] ||
  die "nvidia-smi shows no GPU here: this run needs one; launch/quickstart.sh trains on a CPU"
ranks=1
while [ $((2 * ranks)) -le "$gpus" ] && [ $ranks -lt 8 ]; do # a step has 8 micro-batches
  ranks=$((2 * ranks))
done

if [ ! -x "$programs/psann_train" ]; then
  # shellcheck disable=SC2086
  need_packages $psann_packages
  build_psann
fi

for store in "$train" "$val"; do
  if [ ! -f "$store" ] && [ -f "$store.xz" ]; then
    say "unpacking $store"
    if command -v xz >/dev/null; then
      xz -dc "$store.xz" >"$store.part"
    else
      python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer)' <"$store.xz" >"$store.part"
    fi
    mv "$store.part" "$store"
  fi
done
if [ ! -f "$train" ] || [ ! -f "$val" ]; then
  [ -d "$corpus" ] || launch/corpus_english.sh "$corpus"
  say "making token stores"
  "$programs/psann_data" build --force --train-out "$train" --val-out "$val" --val-fraction 0.01 --tokenizer sentencepiece \
    --model-type bpe --vocab 32000 --split-documents mark --mark %% "$corpus/text"
fi

if [ -n "$stores_only" ]; then
  for store in "$train" "$val"; do
    [ -f "$store.xz" ] && [ -z "$(find "$store" -newer "$store.xz")" ] || xz -k -f -T 0 "$store"
  done
  ls -l "$train" "$train.xz" "$val" "$val.xz"
  exit 0
fi

say "training $config on $ranks of $gpus GPUs"
stopped=
trap 'stopped=yes' INT # psann_train saves on Ctrl-C; wait for it
began=$(date +%s)
run_ranks "$ranks" "$programs/psann_train" "$config" "$@"
seconds=$(($(date +%s) - began))
trap - INT
if [ -n "$stopped" ]; then
  say "stopped; start $0 again to go on"
  exit 0
fi
mkdir -p "$run/report"

say "evaluating on the held-out documents"
"$programs/psann_eval" "$run" "$val" --json >"$run/report/evaluation.json"
cat "$run/report/evaluation.json"

say "text that the model wrote"
for prompt in "The history of the city begins" "In the beginning" "Anarchists argue that the state" "To install the package," "Love, n."; do
  "$programs/psann_generate" "$run" "$prompt" --max-tokens 120 --temperature 0.8 --top-p 0.95 --seed 1
  echo
done | tee "$run/report/text.txt"

# With metrics.jsonl psann_report makes a page of the folder also where this machine has no gnuplot.
cp "$run/config.ini" "$run/system.json" "$run/metrics.csv" "$run/metrics.jsonl" "$run/report/"
version=$("$programs/psann_train" --version | head -n 1)
{
  echo "# $config on $ranks GPUs, $(date -u +%Y-%m-%d)"
  echo
  echo "- Command: \`$0 $*\`; $version"
  { nvidia-smi ${CUDA_VISIBLE_DEVICES:+-i "$CUDA_VISIBLE_DEVICES"} --query-gpu=name,driver_version,memory.total --format=csv,noheader || nvidia-smi --list-gpus; } | sed 's/^/- GPU: /'
  # Columns: step,loss,ppl,lr,grad_norm,tok_s,step_ms,tokens,…,val_loss,val_ppl,val_bits_per_byte
  echo "- Last launch, with start, evaluations and checkpoints: $seconds s"
  awk -F, 'NR > 20 { print $6 }' "$run/metrics.csv" | sort -n | awk '{ t[NR] = $1 } END {
    if (NR) printf "- Speed: median %.0f tok/s over %d steps after the first 19\n", t[int((NR + 1) / 2)], NR }'
  tail -n 1 "$run/metrics.csv" | awk -F, '{ printf "- Step %d, %.1f million tokens, %.2f epochs, training loss %.4f\n", $1, $8 / 1e6, $9, $2 }'
  echo
  echo "| step | training loss | validation loss | perplexity | bits per byte |"
  echo "|---|---|---|---|---|"
  awk -F, 'NR > 1 && $11 != "" { printf "| %d | %.4f | %.4f | %.2f | %.4f |\n", $1, $2, $11, $12, $13 }' "$run/metrics.csv"
  echo
  echo "Evaluation of the best checkpoint on all held-out documents: \`$(tr -d '\n' <"$run/report/evaluation.json")\`"
  echo
  echo "## Text"
  echo
  sed 's/^/    /' "$run/report/text.txt"
} >"$run/report/report.md"
write_report "$run" -o "$run/report/report.html"
say "done: $run/report/report.md"
