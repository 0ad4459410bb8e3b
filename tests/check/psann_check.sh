#!/bin/sh
# What psann_check says and how it ends.
# usage: psann_check.sh PSANN_CHECK CKPT_MAKE STORE_MAKE GOLDEN_CASE
check=$1
ckpt_make=$2
store_make=$3
golden=$4
failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# expect CODE TEXT ARGUMENT...: exit code, and a text in what is printed ("" for none)
expect() {
  wanted=$1 text=$2
  shift 2
  timeout 60 "$check" "$@" >"$work/output" 2>&1 </dev/null
  code=$?
  if [ $code -ne "$wanted" ] || ! grep -q -F -e "$text" "$work/output"; then
    echo "FAILED: psann_check $*: exit code $code (wanted $wanted), wanted '$text' in:"
    sed 's/^/    /' "$work/output" | head -30
    failures=$((failures + 1))
  else
    echo "ok: psann_check $*"
  fi
}

# The last output also holds this.
also() {
  if ! grep -q -F -e "$1" "$work/output"; then
    echo "FAILED: wanted '$1' in:"
    sed 's/^/    /' "$work/output" | head -30
    failures=$((failures + 1))
  fi
}

seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
echo "seed $seed"
for run in a b c; do
  mkdir "$work/$run"
done
"$ckpt_make" "$work/a" "$seed" 10 || exit 1
"$ckpt_make" "$work/b" "$seed" 10 || exit 1
"$ckpt_make" "$work/c" "$((seed + 1))" 11 || exit 1
a=$work/a/checkpoints/step_00000010.h5
b=$work/b/checkpoints/step_00000010.h5
c=$work/c/checkpoints/step_00000011.h5
"$store_make" "$work/store.h5" || exit 1
: >"$work/empty.h5"
head -c 3000 "$a" >"$work/cut.h5"
echo "some text" >"$work/text.h5"

expect 0 "usage: psann_check" --help
expect 0 "HDF5" --version
expect 2 "no command given"
expect 2 "there is no command 'chekpoint'" chekpoint "$a"
expect 2 "at least one file" checkpoint
expect 2 "--bogus" checkpoint --bogus "$a"
expect 2 "belong to psann_check golden" checkpoint --device cpu "$a"

expect 0 "whole: every digest was verified" checkpoint "$a"
also "step 10"
also "lm_head.weight"
also "model.d_model ="
also "tokenizer"
expect 0 "$c" checkpoint "$a" "$work/c"
expect 2 "is empty" checkpoint "$work/empty.h5"
expect 2 "is damaged" checkpoint "$work/cut.h5"
expect 2 "is not an HDF5 file" checkpoint "$work/text.h5"
expect 2 "No such file" checkpoint "$work/nothing.h5"
expect 2 "no psann checkpoint" checkpoint "$golden"
# All are looked at, also after one that fails.
expect 2 "is damaged" checkpoint "$work/cut.h5" "$a" "$work/empty.h5"
also "step_00000010.h5"
also "whole: every digest was verified"
also "is empty"

expect 0 "are the same" diff "$a" "$b"
expect 0 "are the same" diff "$work/a" "$b"
expect 1 "are different" diff "$a" "$c"
also "/state step: 10 and 11"
expect 2 "takes two checkpoints, 1 given" diff "$a"
expect 2 "No such file" diff "$a" "$work/nothing.h5"
expect 2 "is damaged" diff "$work/cut.h5" "$a"

expect 0 "whole: the digest was verified" store "$work/store.h5"
also "15003 tokens"
also "3 documents"
expect 2 "empty.h5" store "$work/empty.h5"
expect 2 "text.h5" store "$work/text.h5"
expect 2 "step_00000010.h5" store "$a"
expect 2 "nothing.h5" store "$work/nothing.h5" "$work/store.h5"
also "15003 tokens"
# A token that changed.
cp "$work/store.h5" "$work/bad.h5"
size=$(stat -c %s "$work/bad.h5")
printf '\101\102\103\104\105\106' | dd of="$work/bad.h5" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
expect 2 "bad.h5" store "$work/bad.h5"

expect 0 "PASS" golden "$golden"
expect 0 "PASS" golden --precision fp64 --device cpu "$golden"
expect 1 "FAIL" golden "$work/text.h5" "$golden"
also "PASS"
expect 2 "bf16, but the CPU engine computes fp32" golden --device cpu --precision bf16 "$golden"
expect 2 "cuda" golden --device cuda "$golden"
expect 2 "at least one file" golden

[ $failures -eq 0 ]
