"""Stages of sharded training on two GPUs: the same bits under every strategy, speed, models larger than a GPU, a checkpoint of 80 GB."""
import configparser
import hashlib
import json
import shutil
import sys

from .parts import SOURCE, Part, mpirun
from .stages import bench, fresh, read_rival, text_store

STRATEGIES = ("ddp", "shard_optimizer", "shard_grad", "full_shard")
FILE_7B = 81e9  # bytes of its checkpoint, rounded up

CONFIG = """{model}
[data]
train = {store}
seq_len = 2048
[train]
micro_batch = {micro_batch}
batch_tokens = {batch_tokens}
max_steps = 1000
warmup_steps = 10
recompute = {recompute}
[checkpoint]
interval = 0
keep_last = 1
"""
TINY = ("model.vocab_size=512", "model.d_model=64", "model.n_layers=2", "model.n_heads=4", "model.d_mlp=256", "data.seq_len=32")


def model_of(file):
    """The section [model] of a config that came with the project."""
    ini = configparser.ConfigParser(inline_comment_prefixes=(";", "#"))
    if not ini.read(SOURCE / "configs" / file):
        raise ValueError(f"configs/{file} is missing")
    model = {"vocab_size": 32000, **ini["model"]}
    return "\n".join(["[model]", *(f"{k} = {v}" for k, v in model.items())])


def write_config(path, file, **values):
    """A short run of that model."""
    path.write_text(CONFIG.format(model=model_of(file), **values))


def watched(o, name, run, config, *more, step, saved=None, limit, prepare=None, read=None, makes=None):
    """Two ranks of psann_train, ended after a step."""
    facts = run.with_name(run.name + ".json")
    command = [sys.executable, "launch/acceptance/watched.py", "--run", run, "--step", step, *(("--saved", saved) if saved else ()), "--facts", facts, "--",
               *mpirun(2), o.build / "src/programs/psann_train", config, f"run.dir={run}", *more, *(TINY if o.cpu else ())]
    return Part(name, command, limit, read=read, prepare=prepare or (lambda: fresh(run)), makes=makes or run / "metrics.csv")


def steps_of(run):
    """(loss, gradient's norm) by step, as written: the shortest text that reads back as the same number."""
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    loss, norm = lines[0].index("loss"), lines[0].index("grad_norm")
    return {int(row[0]): (row[loss], row[norm]) for row in lines[1:]}


def compare(run, other, steps):
    """What the steps of both are, where they are the same; ValueError otherwise."""
    mine, theirs = steps_of(run), steps_of(other)
    for step in steps:
        if step not in mine or mine[step] != theirs.get(step):
            raise ValueError(f"step {step}: {run.name} has loss, gradient's norm {mine.get(step)}, {other.name} {theirs.get(step)}")
    text = "\n".join(",".join(mine[step]) for step in steps)
    return {"steps": [steps[0], steps[-1]], "first": mine[steps[0]], "last": mine[steps[-1]], "sha256": hashlib.sha256(text.encode()).hexdigest()}


def strategies(o):
    folder = o.out / "strategies"
    store, config, steps = folder / "train.h5", folder / "1b3.ini", range(1, (8 if o.cpu else 50) + 1)

    def part(strategy):
        run = folder / strategy

        def prepare():
            fresh(run)
            write_config(config, "bench/1b3.ini", store=store, micro_batch=4, batch_tokens=256 if o.cpu else 32768, recompute="none")
        return watched(o, f"{len(steps)} steps {strategy}", run, config, f"parallel.strategy={strategy}", step=steps[-1], limit=150, prepare=prepare,
                       read=lambda _: compare(run, folder / STRATEGIES[0], steps))
    speed = [bench(o, f"speed {s}", "1b3", "--micro-batch", 8, "--strategy", s, ranks=2) for s in STRATEGIES]
    cheap = bench(o, "speed full_shard cheap", "1b3", "--micro-batch", 8, "--strategy", "full_shard", "train.recompute=cheap", ranks=2)
    free = bench(o, "speed shard_optimizer unordered", "1b3", "--micro-batch", 8, "--strategy", "shard_optimizer", "--unordered", ranks=2)
    return [text_store(o, store), *map(part, STRATEGIES), *(speed[-1:] if o.cpu else speed), cheap, free]


def attempts(o, ranks, recomputes, *options, mark=""):
    """The large models on so many GPUs, 7b with each of these; what doesn't fit is told, and no failure."""
    def part(name, model, batch, *more):
        return bench(o, f"{ranks} of {name}{mark}", model, "--micro-batch", batch, "--steps", 5, *options, *more, ranks=ranks, attempt=True)
    parts = [part("3b", "3b", 4), part("7b", "7b", 2), *(part(f"7b {r}", "7b", 2, f"train.recompute={r}") for r in recomputes)]
    return parts[:1] if o.cpu else parts


def large(o):
    return attempts(o, 2, ("cheap", "block"), "--strategy", "full_shard")


def fp8_2(o):
    """Products in 8 bits beside bf16 on two GPUs."""
    both = ("--precision", "bf16,fp8", "--strategy")
    small = bench(o, "2 of 1b3 fp8", "1b3", "--micro-batch", 8, "--steps", 10, *both, "ddp,shard_optimizer,full_shard", ranks=2)
    return [*([] if o.cpu else [small]), *attempts(o, 2, (), *both, "full_shard", mark=" fp8")]


def offload(o):
    """With the optimizer's state on the GPU, and in the host's memory."""
    return attempts(o, 1, ("cheap",), "--strategy", "ddp", "--offload", "none,optimizer")


def memory(o):
    """How little a model of D 512 and 8 blocks trains in, down to one short sequence with the optimizer's state in the host's memory, and how large a
    micro-batch of 1b3 a GPU takes: the largest of each list that fits; what doesn't is told, and no failure."""
    def part(name, model, batch, *more):
        return bench(o, name, model, "--precision", "bf16", "--micro-batch", batch, *more, attempt=True)
    little = [part(f"small {r}, B {b}", "small", b, f"train.recompute={r}") for r, bs in (("none", (64,)), ("block", (64, 16, 8, 4, 2, 1))) for b in bs]
    little.append(part("small at least", "small", 1, "--seq-len", 64, "--offload", "optimizer", "train.recompute=block"))
    much = [part(f"1b3 {r}, B {b}", "1b3", b, "--steps", 3, "--warmup", 2, "--repeat", 2, f"train.recompute={r}")
            for r, bs in (("none", (36, 34)), ("cheap", (52,)), ("block", (232, 216))) for b in bs]
    return [little[0], little[-1]] if o.cpu else little + much


def save7b(o):
    """Four steps, of which the second is saved; then steps three and four again, from the file. It is gone at the end."""
    folder = o.out / "save7b"
    store, config, file = folder / "train.h5", folder / "7b.ini", folder / "unbroken" / "checkpoints" / "step_00000002.h5"
    # A tiny run takes many steps and saves before it is seen that it did enough.
    same = ("parallel.strategy=full_shard", *(("checkpoint.keep_last=1000",) if o.cpu else ()))

    def room():
        fresh(folder / "unbroken")
        write_config(config, "7b.ini", store=store, micro_batch=1, batch_tokens=64 if o.cpu else 4096, recompute="cheap")
        free = shutil.disk_usage(folder).free
        if not o.cpu and free < FILE_7B:
            raise ValueError(f"the checkpoint takes {FILE_7B / 1e9:.0f} GB, and {folder} has {free / 1e9:.0f} GB free")

    def facts(run):
        found = json.loads((folder / f"{run}.json").read_text())
        return {key: found[key] for key in ("seconds", "resident_bytes", "host_bytes")}, found["events"]

    def saved(_):
        found, events = facts("unbroken")
        save = next(e for e in events if e["event"] == "save" and e["step"] == 2)
        for partial in file.parent.glob(".*.tmp"):  # of step 4, at whose start the ranks were ended
            partial.unlink()
        return {**found, "save_seconds": save["seconds"], "waited_seconds": save["waited"], "file_bytes": file.stat().st_size}

    def resumed(log):
        same_steps = compare(folder / "resumed", folder / "unbroken", range(3, 5))
        load = next(line for line in log.splitlines() if "[load] step=2 " in line)
        shutil.rmtree(file.parent)
        return {**facts("resumed")[0], **same_steps, "load_seconds": float(load.split("dt=")[1].split("s")[0])}
    return [text_store(o, store),
            watched(o, "four steps", folder / "unbroken", config, *same, "checkpoint.interval=2", step=4, saved=2, limit=340, prepare=room,
                    read=saved, makes=file),
            watched(o, "from step 2", folder / "resumed", config, *same, f"run.resume={file}", step=4, limit=240, read=resumed)]


def rival2(o):
    """PyTorch on two GPUs."""
    def part(model, parallel, batch, *more):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "tests/speed/torch_rival_gpu.py", model,
                   "--parallel", parallel, "--batch", batch, *more]
        return Part(f"rival {model} {parallel}", command, 300, read=read_rival)
    if o.cpu:
        return [part("cpu", parallel, 1, "--steps", 1, "--warmup", 1, "--eager") for parallel in ("fsdp2", "ddp")]
    return [part(*run) for run in (("1b3", "fsdp2", 8), ("3b", "fsdp2", 4), ("7b", "fsdp2", 2), ("1b3", "ddp", 8), ("124m", "ddp", 32))]
