"""report.md of what was run."""
import json
import tarfile
import time

from .junit import junit
from .parts import SOURCE
from .sharding import STRATEGIES
from .stages import RIVAL_BATCH
from .survive import WATCH_S

REFERENCE = SOURCE / "reports" / "reference_h200.json"
CHECKS = ("tests", "training", "memcheck", "racecheck", "agreement", "strategies", "save7b", "survive")
GIB = 2**30


def found_of(results, *stages):
    """What parts of these stages found."""
    for stage in stages:
        for part in results["stages"].get(stage, {}).values():
            if "found" in part:
                yield part["found"]


def rows_of(results, *stages):
    return [row for found in found_of(results, *stages) for row in found.get("rows", [])]


USUAL = {"unordered": None, "offload": "none"}  # what a row has that does not say, and what is wanted where nothing else is


def pick(rows, wanted):
    """The last row that has the values of `wanted`, measured where there is one; of ordered sums and all state on the GPU, if nothing else is wanted."""
    wanted = {**USUAL, **wanted}
    fit = [row for row in rows if all({**USUAL, **row}.get(key) == value for key, value in wanted.items())]
    return ([row for row in fit if "tok_s" in row] or fit or [None])[-1]


def ratio(a, b):
    return a / b if a and b else None


def show(value, form):
    return form.format(value) if value is not None else "–"


def gib(row, key):
    return show(row[key] / GIB if row and row.get(key) else None, "{:.1f}")


def memory(row):
    return f"{gib(row, 'plan_bytes')}, {gib(row, 'peak_bytes')}" + show(ratio(row.get("plan_bytes"), row.get("peak_bytes")), " ({:.3f})")


def judged(targets, got):
    """The targets of a row as (text, reached). `got` has a figure for each, or None."""
    text = {"ratio": "{:.2f} × PyTorch", "tok_s_least": "{:,.0f} tok/s", "mfu_least": "{:.3f} MFU", "of_ddp": "{:.2f} of ddp",
            "memory_most": "{:.2f} of PyTorch's memory at most"}
    for target, wanted in targets.items():
        value = got.get(target)
        reached = value is not None and (value <= wanted if target == "memory_most" else value >= wanted)
        yield f"{text[target].format(wanted)}: {'yes' if reached else 'NO'}"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def figures(row):
    """tok/s, time, MFU, power and clock, memory."""
    return [f"{row['tok_s']:,.0f}", f"{row['ms']:.2f} ({row['ms_min']:.2f}–{row['ms_max']:.2f})", show(row.get("mfu") and 100 * row["mfu"], "{:.1f} %"),
            f"{show(row.get('power_w'), '{:.0f}')}, {show(row.get('sm_mhz'), '{:.0f}')}", memory(row)]


FIGURES = ["tok/s", "ms (least–most)", "MFU", "power, W; clock, MHz", "memory GiB: planned, reported"]


def line(names, row, rest, width):
    """Cells of a row with its figures, or why there are none."""
    if row is None or "error" in row:
        return [*names, row["error"] if row else "not measured"] + ["–"] * (width - len(names) - 1)
    return [*names, *figures(row), *rest]


def speed_table(results):
    ours, rivals = rows_of(results, "speed", "speed2"), rows_of(results, "rival", "rival2")
    head = ["model", "mode", "precision", "GPUs", "B per GPU", *FIGURES, "PyTorch, recorded", "ratio", "PyTorch, this run", "ratio", "wanted: reached"]
    lines = []
    for row in json.loads(REFERENCE.read_text())["rows"]:
        wanted = {k: row[k] for k in ("model", "mode", "precision", "ranks", "micro_batch")}
        two = row["ranks"] > 1
        mine = pick(ours, {**wanted, **({"strategy": "ddp"} if two else {})})
        now = pick(rivals, {**wanted, "micro_batch": RIVAL_BATCH.get(row["model"], row["micro_batch"]), "parallel": "ddp" if two else "none"})
        now, speed = now and now["tok_s"], mine and mine.get("tok_s")
        got = {"ratio": ratio(speed, row["tok_s"]), "tok_s_least": speed, "mfu_least": mine and mine.get("mfu")}
        rest = [show(row["tok_s"], "{:,.0f}"), show(got["ratio"], "{:.2f}"), show(now, "{:,.0f}"), show(ratio(speed, now), "{:.2f}"),
                "; ".join(judged(row["targets"], got)) or "–"]
        lines.append(line(wanted.values(), mine, rest, len(head)))
    return table(head, lines)


def scaling_table(results):
    """Two GPUs together, and each of them alone at the same time. What is wanted is a share of twice one GPU: of the slower one, which the other
    waits for in every step."""
    ours, lines = rows_of(results, "speed2"), []
    for row in json.loads(REFERENCE.read_text())["scaling"]:
        same = {"model": row["model"], "micro_batch": row["micro_batch"]}
        alone = [(pick(ours, {**same, "ranks": 1, "gpu": gpu}) or {}).get("tok_s") for gpu in (0, 1)]
        both = (pick(ours, {**same, "ranks": 2, "strategy": row["strategy"]}) or {}).get("tok_s")
        got = ratio(both, 2 * min(alone) if all(alone) else None)
        lines.append([row["model"], row["strategy"], row["micro_batch"], *(show(v, "{:,.0f}") for v in (*alone, both)),
                      show(ratio(both, sum(alone) if all(alone) else None), "{:.3f}"), show(got, "{:.3f}"), f"{row['least']}: {'not measured' if got is None else 'yes' if got >= row['least'] else 'NO'}"])
    return table(["model", "strategy", "B per GPU", "GPU 0 alone, tok/s", "GPU 1 alone", "both together", "of their sum", "of twice the slower", "wanted: reached"], lines)


def sharding_table(results):
    ours, rivals, lines = rows_of(results, "strategies", "large", "offload"), rows_of(results, "rival2"), []
    head = ["model", "strategy", "recompute", "GPUs", "B per GPU", *FIGURES, "PyTorch: tok/s, GiB", "of", "ratio", "of ddp", "wanted: reached"]
    for row in json.loads(REFERENCE.read_text())["sharding"]:
        wanted = {k: row[k] for k in ("model", "strategy", "recompute", "ranks", "micro_batch")}
        mine, recorded = pick(ours, wanted), row.get("rival")
        now = recorded and pick(rivals, {"model": row["model"], "ranks": row["ranks"], "micro_batch": row["micro_batch"], "parallel": recorded["parallel"]})
        theirs, speed = now or recorded or {}, mine and mine.get("tok_s")
        of_ddp = ratio(speed, (pick(ours, {**wanted, "strategy": "ddp", "recompute": "none"}) or {}).get("tok_s"))
        got = {"ratio": ratio(speed, theirs.get("tok_s")), "of_ddp": of_ddp, "memory_most": ratio(mine and mine.get("peak_bytes"), theirs.get("peak_bytes"))}
        origin = f"{recorded['parallel']}, {'this machine' if now else 'recorded'}" if recorded else "–"
        rest = [f"{show(theirs.get('tok_s'), '{:,.0f}')}, {gib(theirs, 'peak_bytes')}", origin, show(got["ratio"], "{:.2f}"), show(of_ddp, "{:.3f}"),
                "; ".join(judged(row["targets"], got)) or "–"]
        lines.append(line(wanted.values(), mine, rest, len(head)))
    return table(head, lines)


def beside_lines(results, stages, title, names, usual, of):
    """All rows of these stages, each beside the one that has the values of `usual` and else the same: a table with `names`, keys and what they are called."""
    ours, lines = rows_of(results, *stages), []
    for row in ours:
        twin = pick(ours, {**{k: row[k] for k in (*names, "recompute")}, **usual})
        of_twin = ratio(row.get("tok_s"), twin and twin.get("tok_s"))
        lines.append(line([row[k] for k in names], row, [show(of_twin, "{:.3f}")], len(names) + len(FIGURES) + 1))
    return ["", title, "", *table([*names.values(), *FIGURES, of], lines)] if lines else []


def offload_lines(results):
    names = {"model": "model", "recompute": "recompute", "micro_batch": "B", "offload": "offload"}
    return beside_lines(results, ["offload"], "One GPU, the optimizer's state there and in the host's memory:", names, {"offload": "none"}, "of without")


def memory_lines(results):
    """One GPU: how little, and how much."""
    rows, width = rows_of(results, "memory"), 5 + len(FIGURES)
    names = {"model": "model", "recompute": "recompute", "offload": "offload", "micro_batch": "B", "seq_len": "T"}
    lines = [line([row.get(k) for k in names], row, [], width) for row in rows]
    return ["", "One GPU, by the size of the micro-batch:", "", *table([*names.values(), *FIGURES], lines)] if lines else []


def fp8_lines(results):
    names = {"model": "model", "ranks": "GPUs", "strategy": "strategy", "micro_batch": "B per GPU", "precision": "precision"}
    return beside_lines(results, ["fp8", "fp8_2"], "Products of the inner blocks in 8 bits (MFU of bf16's peak all the same):", names, {"precision": "bf16"}, "of bf16")


def order_lines(results):
    """What the fixed order of all sums costs."""
    rows = rows_of(results, "strategies")
    free = pick(rows, {"unordered": True})
    mine = free and pick(rows, {k: free[k] for k in ("model", "strategy", "recompute", "ranks", "micro_batch")})
    if not mine or "ms" not in free or "ms" not in mine:
        return []
    cost = mine["ms"] / free["ms"] - 1
    return ["", f"The fixed order of all sums costs {100 * cost:.2f} % of a step of {free['model']} ({free['strategy']}, {mine['ms']:.2f} ms against {free['ms']:.2f} ms with "
            f"attention's backward as cuDNN is fastest; a sum over two ranks has one order only). Wanted: 2 % at most: {'yes' if cost <= 0.02 else 'NO'}."]


def bits_lines(results):
    """Which runs had the same losses and norms."""
    runs = {name: part for name, part in results["stages"].get("strategies", {}).items() if " steps " in name}
    if not runs:
        return []
    lines = ["", f"1b3's shape on two GPUs, losses and gradients' norms as written in metrics.csv, each strategy held against {STRATEGIES[0]}:", ""]
    cells = []
    for name, part in runs.items():
        found = part.get("found")
        cells.append([name, f"{found['first'][0]} … {found['last'][0]}" if found else "–", found["sha256"][:16] if found else "–",
                      "the same" if found else part.get("why", part["state"])])
    return lines + table(["run", "first and last loss", "SHA-256 of all", "bits"], cells)


def save_lines(results):
    parts = results["stages"].get("save7b", {})
    whole, again = (parts.get(name, {}).get("found") for name in ("four steps", "from step 2"))
    lines = []
    if whole:
        ranks = ", ".join(f"{b / GIB:.1f}" for b in whole["resident_bytes"])
        lines += ["", f"- 7b, full_shard on two GPUs: the checkpoint of step 2, {whole['file_bytes'] / 1e9:.1f} GB, took {whole['save_seconds']:.1f} s "
                  f"({whole['file_bytes'] / 1e9 / max(whole['save_seconds'], 0.01):.2f} GB/s); training waited {whole['waited_seconds']:.1f} s for it.",
                  f"- Most host memory: {ranks} GiB resident by rank; the host's free memory fell by {whole['host_bytes'] / GIB:.1f} GiB "
                  "(weights and moments are copied there to be written while training goes on)."]
    if again:
        ranks = ", ".join(f"{b / GIB:.1f}" for b in again["resident_bytes"])
        lines += [f"- Loaded in {again['load_seconds']:.1f} s; most host memory {ranks} GiB resident by rank.",
                  f"- Steps 3 and 4 after it have the unbroken run's losses and norms, bit for bit: {again['first']}, {again['last']}."]
    return lines


def survive_lines(results):
    """A run that is ended, or loses a rank, and what checkpoints cost."""
    found = {name: part["found"] for name, part in results["stages"].get("survive", {}).items() if "found" in part}
    seconds = lambda f, key: show(f.get(key), "{:.1f}")
    rows = [[name, f["at_step"], seconds(f, "named_s"), seconds(f, "ended_s"), seconds(f, "again_s"), seconds(f["launches"][-1], "first_step_s"),
             f["launches"][-1]["resumed_from"], "the same"] for name, f in found.items() if "at_step" in f]
    lines = ["", "124m on two ranks, seconds from the signal to rank 1; SIGKILL and SIGSTOP meet a run under `launch/supervise.sh` (watch.timeout_s = "
             f"{WATCH_S}, a pause of a second before the new launch). Losses of all steps, weights and moments at the end are held against an unbroken run's.", ""] if rows else []
    lines += table(["what", "at step", "named", "launch ended", "first step of the next launch", "of these from its start", "from step", "bits"], rows) if rows else []
    if "unbroken" in found:
        f = found["unbroken"]
        speed = lambda ms: f"{ms:.1f} ms each, {1000 * f['batch_tokens'] / ms:,.0f} tok/s"
        lines += ["", f"- First step {seconds(f['launches'][0], 'first_step_s')} s after the start.", f"- Checkpoints of {f['file_bytes'] / 1e9:.2f} GB in the background: "
                  + "; ".join(f"step {s['step']}: written in {s['seconds']:.1f} s, training stood still for {s['copied']:.2f} s, for its copy, {s['steps']} steps beside it took {speed(s['ms'])}"
                              for s in f["saves"]) + f"; steps without take {speed(f['usual_ms'])}.",
                  f"- At one a minute that is {100 * f['share']:.2f} % of the time (the dearest one). Wanted: under 2 %: {'yes' if f['share'] < 0.02 else 'NO'}."]
    if "every phase" in found:
        lines += ["", found["every phase"]["page"].replace("# ", "### ", 1)]
    return lines


def ten_lines(results):
    ten = results["stages"].get("agreement", {}).get("ten steps on the GPU", {}).get("found")
    if not ten:
        return []
    lines = ["", f"First ten steps, CPU and GPU: relative difference of the losses at most {ten['worst']:.2g}", ""]
    return lines + table(["step", "CPU, fp32", "GPU, bf16"], [[i + 1, f"{a:.5f}", f"{b:.5f}"] for i, (a, b) in enumerate(zip(ten["cpu"], ten["gpu"]))])


def report_text(results, stages):
    reference = json.loads(REFERENCE.read_text())
    found = [f for f in found_of(results, *results["stages"]) if "commit" in f]
    lines = [f"# The GPU engine, {time.strftime('%Y-%m-%d', time.gmtime())}", ""]
    lines += [f"- GPU: {gpu}" for gpu in results["gpus"]] or ["- no GPU"]
    if found:
        lines += [f"- {found[-1]['machine']['engine']}; {found[-1]['machine']['cpu']}; commit {found[-1]['commit']}",
                  f"- the machine itself: products {show(found[-1]['gemm_peak_tflops'], '{:.0f}')} TFLOP/s, copies {show(found[-1]['copy_gb_s'], '{:.0f}')} GB/s"]
    lines += ["- `launch/gpu_acceptance.py " + " ".join(results["stages"]) + "`", "", "## Correctness", ""]
    lines += table(["stage", "part", "result", "seconds"],
                   [[stage, name, part["state"], part["seconds"]] for stage in CHECKS for name, part in results["stages"].get(stage, {}).items()])
    lines += [*ten_lines(results), *bits_lines(results), *save_lines(results), *survive_lines(results), "", "## Speed", "",
              f"psann: median of three timings of {results.get('bench_steps', 20)} steps after 5, random tokens. PyTorch, recorded: {reference['machine']}. {reference['conditions']}",
              "PyTorch, this run: `tests/speed/torch_rival_gpu.py`, the same model written here, on the same machine.", "", *speed_table(results), "",
              "## Two GPUs of twice one", "",
              "Each GPU alone is measured at the same time as the other: under their power limits no two are equally fast. "
              "In a step the faster waits for the slower, so that twice the slower is what two could do at most.", "",
              *scaling_table(results), "", "## Sharding", "",
              "PyTorch's figures are those of this machine where it was measured here, else the recorded ones. psann's reported memory is all that the device lost, "
              "its libraries' included; PyTorch's, measured here, is the most that its allocator handed out.", "", *sharding_table(results), *offload_lines(results), *memory_lines(results), *fp8_lines(results), *order_lines(results)]
    for part in results["stages"].get("real", {}).values():
        if "found" in part:
            lines += ["", "## A real run", "", part["found"]["report"].replace("\n## ", "\n### ").replace("# ", "### ", 1)]
    missing = [f"{s}: {n} ({p['state']}) {p.get('why', '')}" for s, parts in results["stages"].items() for n, p in parts.items() if p["state"] != "ok"]
    missing += [f"{s}: not run" for s in stages if s not in results["stages"]]
    return "\n".join(lines + ["", "## Not shown", "", *(f"- {m}" for m in missing or ["nothing"]), ""])


def write_report(o, results, stages):
    (o.out / "report.md").write_text(report_text(results, stages))
    (o.out / "junit.xml").write_text(junit(results))
    with tarfile.open(o.out / "logs.tar.gz", "w:gz") as tar:
        if (o.out / "logs").is_dir():
            tar.add(o.out / "logs", arcname="logs")
    if o.collect:
        o.collect.mkdir(parents=True, exist_ok=True)
        for name in ("report.md", "results.json", "junit.xml", "logs.tar.gz"):
            if (o.out / name).exists():
                (o.collect / name).write_bytes((o.out / name).read_bytes())
    print("\n".join([*speed_table(results), "", *scaling_table(results), "", *sharding_table(results)]))
    print(f"{o.out / 'report.md'}")
