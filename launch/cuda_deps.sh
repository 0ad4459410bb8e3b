#!/bin/sh
# Fetches what the CUDA engine needs beside NVIDIA's toolkit: the headers of cuDNN's front end, from PyPI, into .deps/. Without them the build uses our own attention kernels everywhere, which are slower.
# Called by the other scripts where a CUDA compiler is found.
set -eu
cd "$(dirname "$0")/.."
. launch/lib.sh

version=1.14.1
target=.deps/cudnn_frontend
[ -f "$target/include/cudnn_frontend_version.h" ] && exit 0
python3 -m pip --version >/dev/null 2>&1 || need_packages python3-pip
say "fetching the headers of cuDNN's front end $version"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --no-deps -d "$work" "nvidia-cudnn-frontend==$version" ||
  { echo "$0: no front end: attention will run on our own kernels" >&2; exit 0; }
rm -rf "$target"
mkdir -p "$target"
python3 -m zipfile -e "$work"/*.whl "$work/content"
mv "$work/content/include" "$target/include"
