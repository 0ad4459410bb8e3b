#!/bin/sh
# The measuring scripts of launch/, as a person starts them, on this machine and small: scripts.sh SOURCE_FOLDER BUILD_FOLDER
set -eu
source=$1
export PSANN_BUILD="$2"
command -v bible >/dev/null || {
  echo "skipped: there is no program 'bible' here (package bible-kjv)"
  exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PSANN_DATA="$work/data" PSANN_REPORTS="$work/reports" PSANN_MODELS=cpu

fail() {
  echo "FAILED: $*" >&2
  exit 1
}
one() { # the only file of that pattern
  if [ $# != 1 ] || [ ! -f "$1" ]; then fail "no single file $*"; fi
}
keys() { # FILE KEY…: the file is a JSON object with these keys
  python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); missing = [k for k in sys.argv[2:] if k not in o]; sys.exit(f"{sys.argv[1]} lacks {missing}" if missing else 0)' "$@"
}

"$source/launch/next_gpu_batch.sh" --device cpu --only GPU-03 GPU-04 >"$work/batch.log" 2>&1 || { cat "$work/batch.log"; fail next_gpu_batch.sh; }
sweep=$(dirname "$work"/reports/benchmarks/*/metrics.json)
for name in throughput.json throughput.csv throughput_all.csv memory.json metrics.csv metrics.json; do
  one "$sweep/$name"
done
[ "$(head -n 1 "$sweep/metrics.csv")" = epoch,step,loss,ppl,lr,grad_norm,toks ] || fail "header of metrics.csv"
head -n 1 "$sweep/throughput.csv" | grep -q '^timestamp,base,batch_tokens,tokens_per_s,' || fail "header of throughput.csv"
keys "$sweep/metrics.json" corpus_path model train train_loss_final train_ppl_final val_loss val_ppl published
# What the corpus has to teach: the words and where sentences end, far below a uniform guess (6.33).
python3 -c 'import json, sys; sys.exit(not json.load(open(sys.argv[1]))["val_loss"] < 5)' "$sweep/metrics.json" || fail "the tiny corpus was not learned"
one "$work"/reports/gpu/*/summary.json
one "$work"/reports/gpu/*/report.html
one "$sweep/report.html"
for words in '1 run, 1 validation, 2 benchmarks' 'GPU-04' 'validation perplexity' 'cpu train fp32'; do
  grep -q "$words" "$sweep/report.html" || fail "the page of the batch lacks '$words'"
done
# shellcheck source=/dev/null disable=SC2123
said=$(cd "$source" && . launch/lib.sh && PATH=/nowhere && write_report "$work/reports") || fail "no gnuplot made a script fail"
echo "$said" | grep -q '^there is no report.html, since gnuplot is not installed' || fail "said without gnuplot: $said"

rm -r "$work/reports"
PSANN_SUITE=model "$source/launch/run_cuda_suite.sh" --device cpu --only GPU-01 >"$work/suite.log" 2>&1 || { cat "$work/suite.log"; fail run_cuda_suite.sh; }
keys "$work"/reports/tests/*/summary.json timestamp_utc exit_code tests failures errors skipped
keys "$work"/reports/tests/*/system.json cuda_available device_count gpus
one "$work"/reports/tests/*/junit.xml
python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); sys.exit(not (o["tests"] >= 5 and o["failures"] == o["exit_code"] == 0))' "$work"/reports/tests/*/summary.json || fail "summary of the tests"

claim() { # SCRIPT [word …]
  "$source"/launch/"$@" --runs "$work/runs" --out "$work/claim" --seeds "1 2" --rates 0.003 --arms "sine gelu" \
    train.max_steps=2 train.warmup_steps=1 model.d_model=32 model.n_layers=1 model.n_heads=2 >"$work/claim.log" 2>&1
}
claim studies.sh small || { cat "$work/claim.log"; fail studies.sh; }
one "$work"/reports/benchmarks/*/tiny_corpus_evaluation.json
for arm in sine gelu frozen amplitude frequency decay; do
  grep -q "^| $arm |" "$work/claim/report.md" || fail "the report lacks the arm $arm"
done
[ "$(wc -l <"$work/claim/results.csv")" = 13 ] || fail "12 runs were asked for"
# Equal parameters: GELU has never fewer, and at most 1 % more.
awk -F, '$1 == "sine" { s = $4 } $1 == "gelu" { g = $4 } END { exit !(g >= s && g <= 1.01 * s) }' "$work/claim/results.csv" || fail "parameters of sine and GELU"
claim claim.sh small --ablation maybe && fail "--ablation maybe was taken"
"$source/launch/claim.sh" huge >/dev/null 2>&1 && fail "claim.sh huge was taken"

# The same run in two precisions, and with a bound that no two of them keep.
curves() { # WITHIN
  "$source/launch/precision_curves.py" -o "$work/curves" --within "$1" "$source/configs/curves_1b3.ini" fp32 fp8 "data.train=$work/data/bible_train.h5" "data.val=$work/data/bible_val.h5" \
    run.device=cpu model.d_model=32 model.n_layers=3 model.n_heads=2 model.d_mlp=32 data.seq_len=16 train.micro_batch=4 train.batch_tokens=64 train.max_steps=110 train.warmup_steps=10 >"$work/curves.log" 2>&1
}
curves 0.05 || { cat "$work/curves.log"; fail precision_curves.py; }
keys "$work/curves/summary.json" config first window precisions
[ "$(wc -l <"$work/curves/curves.csv")" = 111 ] || fail "110 steps were asked for"
grep -q "^| fp8 | [0-9.]* | [0-9.]* (110) |" "$work/curves/report.md" || fail "the report lacks fp8"
if curves 0.05; then fail "old runs were taken for new ones"; fi
rm -r "$work/curves"
if curves 0.0000001; then fail "two precisions within 1e-7"; fi
"$source/launch/tiny_corpus.sh" --mib much >/dev/null 2>&1 && fail "--mib much was taken"
echo "all scripts did what they say"
