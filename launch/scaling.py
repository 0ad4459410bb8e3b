#!/usr/bin/env python3
"""Runs psann_bench on 1, 2, 4, … GPUs and writes scaling.json, scaling.md and scaling.svg. Started by launch/scaling.sh."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from gpus import visible
from scaling_model import NETWORK, NETWORK_LATENCY, Machine, of_step, step

SOURCE = pathlib.Path(__file__).resolve().parents[1]
MICRO_BATCHES = 8  # of a step in strong scaling: a power of two that all numbers of ranks divide
LENGTH = {"weak": (3, 3, 3), "strong": (6, 8, 3)}  # warm-up, steps, repeats; 30 steps in strong scaling, whose losses are compared


def mpirun(o, ranks, places, *command):
    launch = ["mpirun", "--bind-to", "none", *(["--oversubscribe", "--mca", "btl", "^tcp"] if o.cpu else []), "-np", str(ranks)] if ranks > 1 else []
    env = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ",".join(places)} if places else {})}
    if os.geteuid() == 0:
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    print(" ".join(map(str, [*launch, *command])), flush=True)
    return subprocess.run([*launch, *map(str, command)], env=env, timeout=o.limit)


def bench(o, ranks, places, kind, models, strategies, accumulate, *more):
    """Rows of one psann_bench throughput; what it says when it fails is on the console."""
    warmup, steps, repeat = LENGTH[kind]
    out = o.out / f"{kind}_{models.replace(',', '_')}_{strategies.replace(',', '_')}_{ranks}{'_'.join(more).replace('parallel.', '_')}"
    done = mpirun(o, ranks, places, o.build / "src/programs/psann_bench", "throughput", "--models", models, "--strategy", strategies, "--accumulate", accumulate,
                  "--warmup", warmup, "--steps", steps, "--repeat", repeat, "--out", out, *more)
    if done.returncode != 0:
        return []
    report = json.loads((out / "throughput.json").read_text())
    for row in report["results"]:
        row.update(scaling=kind, copy_gb_s=report["copy_gb_s"], machine=report["machine"])
    return report["results"]


def measure_number(o, ranks, places):
    """Rows and exchanges of so many ranks, on these GPUs."""
    rows, exchanges, strategies = [], [], "ddp" if ranks == 1 else o.strategies
    rows += bench(o, ranks, places, "weak", o.models, strategies, 1)
    rows += bench(o, ranks, places, "strong", o.models, strategies, MICRO_BATCHES // ranks)
    if o.large and ranks > 1:
        rows += bench(o, ranks, places, "weak", o.large, "full_shard", 1)
    if o.large and ranks >= 4:
        rows += bench(o, ranks, places, "weak", o.large, "hybrid", 1, f"parallel.shard_ranks={ranks // 2}")
    if ranks > 1:
        file = o.out / f"exchange_{ranks}.json"
        sizes = "1,16" if o.cpu else "1,64,256"
        if mpirun(o, ranks, places, o.build / "src/programs/psann_bench", "exchange", "--sizes", sizes, "--device", "cpu" if o.cpu else "cuda", "--out", file).returncode == 0:
            exchanges.append(json.loads(file.read_text()))
    return rows, exchanges


def groups(numbers, most):
    """Numbers of ranks that find room on `most` GPUs at the same time, one group after the other."""
    found = []
    for n in numbers:
        if found and sum(found[-1]) + n <= most:
            found[-1].append(n)
        else:
            found.append([n])
    return found


def measure(o, numbers, places):
    """The fewest ranks first. Side by side, each number has GPUs of its own, and the first product plans are timed before: runs whose losses are
    compared must have the same."""
    rows, exchanges = [], []
    if o.together:
        mpirun(o, 1, places[:1], o.build / "src/programs/psann_bench", "throughput", "--models", o.models, "--warmup", 0, "--steps", 1, "--repeat", 1, "--out", o.out / "plans")
    for group in groups(numbers, len(places)) if o.together else [[n] for n in numbers]:
        starts = [sum(group[:i]) for i in range(len(group))]
        with concurrent.futures.ThreadPoolExecutor(len(group)) as pool:
            done = list(pool.map(lambda n, at: measure_number(o, n, places[at:at + n]), group, starts))
        rows += [row for found, _ in done for row in found]
        exchanges += [e for _, found in done for e in found]
    return rows, exchanges


def machine_of(rows, exchanges, numbers):
    """The model's figures: the rate of the largest all-to-all between the two GPUs of a pair, and the time of the smallest beside its bytes."""
    pair = [r for e in exchanges if e["ranks"] == 2 for r in e["results"] if r["exchange"] == "all_to_all"]
    small, large = min(pair, key=lambda r: r["bytes"]), max(pair, key=lambda r: r["bytes"])
    link = large["bytes"] / 2 / (large["ms"] / 1000)
    latency = max(1e-6, small["ms"] / 1000 - small["bytes"] / 2 / link)
    return Machine(max(numbers), link, NETWORK, latency, NETWORK_LATENCY, rows[0]["copy_gb_s"] * 1e9)


def judge(rows, exchanges, numbers):
    """Efficiency, exposed share and the model's prediction of every row."""
    one = {(r["scaling"], r["model"]): r for r in rows if r["ranks"] == 1 and "tok_s" in r}
    machine = machine_of(rows, exchanges, numbers) if exchanges else None
    for r in rows:
        base = one.get((r["scaling"], r["model"]))
        if "tok_s" not in r or base is None:
            continue
        r["efficiency"] = r["tok_s"] / (r["ranks"] * base["tok_s"])
        ideal = base["ms"] if r["scaling"] == "weak" else base["ms"] / r["ranks"]
        r["exposed"] = max(0.0, 1 - ideal / r["ms"])
        weak = one.get(("weak", r["model"]))
        if machine and weak and r["ranks"] > 1:
            predicted = step(of_step(r["model"], weak["ms"], machine), machine, r["strategy"], r["ranks"], r["accumulate"])
            r["predicted_ms"], r["predicted_exposed"] = 1000 * predicted[0], predicted[1] / predicted[0]
    return machine


def losses_agree(rows):
    """Strong scaling does the same run on every number of ranks: the loss of its 30th step has the same bits."""
    found = {}
    for r in rows:
        if r["scaling"] == "strong" and "tok_s" in r:
            found.setdefault(r["model"], set()).add(r["loss"])
    return {model: len(values) == 1 for model, values in found.items()}


def show(value, form):
    return form.format(value) if value is not None else "–"


def table(rows):
    lines = ["| model | scaling | strategy | GPUs | B · accumulate | tok/s | ms | efficiency | not hidden | memory, GiB | model of the cost: ms |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in sorted(rows, key=lambda r: (r["model"], r["scaling"], r["strategy"], r["ranks"])):
        if "tok_s" not in r:
            lines.append(f"| {r['model']} | {r['scaling']} | {r['strategy']} | {r['ranks']} | {r['error'][:120]} |" + " |" * 6)
            continue
        lines.append(f"| {r['model']} | {r['scaling']} | {r['strategy']} | {r['ranks']} | {r['micro_batch']} · {r['accumulate']} | {r['tok_s']:,.0f} | {r['ms']:.2f} | "
                     f"{show(r.get('efficiency'), '{:.3f}')} | {show(r.get('exposed'), '{:.1%}')} | {show(r['peak_bytes'] and r['peak_bytes'] / 2**30, '{:.1f}')} | "
                     f"{show(r.get('predicted_ms'), '{:.2f}')} |")
    return lines


def picture(o, rows):
    """Efficiency over GPUs, by gnuplot where there is one."""
    series = {}
    for r in rows:
        if "efficiency" in r and r["ranks"] > 1:
            series.setdefault((r["model"], r["scaling"], r["strategy"]), []).append((r["ranks"], r["efficiency"]))
    if not series or not shutil.which("gnuplot"):
        return None
    blocks = [f"$s{i} << E\n1 1\n" + "".join(f"{x} {y:.4f}\n" for x, y in sorted(points)) + "E" for i, points in enumerate(series.values())]
    plots = ", ".join(f"$s{i} using 1:2 with linespoints title '{' '.join(key)}'" for i, key in enumerate(series))
    script = "\n".join([*blocks, "set terminal svg size 900,560", f"set output '{o.out / 'scaling.svg'}'", "set logscale x 2", "set xlabel 'GPUs'", "set ylabel 'efficiency'",
                        "set key outside", "set grid", f"plot {plots}", ""])
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
    return "scaling.svg"


def write(o, rows, exchanges, machine, agree):
    image = picture(o, rows)
    (o.out / "scaling.json").write_text(json.dumps({"rows": rows, "exchanges": exchanges, "losses_equal": agree}, indent=1) + "\n")
    lines = [f"# Scaling, {time.strftime('%Y-%m-%d', time.gmtime())}", "", f"- {rows[0]['machine'].get('engine', '')}"]
    if machine:
        lines.append(f"- a pair: {machine.link / 1e9:.1f} GB/s each way, {machine.latency * 1e6:.0f} µs an exchange")
    lines += [f"- strong scaling: {MICRO_BATCHES} micro-batches a step; the losses of its 30th step have the same bits: " +
              ", ".join(f"{m} {'yes' if same else 'NO'}" for m, same in agree.items()), "",
              "Efficiency is against as many times one GPU with the same micro-batch; not hidden is what a step takes beyond that. The model of the cost: docs/scaling.md.", "",
              *table(rows), ""]
    (o.out / "scaling.md").write_text("\n".join(lines + ([f"![efficiency]({image})", ""] if image else [])))


def main():
    p = argparse.ArgumentParser(prog="launch/scaling.sh", description="Weak and strong scaling over the GPUs of this host.")
    p.add_argument("--build", type=pathlib.Path, default=SOURCE / "build", help=argparse.SUPPRESS)
    p.add_argument("--gpus", help="numbers of GPUs, separated by commas (1, 2, 4, … all)")
    p.add_argument("--models", default=None, help="bench models (124m,1b3)")
    p.add_argument("--strategies", default="ddp,full_shard")
    p.add_argument("--large", default=None, help="a model that needs several GPUs ('' for none; 7b)")
    p.add_argument("--out", type=pathlib.Path, help="folder (reports/scaling/<UTC time>)")
    p.add_argument("--limit", type=float, default=300, help="seconds of one measurement, after which it is given up")
    p.add_argument("--together", action="store_true", help="numbers of GPUs that find room side by side are measured at the same time")
    p.add_argument("--cpu", action="store_true", help="ranks on the CPU, model cpu")
    o = p.parse_args()
    places = [] if o.cpu else visible()
    most = 4 if o.cpu else len(places)
    if o.cpu and o.together:
        sys.exit("launch/scaling.sh: --together is for GPUs: ranks on the CPU would share its cores")
    if most == 0:
        sys.exit("launch/scaling.sh: there is no GPU here; --cpu measures ranks on the CPU")
    o.models = o.models or ("cpu" if o.cpu else "124m,1b3")
    o.large = ("" if o.cpu else "7b") if o.large is None else o.large
    o.build, o.out = o.build.resolve(), (o.out or SOURCE / "reports" / "scaling" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())).resolve()
    o.out.mkdir(parents=True, exist_ok=True)
    numbers = [int(n) for n in o.gpus.split(",")] if o.gpus else [n for n in (1, 2, 4, 8) if n <= most]
    if any(MICRO_BATCHES % n for n in numbers) or numbers[0] != 1:
        sys.exit(f"launch/scaling.sh: --gpus {o.gpus}: 1 and others of 2, 4, 8, which divide the {MICRO_BATCHES} micro-batches of strong scaling")
    rows, exchanges = measure(o, numbers, places)
    if not any("tok_s" in r for r in rows):
        sys.exit("launch/scaling.sh: nothing could be measured; the messages above say why")
    machine = judge(rows, exchanges, numbers)
    agree = losses_agree(rows)
    write(o, rows, exchanges, machine, agree)
    print((o.out / "scaling.md").read_text())
    return 0 if agree and all(agree.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
