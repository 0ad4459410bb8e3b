#!/bin/sh
# Looks the sources over with clang-tidy (.clang-tidy says for what) and cppcheck: C and C++ of src/, and of cuda/ where the build has CUDA;
# no kernels, and nothing that is generated. Prints what was found and a line about each of the two; ends with 1 when there was anything.
#
#   launch/lint.sh [-b BUILD]      BUILD: a build folder, configured (build)
#
# What led to a finding is in BUILD/lint.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

while getopts b: option; do
  case $option in
    b) build=$OPTARG ;;
    *) die "usage: launch/lint.sh [-b BUILD]" ;;
  esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || die "'$1' is one argument too many; usage: launch/lint.sh [-b BUILD]"
[ -f "$build/compile_commands.json" ] ||
  die "$build/compile_commands.json is not there: configure first (launch/test.sh, or meson setup $build)"
# Clang 14, Debian 12's first, has no _Float16 on x86. libomp-16-dev: its omp.h.
need_packages clang-tidy-16 libomp-16-dev cppcheck python3
ninja -C "$build" src/report/tfevents.pb-c.h >/dev/null || die "the headers that the build makes can't be made in $build"
out=$build/lint
mkdir -p "$out"

# One command for each file: the first of those that compile it several times. Clang 16 does not know the names of x86-64's levels that
# variants.c asks the processor for.
files=$(python3 - "$build/compile_commands.json" "$out/compile_commands.json" <<'END'
import json, os, sys

chosen = {}
for command in json.load(open(sys.argv[1])):
    path = os.path.normpath(os.path.join(command["directory"], command["file"]))
    place = os.path.relpath(path)
    if place == "src/engine/cpu/variants.c":
        continue
    if place.startswith("src/") or (place.startswith("cuda/") and place.endswith(".c")):
        chosen.setdefault(path, dict(command, file=path))
json.dump(list(chosen.values()), open(sys.argv[2], "w"), indent=1)
print(len(chosen))
END
)
[ "$files" -gt 0 ] || die "$build compiles no file of src/"
found=0

# verdict NAME CODE LOG START: the findings in the log, each once, and a line about them.
verdict() {
  findings=$(sed "s|$PWD/||; s|^\(\.\./\)*||" "$3" | grep -E '^[^ ]+:[0-9]+:[0-9]+: [a-z]+: .*\[.*\]$' | grep -vE ': (note|information): ' | sort -u || true)
  n=0
  if [ -n "$findings" ]; then
    echo "$findings"
    n=$(echo "$findings" | wc -l)
  fi
  if [ "$2" -ne 0 ] && [ "$n" -eq 0 ]; then
    tail -n 20 "$3"
    echo "$1 did not get through (exit code $2): see $3"
  fi
  [ "$2" -eq 0 ] && [ "$n" -eq 0 ] || found=1
  echo "$1: $files files, $n findings, $(($(date +%s) - $4)) s"
}

say "clang-tidy"
start=$(date +%s) code=0
run-clang-tidy-16 -quiet -j "$(nproc)" -p "$out" -header-filter="(\.\./|^$PWD/)(src|cuda)/[^ ]*\.h\$" >"$out/clang-tidy.log" 2>&1 || code=$?
verdict clang-tidy $code "$out/clang-tidy.log" "$start"

say "cppcheck"
start=$(date +%s) code=0
cppcheck --quiet -j "$(nproc)" --project="$out/compile_commands.json" --std=c11 --enable=warning,performance,portability --error-exitcode=1 \
  --inline-suppr --suppressions-list=.cppcheck --template='{file}:{line}:{column}: {severity}: {message} [{id}]' \
  >"$out/cppcheck.log" 2>&1 || code=$?
verdict cppcheck $code "$out/cppcheck.log" "$start"
exit $found
