#!/usr/bin/env python3
"""Trains one configuration once per precision, same data and seed, each run on a GPU of its own, and compares the curves of the loss with the first's.

    launch/precision_curves.py [-b BUILD] [-o DIR] CONFIG PRECISION PRECISION… [section.key=value …]

In DIR (runs/precision_curves): a run's folder for each precision, curves.csv (losses by step), summary.json and report.md. The difference that counts is that of
the mean losses over WINDOW steps, step by step after the first WINDOW, relative to the first precision's; beside it, how far single steps are apart,
and the losses on held-out text. Ends with 1 when a run fails or the means are further apart than --within (0.005).
"""
import argparse
import csv
import json
import math
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gpus import in_turn  # noqa: E402

WINDOW = 50


def read_run(folder):
    with open(folder / "metrics.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    return {"steps": [int(r["step"]) for r in rows], "loss": [float(r["loss"]) for r in rows],
            "val": {int(r["step"]): float(r["val_loss"]) for r in rows if r.get("val_loss")}, "tok_s": sorted(float(r["tok_s"]) for r in rows)[len(rows) // 2]}


def means(x):
    """Over the last WINDOW values, at every step that has as many."""
    return [sum(x[i - WINDOW:i]) / WINDOW for i in range(WINDOW, len(x) + 1)]


def compare(first, other):
    if first["steps"] != other["steps"] or len(first["steps"]) < 2 * WINDOW:
        raise SystemExit(f"precision_curves: the runs have {len(first['steps'])} and {len(other['steps'])} steps; they must be the same, and {2 * WINDOW} at least")
    if not all(map(math.isfinite, first["loss"] + other["loss"])):
        raise SystemExit("precision_curves: a loss is not finite")
    smooth = [abs(b - a) / a for a, b in zip(means(first["loss"]), means(other["loss"]))]
    single = [abs(b - a) / a for a, b in zip(first["loss"], other["loss"])]
    worst = max(range(len(smooth)), key=smooth.__getitem__)
    last = (means(first["loss"])[-1], means(other["loss"])[-1])
    return {"largest_difference": smooth[worst], "at_step": first["steps"][worst + WINDOW - 1], "largest_single_difference": max(single),
            "last_mean": last[1], "last_mean_of_first": last[0], "last_difference": (last[1] - last[0]) / last[0],
            "val_differences": {step: (other["val"][step] - loss) / loss for step, loss in first["val"].items() if step in other["val"]},
            "speed": other["tok_s"] / first["tok_s"]}


def report(names, runs, found, config):
    lines = [f"# {config}: the loss by precision", "", f"Means over {WINDOW} steps; differences relative to {names[0]}.", "",
             "| precision | last mean loss | held out | median tok/s | largest difference of means | at the end | largest of single steps |", "|---|---|---|---|---|---|---|"]
    for name in names:
        run, other = runs[name], found.get(name)
        val = ", ".join(f"{loss:.4f} ({step})" for step, loss in run["val"].items())
        apart = f"{100 * other['largest_difference']:.3f} % (step {other['at_step']}) | {100 * other['last_difference']:+.3f} % | {100 * other['largest_single_difference']:.2f} %" if other else "| |"
        lines.append(f"| {name} | {means(run['loss'])[-1]:.4f} | {val} | {run['tok_s']:,.0f} | {apart} |")
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("config", type=pathlib.Path)
    p.add_argument("words", nargs="+", metavar="PRECISION", help="at least two; then assignments")
    p.add_argument("-b", dest="build", type=pathlib.Path, default=pathlib.Path(os.environ.get("PSANN_BUILD", "build")))
    p.add_argument("-o", dest="out", type=pathlib.Path, default=pathlib.Path("runs/precision_curves"))
    p.add_argument("--within", type=float, default=0.005, metavar="SHARE")
    o = p.parse_args()
    names, changes = [w for w in o.words if "=" not in w], [w for w in o.words if "=" in w]
    if len(names) < 2 or len(set(names)) < len(names):
        p.error("give at least two different precisions")
    for name in names:
        if (o.out / name).exists():
            p.error(f"{o.out / name} is there already, and a run would go on from it: remove it, or give another folder with -o")
    o.out.mkdir(parents=True, exist_ok=True)
    started, places = [], in_turn(len(names))
    for name, gpu in zip(names, places):
        command = [o.build / "src/programs/psann_train", o.config, f"run.dir={o.out / name}", f"train.precision={name}", *changes]
        log = open(o.out / f"{name}.log", "w")
        process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=dict(os.environ, CUDA_VISIBLE_DEVICES=gpu))
        started.append((name, process, log))
        if len(started) % len(set(places)) == 0:  # every GPU has one
            for _, running, _ in started:
                running.wait()
    failed = [name for name, process, _ in started if process.wait() != 0]
    for _, _, log in started:
        log.close()
    if failed:
        print((o.out / f"{failed[0]}.log").read_text()[-2000:], file=sys.stderr)
        raise SystemExit(f"precision_curves: the run in {failed[0]} failed, see {o.out / failed[0]}.log")
    runs = {name: read_run(o.out / name) for name in names}
    found = {name: compare(runs[names[0]], runs[name]) for name in names[1:]}
    with open(o.out / "curves.csv", "w", newline="") as f:
        table = csv.writer(f)
        table.writerow(["step", *names])
        table.writerows(zip(runs[names[0]]["steps"], *(runs[name]["loss"] for name in names)))
    (o.out / "summary.json").write_text(json.dumps({"config": str(o.config), "changes": changes, "first": names[0], "window": WINDOW, "precisions": found}, indent=1) + "\n")
    text = report(names, runs, found, o.config)
    (o.out / "report.md").write_text(text)
    print(text, end="")
    return 1 if any(other["largest_difference"] > o.within for other in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
