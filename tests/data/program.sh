#!/bin/bash
# psann_data as a person uses it: what it makes, and what it says to mistakes.
# usage: program.sh PSANN_DATA
set -u
data=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0
checks=0

fail() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}

# ok COMMAND...: exit code 0
ok() {
  checks=$((checks + 1))
  "$@" >out 2>err || fail "exit code $? of: $* ($(cat err))"
}

# refused CODE PART ARGUMENT...: the exit code, one line on standard error that holds PART, and nothing new in the folder but out and err
refused() {
  local code=$1 part=$2 before after got
  shift 2
  checks=$((checks + 1))
  before=$(find . -not -name out -not -name err | sort)
  "$data" "$@" >out 2>err
  got=$?
  after=$(find . -not -name out -not -name err | sort)
  [ $got = "$code" ] || fail "exit code $got instead of $code of: psann_data $* ($(cat err))"
  [ "$(grep -c 'psann_data: error: ' err)" = 1 ] || fail "not one error line of: psann_data $* ($(cat err))"
  grep -qF -- "$part" err || fail "no '$part' in the message of: psann_data $* ($(cat err))"
  [ "$before" = "$after" ] || fail "files are left over of: psann_data $* ($(diff <(echo "$before") <(echo "$after")))"
}

# A text of sentences from a list of words; the same for the same seed.
text() { # SEED PARAGRAPHS
  awk -v seed="$1" -v n="$2" 'BEGIN { srand(seed)
    words = split("the a of and river house green old walks sees under over morning light stone quiet reader letter small garden winter apples bread never always once again people speak listen water bright window", w, " ")
    for (p = 0; p < n; p++) { line = ""
      for (i = 0; i < 40; i++) line = line w[1 + int(rand() * rand() * words)] (rand() < 0.1 ? ".  " : " ")
      print line; print "\tcafé naïve 中文 – " p; print "" } }'
}

mkdir books
text 1 400 >books/one.txt
text 2 300 >books/two.txt
text 3 100 >books/three.txt
printf 'a document\n%%\nanother\n%%\n' >fortunes
awk 'BEGIN { for (i = 0; i < 500; i++) printf "{\"id\": %d, \"text\": \"row %d \\u00e9\\n\"}\n", i, i }' >rows.jsonl

# --- what it makes
ok "$data" --help
ok "$data" --version
for command in build import info decode; do
  ok "$data" $command --help
  grep -q "usage: psann_data $command" out || fail "no usage of $command"
done

for tokenizer in bytes chars "sentencepiece --vocab 330" "sentencepiece --vocab 330 --model-type bpe"; do
  # shellcheck disable=SC2086
  for jobs in 1 4; do
    ok "$data" build --tokenizer $tokenizer --train-out train$jobs.h5 --val-out val$jobs.h5 --split-documents blank-line \
      --val-fraction 0.2 --jobs $jobs --force books rows.jsonl
  done
  cmp train1.h5 train4.h5 || fail "the training store of $tokenizer depends on the number of jobs"
  cmp val1.h5 val4.h5 || fail "the validation store of $tokenizer depends on the number of jobs"
  # shellcheck disable=SC2086
  ok "$data" build --tokenizer $tokenizer --train-out whole.h5 --val-out held.h5 --val-input books/three.txt --force books
  ok "$data" info --verify whole.h5
  grep -q '^sources      2$' out || fail "three.txt is a source of the training store"
  ok "$data" info --verify held.h5
  grep -q 'books/three.txt' out || fail "three.txt is no source of the validation store"
  ok "$data" decode held.h5 --document 0
  head -c "$(stat -c %s books/three.txt)" out | cmp - books/three.txt || fail "$tokenizer does not give the text back"
  ok "$data" decode whole.h5 --document 1
  head -c "$(stat -c %s books/two.txt)" out | cmp - books/two.txt || fail "$tokenizer does not give the second text back"
done

ok "$data" build --tokenizer-model whole.h5 --train-out applied.h5 books/three.txt
ok "$data" info applied.h5
grep -q 'sentencepiece, 330 tokens' out || fail "the tokenizer was not taken from the store"
ok "$data" build --train-out f.h5 --split-documents mark --mark % fortunes
ok "$data" info f.h5
grep -q '^documents    2$' out || fail "marks don't separate"
grep -q '(19 bytes)' out || fail "marks are counted as text"
ok "$data" build --train-out lines.h5 --split-documents line --seed 5 books/one.txt
printf 'nul \0 and \xff bytes \xe2\x96\x81' >odd.txt
for model in whole.h5 f.h5; do
  ok "$data" build --tokenizer-model $model --train-out odd.h5 --force odd.txt
  ok "$data" decode odd.h5 --document 0
  head -c "$(stat -c %s odd.txt)" out | cmp - odd.txt || fail "NUL and invalid bytes don't come back"
done
{ cat rows.jsonl; echo '{"text": "cut'; } >broken.jsonl
ok "$data" build --train-out skipped.h5 --skip-bad-lines broken.jsonl
grep -q '1 JSON lines were not usable' err || fail "a skipped line is not counted"
ok "$data" info skipped.h5
grep -q '^documents    500$' out || fail "a skipped line costs others"

# --- shards: 1024 bytes of header, then end of text first, as llm.c writes them
shard() { # TOKENS-IN-HEADER TOKEN...
  local header=$1 token
  shift
  python3 -c 'import struct, sys
t = [int(x) for x in sys.argv[2:]]
sys.stdout.buffer.write(struct.pack("<256i", 20240520, 1, int(sys.argv[1]), *[0] * 253) + struct.pack("<%dH" % len(t), *t))' "$header" "$@"
}
if command -v python3 >/dev/null; then
  shard 7 50256 1 2 3 50256 4 5 >a.bin
  shard 4 6 50256 50256 7 >b.bin
  ok "$data" import --out shards.h5 --vocab-size 50257 --end-of-text 50256 a.bin b.bin
  ok "$data" info --verify shards.h5
  grep -q '^tokens       11 of 2 bytes' out || fail "shards have other tokens: $(cat out)"
  grep -q '^documents    3$' out || fail "shards have other documents: $(cat out)"
  tail -c +1025 a.bin >raw.u16
  ok "$data" import --raw-u16 --out raw.h5 --vocab-size 50257 --end-of-text none raw.u16
  ok "$data" info --verify raw.h5
  grep -q '^documents    1$' out || fail "tokens without end of text are one document"
  printf 'H\0i\0\0\1' >hi.u16
  ok "$data" import --raw-u16 --out hi.h5 --tokenizer-model f.h5 hi.u16
  ok "$data" decode hi.h5
  grep -q '^Hi$' out || fail "imported bytes are not decoded"
  shard 8 50256 1 2 3 50256 4 5 >short.bin
  { head -c 4 /dev/zero; tail -c +5 a.bin; } >magic.bin
  refused 2 "short.bin" import --out x.h5 --vocab-size 50257 --end-of-text 50256 short.bin
  refused 2 "magic.bin" import --out x.h5 --vocab-size 50257 --end-of-text 50256 magic.bin
  refused 2 "token 0 of 'a.bin' is 50256" import --out x.h5 --vocab-size 50256 --end-of-text 0 a.bin
  refused 2 "external" decode shards.h5
  refused 2 "without a tokenizer" build --tokenizer-model shards.h5 --train-out x.h5 books
  refused 2 "psann_data import" build --train-out x.h5 a.bin
fi

# --- mistakes
head -c 100 books/one.txt >cut.bin
head -c 101 books/one.txt >odd.u16
head -c 3000 whole.h5 >truncated.h5
cp whole.h5 flipped.h5
printf '\377' | dd of=flipped.h5 bs=1 seek=700 conv=notrunc 2>/dev/null
: >empty.txt
: >empty.h5
gzip -c books/one.txt >one.txt.gz
printf '{"text": "good"}\n{"text": "bad"\n' >bad.jsonl
printf '{"body": "b"}\n' >body.jsonl
mkdir void

refused 2 "no command" ''
refused 2 "no command 'bild'" bild
refused 2 "--train-out" build books
refused 2 "no inputs" build --train-out x.h5
refused 2 "did you mean --vocab?" build --train-out x.h5 --voacb 300 books
refused 2 "--help lists them" build --train-out x.h5 --quantise books
refused 2 "-v" build -v --train-out x.h5 books
refused 2 "needs a value" build books --train-out
refused 2 "empty value" build --train-out= books
refused 2 "not a whole number" build --train-out x.h5 --tokenizer sentencepiece --vocab 3k books
refused 2 "out of range" build --train-out x.h5 --tokenizer sentencepiece --vocab 100 books
refused 2 "out of range" build --train-out x.h5 --val-out y.h5 --val-fraction 1.5 books
refused 2 "not a number" build --train-out x.h5 --val-out y.h5 --val-fraction nan books
refused 2 "out of range" build --train-out x.h5 --jobs 0 books
refused 2 "given twice" build --train-out x.h5 --train-out y.h5 books
refused 2 "takes no value" build --train-out x.h5 --force=yes books
refused 2 "--vocab is of use" build --train-out x.h5 --vocab 300 books
refused 2 "give --val-out" build --train-out x.h5 --val-fraction 0.1 books
refused 2 "give --val-out" build --train-out x.h5 --val-input books/one.txt books
refused 2 "give two names" build --train-out x.h5 --val-out x.h5 books
refused 2 "give one of them" build --train-out x.h5 --tokenizer bytes --tokenizer-model whole.h5 books
refused 2 "give one of them" build --train-out x.h5 --val-out y.h5 --val-fraction 0 books
refused 2 "no tokenizer 'words'" build --train-out x.h5 --tokenizer words books
refused 2 "unigram or bpe" build --train-out x.h5 --tokenizer sentencepiece --model-type bytes books
refused 2 "blank-line" build --train-out x.h5 --split-documents chapters books
refused 2 "belong together" build --train-out x.h5 --split-documents mark books
refused 2 "nowhere.txt" build --train-out x.h5 nowhere.txt
refused 2 "no text" build --train-out x.h5 void
refused 2 "no document" build --train-out x.h5 empty.txt
refused 2 "no character" build --train-out x.h5 --tokenizer chars empty.txt
refused 2 "no text" build --train-out x.h5 --tokenizer sentencepiece empty.txt
refused 2 "gzip" build --train-out x.h5 one.txt.gz
refused 2 "token store" build --train-out x.h5 whole.h5
refused 2 "line 2" build --train-out x.h5 bad.jsonl
refused 2 "--text-key" build --train-out x.h5 body.jsonl
refused 2 "--vocab" build --train-out x.h5 --tokenizer sentencepiece --vocab 100000 books
refused 2 "or more" build --train-out x.h5 --tokenizer sentencepiece --vocab 270 --coverage 1 books
refused 2 "no document was held out" build --train-out x.h5 --val-out y.h5 --val-fraction 0.0001 books/one.txt
refused 2 "--force" build --train-out whole.h5 books
refused 2 "--force" build --train-out x.h5 --val-out whole.h5 books
refused 2 "is a folder" build --train-out books books
refused 2 "folder of" build --train-out none/x.h5 books
refused 2 "none.model" build --train-out x.h5 --tokenizer-model none.model books
refused 2 "fortunes" build --train-out x.h5 --tokenizer-model fortunes books
refused 2 "0 token stores are named" info
refused 2 "2 token stores are named" info f.h5 whole.h5
refused 2 "neither a file nor a folder" build --train-out x.h5 /dev/null
refused 2 "nowhere.h5" info nowhere.h5
refused 2 "empty.h5' is empty" info empty.h5
refused 2 "truncated" info truncated.h5
refused 2 "damaged" info flipped.h5
refused 2 "not a token store" info books/one.txt
refused 2 "folder" info books
refused 2 "no document 99999" decode whole.h5 --document 99999
refused 2 "smaller --first" decode whole.h5 --first 99999999
refused 2 "leave --first" decode whole.h5 --document 0 --first 3
refused 2 "--out" import a.bin
refused 2 "--vocab-size" import --out x.h5 a.bin
refused 2 "no shards" import --out x.h5 --vocab-size 50257 --end-of-text 50256
refused 2 "token id, or none" import --out x.h5 --vocab-size 50257 --end-of-text last cut.bin
refused 2 "outside the vocabulary" import --out x.h5 --vocab-size 50257 --end-of-text 50257 cut.bin
refused 2 "less than an llm.c header" import --out x.h5 --vocab-size 50257 --end-of-text 50256 cut.bin
refused 2 "odd number" import --raw-u16 --out x.h5 --vocab-size 50257 --end-of-text 50256 odd.u16
refused 2 "no tokens" import --raw-u16 --out x.h5 --vocab-size 50257 --end-of-text 50256 empty.txt
refused 2 "nowhere.bin" import --out x.h5 --vocab-size 50257 --end-of-text 50256 nowhere.bin
refused 2 "leave --vocab-size" import --out x.h5 --vocab-size 5 --tokenizer-model whole.h5 cut.bin

# --- a disk without space: exit code 1, the old store is whole, nothing else is left
cp whole.h5 before.h5
checks=$((checks + 1))
before=$(find . -not -name out -not -name err | sort)
(trap '' XFSZ; ulimit -f 8; "$data" build --train-out whole.h5 --force books 2>err >/dev/null)
code=$?
[ $code = 1 ] || fail "exit code $code on a full disk ($(cat err))"
grep -q 'whole.h5' err || fail "a full disk is not explained: $(cat err)"
cmp whole.h5 before.h5 || fail "a full disk damaged the old store"
[ "$before" = "$(find . -not -name out -not -name err | sort)" ] || fail "a full disk left files"

for i in $(seq 300); do cat books/*; done >large.txt
# --- killed at any moment: under its final name a store is whole
for delay in 0.01 0.03 0.1 0.2 0.3; do
  checks=$((checks + 1))
  "$data" build --train-out whole.h5 --force large.txt >/dev/null 2>&1 &
  process=$!
  sleep $delay
  kill -9 $process 2>/dev/null
  wait $process 2>/dev/null
  ok "$data" info --verify whole.h5
done

echo "$checks checks, $failures failures"
[ $failures = 0 ]
