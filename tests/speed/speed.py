#!/usr/bin/python3
"""Times psann_train and torch_rival.py in turn and writes a report; started by speed.sh, which builds and installs what is needed."""

import argparse
import datetime
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

CONFIG = """
[run]
dir = {folder}/run
[model]
d_model = 128
n_layers = 4
n_heads = 4
d_mlp = 512
[data]
train = {folder}/random.h5
seq_len = 128
[train]
micro_batch = 16
batch_tokens = {batch_tokens}
max_steps = {steps}
lr = 0.001
[log]
interval = 1
"""
WARM_UP = 4


def command(arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def make_store(programs, folder):
    random.seed(1)
    tokens = [random.randrange(256) for _ in range(1 << 18)]
    (folder / "random.u16").write_bytes(struct.pack(f"<{len(tokens)}H", *tokens))
    command([programs / "psann_data", "import", "--raw-u16", "--vocab-size", 256, "--end-of-text", "none", "--out", folder / "random.h5", folder / "random.u16"])


def psann(programs, cores, micro_batches, steps):
    """Tokens a second over the steps after the warm-up, and what the run said of its machine."""
    ranks = len(cores)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_store(programs, folder)
        batch = micro_batches * 16 * 128
        (folder / "speed.ini").write_text(CONFIG.format(folder=folder, batch_tokens=batch, steps=WARM_UP + steps))
        train = [programs / "psann_train", folder / "speed.ini"]
        if ranks == 1:
            command(["taskset", "-c", cores[0], *train])
        else:
            command(["mpirun", "-np", ranks, "--bind-to", "core", *train])
        rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        rows = [r for r in rows if r.get("step", 0) > WARM_UP and "step_ms" in r]
        assert len(rows) == steps, rows
        system = json.loads((folder / "run" / "system.json").read_text())
        return batch * steps / sum(r["step_ms"] for r in rows) * 1000, system


def torch(core, steps, fused):
    rival = pathlib.Path(__file__).with_name("torch_rival.py")
    out = command(["taskset", "-c", core, "/usr/bin/python3", rival, "--steps", steps, "--warm-up", WARM_UP] + (["--fused-sine"] if fused else []))
    return json.loads(out)


def busy():
    """Share of the machine's cores that others use, over half a second."""
    read = lambda: list(map(int, open("/proc/stat").readline().split()[1:9]))
    before = read()
    subprocess.run(["sleep", "0.5"], check=True)
    spent = [b - a for a, b in zip(before, read())]
    return 1 - (spent[3] + spent[4]) / max(1, sum(spent))


def settle(longest=120):
    """Waits until others leave the machine alone, for a while; says what they still use."""
    end = time.monotonic() + longest
    while (load := busy()) > 0.1 and time.monotonic() < end:
        time.sleep(1)
    return load


def line(what, figures, unit="tok/s"):
    return f"| {what} | {statistics.median(figures):,.0f} {unit} | {min(figures):,.0f} … {max(figures):,.0f} |"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=20)
    o = p.parse_args()
    programs = pathlib.Path(o.build).resolve() / "src" / "programs"
    cores = sorted(os.sched_getaffinity(0))
    load = settle()
    if load > 0.1:
        print(f"warning: {100 * load:.0f} % of the machine is at work already; the figures will be too low", file=sys.stderr)
    one, plain, fused, single, double = [], [], [], [], []
    for i in range(o.rounds):
        load = max(load, settle())
        speed, system = psann(programs, cores[:1], 1, o.steps)
        one.append(speed)
        rival = torch(cores[0], o.steps, False)
        plain.append(rival["tokens_per_second"])
        fused.append(torch(cores[0], o.steps, True)["tokens_per_second"])
        if len(cores) > 1:
            single.append(psann(programs, cores[:1], 2, o.steps)[0])
            double.append(psann(programs, cores[:2], 2, o.steps)[0])
        print(f"round {i + 1} of {o.rounds}: psann {one[-1]:,.0f}, torch {plain[-1]:,.0f}, torch with fused sine {fused[-1]:,.0f}"
              + (f"; two micro-batches on one core {single[-1]:,.0f}, on two {double[-1]:,.0f}" if double else "") + " tok/s")
    best = max(plain, fused, key=statistics.median)
    ratio = statistics.median(one) / statistics.median(best)
    scaling = statistics.median(double) / statistics.median(single) if double else None
    date = datetime.date.today().isoformat()
    result = {
        "date": date, "cpu": system["cpu"], "os": system["os"], "psann_commit": system["commit"], "psann_build": system["build"], "psann_engine": system["engine"],
        "torch": rival["torch"], "torch_openblas": rival["openblas"], "torch_core_type": rival["core"], "busy_before": load,
        "shape": {"d_model": 128, "n_layers": 4, "n_heads": 4, "d_mlp": 512, "vocab_size": 256, "seq_len": 128, "batch": 16, "parameters": rival["parameters"]},
        "steps": o.steps, "psann_one_core": one, "torch_one_core": plain, "torch_fused_sine_one_core": fused,
        "psann_two_micro_batches_one_core": single, "psann_two_micro_batches_two_cores": double, "ratio_to_torch": ratio, "two_ranks_to_one": scaling,
    }
    text = [
        f"# Training speed on CPU cores, {date}", "",
        "Command: `tests/speed/speed.sh`. Base respsann, D 128, L 4, H 4, M 512, V 256, T 128, "
        f"B 16, {rival['parameters']:,} parameters, fp32; forward, backward, clipping and AdamW. Random tokens. "
        f"OMP_NUM_THREADS = OPENBLAS_NUM_THREADS = 1, pinned with taskset (two ranks: mpirun --bind-to core). "
        f"{o.rounds} rounds in turn, {o.steps} steps each after {WARM_UP}; median, and the range over the rounds.", "",
        f"- Machine: {system['cpu']}, {system['cores']} cores, {system['os']}; {100 * load:.0f} % busy before the worst round",
        f"- psann: commit {system['commit']}, {system['build']}; {system['engine']}",
        f"- PyTorch {rival['torch']} (python3-torch), {rival['threads']} thread; OpenBLAS core type {rival['core']} ({rival['openblas']})", "",
        "| | median | range |", "|---|---|---|",
        line("psann, one core", one), line("PyTorch, one core", plain), line("PyTorch, one core, hand-written sine", fused),
    ]
    if double:
        text += [line("psann, two micro-batches a step, one rank on one core", single), line("psann, two micro-batches a step, two ranks on two cores", double)]
    text += ["", f"psann does **{ratio:.2f} ×** the tokens a second of the faster PyTorch variant."]
    if double:
        text += [f"Two ranks do **{scaling:.2f} ×** the tokens a second of one."]
    folder = pathlib.Path("reports")
    folder.mkdir(exist_ok=True)
    (folder / f"cpu_speed_{date}.md").write_text("\n".join(text) + "\n")
    (folder / f"cpu_speed_{date}.json").write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
