#!/usr/bin/env python3
"""Runs ranks of psann_train, does something to them once they have reached a step, and follows what comes of it to the end.

    struck.py --run FOLDER --facts FILE [--deed usr1|kill|stop --step N [--saved N] [--rank N]] [--again] -- COMMAND…

usr1, kill and stop send SIGUSR1, SIGKILL or SIGSTOP to a rank (1), once metrics.csv in FOLDER has the row
of step N and, with --saved, metrics.jsonl tells that the checkpoint of that step is whole. --again: the command is started once more when it
has ended. What it prints goes on to the output. Writes to FILE, all in seconds from the deed: when the rank was named, and how; when
the launch had ended; when the next launch had its first step; and of each launch, how long after its start that was. Ends with the command's code.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from watched import descendants, enough  # noqa: E402

EVERY = 0.02  # seconds between looks
LAUNCH, FIRST_STEP = re.compile(r"Z launch \d+ of "), re.compile(r"^epoch=\d+ step=(\d+) ")
RESUMED, LAUNCH_ENDED = re.compile(r"^resume +from step (\d+)"), re.compile(r"Z the launch ended with code (\d+)")


class Follower:
    """What the output says, and when. Launches are those of struck.py itself, or of supervise.sh, which names each."""

    def __init__(self):
        self.launches, self.struck, self.facts = [], None, {}

    def since(self):
        return round(time.monotonic() - self.struck, 2)

    def launched(self):
        self.launches.append({"started": time.monotonic()})

    def launch_ended(self, code):
        if self.struck is not None and "ended_s" not in self.facts:
            self.facts.update(ended_s=self.since(), launch_code=code)

    def take(self, line):
        now, last = time.monotonic(), self.launches[-1]
        if LAUNCH.search(line):
            if "supervised" in last:
                self.launched()
            self.launches[-1].update(started=now, supervised=True)
        elif (resumed := RESUMED.search(line)):
            last["resumed_from"] = int(resumed.group(1))
        elif (step := FIRST_STEP.search(line)) and "first_step" not in last:
            last.update(first_step=int(step.group(1)), first_step_s=round(now - last["started"], 2))
            if self.struck is not None and "again_s" not in self.facts:
                self.facts["again_s"] = self.since()
        elif "error: " in line and self.struck is not None and "named_s" not in self.facts:
            self.facts.update(named_s=self.since(), sentence=line.split("error: ", 1)[1].strip())
        elif (ended := LAUNCH_ENDED.search(line)):
            self.launch_ended(int(ended.group(1)))

    def read(self, stream):
        for line in stream:
            sys.stdout.write(line)
            sys.stdout.flush()
            self.take(line)


def rank_of(process, rank):
    """The process of a rank of psann_train below this one; None where there is none."""
    for number in descendants(process.pid):
        folder = pathlib.Path("/proc") / str(number)
        try:
            if (folder / "comm").read_text().strip() == "psann_train" and f"OMPI_COMM_WORLD_RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return number
        except OSError:
            continue
    return None


def strike(o, process, follower):
    number = rank_of(process, o.rank)
    if number is None:
        raise SystemExit(f"struck.py: there is no rank {o.rank}")
    follower.struck = time.monotonic()
    os.kill(number, {"usr1": signal.SIGUSR1, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}[o.deed])
    rows = (o.run / "metrics.csv").read_text().split("\n")[1:-1]
    follower.facts.update(deed=o.deed, at_step=int(rows[-1].split(",")[0]))


def end_all(process):
    """The command first, which could start something anew."""
    for number in [process.pid, *descendants(process.pid)]:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


def one_launch(o, follower):
    follower.launched()
    process = subprocess.Popen(o.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    reader = threading.Thread(target=follower.read, args=(process.stdout,))
    reader.start()
    try:
        while process.poll() is None:
            if o.deed and follower.struck is None and enough(o):
                strike(o, process, follower)
            time.sleep(EVERY)
    finally:
        if process.poll() is None:
            end_all(process)
    follower.launch_ended(process.returncode)
    reader.join(20)
    return process.returncode


def mark(run):
    """status.ini, which says how a run stands."""
    lines = (run / "status.ini").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines if " = " in line)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=pathlib.Path, required=True)
    p.add_argument("--facts", type=pathlib.Path, required=True)
    p.add_argument("--deed", choices=("usr1", "kill", "stop"))
    p.add_argument("--step", type=int)
    p.add_argument("--saved", type=int)
    p.add_argument("--rank", type=int, default=1)
    p.add_argument("--again", action="store_true")
    p.add_argument("command", nargs="+")
    o = p.parse_args()
    if o.deed and o.step is None:
        p.error("--deed wants --step")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of end_all
    began, follower = time.monotonic(), Follower()
    with tempfile.TemporaryDirectory(prefix="mpi") as folder:  # Open MPI's jobs share one, and one that ends removes it under another that starts
        os.environ["OMPI_MCA_orte_tmpdir_base"] = folder
        code = one_launch(o, follower)
        follower.facts["mark"] = mark(o.run)
        if code == 0 and o.again:
            code = one_launch(o, follower)
    launches = [{k: v for k, v in launch.items() if k not in ("started", "supervised")} for launch in follower.launches]
    facts = {**follower.facts, "code": code, "seconds": round(time.monotonic() - began, 1), "launches": launches}
    o.facts.write_text(json.dumps(facts, indent=1) + "\n")
    return code if code >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
