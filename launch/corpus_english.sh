#!/bin/sh
# Writes a corpus of English to DIR/text/: about 90 MB of prose from packages of Debian or Ubuntu, a text file a package, and
# DIR/manifest.tsv, which names package, version, documents, bytes and digest. Nothing is installed and no root rights are needed.
#
#   launch/corpus_english.sh DIR
#
# A political encyclopaedia, the King James Bible, Webster's dictionary of 1913, sayings, handbooks and manuals. The packages
# (some 200 MB) are downloaded from the archive that apt is set up for; those that it lacks are passed by as long as 60 MB of text
# come together. Documents stand in one file divided by lines "%%": psann_data build --split-documents mark --mark %%.
set -eu
least_megabytes=60

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
case $1 in /*) folder=$1 ;; *) folder=$PWD/$1 ;; esac
cd "$(dirname "$0")/.."
. launch/lib.sh

[ ! -e "$folder" ] || die "$folder is there already: remove it to make the corpus anew"
for program in apt-get dpkg-deb python3; do
  command -v $program >/dev/null || die "there is no $program here: this script needs Debian or Ubuntu, and python3"
done
apt-cache show anarchism >/dev/null 2>&1 || as_root apt-get update -q
mkdir -p "$(dirname "$folder")"
fresh=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$fresh/packages" "$fresh/unpacked" "$fresh/corpus" "$fresh/corpus/text"

# Downloads and unpacks the first of the named packages that there is.
fetch() {
  for package in "$@"; do
    apt-cache show "$package" >/dev/null 2>&1 || continue
    rm -f "$fresh/packages"/*
    (cd "$fresh/packages" && apt-get download -q "$package" >/dev/null 2>"$fresh/errors") || continue
    file=$(ls "$fresh/packages")
    dpkg-deb -x "$fresh/packages/$file" "$fresh/unpacked/$package"
    dpkg-deb -f "$fresh/packages/$file" Version >"$fresh/unpacked/$package.version"
    rm "$fresh/packages/$file"
    return
  done
  echo "no package $*: passed by"
}

say "downloading packages"
python3 launch/corpus_english.py list >"$fresh/list"
while read -r names; do
  # shellcheck disable=SC2086
  fetch $names
done <"$fresh/list"

say "reading them"
python3 launch/corpus_english.py read "$fresh/unpacked" "$fresh/corpus"
bytes=$(awk 'NR > 1 { sum += $4 } END { print sum + 0 }' "$fresh/corpus/manifest.tsv")
[ "$bytes" -ge $((least_megabytes * 1000000)) ] || {
  cat "$fresh/errors" >&2
  die "only $bytes bytes of text came together, not $least_megabytes MB: too many packages are missing; is apt set up and the archive reachable?"
}
chmod -R go+rX "$fresh/corpus"
mv "$fresh/corpus" "$folder"
say "$folder: $bytes bytes of English"
