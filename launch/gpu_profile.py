#!/usr/bin/env python3
"""Where the GPU time of training steps goes: kernels by kind, gaps, and what runs beside the products.

    launch/gpu_profile.py [-b BUILD] [-n STEPS] [-o FILE.json] [-r RECORDS] -- COMMAND…    runs it under CUPTI, then prints the table
    launch/gpu_profile.py [-n STEPS] [-o FILE.json] RECORDS                   of a file of records

COMMAND is psann_train or psann_bench throughput, alone or under mpirun; rank 0's last STEPS (10) whole steps are taken. `beside` is the time of a
row during which nothing of STREAM_MAIN ran: of an exchange, what is exposed.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[1]
KINDS = (("attention", r"sdpa|fmha|flash|attention|cudnn"), ("exchange", r"nccl|copy to a peer"), ("products", r"gemm|nvjet|cutlass|cublas|splitK|split_k|product"))


def kind_of(name):
    """Products, attention and exchanges are named by libraries; our own kernels go under their own names."""
    for kind, pattern in KINDS:
        if re.search(pattern, name, re.I):
            return kind
    found = re.search(r"(\w+)(?:<.*>)?\(", name.replace("(anonymous namespace)::", ""))
    return found.group(1) if found else name[:40]


def plain_names(names):
    """What C++ calls them; c++filt belongs to every compiler's binutils."""
    try:
        done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
        return dict(zip(names, done.stdout.splitlines()))
    except (OSError, subprocess.CalledProcessError):
        return {n: n for n in names}


def union(spans):
    """Sorted, disjoint spans that cover the same time."""
    merged = []
    for a, b in sorted(spans):
        if merged and a <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], b)
        else:
            merged.append([a, b])
    return merged


def covered(spans, by):
    """Time of the spans, each counted once, that lies in `by`; both disjoint and sorted."""
    total, i = 0, 0
    for a, b in spans:
        while i < len(by) and by[i][1] <= a:
            i += 1
        j = i
        while j < len(by) and by[j][0] < b:
            total += min(b, by[j][1]) - max(a, by[j][0])
            j += 1
    return total


def length(spans):
    return sum(b - a for a, b in spans)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        for row in file:
            start, end, stream, name = row.rstrip("\n").split("\t", 3)
            yield int(start), int(end), stream, name


def table(path, steps):
    """Rows (kind, calls, ms, ms with nothing of the main stream beside), all per step, and totals."""
    records = sorted(read(path))
    # The kernel that runs once a step, between its backward pass and its update.
    marks = [(start, stream) for start, _, stream, name in records if "finish_norm" in name]
    if len(marks) < 2:
        raise SystemExit(f"gpu_profile: {path} holds no whole training step")
    steps = min(steps, len(marks) - 1)
    first, last, main = marks[-1 - steps][0], marks[-1][0], marks[-1][1]
    inside = [r for r in records if first <= r[0] < last]
    busy = union((a, b) for a, b, s, _ in inside if s == main)
    kinds, plain = {}, plain_names(sorted({r[3] for r in inside}))
    for a, b, s, name in inside:
        kinds.setdefault((kind_of(plain[name]), s == main), []).append((a, b))
    rows = []
    for (kind, on_main), spans in kinds.items():
        alone = union(spans)
        rows.append({"kind": kind + ("" if on_main else " (other stream)"), "calls": len(spans) / steps, "ms": length(spans) / 1e6 / steps,
                     "beside_ms": None if on_main else (length(alone) - covered(alone, busy)) / 1e6 / steps})
    rows.sort(key=lambda r: -r["ms"])
    whole = (last - first) / 1e6 / steps
    return {"steps": steps, "step_ms": whole, "main_idle_ms": whole - length(busy) / 1e6 / steps, "rows": rows}


def show(found):
    print(f"{'kind':44} {'calls':>8} {'ms':>9} {'%':>6} {'beside, ms':>11}")
    for r in found["rows"]:
        beside = "" if r["beside_ms"] is None else f"{r['beside_ms']:11.3f}"
        print(f"{r['kind']:44} {r['calls']:8.1f} {r['ms']:9.3f} {100 * r['ms'] / found['step_ms']:6.1f} {beside}")
    print(f"a step {found['step_ms']:.3f} ms under the profiler, {found['main_idle_ms']:.3f} of them with nothing of the main stream ({found['steps']} steps)")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-b", dest="build", type=pathlib.Path, default=SOURCE / "build", metavar="BUILD")
    p.add_argument("-n", dest="steps", type=int, default=10, metavar="STEPS")
    p.add_argument("-o", dest="out", type=pathlib.Path, metavar="FILE.json")
    p.add_argument("-r", dest="records", type=pathlib.Path, metavar="RECORDS", help="keeps the records of rank 0: start and end (ns), stream, name")
    p.add_argument("what", nargs="+", metavar="RECORDS | -- COMMAND…")
    o = p.parse_args()
    if len(o.what) == 1 and pathlib.Path(o.what[0]).is_file() and not os.access(o.what[0], os.X_OK):
        found = table(o.what[0], o.steps)
    else:
        library = o.build.resolve() / "tests" / "speed" / "libkernel_times.so"
        if not library.exists():
            raise SystemExit(f"gpu_profile: {library} is not there; it is built where CUDA's CUPTI is found")
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(o.what, env={**os.environ, "CUDA_INJECTION64_PATH": str(library), "PSANN_KERNELS": folder + "/%r.txt"})
            if done.returncode != 0:
                return done.returncode
            if o.records:
                shutil.copyfile(folder + "/0.txt", o.records)
            found = table(folder + "/0.txt", o.steps)
    show(found)
    if o.out:
        o.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
