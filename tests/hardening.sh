#!/bin/sh
# Whether the programs were linked and compiled as meson.build asks: position-independent, with read-only relocations, all symbols
# bound at start, no executable stack, stack protector, and the C library's checked calls.
# usage: hardening.sh PROGRAM…
set -u
command -v readelf >/dev/null || { echo "skipped: there is no readelf"; exit 77; }
bad=0
miss() {
  echo "$program: $1"
  bad=1
}
for program in "$@"; do
  LC_ALL=C readelf -hW "$program" | grep -q 'Type: *DYN' || miss "not position-independent"
  segments=$(LC_ALL=C readelf -lW "$program")
  echo "$segments" | grep -q GNU_RELRO || miss "no read-only relocations"
  echo "$segments" | grep GNU_STACK | grep -q 'RWE' && miss "an executable stack"
  echo "$segments" | grep LOAD | grep -q 'RWE' && miss "a segment that can be written and executed"
  LC_ALL=C readelf -dW "$program" | grep -qE 'BIND_NOW|FLAGS.*NOW' || miss "symbols are bound late"
  symbols=$(LC_ALL=C readelf -sW "$program")
  echo "$symbols" | grep -q __stack_chk_fail || miss "no stack protector"
  echo "$symbols" | grep -qE '__(snprintf|printf|memcpy|read|vsnprintf|fprintf)_chk' || miss "no checked calls of the C library"
done
[ "$bad" -eq 0 ] && echo "$# programs are as they should be"
exit "$bad"
