"""Runs that are killed and resumed, and runs on a failing disk: each must end with the unbroken run's checkpoint, bit for bit.

    PSANN_PROGRAMS=build/src/programs tests/train/soak_kill.py --library build/tests/ckpt/libfaulty_calls.so --kills 300 --faults 50 --report reports/soak

A killed run gets SIGKILL at a random moment (all ranks, or one of them) or, every third, inside the thread that writes checkpoints: at a random one of the system
calls that it makes on files (tests/ckpt/faulty_calls.c is loaded before the program). It is started again until it is done, and may be killed again on the way. A run
on a failing disk meets a full disk, I/O errors, short, slow or refused writes, flipped bits. Each launch has one or two ranks, and any strategy.

Counted: runs that were lost (went on from before the checkpoint that `latest` named), refused (would not start again), different (another final checkpoint), silent (a
failed write that was not said). --report NAME writes NAME.md and NAME.json. Ends with 0 when all counts are 0.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from common import ENVIRONMENT, PROGRAMS, SEED, TrainCase, processes_of

# Checkpoints of 7 MB, of which the two matrices of the vocabulary are large enough to go past the page cache (base/bulk_io.h).
KEYS = {"model": {"vocab_size": 9000}, "train": {"max_steps": 36}, "eval": {"interval": 8}, "checkpoint": {"interval": 4, "keep_last": 2, "max_failures": 1000}}
STEPS = KEYS["train"]["max_steps"]
KILLED_AGAIN = 1 / 3
STRATEGIES = ["ddp", "shard_optimizer", "shard_grad", "full_shard"]

# CALL:WHAT of faulty_calls.c; the flag: the failure must be said.
FAULTS = [("pwrite:ENOSPC", True), ("pwrite:EIO", True), ("pwrite:short", False), ("pwrite:slow=2", False), ("fsync:EIO", True), ("fsync:ENOSPC", True),
          ("rename:EIO", True), ("ftruncate:ENOSPC", True), ("open:EROFS", True), ("pread:EIO", True), ("data:flip", True), ("any:EIO", True)]


class Soak(TrainCase):
    def runTest(self):
        pass

    def prepare(self, library):
        """The unbroken run, and for each number of ranks how long it takes and how many calls its writer makes."""
        self.library = library
        self.count = self.folder / "count"
        self.whole = self.folder / "whole"
        self.ini = self.config(self.whole, **KEYS)
        self.took, self.calls = {}, {}
        for ranks in (1, 2):
            run = self.folder / f"unbroken{ranks}"
            result = self.go(run, ranks, "")
            self.assertEqual(result.code, 0, result.out)
            self.took[ranks] = result.seconds
            self.calls[ranks] = self.counted()[0]
        self.whole = run

    def begin(self, run, ranks, fault):
        """fault None: without the library."""
        env = {} if fault is None else {"LD_PRELOAD": str(self.library), "PSANN_FAULT": fault, "PSANN_FAULT_LOG": str(self.count)}
        self.count.unlink(missing_ok=True)
        strategy = self.rng.choice(STRATEGIES) if ranks > 1 else "auto"
        return self.start(self.ini, f"run.dir={run}", f"parallel.strategy={strategy}", ranks=ranks, env=env)

    def some_ranks(self):
        return self.rng.randrange(1, 3)

    def go(self, run, ranks, fault=None):
        return self.finish(self.begin(run, ranks, fault), 120)

    def counted(self):
        return [int(n) for n in self.count.read_text().split()] if self.count.exists() else [0, 0]

    def named(self, run):
        latest = run / "checkpoints" / "latest"
        return int(re.search(r"\d+", latest.read_text()).group()) if latest.exists() else 0

    def kill_at_random(self, run, ranks):
        """Returns what was killed, or None when the run was done before."""
        process = self.begin(run, ranks, None)
        moment = self.rng.uniform(0, self.took[ranks])
        one = ranks > 1 and self.rng.random() < 0.3
        while process.poll() is None and time.monotonic() - process.started < moment:
            time.sleep(0.002)
        if process.poll() is not None:
            return None
        alive = processes_of(run)
        if one and alive:
            os.kill(self.rng.choice(alive), signal.SIGKILL)
            self.finish(process, 60)
        self.kill_all(process, run)
        return "one rank" if one and alive else "all ranks"

    def kill_in_writer(self, run, ranks):
        at = self.rng.randrange(1, self.calls[ranks] + 1)
        process = self.begin(run, ranks, f"any:{at}:1:kill")
        result = self.finish(process, 120)
        self.kill_all(process, run)
        return None if result.code == 0 else "writer"

    def check_end(self, run, record):
        checkpoint = self.checkpoint(run, STEPS)
        if not checkpoint.exists():
            record["different"] = True
            return
        different, how = self.differs(self.checkpoint(self.whole, STEPS), checkpoint)
        files = sorted((run / "checkpoints").glob("step_*.h5"))
        verified = subprocess.run([PROGRAMS / "psann_check", "checkpoint", *files], env=ENVIRONMENT, capture_output=True, text=True)
        left = list((run / "checkpoints").glob(".*"))
        record["different"] = different or verified.returncode != 0 or bool(left) or self.rows(run) != self.rows(self.whole)
        if record["different"]:
            record["how"] = how + verified.stderr + "".join(map(str, left))

    def resume(self, run, record):
        """Once more to the end, undisturbed."""
        named = self.named(run)
        record["ranks"].append(self.some_ranks())
        result = self.go(run, record["ranks"][-1])
        found = re.search(r"^resume +from step (\d+)", result.out, re.M)
        start = int(found.group(1)) if found else 0
        record["from"].append(start)
        record["lost"] |= start < named
        record["refused"] |= result.code != 0
        if result.code != 0:
            record["how"] = result.out[-2000:]

    def killed_run(self, i):
        run, in_writer = self.folder / f"killed{i}", i % 3 == 0
        record = {"ranks": [], "wanted": "writer" if in_writer else "moment", "kills": [], "half_written": 0, "named": [], "from": [], "lost": False, "refused": False}
        while True:
            kill = self.kill_in_writer if in_writer else self.kill_at_random
            ranks = self.some_ranks()
            what = kill(run, ranks)
            if what is None and not record["kills"]:
                shutil.rmtree(run)  # it was faster than the kill
                continue
            record["ranks"].append(ranks)
            if what is not None:
                record["kills"].append(what)
                record["named"].append(self.named(run))
                record["half_written"] += bool(list((run / "checkpoints").glob(".step_*")))
            if what is None or self.rng.random() > KILLED_AGAIN:
                break
        self.resume(run, record)
        self.check_end(run, record)
        shutil.rmtree(run)
        return record

    def faulty_run(self, i):
        run, ranks = self.folder / f"faulty{i}", self.some_ranks()
        name, said = FAULTS[i % len(FAULTS)]
        call, what = name.split(":")
        for_ever = self.rng.random() < 0.3 or what == "short"
        first = self.rng.randrange(1, {"open": 6, "fsync": 20, "rename": 15, "ftruncate": 8, "data": 30}.get(call, self.calls[ranks] // 3))
        fault = f"{call}:{first}:{0 if for_ever else self.rng.randrange(1, 5)}:{what}"
        record = {"ranks": [ranks], "fault": fault, "from": [], "lost": False, "refused": False}
        result = self.go(run, ranks, fault)
        record["calls"], record["wrong"] = self.counted()
        record["failures"] = len(re.findall(r"\bfailure \d+ in a row", result.out))
        record["silent"] = said and record["wrong"] > 0 and record["failures"] == 0
        record["ended"] = result.code
        if result.code not in (0, 1) or (result.code == 1 and "the run's last checkpoint" not in result.out):
            record["refused"], record["how"] = True, result.out[-2000:]
        elif result.code == 1:
            self.resume(run, record)
        self.check_end(run, record)
        shutil.rmtree(run)
        return record


def report(arguments, kills, faults, seconds):
    name = pathlib.Path(arguments.report)
    name.parent.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([PROGRAMS / "psann_train", "--version"], capture_output=True, text=True, env=ENVIRONMENT).stdout.split(" (")[0]
    name.with_suffix(".json").write_text("[\n" + ",\n".join(json.dumps(r) for r in kills + faults) + "\n]\n")
    all_kills = [k for r in kills for k in r["kills"]]
    kinds = [[r for r in kills if r["wanted"] == "moment"], [r for r in kills if r["wanted"] == "writer"], faults]
    total = lambda runs, key: sum(bool(r.get(key)) for r in runs)
    lines = [f"# Checkpoints under kills and failing disks, {datetime.date.today()}", "",
             f"{version}; {platform.machine()}, {os.cpu_count()} cores shared with other work; seed {SEED}; {seconds / 60:.1f} minutes.", "",
             "    PSANN_PROGRAMS=build/src/programs PSANN_TEST_SEED=%d tests/train/soak_kill.py --library build/tests/ckpt/libfaulty_calls.so --kills %d --faults %d --report %s"
             % (SEED, arguments.kills, arguments.faults, arguments.report), "",
             f"A small model, checkpoints of 7 MB, {STEPS} steps, a checkpoint every {KEYS['checkpoint']['interval']} and after each best evaluation, written in the background; "
             "each launch has one or two ranks and, on two, one of the strategies " + ", ".join(STRATEGIES) + ". Equal means: the final checkpoint's digests, all lines of the metrics, every file that is left verified, no temporary file.", "",
             "| runs | | equal to the unbroken run | lost | refused | silent |", "|---|---|---|---|---|---|"]
    for what, runs in zip(("SIGKILL at a random moment", "SIGKILL inside the writer, at a random system call", "failing disk"), kinds):
        lines.append(f"| {what} | {len(runs)} | {len(runs) - total(runs, 'different')} | {total(runs, 'lost')} | {total(runs, 'refused')} | {total(runs, 'silent')} |")
    lines += ["", f"{len(all_kills)} kills in {sum(len(r['ranks']) for r in kills)} launches: {all_kills.count('all ranks')} of all ranks, {all_kills.count('one rank')} of one rank of two, {all_kills.count('writer')} in the writer; "
              f"{sum(r['half_written'] for r in kills)} left a half-written file, {sum(n == 0 for r in kills for n in r['named'])} came before the first checkpoint.", "",
              "| fault | runs | calls that went wrong | failed checkpoints, all said | runs whose last checkpoint failed, resumed |", "|---|---|---|---|---|"]
    for fault, _ in FAULTS:
        call, what = fault.split(":")
        runs = [r for r in faults if r["fault"].startswith(call + ":") and r["fault"].endswith(":" + what)]
        lines.append(f"| {call}: {what} | {len(runs)} | {sum(r['wrong'] for r in runs)} | {sum(r['failures'] for r in runs)} | {sum(r['ended'] == 1 for r in runs)} |")
    name.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, required=True, help="libfaulty_calls.so")
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--faults", type=int, default=3)
    parser.add_argument("--report")
    arguments = parser.parse_args()
    Soak.setUpClass()
    case = Soak()
    case.rng = random.Random(SEED)
    case.setUp()
    start, kills, faults = time.monotonic(), [], []
    try:
        case.prepare(arguments.library.resolve())
        order = case.rng.sample(range(len(FAULTS)), len(FAULTS))
        FAULTS[:] = [FAULTS[i] for i in order]  # a few runs are not always the same few
        for i in range(arguments.kills + arguments.faults):
            record = case.killed_run(i) if i < arguments.kills else case.faulty_run(i - arguments.kills)
            (kills if i < arguments.kills else faults).append(record)
            case.doCleanups()
            print(i + 1, json.dumps(record), flush=True)
    finally:
        case.doCleanups()
        Soak.tearDownClass()
    if arguments.report:
        report(arguments, kills, faults, time.monotonic() - start)
    bad = [r for r in kills + faults if any(r.get(k) for k in ("lost", "refused", "different", "silent"))]
    print(f"{len(kills)} killed, {len(faults)} on a failing disk, {len(bad)} not as they should be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
