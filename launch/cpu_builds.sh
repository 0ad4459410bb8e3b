#!/bin/sh
# Shows that the CPU trains without a GPU, whatever the build: a build without CUDA (made here, programs alone), and the build in
# build/, with its CUDA engine where it has one, each run three steps of a small model and must write the same checkpoint, bit for bit.
#
#   launch/cpu_builds.sh [FOLDER]      FOLDER: where the build without CUDA goes (build-nocuda)
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

plain=${1:-build-nocuda}
programs=$build/src/programs
[ -x "$programs/psann_train" ] || die "$programs/psann_train is not there: build first (launch/test.sh, or ninja -C $build)"
export CUDA_VISIBLE_DEVICES= # a GPU that is there stays out of it

say "building without CUDA in $plain"
[ -f "$plain/build.ninja" ] || meson setup "$plain" -Dcuda=disabled -Dtests=disabled
ninja -C "$plain" src/programs/psann_train src/programs/psann_probe
if ldd "$plain/src/programs/psann_train" | grep -E 'libcu(da|dart|blas|dnn)|libnccl'; then
  die "the build without CUDA is linked with CUDA's libraries"
fi

engines() { "$1/src/programs/psann_train" --version | sed -n 's/.*engines: //p'; }
[ "$(engines "$plain")" = cpu ] || die "the build without CUDA says that it has the engines: $(engines "$plain")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
i=0
while [ $i -lt 200 ]; do
  i=$((i + 1))
  echo "line $i of a text that is there to be read, $((i * 7919 % 1000)) and $((i * 104729 % 997))."
done >"$work/text.txt"
"$programs/psann_data" build --tokenizer bytes --train-out "$work/train.h5" "$work/text.txt" >/dev/null
cat >"$work/run.ini" <<END
[model]
d_model = 32
n_layers = 2
n_heads = 2
d_mlp = 64
[data]
train = $work/train.h5
seq_len = 32
[train]
batch_tokens = 512
max_steps = 3
warmup_steps = 1
END

for folder in "$plain" "$build"; do
  say "training on the CPU with $folder (engines: $(engines "$folder"))"
  run=$work/$(echo "$folder" | tr / _)
  "$folder/src/programs/psann_train" "$work/run.ini" "run.dir=$run" >"$work/log" 2>&1 ||
    die "the build in $folder does not train without a GPU: $(cat "$work/log")"
  grep '^epoch=' "$work/log"
  grep -qx 'device = cpu' "$run/config.ini" || die "the run of $folder is not one of the CPU: see its config.ini"
done
say "comparing"
"$programs/psann_check" diff "$work/$(echo "$plain" | tr / _)" "$work/$(echo "$build" | tr / _)"
case $(engines "$build") in
  *cuda*) say "both builds, without and with CUDA, train on the CPU with the same bits" ;;
  *) say "both builds train on the CPU with the same bits; $build has no CUDA engine, so there was nothing to show of one" ;;
esac
