#!/bin/sh
# Builds and installs the programs under PREFIX/bin; no root rights are needed for a folder of your own.
#
#   launch/install.sh [PREFIX]      PREFIX is ~/.local when not given
set -eu
prefix=${1:-$HOME/.local}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
cd "$(dirname "$0")/.."
. launch/lib.sh

# shellcheck disable=SC2086
need_packages $psann_packages
build_psann
meson configure "$build" "-Dprefix=$prefix"
meson install -C "$build"
say "the programs are in $prefix/bin"
