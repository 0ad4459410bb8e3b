#!/bin/sh
# The GPU engine under NVIDIA's compute-sanitizer: the operations' test and short training runs on tiny shapes. Prints a table
# tool × run × errors and the kernels that were named; ends with 1 when there is any error, 77 where there is no GPU or no
# compute-sanitizer. Nothing is built.
#
#   launch/gpu_sanitize.sh                            memcheck and racecheck over all runs, of the build in build/
#   launch/gpu_sanitize.sh -b FOLDER                  of another build folder
#   launch/gpu_sanitize.sh -t "initcheck synccheck"   other tools
#   launch/gpu_sanitize.sh -r "bf16 fp32"             some of the runs: ops-fp32 ops-tf32 ops-bf16 ops-fp16 ops-fp8 bf16 fp32 fp8 wave
#   launch/gpu_sanitize.sh -k                         keeps the folder with the logs
#
# Every kernel is checked, NVIDIA's too, but in racecheck: there kernels of cuBLAS and cuDNN are excluded by name, because
# hazards in shared memory are a kernel's own matter, no argument of ours can cause them, and pipelined kernels of theirs are
# reported falsely. In 16 and 8 bits that is not enough: at the first of cuBLASLt's kernels for them racecheck itself ends
# ("failed to handle a hardware exception", CUDA 13.0 on an H200). So there it gets the operations that make no product, one by
# one, and no training; what is not run is said, and makes 77 where nothing else was asked for.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

tools="memcheck racecheck"
runs="ops-fp32 ops-tf32 ops-bf16 ops-fp16 ops-fp8 bf16 fp32 fp8 wave"
limit=900 # seconds a run
keep=
while getopts b:t:r:k option; do
  case $option in
    b) build=$OPTARG ;;
    t) tools=$OPTARG ;;
    r) runs=$OPTARG ;;
    k) keep=yes ;;
    *) die "options are -b BUILD_FOLDER -t \"TOOL …\" -r \"RUN …\" -k" ;;
  esac
done

sanitizer=$(command -v compute-sanitizer || true)
if [ -z "$sanitizer" ] && [ -x /usr/local/cuda/bin/compute-sanitizer ]; then
  sanitizer=/usr/local/cuda/bin/compute-sanitizer
fi
if [ -z "$sanitizer" ] || ! nvidia-smi --list-gpus 2>/dev/null | grep -q "GPU "; then
  echo "skipped: this needs a GPU and compute-sanitizer (in /usr/local/cuda/bin, or on PATH)"
  exit 77
fi
programs=$build/src/programs
operations=$build/tests/cuda/test_gpu_operations
for program in "$programs/psann_train" "$programs/psann_data" "$operations"; do
  [ -x "$program" ] || die "$program is not there: build first (ninja -C $build), or name the build folder with -b"
done

work=$(mktemp -d)
# shellcheck disable=SC2317
finish() {
  if [ -n "$keep" ]; then
    echo "logs: $work"
  else
    rm -rf "$work"
  fi
}
trap finish EXIT

# The option has two names, by version.
exclude=--kernel-name-exclude
"$sanitizer" --help 2>&1 | grep -q -e "$exclude" || exclude=--kernel-regex-exclude
libraries=kns=cudnn,kns=cublas,kns=cutlass,kns=xmma,kns=nvjet,kns=sm90_,kns=sm80_,kns=ampere_,kns=gemmSN,kns=gemmk1,kns=gemv

# A model of two layers on sequences that no tile divides; bf16 has cuDNN's attention, fp32 our own, wave the convolution and
# dropout; fp8 wants a third layer and multiples of 16, and has one head, whose gradients are ours.
write_config() {
  precision=$1
  model=$2
  cat >"$work/$3.ini" <<END
[run]
device = cuda
[model]
d_model = 64
n_layers = 2
n_heads = 2
d_mlp = 136
$model
[data]
train = $work/train.h5
seq_len = 70
[train]
micro_batch = 2
batch_tokens = 280
max_steps = 3
warmup_steps = 1
precision = $precision
[checkpoint]
interval = 0
[gemm]
plans = $work/plans.txt
END
}

prepare() {
  i=0
  while [ $i -lt 400 ]; do
    i=$((i + 1))
    echo "line $i of a text that is there to be read, $((i * 7919 % 1000)) and $((i * 104729 % 997))."
  done >"$work/text.txt"
  "$programs/psann_data" build --tokenizer bytes --train-out "$work/train.h5" "$work/text.txt" >"$work/data.log" 2>&1 ||
    die "psann_data failed: $(cat "$work/data.log")"
  write_config bf16 "" bf16
  write_config fp32 "" fp32
  write_config fp8 "" fp8
  sed -i -e 's/^n_layers = .*/n_layers = 3/' -e 's/^n_heads = .*/n_heads = 1/' -e 's/^d_mlp = .*/d_mlp = 144/' -e 's/^seq_len = .*/seq_len = 80/' -e 's/^batch_tokens = .*/batch_tokens = 320/' "$work/fp8.ini"
  write_config bf16 "base = waveresnet
wave_interleave = true
wave_dilation_growth = 2
dropout = 0.1" wave
}

is_operations() { [ "${1#ops-}" != "$1" ]; }

# The parts of a run under a tool, one a line: an operation's name, or "all"; nothing where the tool can't run it.
parts_of() { # TOOL RUN
  case $1-$2 in
    racecheck-ops-bf16 | racecheck-ops-fp16)
      printf '%s\n' embed_forward embed_backward norm_forward norm_backward attention_backward attention_cached conv_forward conv_backward add leaf_squares \
        add_leaf_squares finish_norm adamw
      ;;
    racecheck-ops-fp8) printf '%s\n' norm_forward norm_backward ;;
    racecheck-bf16 | racecheck-fp8 | racecheck-wave) ;;
    *) echo all ;;
  esac
}

# The command of a run's part, after the words given first.
start() {
  run=$1
  only=$2
  shift 2
  if is_operations "$run"; then
    set -- "$@" "$operations"
    [ "$only" = all ] || set -- "$@" --only "$only"
    timeout "$limit" "$@" --quick --precision "${run#ops-}"
  else
    timeout "$limit" "$@" "$programs/psann_train" "$work/$run.ini" "run.dir=$work/runs/$run.$(date +%s%N)"
  fi
}

# Errors that the log tells, or "none told" when it has no summary.
errors_of() {
  sed -n -e 's/.*ERROR SUMMARY: \([0-9]*\) error.*/\1/p' -e 's/.*RACECHECK SUMMARY:.*(\([0-9]*\) error.*/\1/p' "$1" |
    awk '{ sum += $1; n++ } END { print n ? sum : "none told" }'
}

say "without a tool: every run must end well, and the plans of the products are timed here and not under a tool"
bad=0
prepare
for run in $runs; do
  is_operations "$run" || [ -f "$work/$run.ini" ] || die "there is no run $run"
  start "$run" all >"$work/$run.plain.log" 2>&1 || {
    bad=1
    echo "$run fails without a tool:"
    tail -n 20 "$work/$run.plain.log"
  }
done

say "$sanitizer"
printf '%-10s %-10s %10s %6s %8s\n' tool run errors exit seconds
ran=
left=
for tool in $tools; do
  for run in $runs; do
    log=$work/$run.$tool.log
    began=$(date +%s)
    code=0
    : >"$log"
    : >"$work/$run.$tool.out"
    parts=$(parts_of "$tool" "$run")
    if [ -z "$parts" ]; then
      left=yes
      printf '%-10s %-10s %10s\n' "$tool" "$run" "not run"
      continue
    fi
    ran=yes
    for part in $parts; do
      # API errors are left to the engine, which reads every status.
      set -- "$sanitizer" --tool "$tool" --log-file "$work/part.log" --error-exitcode 99 --target-processes application-only --print-limit 50
      case $tool in
        memcheck) set -- "$@" --report-api-errors no ;;
        racecheck) set -- "$@" --racecheck-report analysis "$exclude" "$libraries" ;;
      esac
      : >"$work/part.log"
      start "$run" "$part" "$@" >>"$work/$run.$tool.out" 2>&1 || code=$?
      [ "$(errors_of "$work/part.log")" != "none told" ] || echo "no summary of $part" >>"$log"
      cat "$work/part.log" >>"$log"
    done
    errors=$(errors_of "$log")
    if grep -q "^no summary of" "$log"; then
      errors="none told"
    fi
    printf '%-10s %-10s %10s %6s %8s\n' "$tool" "$run" "$errors" "$code" $(($(date +%s) - began))
    if [ "$code" != 0 ] || [ "$errors" != 0 ]; then
      bad=1
      grep -E "Error|Invalid|hazard|Warning| at .*\+0x" "$log" | sort | uniq -c | sort -rn | head -n 12
      head -n 25 "$log"
      tail -n 5 "$work/$run.$tool.out" # where it was then
    fi
  done
done
[ -z "$left" ] || echo "not run: racecheck ends by itself in cuBLASLt's kernels for 16 and 8 bits"
if [ $bad = 0 ]; then
  say "no errors"
else
  say "errors: see above"
fi
if [ $bad = 0 ] && [ -z "$ran" ]; then
  exit 77
fi
exit $bad
