#!/usr/bin/env python3
"""Runs ranks of psann_train until the run's metrics say enough, then ends them at once, as a failure of the machine would.

    watched.py --run FOLDER --step N [--saved N] --facts FILE -- COMMAND…

Ends the command when metrics.csv in FOLDER has the row of step N and, with --saved, metrics.jsonl tells that the checkpoint of that step is
whole: so a run leaves no checkpoint of its last step behind, which takes time and room. Writes to FILE what was seen meanwhile: seconds, the
events of the run, the most memory that each rank had resident, and by how much the host's free memory fell. Ends with 0 when it was enough,
otherwise with the command's code, or 1 where that is 0.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

EVERY = 0.1  # seconds between looks
TERMINATED = []


def field(path, name):
    """Bytes that /proc tells in kB; 0 where it tells nothing."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name + ":"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def descendants(root):
    """Processes that `root` started, and what those started."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found, todo = [], [root]
    while todo:
        mine = children.get(todo.pop(), [])
        found += mine
        todo += mine
    return found


def kill(process):
    """Ranks first: what started them then has nothing to wait for."""
    for number in descendants(process.pid):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def events(run):
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a line that is being written
        found += [event] if "event" in event else []
    return found


def enough(o):
    try:
        rows = (o.run / "metrics.csv").read_text().split("\n")[1:-1]
    except OSError:
        return False
    if not any(row.startswith(f"{o.step},") for row in rows):
        return False
    return o.saved is None or any(e["event"] == "save" and e["step"] == o.saved for e in events(o.run))


def watch(o, process, facts):
    resident, host = facts["resident_bytes"], pathlib.Path("/proc/meminfo")
    free = field(host, "MemAvailable")
    while process.poll() is None and not TERMINATED:
        if enough(o):
            return True
        facts["host_bytes"] = max(facts["host_bytes"], free - field(host, "MemAvailable"))
        for number in descendants(process.pid):
            folder = pathlib.Path("/proc") / str(number)
            try:
                is_rank = (folder / "comm").read_text().startswith("psann_train")
            except OSError:
                continue
            if is_rank:
                resident[str(number)] = max(resident.get(str(number), 0), field(folder / "status", "VmHWM"))
        time.sleep(EVERY)
    return enough(o) and not TERMINATED


def main():
    p = argparse.ArgumentParser(description="runs ranks until the metrics say enough")
    p.add_argument("--run", type=pathlib.Path, required=True)
    p.add_argument("--step", type=int, required=True)
    p.add_argument("--saved", type=int)
    p.add_argument("--facts", type=pathlib.Path, required=True)
    p.add_argument("command", nargs="+")
    o = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: TERMINATED.append(True))
    began = time.monotonic()
    facts = {"resident_bytes": {}, "host_bytes": 0}
    process = subprocess.Popen(o.command)
    try:
        done = watch(o, process, facts)
    finally:
        kill(process)
    facts.update(seconds=round(time.monotonic() - began, 1), events=events(o.run),
                 resident_bytes=[facts["resident_bytes"][n] for n in sorted(facts["resident_bytes"], key=int)])
    o.facts.write_text(json.dumps(facts, indent=1) + "\n")
    return 0 if done else process.returncode if process.returncode > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
