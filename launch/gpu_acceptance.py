#!/usr/bin/env python3
"""Everything that shows what the GPU engine does, in stages of under nine minutes each, on a machine with GPUs and a finished build.

    launch/gpu_acceptance.py list                          the stages, with their parts
    launch/gpu_acceptance.py STAGE…                        runs them; parts that went well before are passed by (--again: not)
    launch/gpu_acceptance.py --side-by-side STAGE STAGE    at the same time, each on a GPU of its own (stages that need one alone)
    launch/gpu_acceptance.py --jobs 8 tests training       so many tests at once; what is timed or measured goes alone, afterwards
    launch/gpu_acceptance.py pack FILE.tar.xz              programs and GPU tests of the build, stripped, to be unpacked in the project's folder there
    launch/gpu_acceptance.py report                        report.md, junit.xml and logs.tar.gz from what was run

Nothing is built: the folder of the build (-b, build/) may have been moved here from another machine, tests are started by what it says of
them. Results are gathered in FOLDER/results.json (-o, runs/acceptance), logs beside it; both survive the end of a call, so that a stage can be
named again. --dry-run prints the commands alone. --cpu puts small stand-ins in the place of what needs a GPU: a test of this script.

Two GPUs: speed2 and rival2 (this program and PyTorch on both), strategies (the same losses under every strategy, bit for bit, and their speed),
fp8_2 (8-bit products beside bf16; fp8: on one GPU), large (models of 3 and 7 billion parameters; offload: on one GPU, with the optimizer's state in the host's memory; memory: how little
a small model takes there, and how large a micro-batch of 1b3), save7b (a checkpoint of 80 GB, and training on from it), survive (ranks that are killed, stopped or hang, a run that goes on after that, and what
checkpoints cost).
The stage `real` wants the token stores of launch/train_124m.sh --stores, made where Debian's archive can be reached.
"""
import argparse
import concurrent.futures
import json
import lzma
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from acceptance import libraries, sharding, stages, survive  # noqa: E402
from acceptance.parts import SOURCE, do_part, end_all, to_run  # noqa: E402
from acceptance.report import write_report  # noqa: E402
from gpus import in_turn, visible  # noqa: E402

BUDGET = 520  # seconds of a call, after which no part goes on
STAGES = {"tests": stages.tests, "training": stages.training, "memcheck": stages.sanitizer("memcheck"), "racecheck": stages.sanitizer("racecheck"),
          "agreement": stages.agreement, "speed": stages.speed, "fp8": stages.fp8, "rival": stages.rival, "speed2": stages.speed2, "rival2": sharding.rival2,
          "strategies": sharding.strategies, "large": sharding.large, "fp8_2": sharding.fp8_2, "offload": sharding.offload, "memory": sharding.memory, "save7b": sharding.save7b, "survive": survive.survive, "real": stages.real}
ONE_GPU = ("tests", "memcheck", "racecheck", "agreement", "speed", "fp8", "rival", "offload", "memory")


def gpu_facts():
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


class Results:
    """results.json. Stages side by side share it: what changes or prints it holds the lock."""

    def __init__(self, out):
        self.file, self.lock = out / "results.json", threading.Lock()
        self.all = json.loads(self.file.read_text()) if self.file.exists() else {"stages": {}}
        self.all["gpus"] = gpu_facts() or self.all.get("gpus", [])

    def save(self):
        fresh = self.file.with_suffix(".json.new")
        fresh.write_text(json.dumps(self.all, indent=1) + "\n")
        fresh.rename(self.file)

    def add(self, stage, part, result):
        with self.lock:
            self.all["stages"][stage][part.name] = result
            self.save()
            print(f"{stage:10} {part.name:28} {result['state']:8} {result['seconds']:7.1f} s  {result.get('why', '')}", flush=True)
            for line in result.get("tail", []):
                print("    " + line[:240], flush=True)


def parts_of(o, stage):
    return [part for part in STAGES[stage](o) if not o.part or any(text in part.name for text in o.part)]


def run_stage(o, stage, results, ends, environment=None):
    """Parts that did not go well."""
    bad = 0
    with results.lock:
        done = results.all["stages"].setdefault(stage, {})
    parts = [part for part in parts_of(o, stage) if o.jobs == 1 or not part.together]
    todo = parts if o.again else to_run(parts, done)
    for part in parts:
        if part not in todo:
            print(f"{stage:10} {part.name:28} ok before", flush=True)
            continue
        left = ends - time.monotonic()
        if left < 20:
            print(f"{stage:10} {part.name:28} not started: the {o.budget:.0f} s of this call are over; name the stage again", flush=True)
            bad += 1
            continue
        result = do_part(o, stage, part, left, environment)
        results.add(stage, part, result)
        bad += result["state"] not in ("ok", "skipped")
    return bad


def run_together(o, results, ends):
    """Of all stages what minds nothing beside it, --jobs at a time, tests of one GPU on all of them in turn."""
    todo = []
    for stage in o.stages:
        done = results.all["stages"].setdefault(stage, {})
        parts = parts_of(o, stage)
        todo += [(stage, part) for part in (parts if o.again else to_run(parts, done)) if part.together]

    def run(job):
        gpu, (stage, part) = job
        left = ends - time.monotonic()
        if left >= 20:
            results.add(stage, part, do_part(o, stage, part, left, {"CUDA_VISIBLE_DEVICES": gpu} if stage in ONE_GPU else None))
    with concurrent.futures.ThreadPoolExecutor(o.jobs) as pool:
        list(pool.map(run, zip(in_turn(len(todo)), todo)))
    return sum(results.all["stages"][stage].get(part.name, {}).get("state") not in ("ok", "skipped") for stage, part in todo)


def run_stages(o, results):
    ends = time.monotonic() + o.budget
    if not o.side_by_side:
        bad = run_together(o, results, ends) if o.jobs > 1 else 0
        return bad + sum(run_stage(o, stage, results, ends) for stage in o.stages)
    with concurrent.futures.ThreadPoolExecutor(len(o.stages)) as pool:
        running = [pool.submit(run_stage, o, stage, results, ends, {"CUDA_VISIBLE_DEVICES": gpu}) for gpu, stage in zip(in_turn(len(o.stages)), o.stages)]
        return sum(r.result() for r in running)


def pack(o, target):
    """What the stages need of the build, stripped, under the names that it has here."""
    info = o.build / "meson-info"
    programs = sorted(p for p in (o.build / "src/programs").glob("psann_*") if p.is_file() and os.access(p, os.X_OK))
    tests_there = sorted({p for p in (pathlib.Path(t.command[0]) for t in stages.tests_of(o, stages.in_gpu_suite)) if p.is_relative_to(o.build)})
    folder = o.build.relative_to(SOURCE) if o.build.is_relative_to(SOURCE) else pathlib.Path("build")
    # All hold the same kernels: a dictionary that spans two of them keeps them once.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 3, "dict_size": 96 << 20}]
    with tempfile.TemporaryDirectory() as work, lzma.open(target, "wb", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for file in [*programs, *tests_there, *(o.build / "tests/speed").glob("*.so"), *(o.build / "tests/ckpt").glob("*.so")]:
            small = pathlib.Path(work) / "file"
            subprocess.run(["strip", "-o", small, file], check=True)
            tar.add(small, arcname=folder / file.relative_to(o.build))
        for file in (info / "intro-tests.json", info / "meson-info.json"):
            tar.add(file, arcname=folder / "meson-info" / file.name)
    print(f"{target}: {pathlib.Path(target).stat().st_size / 2**20:.1f} MiB")


def check_stages(p, o):
    unknown = [s for s in o.stages if s not in STAGES]
    if unknown:
        p.error(f"there is no stage {unknown[0]}: choose of {' '.join(STAGES)}")
    if not o.side_by_side:
        return
    several = [s for s in o.stages if s not in ONE_GPU]
    if several:
        p.error(f"stage {several[0]} takes more than one GPU: side by side go {' '.join(ONE_GPU)}")
    if len(set(o.stages)) < len(o.stages):
        p.error("a stage is named twice: side by side each is named once")
    if not o.cpu and not o.dry_run and len(o.stages) > len(visible()):
        p.error(f"{len(o.stages)} stages side by side need as many GPUs, and there are {len(visible())} that may be used: name fewer")


def check_libraries(p, o):
    parts = [part for stage in o.stages for part in parts_of(o, stage)]
    lacking = libraries.missing(libraries.programs_of(parts, o.build))
    if lacking:
        names = ", ".join(f"{library} (for {program.name})" for library, program in lacking)
        p.error(f"this machine lacks {names}: install it, or name its folder in LD_LIBRARY_PATH; nothing was run")


def list_parts(o, commands):
    for stage in o.stages:
        for part in parts_of(o, stage):
            print(f"{stage:10} {part.name:28}" + (f" (cd {part.folder} && {shlex.join(part.command)})" if commands else ""))
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("stages", nargs="+", metavar="STAGE", help="of: " + " ".join(STAGES) + "; all, list, report, pack FILE")
    p.add_argument("-b", dest="build", type=pathlib.Path, default=SOURCE / "build", metavar="BUILD")
    p.add_argument("-o", dest="out", type=pathlib.Path, default=SOURCE / "runs" / "acceptance", metavar="FOLDER")
    p.add_argument("--collect", type=pathlib.Path, metavar="FOLDER", help="copies report.md, results.json, junit.xml and logs.tar.gz there at the end")
    p.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help=f"of this call ({BUDGET})")
    p.add_argument("--side-by-side", action="store_true", help="the stages at the same time, the first on GPU 0, the next on GPU 1, …")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="tests at once (1)")
    p.add_argument("--part", action="append", metavar="TEXT", help="only parts with TEXT in their names; may be given several times")
    p.add_argument("--bench-steps", type=int, default=20, metavar="N", help="steps of psann_bench that are timed together (20)")
    p.add_argument("--again", action="store_true", help="also parts that went well before")
    p.add_argument("--dry-run", action="store_true")
    p.add_argument("--cpu", action="store_true", help="stand-ins on the CPU: a test of this script")
    o = p.parse_args()
    o.build, o.out = o.build.resolve(), o.out.resolve()
    if o.stages[0] == "pack":
        if len(o.stages) != 2:
            p.error("pack wants the name of one file")
        return pack(o, o.stages[1])
    report_only, listed = o.stages == ["report"], o.stages == ["list"]
    if listed or report_only or o.stages == ["all"]:
        o.stages = list(STAGES)
    check_stages(p, o)
    if listed or o.dry_run:
        return list_parts(o, commands=not listed)
    if not report_only:
        check_libraries(p, o)
    (o.out / "logs").mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end_all)
    results = Results(o.out)
    if not report_only:
        results.all["bench_steps"] = min(o.bench_steps, results.all.get("bench_steps", o.bench_steps))
    bad = 0 if report_only else run_stages(o, results)
    results.save()
    write_report(o, results.all, STAGES)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
