"""The stages, but for those of sharded training: each gives its parts."""
import json
import os
import re
import shutil
import sys

from gpus import visible

from .parts import SOURCE, Part, mpirun

MODELS = ("tiny", "small", "124m", "350m", "1b3", "1b5")
SANITIZED = ("ops-fp32", "ops-tf32", "ops-bf16", "ops-fp16", "ops-fp8", "bf16", "fp32", "fp8", "wave")
RIVAL_BATCH = {"1b5": 16}  # what fits
REAL_STEPS = 1300  # five minutes and more on two GPUs
TEXTS = ("README.md", "docs/design.md", "docs/model.md", "docs/config.md")


def tests_of(o, wanted):
    """Tests of the build as commands here: the paths of the machine that built it are replaced."""
    info = o.build / "meson-info"
    there = json.loads((info / "meson-info.json").read_text())["directories"]

    def here(word):
        word = os.path.normpath(word) if "/../" in word else word
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
    found = list(tests_of(o, lambda t: t["name"] in ("base phase", "train micro_batch") if o.cpu else in_gpu_suite(t) and t["name"] != "gpu training"))
    for part in found:
        part.together = True
    return found


# They measure the memory of a GPU, which nobody else may then use.
ALONE = ("test_the_memory_plan_agrees_with_the_device", "test_offload_takes_what_the_plan_says", "test_micro_batch_auto")


def training(o):
    """The tests of test_gpu_train.py, each a part of its own."""
    whole = next(tests_of(o, lambda t: t["name"] == ("base digest" if o.cpu else "gpu training")), None)
    if whole is None:
        raise SystemExit(f"gpu_acceptance: the build in {o.build} has no tests of the GPU engine; configure it with CUDA and -Dtests=enabled, or try the script itself with --cpu")
    if o.cpu:
        return [whole]
    names = re.findall(r"def (test_\w+)", (SOURCE / "tests" / "cuda" / "test_gpu_train.py").read_text())
    return [Part(name[5:].replace("_", " "), [*whole.command, f"Gpu.{name}"], whole.limit, whole.folder, whole.environment, together=name not in ALONE) for name in names]


def sanitizer(tool):
    def parts(o):
        if o.cpu:
            return [Part(tool, ["sh", "-c", "exit 77"], 10)]
        return [Part(f"{tool} {run}", ["launch/gpu_sanitize.sh", "-b", o.build, "-t", tool, "-r", run], 500, together=True) for run in SANITIZED]
    return parts


def bench_command(o, models, *options):
    if o.cpu:
        kept = [w for i, w in enumerate(options) if not {"--precision", "--micro-batch"} & {w, options[i - 1] if i else ""}]
        models, options = "cpu", (*kept, "--steps", 1, "--warmup", 1, "--repeat", 1)
    if not o.cpu and "--steps" not in options:
        options = (*options, "--steps", o.bench_steps)
    return [o.build / "src/programs/psann_bench", "throughput", "--models", models, *options]


def read_bench(out, **more):
    report = json.loads((out / "throughput.json").read_text())
    return {"rows": [{**row, **more} for row in report["results"]], "commit": report["commit"], "gemm_peak_tflops": report["gemm_peak_tflops"],
            "copy_gb_s": report["copy_gb_s"], "machine": {k: report["machine"].get(k) for k in ("engine", "cpu", "os", "version")}}


def bench(o, name, models, *options, ranks=1, limit=240, attempt=False, environment=None):
    """`attempt`: a model that doesn't fit is a row that says so, and no failure."""
    out = o.out / "bench" / name.replace(" ", "_")

    def read(_):
        found = read_bench(out)
        if not found["rows"] or not attempt and any("error" in row for row in found["rows"]):
            raise ValueError(next((row["error"] for row in found["rows"] if "error" in row), "the report has no rows"))
        return found
    command = (mpirun(ranks) if ranks > 1 else []) + bench_command(o, models, *options) + ["--out", out]
    return Part(name, command, limit, environment=environment, read=read, codes=(0, 1) if attempt else (0,),
                prepare=lambda: (out / "throughput.json").unlink(missing_ok=True))


def speed(o):
    parts = [bench(o, "forward tiny", "tiny", "--mode", "forward", "--precision", "bf16,fp32")]
    return parts + [bench(o, f"train {m}", m, "--precision", "bf16") for m in MODELS]


def fp8(o):
    """Products in 8 bits beside bf16, model by model."""
    return [bench(o, f"fp8 {m}", m, "--precision", "bf16,fp8") for m in (MODELS[:1] if o.cpu else MODELS)]


# Two commands at the same time, each on a GPU of its own; $1 and $2: the GPUs, $3 and $4: their folders.
BOTH = """gpu=$1 other=$2 one=$3 two=$4; shift 4
CUDA_VISIBLE_DEVICES=$gpu "$@" --out "$one" & first=$!
CUDA_VISIBLE_DEVICES=$other "$@" --out "$two"; second=$?
wait $first && exit $second"""


def each_alone(o, model, batch):
    """One model on each of two GPUs at the same time: under their power limits no two are the same."""
    name = f"each GPU alone {model}"
    folders = [o.out / "bench" / f"{name}_{i}".replace(" ", "_") for i in (0, 1)]
    command = ["sh", "-c", BOTH, "sh", *(visible()[:2] if len(visible()) > 1 else "01"), *folders, *bench_command(o, model, "--precision", "bf16", "--micro-batch", batch)]

    def read(_):
        found = [read_bench(folder, gpu=i) for i, folder in enumerate(folders)]
        return {**found[0], "rows": [row for f in found for row in f["rows"]]}
    return Part(name, command, 240, read=read, prepare=lambda: [(f / "throughput.json").unlink(missing_ok=True) for f in folders])


def speed2(o):
    """Two GPUs together, and each alone, one after the other: in one call, so that the machine is the same."""
    return [part for m, b in (("124m", 32), ("1b3", 8))[:1 if o.cpu else 2] for part in (
        each_alone(o, m, b), bench(o, f"2 of {m}", m, "--precision", "bf16", "--strategy", "ddp,shard_optimizer", "--micro-batch", b, ranks=2))]


def read_rival(log):
    rows = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    if not rows:
        raise ValueError("it printed no figures")
    return {"rows": rows}


def rival(o):
    program = [sys.executable, "tests/speed/torch_rival_gpu.py"]
    if o.cpu:
        return [Part("rival cpu", program + ["cpu", "--steps", 1, "--warmup", 1, "--eager", "--precision", "fp32"], 100, read=read_rival)]
    parts = [Part(f"rival {m}", program + [m] + (["--batch", RIVAL_BATCH[m]] if m in RIVAL_BATCH else []), 300, read=read_rival) for m in MODELS]
    return parts + [Part(f"rival forward tiny {p}", program + ["tiny", "--forward", "--precision", p], 200, read=read_rival) for p in ("bf16", "fp32")]


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


def text_store(o, store):
    """A part that makes the project's own texts a store of bytes."""
    return Part("store", [o.build / "src/programs/psann_data", "build", "--force", "--tokenizer", "bytes", "--train-out", store, *TEXTS], 60, makes=store,
                prepare=lambda: store.parent.mkdir(parents=True, exist_ok=True))


def agreement(o):
    """The same data and seed on either engine, ten steps."""
    folder = o.out / "agreement"
    store, config = folder / "train.h5", folder / "small.ini"

    def losses(run):
        rows = (folder / run / "metrics.csv").read_text().splitlines()
        return [float(row.split(",")[1]) for row in rows[1:]]

    def compare(_):
        cpu, gpu = losses("cpu"), losses("gpu")
        worst = max((abs(a - b) / a for a, b in zip(cpu, gpu)), default=1)
        if len(cpu) != 10 or len(gpu) != 10 or not worst < 2e-2:
            raise ValueError(f"the first steps differ by {worst:.2g}: {cpu} {gpu}")
        return {"cpu": cpu, "gpu": gpu, "worst": worst}

    def train(name, run, *more, read=None):
        return Part(name, [o.build / "src/programs/psann_train", config, f"run.dir={folder / run}", *more], 120, read=read, makes=folder / run / "metrics.csv",
                    prepare=lambda: fresh(folder / run, config, SMALL.format(store=store, plans=folder / "plans.txt")))
    return [text_store(o, store), train("ten steps on the CPU", "cpu", "run.device=cpu"),
            train("ten steps on the GPU", "gpu", *(() if o.cpu else ("run.device=cuda", "train.precision=bf16")), read=compare)]


def fresh(run, config=None, text=None):
    """No trace of the run, and its config written."""
    shutil.rmtree(run, ignore_errors=True)
    if config is not None:
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(text)


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
