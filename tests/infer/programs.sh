#!/bin/bash
# psann_generate and psann_eval as programs: what they print, and what they say to bad input.
#
#   programs.sh FOLDER     FOLDER holds the built programs
# shellcheck disable=SC2015
set -uo pipefail
programs=$(cd "$1" && pwd) || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
export OMPI_MCA_rmaps_base_oversubscribe=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
[ "$(id -u)" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

fail() {
  failures=$((failures + 1))
  printf 'FAILED: %s\n' "$*"
}

generate() { "$programs/psann_generate" "$@"; }
evaluate() { "$programs/psann_eval" "$@"; }

# refuse CODE 'words of the message' command…: one line on standard error that holds the words, that exit code, nothing on standard output.
refuse() {
  local wanted=$1 words=$2 code
  shift 2
  timeout 60 "$programs/$1" "${@:2}" >out.txt 2>err.txt </dev/null
  code=$?
  [ "$code" = "$wanted" ] || fail "$*: exit code $code, not $wanted: $(cat err.txt)"
  grep -qF -- "$words" err.txt || fail "$*: no '$words' in: $(cat err.txt)"
  [ "$(wc -l <err.txt)" = 1 ] || fail "$*: not one line: $(cat err.txt)"
  [ ! -s out.txt ] || fail "$*: something on standard output: $(head -c 200 out.txt)"
}

same() { cmp -s "$1" "$2" || fail "$3: $1 and $2 differ: $(head -c 300 "$1") | $(head -c 300 "$2")"; }

# A small corpus of words with Greek ones among them, stores of three tokenizers, and a model that has just begun to learn.
make_fixture() {
  awk 'BEGIN {
    srand(7)
    n = split("the of and king λόγος said went unto house water light café stone ἀρχή river", word, " ")
    for (i = 0; i < 900; i++) printf "%s%s", word[1 + int(rand() * n)], i % 12 == 11 ? ".\n" : " "
  }' >text.txt
  "$programs/psann_data" build --train-out bytes.h5 text.txt >log.txt 2>&1 &&
    "$programs/psann_data" build --tokenizer chars --train-out chars.h5 text.txt >>log.txt 2>&1 &&
    sed 's/river/zzz€/g' text.txt >other.txt && sed 's/river/zzz¥/g' text.txt >third.txt &&
    "$programs/psann_data" build --tokenizer chars --train-out other_chars.h5 other.txt >>log.txt 2>&1 &&
    "$programs/psann_data" build --tokenizer chars --train-out third_chars.h5 third.txt >>log.txt 2>&1 &&
    awk 'BEGIN { for (i = 0; i < 4000; i++) printf "%c\1", 1 + (i * i) % 100 }' >shard.u16 &&
    "$programs/psann_data" import --raw-u16 --vocab-size 512 --end-of-text 511 --out ids.h5 shard.u16 >>log.txt 2>&1 || {
    cat log.txt
    exit 1
  }
  cat >small.ini <<INI
[run]
dir = run
[model]
d_model = 16
n_layers = 2
n_heads = 2
[data]
train = bytes.h5
val = bytes.h5
seq_len = 32
[train]
micro_batch = 2
batch_tokens = 128
max_steps = 8
lr = 0.01
[eval]
interval = 4
batches = 3
[checkpoint]
interval = 4
INI
  "$programs/psann_train" small.ini >>log.txt 2>&1 &&
    "$programs/psann_train" small.ini run.dir=run_other data.train=other_chars.h5 data.val=other_chars.h5 train.max_steps=4 >>log.txt 2>&1 &&
    "$programs/psann_train" small.ini run.dir=run_ids data.train=ids.h5 data.val=ids.h5 train.max_steps=4 >>log.txt 2>&1 || {
    cat log.txt
    exit 1
  }
  checkpoint=run/checkpoints/step_00000008.h5
  [ -f "$checkpoint" ] || { cat log.txt; ls -R run; exit 1; }
}

check_text() {
  generate run "the king" --max-tokens 12 --seed 5 >one.txt || fail "a prompt"
  generate run "the king" --max-tokens 12 --seed 5 >again.txt || fail "the same prompt"
  same one.txt again.txt "the same seed"
  [ "$(head -c 8 one.txt)" = "the king" ] || fail "the prompt does not come first: $(cat one.txt)"
  generate run "the king" --max-tokens 12 --seed 6 >seed6.txt
  cmp -s one.txt seed6.txt && fail "another seed gives the same text"
  printf 'the king\nλόγος and\n\nwent unto' >prompts.txt
  generate run --prompts prompts.txt --max-tokens 12 --seed 5 --json >batch.jsonl || fail "--prompts"
  generate run --prompts prompts.txt --max-tokens 12 --seed 5 --json --batch 1 >single.jsonl || fail "--batch 1"
  same batch.jsonl single.jsonl "prompts together and alone"
  generate run --prompts - --max-tokens 12 --seed 5 --json <prompts.txt >stdin.jsonl || fail "--prompts -"
  same batch.jsonl stdin.jsonl "prompts from standard input"
  python3 - one.txt batch.jsonl <<'PYTHON' || fail "the JSON lines"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
assert [r["index"] for r in rows] == [0, 1, 2, 3], rows
assert [r["prompt"] for r in rows] == ["the king", "λόγος and", "", "went unto"], rows
for r in rows:
    assert r["prompt_tokens"] == list(r["prompt"].encode()), r
    assert len(r["tokens"]) <= 12 and r["end"] in ("max_tokens", "end_of_text"), r
    assert (len(r["tokens"]) == 12) == (r["end"] == "max_tokens"), r
    whole = bytes(t for t in r["tokens"] if t < 256).decode("utf-8", "ignore").replace("\0", "")
    assert r["text"].replace("\ufffd", "") == whole, (r, whole)
text = open(sys.argv[1], "rb").read()
assert text == b"the king" + bytes(rows[0]["tokens"]) + b"\n", (text, rows[0])
PYTHON
  generate run "the king" --max-tokens 12 --seed 5 --tokens >ids.txt
  python3 -c 'import json; print(*json.loads(open("batch.jsonl").readline())["tokens"])' >ids_json.txt
  same ids.txt ids_json.txt "--tokens"
  generate run --prompt-ids "116 104 101 32 107 105 110 103" --max-tokens 12 --seed 5 >by_ids.txt
  same one.txt by_ids.txt "--prompt-ids"
  generate "$checkpoint" "the king" --max-tokens 12 --temperature 0 >cold.txt
  generate "$checkpoint" "the king" --max-tokens 12 --top-k 1 --seed 9 >top1.txt
  same cold.txt top1.txt "temperature 0 and top-k 1"
  generate run_ids --prompt-ids "1 2 3" --tokens --max-tokens 3 --no-stop | grep -E '^[0-9]+ [0-9]+ [0-9]+$' >/dev/null || fail "ids without a tokenizer"
  generate run "the king" --max-tokens 500 --no-stop >long.txt 2>note.txt || fail "a text up to the context"
  grep -q "stopped at the context of 32 tokens" note.txt || fail "no note on the context: $(cat note.txt)"
  generate run "the king" --max-tokens 60 --no-stop --context 100 --json 2>note.txt | python3 -c '
import json, sys
row = json.loads(sys.stdin.read())
assert len(row["tokens"]) == 60 and row["end"] == "max_tokens", row' || fail "--context"
  [ ! -s note.txt ] || fail "a note without a reason: $(cat note.txt)"
  for strategy in auto full_shard; do
    mpirun -np 2 "$programs/psann_generate" run "the king" --max-tokens 12 --seed 5 --strategy $strategy >ranks.txt || fail "psann_generate on two ranks, $strategy"
    same one.txt ranks.txt "one rank and two, $strategy"
  done
  printf 'the king\nwent unto\n' >prompts.txt
  generate run --prompts prompts.txt --max-tokens 12 --seed 5 --json >lines_one.jsonl || fail "prompts from a file"
  mpirun -np 3 "$programs/psann_generate" run --prompts - --max-tokens 12 --seed 5 --json --strategy full_shard <prompts.txt >lines.jsonl ||
    fail "prompts from standard input on three ranks"
  same lines_one.jsonl lines.jsonl "prompts from standard input on three ranks"
  generate --version | grep '^psann ' >/dev/null || fail "--version: $(generate --version)"
  generate --help | grep -- '--repetition-penalty X' >/dev/null || fail "--help"
}

check_evaluation() {
  evaluate run bytes.h5 --json >whole.json || fail "psann_eval"
  mpirun -np 2 "$programs/psann_eval" run bytes.h5 --json >two.json || fail "psann_eval on two ranks"
  mpirun -np 3 "$programs/psann_eval" run bytes.h5 --json >three.json || fail "psann_eval on three ranks"
  mpirun -np 4 "$programs/psann_eval" run bytes.h5 --json --strategy full_shard >sharded.json || fail "psann_eval on four ranks that share the weights"
  evaluate run bytes.h5 --json --batches 3 --micro-batch 1 --seq-len 16 >part.json || fail "psann_eval of a part"
  evaluate run_ids ids.h5 --json >ids.json || fail "psann_eval of ids"
  python3 - "$(wc -c <text.txt)" <<'PYTHON' || fail "the figures of psann_eval"
import json, math, sys
size = int(sys.argv[1])
whole, two, three, sharded, part, ids = (json.load(open(f"{name}.json")) for name in ("whole", "two", "three", "sharded", "part", "ids"))
keys = ("loss", "ppl", "bits_per_byte", "accuracy", "tokens", "step")
assert [whole[k] for k in keys] == [two[k] for k in keys] == [three[k] for k in keys] == [sharded[k] for k in keys], (whole, two, three, sharded)
assert whole["tokens"] == size and whole["step"] == 8, whole  # every byte and the end of text, but for the first
assert math.isclose(whole["bits_per_byte"], whole["loss"] * whole["tokens"] / math.log(2) / size, rel_tol=1e-9), whole
assert math.isclose(whole["ppl"], math.exp(whole["loss"]), rel_tol=1e-9) and 1 < whole["loss"] < math.log(257), whole
assert 0 < whole["accuracy"] < 1 and part["tokens"] == 48, (whole, part)
assert ids["bits_per_byte"] is None and ids["loss"] > 0, ids
PYTHON
  evaluate run bytes.h5 | grep -E '^bits/byte +[0-9.]+$' >/dev/null || fail "psann_eval's text"
}

check_bad_arguments() {
  refuse 2 "no checkpoint given" psann_generate
  refuse 2 "unknown option --temprature" psann_generate run --temprature=1
  refuse 2 "unknown option -t" psann_generate run -t
  refuse 2 "--top-k needs a value" psann_generate run --top-k
  refuse 2 "--json=3 takes no value" psann_generate run --json=3
  refuse 2 "--temperature is 'warm'" psann_generate run --temperature warm
  refuse 2 "--temperature is -1: it must lie between 0 and 1000" psann_generate run --temperature -1
  refuse 2 "--temperature is nan" psann_generate run --temperature nan
  refuse 2 "--top-p is 0" psann_generate run --top-p 0
  refuse 2 "--top-p is 1.5" psann_generate run --top-p 1.5
  refuse 2 "--top-k is '2.5'" psann_generate run --top-k 2.5
  refuse 2 "--top-k is -1" psann_generate run --top-k -1
  refuse 2 "--max-tokens is 0" psann_generate run --max-tokens 0
  refuse 2 "--max-tokens is ''" psann_generate run --max-tokens ''
  refuse 2 "--max-tokens is 99999999999999999999" psann_generate run --max-tokens 99999999999999999999
  refuse 2 "--repetition-penalty is 0" psann_generate run --repetition-penalty 0
  refuse 2 "--seed is -1" psann_generate run --seed -1
  refuse 2 "--batch is 0" psann_generate run --batch 0
  refuse 2 "gpu" psann_generate run --device gpu
  refuse 2 "full_shards" psann_generate run --strategy full_shards
  refuse 2 "not 0 arguments" psann_eval
  refuse 2 "not 1 argument;" psann_eval run
  refuse 2 "not 3 arguments" psann_eval run bytes.h5 third
  refuse 2 "--seq-len is 0" psann_eval run bytes.h5 --seq-len 0
  refuse 2 "--micro-batch is 'many'" psann_eval run bytes.h5 --micro-batch many
}

check_bad_files() {
  mkdir -p empty
  printf 'not a checkpoint' >foreign.h5
  : >nothing.h5
  head -c 3000 "$checkpoint" >cut.h5
  python3 - "$checkpoint" <<'PYTHON'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
for i in range(len(data) // 10, len(data), 997):  # some of them in weights
    data[i] ^= 1
open("flipped.h5", "wb").write(data)
PYTHON
  head -c 1500 bytes.h5 >cut_store.h5
  printf 'the\0king\n' >zero.txt
  refuse 2 "missing.h5" psann_generate missing.h5
  refuse 2 "empty" psann_generate empty
  refuse 2 "foreign.h5" psann_generate foreign.h5
  refuse 2 "nothing.h5" psann_generate nothing.h5
  refuse 2 "bytes.h5" psann_generate bytes.h5
  refuse 2 "cut.h5" psann_generate cut.h5
  refuse 2 "flipped.h5" psann_generate flipped.h5
  refuse 2 "prompts_missing.txt" psann_generate run --prompts prompts_missing.txt
  refuse 2 "nothing.h5 holds no prompt" psann_generate run --prompts nothing.h5
  refuse 2 "zero.txt holds zero bytes" psann_generate run --prompts zero.txt
  refuse 2 "prompt 2 holds '7x'" psann_generate run --prompt-ids "1 2" "6 7x 8"
  refuse 2 "prompt 1 holds token id 257, outside the vocabulary of 257" psann_generate run --prompt-ids 257
  refuse 2 "prompt 1 has 33 tokens, more than the context of 32" psann_generate run 123456789012345678901234567890123
  refuse 2 "no tokenizer: ask for ids" psann_generate run_ids
  refuse 2 "no tokenizer: give prompts as ids" psann_generate run_ids text --tokens
  refuse 2 "missing.h5" psann_eval run missing.h5
  refuse 2 "foreign.h5" psann_eval run foreign.h5
  refuse 2 "cut_store.h5" psann_eval run cut_store.h5
  refuse 2 "$checkpoint" psann_eval run "$checkpoint"
  refuse 2 "foreign.h5" psann_eval foreign.h5 bytes.h5
  refuse 2 "chars.h5 has a vocabulary of" psann_eval run chars.h5
  refuse 2 "third_chars.h5 was made with another 'chars' model" psann_eval run_other third_chars.h5
  generate run "the king" --max-tokens 3 >/dev/full 2>err.txt
  code=$?
  { [ $code = 1 ] && grep -q "can't write" err.txt; } || fail "a full disk: exit code $code, $(cat err.txt)"
  timeout 60 mpirun -np 2 "$programs/psann_eval" run chars.h5 >out.txt 2>err.txt
  code=$?
  { [ $code = 2 ] && [ "$(grep -c 'error:' err.txt)" = 1 ]; } || fail "a misfit on two ranks: exit code $code, $(cat err.txt)"
}

make_fixture
check_text
check_evaluation
check_bad_arguments
check_bad_files
[ "$failures" = 0 ] || { echo "$failures failed"; exit 1; }
echo "all is as it should be"
