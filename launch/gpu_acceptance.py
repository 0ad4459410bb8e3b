#!/usr/bin/env python3
"""Everything that shows what the GPU engine does, in stages of under nine minutes each, on a machine with GPUs and a finished build.

    launch/gpu_acceptance.py list                 the stages, with their parts
    launch/gpu_acceptance.py STAGE…               runs them; parts that went well before are passed by (--again: not)
    launch/gpu_acceptance.py pack FILE.tar.xz     programs and GPU tests of the build, stripped, to be unpacked in the project's folder there
    launch/gpu_acceptance.py report               report.md and logs.tar.gz from what was run

Nothing is built: the folder of the build (-b, build/) may have been moved here from another machine, tests are started by what it says of
them. Results are gathered in FOLDER/results.json (-o, runs/acceptance), logs beside it; both survive the end of a call, so that a stage can be
named again. --dry-run prints the commands alone. --cpu puts small stand-ins in the place of what needs a GPU: a test of this script.

The stage `real` wants the token stores of launch/train_124m.sh --stores, made where Debian's archive can be reached.
"""
import argparse
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
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
REFERENCE = SOURCE / "reports" / "reference_h200.json"
BUDGET = 520  # seconds of a call, after which no part goes on
SKIPPED = 77
MODELS = ("tiny", "small", "124m", "350m", "1b3", "1b5")
SANITIZED = ("ops-fp32", "ops-tf32", "ops-bf16", "ops-fp16", "bf16", "fp32", "wave")
RIVAL_BATCH = {"1b5": 16}  # what fits
REAL_STEPS = 1300  # five minutes and more on two GPUs


class Part:
    """A command of a stage. `read` takes the finished part's log and gives what belongs into its result."""

    def __init__(self, name, command, limit, folder=None, environment=None, read=None):
        self.name, self.command, self.limit = name, [str(c) for c in command], limit
        self.folder, self.environment, self.read = folder or SOURCE, environment or {}, read


def tests_of(o, wanted):
    """Tests of the build as commands here: the paths of the machine that built it are replaced."""
    info = o.build / "meson-info"
    there = json.loads((info / "meson-info.json").read_text())["directories"]

    def here(word):
        for old, new in ((there["build"], o.build), (there["source"], SOURCE)):
            if word == old or word.startswith(old + "/"):
                return str(new) + word[len(old):]
        return sys.executable if os.path.basename(word).startswith("python3") else word

    for test in json.loads((info / "intro-tests.json").read_text()):
        if wanted(test):
            yield Part(test["name"], [here(w) for w in test["cmd"]], test["timeout"] or 600, o.build,
                       {k: here(v) for k, v in test["env"].items()})


def in_gpu_suite(test):
    return any(s.split(":")[-1] == "gpu" for s in test["suite"])


def tests(o):
    if o.cpu:
        return list(tests_of(o, lambda t: t["name"] in ("base phase", "train micro_batch")))
    return list(tests_of(o, lambda t: in_gpu_suite(t) and t["name"] != "gpu training"))


def training(o):
    return list(tests_of(o, lambda t: t["name"] == ("base digest" if o.cpu else "gpu training")))


def sanitizer(tool):
    def parts(o):
        return [Part(f"{tool} {run}", ["launch/gpu_sanitize.sh", "-b", o.build, "-t", tool, "-r", run], 500) for run in SANITIZED]
    return parts


def bench(o, name, models, *options, ranks=1, limit=240):
    out = o.out / "bench" / name.replace(" ", "_")
    command = ["mpirun", "--bind-to", "none", "--oversubscribe", "-np", ranks] if ranks > 1 else []
    if o.cpu:
        models, options = "cpu", ("--steps", 1, "--warmup", 1, "--repeat", 1, "--mode", "forward" if "forward" in options else "train")

    def read(_):
        report = json.loads((out / "throughput.json").read_text())
        return {"rows": report["results"], "commit": report["commit"], "gemm_peak_tflops": report["gemm_peak_tflops"],
                "copy_gb_s": report["copy_gb_s"], "machine": {k: report["machine"].get(k) for k in ("engine", "cpu", "os", "version")}}
    return Part(name, command + [o.build / "src/programs/psann_bench", "throughput", "--models", models, "--out", out, *options], limit, read=read)


def speed(o):
    parts = [bench(o, "forward tiny", "tiny", "--mode", "forward", "--precision", "bf16,fp32")]
    return parts + [bench(o, f"train {m}", m, "--precision", "bf16") for m in MODELS]


def speed2(o):
    """One and two GPUs, one after the other: in one call, so that the machine is the same."""
    return [bench(o, f"{ranks} of {m}", m, "--precision", "bf16", "--strategy", "ddp", "--micro-batch", b, ranks=ranks)
            for m, b in (("124m", 32), ("1b3", 8)) for ranks in (1, 2)]


def rival(o):
    def read(log):
        return {"rows": [json.loads(line) for line in log.splitlines() if line.startswith("{")]}
    program = [sys.executable, "tests/speed/torch_rival_gpu.py"]
    if o.cpu:
        return [Part("rival cpu", program + ["cpu", "--steps", 1, "--warmup", 1, "--eager", "--precision", "fp32"], 100, read=read)]
    parts = [Part(f"rival {m}", program + [m] + (["--batch", RIVAL_BATCH[m]] if m in RIVAL_BATCH else []), 300, read=read) for m in MODELS]
    return parts + [Part(f"rival forward tiny {p}", program + ["tiny", "--forward", "--precision", p], 200, read=read) for p in ("bf16", "fp32")]


TEXTS = ("README.md", "docs/design.md", "docs/model.md", "docs/config.md")
SMALL = """[model]
d_model = 128
n_layers = 4
n_heads = 4
d_mlp = 512
[data]
train = {store}
seq_len = 128
[train]
micro_batch = 4
batch_tokens = 4096
max_steps = 10
warmup_steps = 2
lr = 0.002
[checkpoint]
interval = 0
[gemm]
plans = {plans}
"""


def agreement(o):
    """The same data and seed on either engine, ten steps."""
    folder = o.out / "agreement"
    programs = o.build / "src/programs"
    store, config = folder / "train.h5", folder / "small.ini"
    if not o.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(SMALL.format(store=store, plans=folder / "plans.txt"))

    def losses(run):
        rows = (folder / run / "metrics.csv").read_text().splitlines()
        return [float(row.split(",")[1]) for row in rows[1:]]

    def compare(_):
        cpu, gpu = losses("cpu"), losses("gpu")
        worst = max(abs(a - b) / a for a, b in zip(cpu, gpu))
        if len(cpu) != 10 or len(gpu) != 10 or not worst < 2e-2:
            raise ValueError(f"the first steps differ by {worst:.2g}: {cpu} {gpu}")
        return {"cpu": cpu, "gpu": gpu, "worst": worst}
    train = lambda run, *more: ["sh", "-c", 'rm -rf "$1"; shift; exec "$@"', "sh", folder / run, programs / "psann_train", config,
                                f"run.dir={folder / run}", *more]
    return [Part("store", [programs / "psann_data", "build", "--force", "--tokenizer", "bytes", "--train-out", store, *TEXTS], 60),
            Part("ten steps on the CPU", train("cpu", "run.device=cpu"), 120),
            Part("ten steps on the GPU", train("gpu", *(() if o.cpu else ("run.device=cuda", "train.precision=bf16"))), 120, read=compare)]


def real(o):
    """Five minutes of a real run; what is copied of it goes into the report."""
    run = o.out / "124m"

    def read(_):
        report = (run / "report" / "report.md").read_text()
        seconds = [float(line.split(":")[1].split()[0]) for line in report.splitlines() if line.startswith("- Last launch")]
        return {"report": report, "seconds": seconds[0] if seconds else None}
    if o.cpu:
        return [Part("124m", ["sh", "-c", "exit 77"], 10)]
    return [Part("124m", ["launch/train_124m.sh", f"run.dir={run}", f"train.max_steps={REAL_STEPS}", "eval.interval=325", "checkpoint.interval=650"], 520,
                 environment={"PSANN_BUILD": str(o.build)}, read=read)]


STAGES = {"tests": tests, "training": training, "memcheck": sanitizer("memcheck"), "racecheck": sanitizer("racecheck"),
          "speed": speed, "speed2": speed2, "rival": rival, "agreement": agreement, "real": real}


# Running.


# Open MPI refuses to run as root unless told twice.
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}


def run_part(part, log, seconds):
    """Code, or None at the limit; a part and all that it started end together."""
    with open(log, "wb") as out:
        out.write((shlex.join(part.command) + "\n").encode())
        out.flush()
        try:
            process = subprocess.Popen(part.command, cwd=part.folder, env={**os.environ, **ROOT, **part.environment}, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            out.write(f"{error}\n".encode())
            return 127
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return None


def state_of(code):
    return "ok" if code == 0 else "skipped" if code == SKIPPED else "time" if code is None else "FAILED"


def do_part(o, stage, part, left):
    log = o.out / "logs" / f"{stage}_{part.name.replace(' ', '_')}.log"
    began = time.monotonic()
    code = run_part(part, log, min(part.limit, left))
    result = {"state": state_of(code), "code": code, "seconds": round(time.monotonic() - began, 1), "command": shlex.join(part.command),
              "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    text = log.read_text(errors="replace")
    if code == 0 and part.read:
        try:
            result["found"] = part.read(text)
        except (OSError, ValueError, KeyError, IndexError) as error:
            result.update(state="FAILED", why=str(error))
    if result["state"] not in ("ok", "skipped"):
        result["tail"] = text.splitlines()[-12:]
    return result


def gpu_facts():
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def save(o, results):
    fresh = o.out / "results.json.new"
    fresh.write_text(json.dumps(results, indent=1) + "\n")
    fresh.rename(o.out / "results.json")


def run_stages(o, results):
    began, bad = time.monotonic(), 0
    for stage in o.stages:
        done = results["stages"].setdefault(stage, {})
        for part in STAGES[stage](o):
            if done.get(part.name, {}).get("state") == "ok" and not o.again:
                print(f"{stage:10} {part.name:28} ok before", flush=True)
                continue
            left = o.budget - (time.monotonic() - began)
            if left < 20:
                print(f"{stage:10} {part.name:28} not started: the {o.budget} s of this call are over; name the stage again", flush=True)
                bad += 1
                continue
            done[part.name] = result = do_part(o, stage, part, left)
            save(o, results)
            bad += result["state"] not in ("ok", "skipped")
            print(f"{stage:10} {part.name:28} {result['state']:8} {result['seconds']:7.1f} s  {result.get('why', '')}", flush=True)
            for line in result.get("tail", []):
                print("    " + line[:240], flush=True)
    return bad


# The report.


def rows_of(results, *stages):
    """Measured rows by (model, mode, precision, ranks, micro_batch)."""
    found = {}
    for stage in stages:
        for part in results["stages"].get(stage, {}).values():
            for row in part.get("found", {}).get("rows", []):
                found[(row["model"], row["mode"], row["precision"], row.get("ranks", 1), row["micro_batch"])] = row
    return found


def ratio(a, b):
    return a / b if a and b else None


def show(value, form):
    return form.format(value) if value is not None else "–"


def judged(row, ours, theirs, twice):
    """The targets of a row as (text, reached)."""
    for target, least in row["targets"].items():
        got = {"ratio": ratio(ours["tok_s"], theirs), "tok_s_least": ours["tok_s"], "mfu_least": ours.get("mfu"), "scaling": twice}[target]
        text = {"ratio": "{:.2f} ×", "tok_s_least": "{:,.0f} tok/s", "mfu_least": "{:.3f} MFU", "scaling": "{:.3f} of twice one"}[target]
        yield f"{text.format(least)}: {'yes' if got is not None and got >= least else 'NO'}"


def speed_table(results):
    ours, rivals = rows_of(results, "speed", "speed2"), rows_of(results, "rival")
    lines = ["| model | mode | precision | GPUs | B per GPU | tok/s | ms (least–most) | MFU | power, W | memory GiB: planned, reported | PyTorch, recorded | ratio | PyTorch, this run | ratio | wanted: reached |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in json.loads(REFERENCE.read_text())["rows"]:
        key = tuple(row[k] for k in ("model", "mode", "precision", "ranks", "micro_batch"))
        mine = ours.get(key)
        if mine is None or "error" in mine:
            lines.append(f"| {' | '.join(str(k) for k in key)} | {mine['error'] if mine else 'not measured'} |" + " – |" * 9)
            continue
        one = ours.get(key[:3] + (1,) + key[4:])
        twice = ratio(mine["tok_s"], key[3] * one["tok_s"]) if one and "tok_s" in one and key[3] > 1 else None
        now = next((r["tok_s"] for k, r in rivals.items() if k[:3] == key[:3] and key[3] == 1 and k[4] in (key[4], RIVAL_BATCH.get(key[0]))), None)
        gib = lambda key_: show(mine.get(key_) and mine[key_] / 2**30, "{:.1f}")
        cells = [*map(str, key), f"{mine['tok_s']:,.0f}", f"{mine['ms']:.2f} ({mine['ms_min']:.2f}–{mine['ms_max']:.2f})",
                 show(mine.get("mfu") and 100 * mine["mfu"], "{:.1f} %"), show(mine.get("power_w"), "{:.0f}"),
                 f"{gib('plan_bytes')}, {gib('peak_bytes')}" + show(ratio(mine.get("plan_bytes"), mine.get("peak_bytes")), " ({:.3f})"),
                 show(row["tok_s"], "{:,.0f}"), show(ratio(mine["tok_s"], row["tok_s"]), "{:.2f}"), show(now, "{:,.0f}"),
                 show(ratio(mine["tok_s"], now), "{:.2f}"), "; ".join(judged(row, mine, row["tok_s"], twice)) or "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def report_text(o, results):
    reference = json.loads(REFERENCE.read_text())
    found = [p["found"] for s in results["stages"].values() for p in s.values() if "commit" in p.get("found", {})]
    lines = [f"# The GPU engine, {time.strftime('%Y-%m-%d', time.gmtime())}", ""]
    lines += [f"- GPU: {gpu}" for gpu in results["gpus"]] or ["- no GPU"]
    if found:
        lines += [f"- {found[-1]['machine']['engine']}; {found[-1]['machine']['cpu']}; commit {found[-1]['commit']}",
                  f"- the machine itself: products {show(found[-1]['gemm_peak_tflops'], '{:.0f}')} TFLOP/s, copies {show(found[-1]['copy_gb_s'], '{:.0f}')} GB/s"]
    lines += ["- `launch/gpu_acceptance.py " + " ".join(results["stages"]) + "`", "", "## Correctness", "", "| stage | part | result | seconds |", "|---|---|---|---|"]
    for stage in ("tests", "training", "memcheck", "racecheck", "agreement"):
        for name, part in results["stages"].get(stage, {}).items():
            lines.append(f"| {stage} | {name} | {part['state']} | {part['seconds']} |")
    ten = results["stages"].get("agreement", {}).get("ten steps on the GPU", {}).get("found")
    if ten:
        lines += ["", f"First ten steps, CPU and GPU: relative difference of the losses at most {ten['worst']:.2g}", "", "| step | CPU, fp32 | GPU, bf16 |", "|---|---|---|"]
        lines += [f"| {i + 1} | {a:.5f} | {b:.5f} |" for i, (a, b) in enumerate(zip(ten["cpu"], ten["gpu"]))]
    lines += ["", "## Speed", "", f"psann: median of three timings of 20 steps after 5, random tokens. PyTorch, recorded: {reference['machine']}. {reference['conditions']}",
              "PyTorch, this run: `tests/speed/torch_rival_gpu.py`, the same model written here, on the same machine.", "", *speed_table(results)]
    for part in results["stages"].get("real", {}).values():
        if "found" in part:
            lines += ["", "## A real run", "", part["found"]["report"].replace("\n## ", "\n### ").replace("# ", "### ", 1)]
    missing = [f"{s}: {n} ({p['state']}) {p.get('why', '')}" for s, parts in results["stages"].items() for n, p in parts.items() if p["state"] != "ok"]
    missing += [f"{s}: not run" for s in STAGES if s not in results["stages"]]
    lines += ["", "## Not shown", "", *(f"- {m}" for m in missing or ["nothing"]), ""]
    return "\n".join(lines)


def write_report(o, results):
    text = report_text(o, results)
    (o.out / "report.md").write_text(text)
    with tarfile.open(o.out / "logs.tar.gz", "w:gz") as tar:
        if (o.out / "logs").is_dir():
            tar.add(o.out / "logs", arcname="logs")
    if o.collect:
        o.collect.mkdir(parents=True, exist_ok=True)
        for name in ("report.md", "results.json", "logs.tar.gz"):
            if (o.out / name).exists():
                (o.collect / name).write_bytes((o.out / name).read_bytes())
    print("\n".join(speed_table(results)))
    print(f"{o.out / 'report.md'}")


# Packing.


def pack(o, target):
    """What the stages need of the build, stripped, under the names that it has here."""
    info = o.build / "meson-info"
    programs = sorted(p for p in (o.build / "src/programs").glob("psann_*") if p.is_file() and os.access(p, os.X_OK))
    tests_there = sorted({pathlib.Path(p.command[0]) for p in tests_of(o, in_gpu_suite) if pathlib.Path(p.command[0]).is_relative_to(o.build)})
    folder = o.build.relative_to(SOURCE) if o.build.is_relative_to(SOURCE) else pathlib.Path("build")
    # All hold the same kernels: a dictionary that spans two of them keeps them once.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 3, "dict_size": 96 << 20}]
    with tempfile.TemporaryDirectory() as work, lzma.open(target, "wb", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for file in [*programs, *tests_there, *(o.build / "tests/speed").glob("*.so")]:
            small = pathlib.Path(work) / "file"
            subprocess.run(["strip", "-o", small, file], check=True)
            tar.add(small, arcname=folder / file.relative_to(o.build))
        for file in (info / "intro-tests.json", info / "meson-info.json"):
            tar.add(file, arcname=folder / "meson-info" / file.name)
    print(f"{target}: {pathlib.Path(target).stat().st_size / 2**20:.1f} MiB")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("stages", nargs="+", metavar="STAGE", help="of: " + " ".join(STAGES) + "; all, list, report, pack FILE")
    p.add_argument("-b", dest="build", type=pathlib.Path, default=SOURCE / "build", metavar="BUILD")
    p.add_argument("-o", dest="out", type=pathlib.Path, default=SOURCE / "runs" / "acceptance", metavar="FOLDER")
    p.add_argument("--collect", type=pathlib.Path, metavar="FOLDER", help="copies report.md, results.json and logs.tar.gz there at the end")
    p.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help=f"of this call ({BUDGET})")
    p.add_argument("--again", action="store_true", help="also parts that went well before")
    p.add_argument("--dry-run", action="store_true")
    p.add_argument("--cpu", action="store_true", help="stand-ins on the CPU: a test of this script")
    o = p.parse_args()
    o.build, o.out = o.build.resolve(), o.out.resolve()
    if o.stages[0] == "pack":
        if len(o.stages) != 2:
            p.error("pack wants the name of one file")
        return pack(o, o.stages[1])
    report_only = o.stages == ["report"]
    listed = o.stages == ["list"]
    if listed or o.stages == ["all"]:
        o.stages = list(STAGES)
    unknown = [s for s in o.stages if s not in STAGES]
    if unknown and not report_only:
        p.error(f"there is no stage {unknown[0]}: choose of {' '.join(STAGES)}")
    if listed or o.dry_run:
        o.dry_run = True
        for stage in o.stages:
            for part in STAGES[stage](o):
                print(f"{stage:10} {part.name:28}" + ("" if listed else f" (cd {part.folder} && {shlex.join(part.command)})"))
        return 0
    (o.out / "logs").mkdir(parents=True, exist_ok=True)
    file = o.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {"stages": {}}
    results["gpus"] = gpu_facts() or results.get("gpus", [])
    bad = 0 if report_only else run_stages(o, results)
    save(o, results)
    write_report(o, results)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
