"""Sine against GELU at equal parameters, data and steps, and which of the sine's parameters matter.

    claim.py --config FILE --programs FOLDER --runs FOLDER --out FOLDER [--ranks N] [--jobs N] [--seeds "1 2"] [--rates "0.003 0.006"]
             [--arms "sine gelu transformer"] [--ablation yes|no] [section.key=value …]

Every arm of the comparison is trained with the first seed at each rate, then with the other seeds at the rate that served it
best, so that no activation suffers from a learning rate that suits the other. --jobs runs go at once, each on GPUs of its own
where there are any. The ablation runs at the sine's best rate, all seeds.
Each run is evaluated on the whole validation store. Runs that are done are not done again. OUT gets report.md,
results.json, results.csv. launch/claim.sh makes the data and calls this.
"""
import argparse
import concurrent.futures
import configparser
import csv
import json
import math
import os
import pathlib
import queue
import re
import statistics
import subprocess
import sys
import threading

from gpus import visible

# The start that the reference recommends for real runs.
SINE = {"model.sine_amp_init": 1, "model.sine_freq_init": 2.25, "model.sine_freq_init_std": 0.25,
        "model.sine_damp_init": 0.001}
COMPARED = {
    "sine": {"model.base": "respsann", **SINE},
    "gelu": {"model.base": "respsann", "model.mlp_activation": "gelu"},
    "transformer": {"model.base": "transformer", "model.mlp_activation": "gelu"},
}
ABLATION = {
    "frozen": {**COMPARED["sine"], "model.sine_learnable": "none"},
    "amplitude": {**COMPARED["sine"], "model.sine_learnable": "amplitude"},
    "frequency": {**COMPARED["sine"], "model.sine_learnable": "frequency"},
    "decay": {**COMPARED["sine"], "model.sine_learnable": "decay"},
}
ARMS = {**COMPARED, **ABLATION}
MEANING = {
    "sine": "sine MLP; amplitude, frequency and decay learn", "gelu": "the same model with GELU",
    "transformer": "LayerNorm and GELU", "frozen": "none learns", "amplitude": "only the amplitude learns",
    "frequency": "only the frequency learns", "decay": "only the decay learns",
}
NAMES = {
    "gelu": "GELU", "transformer": "the transformer", "frozen": "a sine of which nothing learns",
    "amplitude": "one of which only the amplitude learns", "frequency": "one of which only the frequency learns",
    "decay": "one of which only the decay learns",
}
FIELDS = ["arm", "seed", "lr", "parameters", "learning_parameters", "d_mlp", "steps", "tokens", "train_loss", "val_loss",
          "val_ppl", "bits_per_byte", "accuracy", "seconds", "tok_s"]


class Failure(Exception):
    pass


def read_config(path, overrides):
    config = configparser.ConfigParser(inline_comment_prefixes=(";", "#"), interpolation=None)
    with open(path) as f:
        config.read_file(f)
    for assignment in overrides:
        key, _, value = assignment.partition("=")
        section, _, name = key.partition(".")
        if not value or not name:
            raise Failure(f"'{assignment}' is not section.key=value")
        if not config.has_section(section):
            config.add_section(section)
        config[section][name] = value
    return config


def layer_parameters(arm, D, M):
    """Elements of one block: attention, MLP, norms, and what the arm has beside them."""
    common = 4 * D * D + 2 * D * M + M + D
    if arm == "transformer":
        return common + 4 * D  # two LayerNorms with bias
    return common + 2 * D + 1 + (3 * M if arm not in ("gelu",) else 0)  # two RMSNorms, alpha, sines


def width(arm, D, M):
    """d_mlp with which the arm has at least the parameters of the sine arm, in multiples of 8 for the GPU's products."""
    if arm not in ("gelu", "transformer"):
        return M
    wider = M
    while layer_parameters(arm, D, wider) < layer_parameters("sine", D, M):
        wider += 8
    return wider


class Study:
    def __init__(self, arguments):
        self.a = arguments
        self.config = read_config(arguments.config, arguments.overrides)
        model, train = self.config["model"], self.config["train"]
        self.D = int(model.get("d_model", 512))
        self.L = int(model.get("n_layers", 8))
        self.M = int(model.get("d_mlp", 4 * self.D))
        self.steps = int(train["max_steps"])
        self.batch_tokens = int(train.get("batch_tokens", 131072))
        self.val = self.config["data"]["val"]
        self.results = []
        self.lock = threading.Lock()
        self.places = queue.SimpleQueue()
        there = visible()
        for i in range(arguments.jobs):
            mine = [there[(i * arguments.ranks + r) % len(there)] for r in range(arguments.ranks)] if there else []
            self.places.put({"CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(mine))} if mine else {})

    def program(self, name):
        return str(pathlib.Path(self.a.programs) / name)

    def launch(self, name):
        if self.a.ranks == 1:
            return [self.program(name)]
        crowded = ["--oversubscribe", "--bind-to", "none"] if len(os.sched_getaffinity(0)) < self.a.ranks else []
        return ["mpirun", "--mca", "btl", "^tcp", *crowded, "-np", str(self.a.ranks), self.program(name)]

    def run(self, command, place):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **place})
        if done.returncode != 0:
            raise Failure(f"{' '.join(map(str, command))} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout

    def measure(self, arm, seed, rate):
        place = self.places.get()
        try:
            return self.measure_at(place, arm, seed, rate)
        finally:
            self.places.put(place)

    def measure_at(self, place, arm, seed, rate):
        folder = pathlib.Path(self.a.runs) / f"{arm}_seed{seed}_lr{rate}"
        M = width(arm, self.D, self.M)
        keys = {**ARMS[arm], "model.d_mlp": M, "run.seed": seed, "train.lr": rate, "run.dir": folder}
        self.run(self.launch("psann_train") + [self.a.config, *self.a.overrides, *(f"{k}={v}" for k, v in keys.items())], place)
        evaluation = json.loads(self.run(self.launch("psann_eval") + [folder, self.val, "--json"], place).splitlines()[-1])
        with open(folder / "metrics.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        if len(rows) != self.steps or any(not math.isfinite(float(r["loss"])) for r in rows):
            raise Failure(f"{folder}: {len(rows)} steps of {self.steps}, or a loss that is not finite")
        tail = rows[-max(1, self.steps // 20):]
        parameters = parameters_of(folder)
        learning = {"frozen": 0, "amplitude": 1, "frequency": 1, "decay": 1}.get(arm, 3)
        result = {
            "arm": arm, "seed": seed, "lr": rate, "parameters": parameters,
            "learning_parameters": parameters - (0 if arm in ("gelu", "transformer") else self.L * M * (3 - learning)),
            "d_mlp": M, "steps": self.steps, "tokens": self.steps * self.batch_tokens,
            "train_loss": statistics.mean(float(r["loss"]) for r in tail), "val_loss": evaluation["loss"],
            "val_ppl": evaluation["ppl"], "bits_per_byte": evaluation["bits_per_byte"], "accuracy": evaluation["accuracy"],
            "seconds": sum(float(r["step_ms"]) for r in rows) / 1000,
            "tok_s": statistics.median(float(r["tok_s"]) for r in rows),
        }
        with self.lock:
            self.results.append(result)
            print(f"{arm}, seed {seed}, rate {rate}: validation loss {result['val_loss']:.4f}, perplexity {result['val_ppl']:.3f}", flush=True)
            self.write()
        return result

    def measure_all(self, wanted):
        """Results stand in the order of `wanted`, whichever is done first."""
        before = list(self.results)
        with concurrent.futures.ThreadPoolExecutor(self.a.jobs) as pool:
            self.results = before + list(pool.map(lambda w: self.measure(*w), wanted))
        self.write()

    def of(self, arm, rate=None):
        return [r for r in self.results if r["arm"] == arm and (rate is None or r["lr"] == rate)]

    def best_rate(self, arm):
        first = [r for r in self.of(arm) if r["seed"] == self.a.seeds[0]]
        return min(first, key=lambda r: r["val_loss"])["lr"]

    def go(self):
        self.measure_all([(arm, self.a.seeds[0], rate) for arm in self.a.arms for rate in self.a.rates])
        wanted = [(arm, seed, self.best_rate(arm)) for seed in self.a.seeds[1:] for arm in self.a.arms]
        if self.a.ablation == "yes":
            wanted += [(arm, seed, self.best_rate("sine")) for seed in self.a.seeds for arm in ABLATION]
        self.measure_all(wanted)

    # What is written.

    def write(self):
        out = pathlib.Path(self.a.out)
        out.mkdir(parents=True, exist_ok=True)
        replace(out / "results.json", json.dumps({"config": self.a.config, "overrides": self.a.overrides, "ranks": self.a.ranks,
                                                  "seeds": self.a.seeds, "rates": self.a.rates, "results": self.results}, indent=2) + "\n")
        lines = [",".join(FIELDS)] + [",".join(f"{r[f]:.6f}" if isinstance(r[f], float) and f != "lr" else str(r[f]) for f in FIELDS)
                                      for r in self.results]
        replace(out / "results.csv", "\n".join(lines) + "\n")

    def compared(self, arm):
        """The arm's results at its best rate, by seed; empty when seeds are missing."""
        if not self.of(arm):
            return []
        chosen = self.of(arm, self.best_rate(arm) if arm in COMPARED else None)
        return sorted(chosen, key=lambda r: self.a.seeds.index(r["seed"]))

    def sentence(self, arm):
        """What the seeds show of sine against another arm."""
        ours, theirs, name = self.compared("sine"), self.compared(arm), NAMES[arm]
        if len(ours) != len(theirs) or not ours:
            return ""
        differences = [b["val_loss"] - a["val_loss"] for a, b in zip(ours, theirs)]
        mean, spread = statistics.mean(differences), spread_of(ours, theirs)
        agree = (min(differences) > 0) == (max(differences) > 0)
        if len(differences) > 1 and agree and abs(mean) > spread:
            verdict = f"**The sine does {'better' if mean > 0 else 'worse'} than {name} here**, with every seed"
        elif len(differences) > 1:
            verdict = f"**No difference between the sine and {name} is shown here**: it is not larger than that between seeds"
        else:
            verdict = f"One seed shows nothing for sure of the sine against {name}"
        return (f"{verdict}. Its validation loss is {abs(mean):.4f} nats a token {'lower' if mean > 0 else 'higher'} "
                f"(perplexity × {math.exp(-mean):.3f}); seeds of one arm differ by up to {spread:.4f}.")

    def report(self):
        out = pathlib.Path(self.a.out)
        arms = [a for a in ARMS if self.of(a)]
        baseline = statistics.mean(r["val_loss"] for r in self.compared("sine")) if self.of("sine") else float("nan")
        rows = []
        for arm in arms:
            at = self.compared(arm)
            losses = [r["val_loss"] for r in at]
            mean = statistics.mean(losses)
            rows.append(f"| {arm} | {MEANING[arm]} | {at[0]['parameters']:,} | {at[0]['d_mlp']} | {at[0]['lr']} | "
                        f"{', '.join(f'{x:.4f}' for x in losses)} | {mean:.4f} | {math.exp(mean):.3f} | "
                        f"{statistics.mean(r['bits_per_byte'] for r in at):.4f} | {mean - baseline:+.4f} |")
        tried = [f"| {arm} | " + " | ".join(next((f"{r['val_loss']:.4f}" for r in self.of(arm, rate) if r["seed"] == self.a.seeds[0]), "-")
                                             for rate in self.a.rates) + " |" for arm in self.a.arms]
        edge = [arm for arm in self.a.arms if len(self.a.rates) > 1 and self.best_rate(arm) in (min(self.a.rates), max(self.a.rates))]
        said = [s for s in (self.sentence(a) for a in arms if a not in ("sine",)) if s]
        facts = self.machine()
        text = [
            "# Sine against GELU at equal parameters, data and steps", "",
            f"- Model: D {self.D}, L {self.L}, MLP {self.M} (sine); data: {self.config['data']['train']}, validated on all of {self.val}; T {self.config['data']['seq_len']}.",
            f"- {self.steps} steps of {self.batch_tokens} tokens, {self.steps * self.batch_tokens / 1e6:.2f} million in all; "
            f"seeds {', '.join(map(str, self.a.seeds))}; a seed decides initial weights and the order of the data, so arms see the same data.",
            "- GELU has no A, f and d; its MLP is wider by what makes up for them, rounded up, so it never has fewer parameters than the sine.",
            f"- Sine start: amplitude 1, frequency 2.25 ± 0.25, damping 0.001. Rates tried with the first seed: {', '.join(map(str, self.a.rates))}; each arm then stays at its best one.",
            f"- Machine: {facts}; {self.a.ranks} rank{'s' if self.a.ranks > 1 else ''} a run{f', {self.a.jobs} runs at once' if self.a.jobs > 1 else ''}.",
            f"- Command: `launch/claim.sh {' '.join(self.a.said)}`", "",
            "| arm | what | parameters | d_mlp | rate | validation loss by seed | mean | perplexity | bits per byte | against sine |",
            "|---|---|---|---|---|---|---|---|---|---|", *rows, "",
            "## What it shows", "", *("- " + s for s in said), "",
            *(["The best rate of " + ", ".join(edge) + " is at an end of those tried: a wider search could move the figures.", ""] if edge else []),
            "Perplexities are per token of this tokenizer and compare only within the table. The validation store chose the rate and gives the figure: a choice among "
            f"{len(self.a.rates)}, the same for every arm.", "",
            "## Validation loss by rate, first seed", "",
            "| arm | " + " | ".join(map(str, self.a.rates)) + " |", "|---|" + "---|" * len(self.a.rates), *tried, "",
            "The published figures (perplexity 210.6 for the sine, 262.4 for a transformer; 13 M parameters, 500 steps of 32768 tokens of WikiText-103) were never "
            "backed by files, at one learning rate for both, and are of another tokenizer and text: they can't stand in this table.", "",
        ]
        replace(out / "report.md", "\n".join(text))

    def machine(self):
        folders = sorted(pathlib.Path(self.a.runs).glob("*/system.json"))
        facts = json.loads(folders[0].read_text()) if folders else {}
        return f"{facts.get('cpu', 'unknown')}, {facts.get('engine', '')}"


def parameters_of(run):
    """As the program counted them."""
    found = re.search(r"^model .*: ([\d,]+) parameters", (run / "log.txt").read_text(), re.M)
    if not found:
        raise Failure(f"{run}/log.txt does not tell the number of parameters")
    return int(found.group(1).replace(",", ""))


def spread_of(*arms):
    """The largest difference between seeds of one arm."""
    return max(max(r["val_loss"] for r in a) - min(r["val_loss"] for r in a) for a in arms)


def replace(path, text):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def read_arguments():
    p = argparse.ArgumentParser(prog="claim.sh", usage="launch/claim.sh small|large [options] [section.key=value …]")
    p.add_argument("--config", required=True, help=argparse.SUPPRESS)
    p.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    p.add_argument("--runs", required=True, help="folder of the runs")
    p.add_argument("--out", required=True, help="folder of the report")
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--seeds", default="1 2")
    p.add_argument("--rates", default="0.003 0.006")
    p.add_argument("--arms", default=" ".join(COMPARED), help="of the comparison; sine must be among them")
    p.add_argument("--ablation", choices=["yes", "no"], default="yes")
    p.add_argument("--said", default="", help=argparse.SUPPRESS)
    p.add_argument("overrides", nargs="*")
    a = p.parse_intermixed_args()
    try:
        a.seeds = [int(s) for s in a.seeds.split()]
        a.rates = [float(r) for r in a.rates.split()]
    except ValueError as e:
        raise Failure(f"--seeds and --rates are numbers with spaces between: {e}")
    a.arms, a.said = a.arms.split(), a.said.split()
    if a.jobs < 1 or a.ranks < 1:
        raise Failure(f"--jobs is {a.jobs} and --ranks {a.ranks}: both are at least 1")
    unknown = [x for x in a.arms if x not in COMPARED]
    if unknown or "sine" not in a.arms or not a.seeds or not a.rates:
        raise Failure(f"--arms is '{' '.join(a.arms)}': give sine and others of {', '.join(COMPARED)}, with at least one seed and rate")
    return a


def main():
    try:
        study = Study(read_arguments())
        study.go()
        study.report()
    except (Failure, OSError, KeyError, ValueError) as e:
        print(f"claim.py: {e}", file=sys.stderr)
        return 1
    print((pathlib.Path(study.a.out) / "report.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
