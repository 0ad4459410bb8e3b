"""The stage of runs that survive on two GPUs: ranks that are killed, stopped or hang in every phase; a run that is ended, or loses a rank, and
goes on to the same bits; what checkpoints in the background cost."""
import json
import re
import shutil
import statistics
import subprocess
import sys

from .parts import Part, mpirun
from .sharding import TINY, compare, model_of
from .stages import fresh, text_store

CONFIG = """{model}
[data]
train = {store}
seq_len = 1024
[train]
micro_batch = {micro_batch}
batch_tokens = {batch_tokens}
max_steps = {steps}
warmup_steps = 10
[checkpoint]
interval = {interval}
keep_last = 2
[watch]
timeout_s = {timeout_s}
"""
WATCH_S = 10          # watch.timeout_s
LATE_S = 2            # with which mpirun may pass on the last words of a job that ends
WARM = 10             # steps of a launch that are not counted
A_MINUTE = 60
# Steps of the run, between checkpoints, and before something happens to it.
STEPS, INTERVAL, STRUCK = 330, 160, 200  # a save may take ten seconds before it meets the next one
CPU_STEPS, CPU_INTERVAL, CPU_STRUCK = 60, 20, 30


def plan(o):
    return (CPU_STEPS, CPU_INTERVAL, CPU_STRUCK) if o.cpu else (STEPS, INTERVAL, STRUCK)


def batch_tokens(o):
    return 4096 if o.cpu else 65536


def write_config(o, path, store):
    steps, interval, _ = plan(o)
    path.write_text(CONFIG.format(model=model_of("bench/124m.ini"), store=store, micro_batch=8 if o.cpu else 32, batch_tokens=batch_tokens(o), steps=steps,
                                  interval=interval, timeout_s=WATCH_S))


def matrix(o, page):
    """Each phase, rank and fault, many jobs at a time."""
    library = o.build / "tests/ckpt/libfaulty_calls.so"

    def prepare():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.unlink(missing_ok=True)
        if not library.exists():
            raise ValueError(f"{library} is missing: the build has no tests; configure it with -Dtests=enabled")

    def read(_):
        text = page.read_text()
        count = next(line for line in text.splitlines() if " cases, " in line).split()
        return {"cases": int(count[0]), "right": int(count[2]), "page": text}
    how = ("--every", 9, "--at-once", 4) if o.cpu else ("--device", "cuda", "--at-once", 12)
    return Part("every phase", [sys.executable, "tests/train/watchdog_matrix.py", page, "--cases", "gpus", *how], 300, prepare=prepare, read=read,
                environment={"PSANN_PROGRAMS": str(o.build / "src/programs"), "PSANN_FAULTY_CALLS": str(library)})


def cost_of_saves(run):
    """Of the saves whose end fell into the run, and which did not wait for the one before: seconds of each, for which training stood still for the copy,
    and how much slower the steps beside it were. A wait of the next save for its end is left out: saves a minute apart have none."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = {e["step"]: e["step_ms"] for e in lines if "event" not in e}
    beside, saves, last, ended = {}, [], 0, 0  # steps, by the save that they were beside
    for e in lines:
        if e.get("event") == "save":
            if last > e["step"] > ended:
                beside[e["step"]] = range(e["step"] + 1, last + 1)
                saves.append(e)
            ended = last
        last = e["step"] if "event" not in e else last
    slow = {step for steps in beside.values() for step in steps}
    alone = [ms for step, ms in rows.items() if step > WARM and step not in slow]
    if not saves or not alone:
        raise ValueError(f"{run / 'metrics.jsonl'} tells of no save that ended while steps went on")
    usual = statistics.median(alone)
    lost = [e["copied"] + sum(rows[step] - usual for step in beside[e["step"]]) / 1000 for e in saves]
    return {"saves": [{"step": e["step"], "seconds": e["seconds"], "copied": e["copied"], "steps": len(beside[e["step"]]),
                       "ms": statistics.mean(rows[step] for step in beside[e["step"]]), "lost": s} for e, s in zip(saves, lost)],
            "usual_ms": usual, "share": max(0, max(lost)) / A_MINUTE}


def last_checkpoint(o, run):
    return run / "checkpoints" / f"step_{plan(o)[0]:08}.h5"


def same_end(o, run, unbroken):
    """Losses of all steps, and weights and moments at the end, bit for bit; ValueError otherwise."""
    found = compare(run, unbroken, range(1, plan(o)[0] + 1))
    done = subprocess.run([o.build / "src/programs/psann_check", "diff", last_checkpoint(o, unbroken), last_checkpoint(o, run)], capture_output=True, text=True,
                          timeout=120)
    if done.returncode != 0:
        raise ValueError(f"the last checkpoint of {run.name} is not the unbroken run's: {(done.stdout + done.stderr)[-500:]}")
    return found


def survive(o):
    folder = o.out / "survive"
    store, config, unbroken = folder / "train.h5", folder / "124m.ini", folder / "unbroken"
    steps, interval, struck_at = plan(o)
    settings = {"PSANN_RANKS": "2", "PSANN_BACKOFF_S": "1", "PSANN_PROGRAMS": str(o.build / "src/programs"), "PSANN_LAUNCHER": " ".join(map(str, mpirun(2)))}

    def struck(name, run, *deed, supervised=False, check, limit=150, makes=None):
        facts = run.with_name(run.name + ".json")
        start = ["launch/supervise.sh"] if supervised else [*mpirun(2), o.build / "src/programs/psann_train"]
        command = [sys.executable, "launch/acceptance/struck.py", "--run", run, "--facts", facts, *deed, "--", *start, config, f"run.dir={run}", *(TINY if o.cpu else ())]

        def prepare():
            fresh(run)
            write_config(o, config, store)
            facts.unlink(missing_ok=True)
        return Part(name, command, limit, environment=settings, prepare=prepare, read=lambda _: check(json.loads(facts.read_text())), makes=makes)

    def first(found):
        return {**found, "batch_tokens": batch_tokens(o), "file_bytes": last_checkpoint(o, unbroken).stat().st_size, **cost_of_saves(unbroken)}

    def later(run, wanted, named=None):
        def check(found):
            missing = [key for key in ("at_step", "ended_s", "again_s", *(("named_s",) if named else ())) if key not in found]
            if missing:
                raise ValueError(f"nothing tells of {', '.join(missing)}: the run was over before, or did not go on")
            if named and not re.search(r"rank 1 on \S+ \(process \d+\) " + named, found["sentence"]):
                raise ValueError(f"the sentence is another one: {found['sentence']}")
            if named and found["named_s"] > WATCH_S + LATE_S:
                raise ValueError(f"the rank was named after {found['named_s']} s of {WATCH_S}")
            if not wanted(found):
                raise ValueError(f"the first launch ended with code {found['launch_code']}, and status.ini says {found['mark']}")
            if found["launches"][-1].get("resumed_from", 0) < interval:
                raise ValueError(f"the last launch did not go on from a checkpoint: {found['launches']}")
            same = same_end(o, run, unbroken)
            shutil.rmtree(run / "checkpoints")
            return {**found, "sha256": same["sha256"]}
        return check

    def lost_rank(name, deed, said):
        run = folder / deed
        return struck(name, run, "--deed", deed, "--step", struck_at, "--saved", interval, supervised=True,
                      check=later(run, lambda found: found["launch_code"] != 0 and found["mark"]["state"] == "finished", named=said))
    stopped = folder / "usr1"
    return [text_store(o, store), struck("unbroken", unbroken, check=first, limit=240, makes=last_checkpoint(o, unbroken)),
            struck("SIGUSR1, then on", stopped, "--deed", "usr1", "--step", struck_at, "--again",
                   check=later(stopped, lambda found: found["launch_code"] == 0 and found["mark"]["state"] == "stopped" and "SIGUSR1" in found["mark"]["reason"])),
            lost_rank("a rank killed", "kill", "died"), lost_rank("a rank stopped", "stop", "is stopped"), matrix(o, folder / "matrix.md")]
