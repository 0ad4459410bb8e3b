"""Shared libraries that programs want and this machine lacks: to be said before an hour's stages begin, not by each of them."""
import os
import pathlib
import subprocess


def programs_of(parts, build):
    """Programs of the build that the parts start, or may start: the build's own, and those that commands name."""
    named = {pathlib.Path(word) for part in parts for word in part.command if word.startswith(str(build) + os.sep)}
    return sorted(p for p in named | set((build / "src/programs").glob("psann_*")) if p.is_file() and p.read_bytes()[:4] == b"\x7fELF")


def missing(programs):
    """[(library, a program that wants it)], as the loader finds them now."""
    found = {}
    for program in programs:
        for line in subprocess.run(["ldd", program], capture_output=True, text=True).stdout.splitlines():
            library, _, place = line.strip().partition(" => ")
            if place.startswith("not found"):
                found.setdefault(library, program)
    return sorted(found.items())
