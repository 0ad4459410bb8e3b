# Shared by the scripts in launch/. Sourced, after a cd to the project's folder.
# shellcheck shell=sh

# shellcheck disable=SC2034
# What building and running need; names are the same in Debian and Ubuntu. (libprotobuf-dev: pkg-config asks for it where
# libsentencepiece-dev is 0.2.)
psann_packages="gcc g++ libc6-dev meson ninja-build pkg-config libinih-dev libcjson-dev libxxhash-dev libopenmpi-dev openmpi-bin
  libhdf5-dev libopenblas-dev libsentencepiece-dev libprotobuf-dev libprotobuf-c-dev protobuf-c-compiler gnuplot-nox"

# Where the build goes; another place: PSANN_BUILD=/some/folder
build=${PSANN_BUILD:-build}

# Where text and token stores lie, and where reports go.
data=${PSANN_DATA:-data}
reports=${PSANN_REPORTS:-reports}

say() { printf '\n== %s\n' "$*"; }

die() {
  printf '%s: %s\n' "$0" "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root rights and there is no sudo: as root, run: $*"
  fi
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Installs those of the named packages that are missing.
need_packages() {
  command -v dpkg-query >/dev/null || die "this script knows Debian and Ubuntu; elsewhere install what $* bring, then build with meson"
  missing=
  for package in "$@"; do
    installed "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  say "installing$missing"
  as_root apt-get update -q
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing ||
    die "apt-get could not install$missing: see its messages above"
}

# Configures the build folder with Meson's options that are given, and builds.
# shellcheck disable=SC2120
build_psann() {
  if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
    launch/cuda_deps.sh
  fi
  say "building in $build"
  if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$@"
  elif [ $# -gt 0 ]; then
    meson configure "$build" "$@"
  fi
  ninja -C "$build"
}

# Open MPI refuses to run as root unless told twice.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# mpirun and its options for N ranks on this machine alone: no network between the ranks; more ranks than cores are allowed, and then
# are not bound to cores.
local_mpirun() {
  if [ "$(nproc)" -lt "$1" ]; then
    echo "mpirun --mca btl ^tcp --oversubscribe --bind-to none -np $1"
  else
    echo "mpirun --mca btl ^tcp -np $1"
  fi
}

run_ranks() {
  ranks=$1
  shift
  # shellcheck disable=SC2046
  $(local_mpirun "$ranks") "$@"
}

# GPUs that a program started here may use, as launch/gpus.py counts them: CUDA_VISIBLE_DEVICES may leave some out, and ends at what is no GPU.
gpu_count() {
  there=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ' || true)
  if [ "$there" = 0 ] || [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then
    echo "$there"
    return
  fi
  printf '%s\n' "$CUDA_VISIBLE_DEVICES" | tr ',' '\n' | awk -v there="$there" '
    { gsub(/^[ \t]+|[ \t]+$/, "") }
    !/^(GPU|MIG)-/ && !(/^[0-9]+$/ && $0 + 0 < there) { exit }
    { n++ }
    END { print n + 0 }'
}

# Builds, unless the programs are there.
need_programs() {
  if [ ! -x "$build/src/programs/psann_bench" ]; then
    # shellcheck disable=SC2086
    need_packages $psann_packages
    # shellcheck disable=SC2119
    build_psann
  fi
}

# The King James Bible as text in $data/bible, unless it is there.
need_bible() {
  if [ ! -d "$data/bible" ]; then
    command -v bible >/dev/null || need_packages bible-kjv
    launch/corpus_bible.sh "$data/bible"
  fi
}

# The last folder in a folder, by name: of folders named by time, the newest. Nothing when there is none.
newest_folder() {
  newest=
  for folder in "$1"/*/; do
    [ ! -d "$folder" ] || newest=${folder%/}
  done
  echo "$newest"
}

# write_report FOLDER… [option …]: a page for a browser, by psann_report. Without gnuplot, which draws its pictures, it is left for
# later; no report makes a script fail.
write_report() {
  if ! command -v gnuplot >/dev/null; then
    echo "there is no report.html, since gnuplot is not installed (package gnuplot-nox); where it is: psann_report $*"
  else
    "$build/src/programs/psann_report" "$@" || echo "there is no report.html: see the message above"
  fi
}
