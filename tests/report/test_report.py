"""psann_report as a person starts it, on run folders with known and with hostile content, and its pages in a browser."""
import html.parser
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree

import browser

PROGRAMS = pathlib.Path(os.environ["PSANN_PROGRAMS"])
HOSTILE = "<script>document.title='owned'</script>\"'&<img src=x onerror=document.title='owned'>"
COMMAND_FOR_GNUPLOT = "`touch {}`\n', system('touch {}'), '"


class Page(html.parser.HTMLParser):
    """Tags, their attributes, and the text of a page; ids must be there once, and tags must be closed in order."""

    VOID = {"meta", "link", "img", "br", "hr", "input"}

    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.ids, self.open = [], [], [], []
        self.feed(pathlib.Path(path).read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", " ".join(self.words))
        assert not self.open, f"not closed: {self.open}"
        assert len(set(self.ids)) == len(self.ids), f"an id stands twice: {self.ids}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [v for k, v in attributes if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [v for k, v in attributes if k == "id"]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def count(self, tag):
        return sum(t == tag for t, _ in self.tags)


class ReportCase(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="psann_report_"))
        self.addCleanup(shutil.rmtree, self.folder)

    def report(self, *arguments, code=0, **environment):
        done = subprocess.run([PROGRAMS / "psann_report", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                              env={**os.environ, **environment}, cwd=self.folder)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def run_folder(self, name, steps=50, events=(), config=None, system=None, **columns):
        """A run whose loss falls from 5; `columns` are further fields, as functions of the step."""
        run = self.folder / name
        run.mkdir(parents=True)
        with open(run / "metrics.jsonl", "w") as f:
            write = lambda o: f.write(json.dumps(o) + "\n")
            write({"event": "start", "step": 0, "ranks": 2, "parameters": 123456, "plan weights": 4 << 20, "plan activations": 9 << 20, "message": ""})
            for step in range(1, steps + 1):
                loss = 5 / (1 + step / 20) + 0.2 * math.sin(step)
                row = {"step": step, "loss": loss, "ppl": math.exp(loss), "lr": 4e-4 * min(1, step / 10), "grad_norm": 1 + 1 / step, "tok_s": 12345.6 + step,
                       "step_ms": 80, "tokens": 1000 * step, "epoch": step / 100, "skipped": False}
                if step % 10 == 0:
                    row.update(val_loss=loss + 0.1, val_ppl=math.exp(loss + 0.1), val_bits_per_byte=None)
                row.update({k: v(step) for k, v in columns.items()})
                write(row)
                if step % 10 == 0:
                    write({"event": "evaluation", "step": step, "val_loss": loss + 0.1, "val_ppl": math.exp(loss + 0.1), "val_accuracy": 0.25, "seconds": 0.5,
                           "peak_bytes": 20 << 20, "message": ""})
            for event in events:
                write(event)
            write({"event": "stop", "step": steps, "seconds": 1.5, "message": "finished"})
        (run / "config.ini").write_text(config or "[run]\ndir = somewhere\n[model]\nbase = respsann\nd_model = 64\n[train]\nlr = 0.0004\n")
        machine = {"command": ["psann_train", "my config.ini", "run.dir=x"], "host": "h", "ranks": 2, "engine": "CPU fp32", "memory_bytes": 1 << 34, "version": "0.1.0",
                   "commit": "0123456789ab", "libraries": {"MPI": "4", "HDF5": "1.10"}}
        (run / "system.json").write_text(json.dumps({**machine, **(system or {})}))
        return run


class Content(ReportCase):
    def test_run(self):
        run = self.run_folder("run", events=[{"event": "skip", "step": 50, "message": "loss nan: the update is skipped"},
                                             {"event": "save", "step": 50, "seconds": 0.25, "message": "checkpoints/step_00000050.h5"}])
        self.assertRegex(self.report(run), "report.html: 1 run$")
        page = Page(run / "report.html")
        self.assertEqual(page.count("svg"), 1 + 2 * page.count("figure"))  # the symbols; wide and narrow
        for what in ("Figure 1. Loss", "Perplexity", "Learning rate", "Norm of the gradient", "Throughput", "Memory of a rank", "After 50 steps (50,000 tokens",
                     "123,456 parameters", "The run finished.", "loss nan: the update is skipped", "checkpoints/step_00000050.h5", "d_model", "commit", "0123456789ab",
                     "mpirun -np 2 psann_train 'my config.ini' run.dir=x", "16.0 GiB", "20.0 MiB", "1 start, 1 skip, 1 save, 1 stop."):
            self.assertIn(what, page.text)
        for absent in ("Step time over the ranks", "Loss scale", "could not be read", "bits per byte, best"):
            self.assertNotIn(absent, page.text)
        rows = [json.loads(l) for l in (run / "metrics.jsonl").read_text().splitlines()]
        best = min(r["val_loss"] for r in rows if "val_loss" in r and "event" not in r)
        self.assertIn(f"{best:.3f} at step", page.text)
        given = re.findall(r'<tr class="given"><th scope="row">(\w+)', (run / "report.html").read_text())
        self.assertIn("d_model", given)  # not the default
        self.assertNotIn("base", given)

    def test_nothing_is_fetched(self):
        """No address in any attribute or style, but for places within the page."""
        page_text = Page(self.made("run"))
        for tag, attributes in page_text.tags:
            self.assertNotIn(tag, ("script", "link", "iframe", "object", "embed", "img"))
            for name in ("src", "href", "srcset", "action", "data", "poster"):
                self.assertTrue(attributes.get(name, "#").startswith("#"), (tag, attributes))
        style = re.sub(r'xmlns(:\w+)?="[^"]*"', "", (self.folder / "run/report.html").read_text())
        self.assertNotRegex(style, r"url\(|@import|https?:")

    def made(self, name, **options):
        run = self.run_folder(name, **options)
        self.report(run)
        return run / "report.html"

    def test_times_of_ranks_and_loss_scale(self):
        page = Page(self.made("run", busy_ms_min=lambda s: 70 + s % 3, busy_ms_median=lambda s: 75, busy_ms_max=lambda s: 90 + s % 5,
                              slowest=lambda s: 3 if s % 4 else 1, loss_scale=lambda s: 65536))
        self.assertIn("Step time over the ranks", page.text)
        self.assertIn("Rank 3 was the slowest most often: in 76 %", page.text)
        self.assertIn("Loss scale", page.text)
        again = Page(self.made("events", events=[{"event": "ranks", "step": s, "step_ms_min": 1, "step_ms_max": 2, "slowest_rank": 0, "busy_ms": [1, 2]} for s in (10, 20, 30)]))
        self.assertIn("From the fastest to the slowest rank. Rank 0 was the slowest most often: in 100 %", again.text)

    def test_hostile_text(self):
        mark = self.folder / "mark"
        command = COMMAND_FOR_GNUPLOT.format(mark, mark)
        run = self.run_folder(HOSTILE.replace("/", "_"), config=f"[run]\ndir = {HOSTILE}\n[{HOSTILE}]\n{HOSTILE.replace('=', '~')} = {HOSTILE}\n", system={
            "host": HOSTILE, "commit": HOSTILE, "command": [HOSTILE, "\x1b[31m", "\udcff"], HOSTILE: {HOSTILE: HOSTILE}}, events=[
                {"event": HOSTILE, "step": 3, "message": HOSTILE, HOSTILE: 4}, {"event": "start", "step": 4, f"plan {command}": 1e6, f"plan {HOSTILE}": 2e6, "plan a'b\"c\\": 3e6}])
        self.report(run)
        page = Page(run / "report.html")
        self.assertEqual((page.count("script"), page.count("img")), (0, 0))
        self.assertGreater(page.text.count("document.title='owned'"), 8)
        self.assertEqual(page.count("svg"), 1 + 2 * page.count("figure"))
        self.assertIn("Memory of a rank", page.text)
        self.assertFalse(mark.exists())

    def test_pictures_are_xml_of_their_own(self):
        text = self.made("run").read_text()
        pictures = re.findall(r"<svg role=.*?</svg>", text, re.S)
        self.assertEqual(len(pictures), 12)
        for picture in pictures:
            xml.etree.ElementTree.fromstring(picture)
            self.assertNotRegex(picture, r"rgb\(|\$d\d")

    def test_torn_and_strange_lines(self):
        run = self.run_folder("run")
        with open(run / "metrics.jsonl", "a") as f:
            f.write('not JSON\n[1]\n{"step":"7"}\n{"step":1e300}\n{"step":51,"loss":null,"ppl":null,"grad_norm":1e400}\n{"step":52,"lo')
        self.report(run)
        self.assertIn("5 lines of metrics.jsonl could not be read and are left out", Page(run / "report.html").text)

    def test_runs_with_little(self):
        for name, lines in (("empty", ""), ("started", '{"event":"start","step":0}\n'), ("one", '{"step":1,"loss":2.5,"lr":0,"grad_norm":0,"tok_s":1,"skipped":true}\n'),
                            ("nan", '{"step":1,"loss":null}\n{"step":2,"loss":null}\n')):
            run = self.folder / name
            run.mkdir()
            (run / "metrics.jsonl").write_text(lines)
            self.assertNotIn("warning", self.report(run))
            self.assertIn("(system.json)", Page(run / "report.html").text)

    def test_how_it_ended(self):
        """status.ini knows best; where there is none, the events tell."""
        stop = {"event": "stop", "step": 50, "message": "signal"}
        for i, (events, mark, words) in enumerate((
                ((), None, "The run finished."), ([stop, {"event": "start", "step": 50}], None, "The run has not ended, or was killed."),
                ([{"event": "start", "step": 50}], "state = failed\nstep = 50\nreason = " + "no memory; " * 60 + HOSTILE + "\n", "The run failed : no memory; " + "no memory; " * 59 + HOSTILE),
                ((), "state = stopped\nreason = signal SIGUSR1\n", "The run was stopped, and can go on: signal SIGUSR1."),
                ((), "state = running\nreason = \n", "The run has not ended, or was killed."),
                ((), "state = finished\n", "The run finished."))):
            run = self.run_folder(f"run{i}", events=events)
            if events:
                lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
                (run / "metrics.jsonl").write_text("".join(lines[:-1]))  # not the last event, which says finished
            if mark is not None:
                (run / "status.ini").write_text(mark)
            self.report(run)
            self.assertIn(words, Page(run / "report.html").text)

    def test_events_that_are_not_known(self):
        """They stand in the list with all that they have; of many events, what is out of the ordinary stands open."""
        odd = [{"event": "spike", "step": 20, "loss": 9.25, "message": "its update is skipped"}, {"event": "rollback", "step": 10, "from_step": 20, "message": "m"},
               {"event": "surprise", "step": 30, "host": HOSTILE, "busy_ms": [1.5, 12345.678, None], "hot": True, "nothing": None, "wanted": {"a": 1, "b": "two"}}]
        few = Page(self.made("few", events=odd))
        self.assertIn("1 start, 1 spike, 1 rollback, 1 surprise, 1 stop.", few.text)
        for words in ("20 spike its update is skipped loss 9.250", "10 rollback m from_step 20", "host " + HOSTILE + ", busy_ms 1.500 12,346, hot yes, wanted a 1; b two"):
            self.assertIn(words, few.text)
        self.assertEqual(few.count("details"), 0)
        many = Page(self.made("many", events=odd + [{"event": "save", "step": s, "message": f"checkpoint {s}"} for s in range(2000)]))
        self.assertEqual(many.text.count("20 spike its update is skipped"), 1)
        self.assertEqual(many.count("details"), 1)
        self.assertIn("All 2005 events", many.text)
        self.assertIn("The 1005 before these are in metrics.jsonl.", many.text)
        self.assertIn("checkpoint 1999", many.text)

    def test_what_has_no_points(self):
        """A field without a value that can be drawn has no figure, and does not take the others' away."""
        for name, columns in (("zero", {"grad_norm": lambda s: 0}), ("huge", {"grad_norm": lambda s: 1e300}), ("nothing", {"grad_norm": lambda s: None})):
            runs = [self.run_folder(f"{name}/{i}", **columns) for i in range(2)]
            self.assertNotIn("warning", self.report(self.folder / name))
            page = Page(self.folder / name / "report.html")
            self.assertNotIn("Norm of the gradient", page.text)
            self.assertIn("Throughput", page.text)
            self.assertNotIn("warning", self.report(*runs[:1]))

    def test_title(self):
        run = self.run_folder("run")
        self.report(run, "--title", HOSTILE)
        self.assertIn("Training run " + HOSTILE, Page(run / "report.html").text)

    def test_long_values(self):
        """Lines of config.ini have any length."""
        path = "/very/long" * 60 + "/train.h5"
        page = Page(self.made("run", config=f"[data]\ntrain = {path}\nval = a = b\n[train]\nlr = 0.5\n"))
        for words in (f"train {path} val", "val a = b", "lr 0.5"):
            self.assertIn(words, page.text)

    def test_long_run(self):
        """Pictures don't grow with the run."""
        path = self.made("run", steps=20000)
        self.assertLess(path.stat().st_size, 1 << 20)

    def test_without_gnuplot(self):
        run = self.run_folder("run")
        empty = self.folder / "empty"
        empty.mkdir()
        out = self.report(run, PATH=str(empty))
        self.assertRegex(out, "warning: the report has no pictures: the program gnuplot was not found; install it .*gnuplot-nox")
        page = Page(run / "report.html")
        self.assertEqual(page.text.count("The pictures are missing: the program gnuplot was not found"), 1)
        self.assertEqual(page.count("figure"), 0)
        self.assertIn("d_model", page.text)

    def test_gnuplot_that_fails(self):
        run = self.run_folder("run")
        bad = self.folder / "bin" / "gnuplot"
        bad.parent.mkdir()
        bad.write_text("#!/bin/sh\necho 'out of ink' >&2\nexit 3\n")
        bad.chmod(0o755)
        self.assertRegex(self.report(run, PATH=f"{bad.parent}:{os.environ['PATH']}"), r"gnuplot could not draw a picture \(exit code 3\): out of ink")

    def bundle(self):
        for i in range(10):
            config = f"[run]\ndir = runs/{i}\n[model]\nd_model = {64 + i // 5}\n" + ("sine_amp_init = 1\n" if i > 0 else "") + "[train]\nlr = 0.1\n"
            self.run_folder(f"all/sub/run{i}", config=config)
        bench = self.folder / "all" / "bench" / "20260101T000000Z"
        bench.mkdir(parents=True)
        row = {"model": "tiny", "mode": "train", "precision": "bf16", "strategy": "ddp", "ranks": 1, "micro_batch": 4, "seq_len": 256, "tok_s": 614750.2, "ms": 3.5, "mfu": 0.436,
               "peak_bytes": 3 << 30, "power_w": 611.5, "loss": 10.4}
        (bench / "throughput.json").write_text(json.dumps({"machine": {"command": ["psann_bench", "throughput"], "host": "h", "ranks": 2}, "results": [
            row, {**row, "mode": "forward"}, {"model": HOSTILE, "mode": "train", "error": HOSTILE}]}))
        speed = {"base": "respsann", "mode": "forward", "precision": "fp32", "B": 32, "T": 4096, "tokens_per_s": 1413925.1, "published_tokens_per_s": 614750, "ratio": 2.3, "peak_bytes": 30e9}
        shape = {"model": {"base": "waveresnet", "d_model": 512, "n_layers": 8}, "precision": "bf16", "B": 8, "T": 1024, "memory_ratio": 0.45, "time_ratio": 1.25,
                 "none": {"planned_bytes": 8 << 30}, "block": {"planned_bytes": 4 << 30}}
        steps = {"GPU-01": {"verdict": "pass", "threshold": "the loss falls", "figure": "5.5 to 5.1", "left_out": "the rest"},
                 "GPU-03": {"verdict": "pass", "rows": [{**speed, "base": base, "B": B} for base in ("respsann", "waveresnet") for B in (4, 16, 32, 64)] + [{**speed, "mode": "train", "base": HOSTILE}]},
                 "GPU-04": {"verdict": "pass", "shapes": [shape]}, "GPU-07": {"verdict": "pass", "sample": HOSTILE + " and then"}, "GPU-05": {"verdict": "skipped", "reason": "one GPU alone"},
                 HOSTILE: {"verdict": "fail", "threshold": HOSTILE, "figure": HOSTILE}}
        (self.folder / "all" / "gpu").mkdir()
        (self.folder / "all" / "gpu" / "summary.json").write_text(json.dumps({"system": {"host": "h"}, "results": steps}))
        (self.folder / "all" / "tiny").mkdir()
        (self.folder / "all" / "tiny" / "metrics.json").write_text(json.dumps({"val_ppl": 4.5, "published": {"val_ppl": 4.904, "loss_by_step": {"50": 5.55}}, "loss_by_step": {"50": 4.44},
                                                                               "note": HOSTILE}))
        (self.folder / "all" / "other").mkdir()
        (self.folder / "all" / "other" / "metrics.json").write_text('{"val_ppl": 3}')
        (self.folder / "all" / "other" / "summary.json").write_text('{"passed": 3}')
        (self.folder / "all" / "other" / "throughput.json").write_text('{"results": 3}')
        return self.folder / "all"

    def test_bundle(self):
        folder = self.bundle()
        out = self.report(folder, "-o", "page.html", "--title", HOSTILE)
        self.assertIn("page.html: 10 runs, 1 validation, 2 benchmarks", out)
        self.assertRegex(out, "warning: .*other/throughput.json' is left out")
        page = Page(self.folder / "page.html")
        self.assertEqual(page.count("script"), 0)
        for what in ("Training loss", "Validation loss", "run0", "run9", "614,750", "43.6", "model.d_model", "psann_bench throughput", HOSTILE, "the loss falls", "5.5 to 5.1", "one GPU alone", "(the rest)",
                     "4 passed, 1 failed , 1 skipped", "1,413,925", "614,750", "2.30 ×", "27.9 GiB", "waveresnet, D 512, L 8", "4.0 GiB", "0.45 ×", "and then", "validation perplexity", "0.92 ×",
                     "training loss, step 50", "0.80 ×"):
            self.assertIn(what, page.text)
        for absent in ("model.sine_amp_init", "run.dir train", "train.lr"):
            self.assertNotIn(absent, page.text)
        self.assertEqual(page.count("figure"), 6)

    def test_several_folders(self):
        a, b = self.run_folder("a"), self.run_folder("b")
        self.assertIn("2 runs", self.report(a, b))
        self.assertIn("Not at all, but for run.dir", Page(a / "report.html").text)


class RealRuns(ReportCase):
    """What psann_train and psann_bench leave."""

    ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OPENBLAS_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                       OMPI_MCA_hwloc_base_binding_policy="none", OMPI_MCA_mpi_yield_when_idle="1")

    def done(self, *command):
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=self.folder, env=self.ENVIRONMENT, timeout=200)

    def setUp(self):
        super().setUp()
        text = self.folder / "text"
        text.mkdir()
        for i in range(40):
            (text / f"{i}.txt").write_text(f"{i}: the cat sees the dog and the king. " * 20)
        self.done(PROGRAMS / "psann_data", "build", "--tokenizer", "bytes", "--train-out", "t.h5", text)
        (self.folder / "c.ini").write_text("[run]\ndir = run\n[model]\nd_model = 16\nn_layers = 1\nn_heads = 2\nd_mlp = 16\n[data]\ntrain = t.h5\nval = t.h5\nseq_len = 16\n"
                                           "[train]\nbatch_tokens = 64\nmax_steps = 20\nwarmup_steps = 2\n[eval]\ninterval = 10\nbatches = 2\n")

    def page(self, name="run"):
        self.report(name)
        return Page(self.folder / name / "report.html")

    def test_one_rank(self):
        self.done(PROGRAMS / "psann_train", "c.ini")
        page = self.page()
        self.assertEqual(page.count("figure"), 6)
        for what in ("After 20 steps (1,280 tokens", "peak memory, rank 0", "sine_learnable", "bits per byte, best", "The run finished.", ", 1 rank,"):
            self.assertIn(what, page.text)
        for row in ("weights", "activations", "sum of the plan", "measured peak"):
            self.assertRegex(page.text, rf"\b{row}\b")

    def test_two_ranks_stopped_and_resumed(self):
        ranks = ("mpirun", "-np", "2", PROGRAMS / "psann_train", "c.ini")
        self.done(*ranks, "train.max_steps=10")
        self.assertIn("After 10 steps", self.page().text)
        self.done(*ranks)
        page = self.page()
        for what in ("After 20 steps (1,280 tokens", ", 2 ranks,", "2 start,", "2 stop.", "mpirun -np 2", "The run finished."):
            self.assertIn(what, page.text)

    def test_killed(self):
        """Its last line is cut in two, as a crash of the machine may leave it."""
        process = subprocess.Popen([PROGRAMS / "psann_train", "c.ini", "train.max_steps=1000000", "checkpoint.interval=0", "eval.interval=0"], cwd=self.folder, env=self.ENVIRONMENT,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics, limit = self.folder / "run" / "metrics.jsonl", time.monotonic() + 60
        while (not metrics.exists() or metrics.stat().st_size < 5000) and time.monotonic() < limit:
            time.sleep(0.05)
        process.kill()
        process.wait()
        data = metrics.read_bytes()
        self.assertGreater(len(data), 4999)
        metrics.write_bytes(data[:-20])
        page = self.page()
        for what in ("The run has not ended, or was killed.", "1 line of metrics.jsonl could not be read and is left out."):
            self.assertIn(what, page.text)
        self.assertGreaterEqual(page.count("figure"), 6)

    def test_no_evaluation(self):
        config = self.folder / "c.ini"
        config.write_text(re.sub(r"val = .*\n|\[eval\](.|\n)*", "", config.read_text()))
        self.done(PROGRAMS / "psann_train", "c.ini", "train.max_steps=1", "train.warmup_steps=0")
        page = self.page()
        self.assertEqual(page.count("figure"), 6)
        for absent in ("validation", "Evaluations"):
            self.assertNotIn(absent, page.text)

    def test_validation_and_benchmark(self):
        self.done(PROGRAMS / "psann_bench", "validate", "--device", "cpu", "--only", "GPU-01", "GPU-02", "GPU-04", "--text", "text", "--out", "all")
        self.done(PROGRAMS / "psann_bench", "throughput", "--models", "cpu", "--steps", "1", "--warmup", "0", "--repeat", "1", "--seq-len", "32", "--out", "all/benchmarks/speed")
        page = self.page("all")
        for what in ("1 validation, 1 benchmark", "2 passed, 0 failed , 1 skipped", "GPU-04 pass", "the CPU engine computes fp32", "waveresnet, D 128, L 2", "cpu train fp32", "psann_bench validate"):
            self.assertIn(what, page.text)
        self.assertEqual(page.count("figure"), 1)


class Refused(ReportCase):
    def test_usage(self):
        self.assertIn("usage: psann_report FOLDER", self.report("--help"))
        self.assertIn("libraries:", self.report("--version"))
        self.assertIn("no folder given", self.report(code=2))
        self.assertIn("--bogus", self.report("--bogus", code=2))

    def test_folders(self):
        empty = self.folder / "empty"
        empty.mkdir()
        for folder, message in ((empty, "holds neither a run"), (self.folder / "nothing", "No such file")):
            out = self.report(folder, code=2)
            self.assertIn(message, out)
            self.assertIn(str(folder), out)
            self.assertEqual(out.count("error:"), 1)

    def test_output_that_cannot_be_written(self):
        run = self.run_folder("run")
        self.assertIn("nothing/page.html", self.report(run, "-o", "nothing/page.html", code=2))
        self.assertEqual(list(run.glob("report*")), [])


@unittest.skipIf(browser.program() is None, "no Chromium is installed")
class InBrowser(ReportCase):
    """No script error, no request, and nothing wider than the window."""

    def look(self, path):
        for width in (360, 1440):
            for dark in (False, True):
                self.browser.open(path, width, dark)
                self.assertEqual(self.browser.evaluate("innerWidth"), width)
                self.assertEqual(self.browser.evaluate(browser.OVERFLOWING), [], width)
                self.assertEqual(self.browser.evaluate(browser.CUT), [], width)
                self.assertEqual(self.browser.evaluate("[...document.querySelectorAll('details')].map(d => d.open = true).length && 0"), 0)
                self.assertEqual(self.browser.evaluate(browser.OVERFLOWING), [], f"{width}, all opened")
                requests = [p["request"]["url"] for m, p in self.browser.events if m == "Network.requestWillBeSent"]
                self.assertEqual(requests, [path.resolve().as_uri()])
                wrong = [(m, p) for m, p in self.browser.events if m in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")]
                self.assertEqual(wrong, [])
                self.assert_readable()
                shown = self.browser.evaluate("[...document.querySelectorAll('figure')].every(f => [...f.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width > 250).length == 1)")
                self.assertTrue(shown, "one picture of each figure")

    def assert_readable(self):
        """Contrast of text and curves with the page's ground."""
        colours = self.browser.evaluate("""(() => {
          const style = e => getComputedStyle(e), main = document.querySelector('main');
          const all = [style(main).color, style(document.querySelector('.kind')).color];
          for (const p of document.querySelectorAll('figure path[stroke^="var(--s"]')) all.push(style(p).stroke);
          return [style(document.body).backgroundColor, [...new Set(all)]]; })()""")

        def luminance(colour):
            parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
            linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        ground = luminance(colours[0])
        self.assertGreater(len(colours[1]), 2)
        for colour in colours[1]:
            low, high = sorted((ground, luminance(colour)))
            self.assertGreater((high + 0.05) / (low + 0.05), 3, (colours[0], colour))

    @classmethod
    def setUpClass(cls):
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    def test_the_checks_see_what_is_wrong(self):
        bad = self.folder / "bad.html"
        bad.write_text("<body><figure><svg width=100 height=20><text x=80 y=15>cut off</text><text x=10 y=15>whole</text></svg></figure><div class=a style='width:2000px'>x</div><img src='file:///nothing.png'><script>nothing()</script></body>")
        self.browser.open(bad, 360)
        self.assertEqual(len(self.browser.evaluate(browser.OVERFLOWING)), 2)
        self.assertEqual(self.browser.evaluate(browser.CUT), ["cut off"])
        methods = [m for m, _ in self.browser.events]
        self.assertIn("Runtime.exceptionThrown", methods)
        self.assertEqual(methods.count("Network.requestWillBeSent"), 2)

    def test_run(self):
        run = self.run_folder("run", busy_ms_min=lambda s: 70, busy_ms_max=lambda s: 90, events=[{"event": "save", "step": 50, "message": "m"}] * 60)
        self.report(run)
        self.look(run / "report.html")

    def test_hostile_and_long_text(self):
        long = "W" * 200
        run = self.run_folder(long, config=f"[run]\ndir = {HOSTILE}\n[{long}]\n{long} = {long}\n", system={"host": HOSTILE, long: long, "command": [long, HOSTILE]},
                              events=[{"event": long, "step": 1, "message": f"{HOSTILE} {long}", long: 1, HOSTILE: 2}])
        self.report(run)
        self.look(run / "report.html")
        self.assertEqual(self.browser.evaluate("document.title"), long)

    def test_bundle(self):
        Content.bundle(self)
        self.report(self.folder / "all", "-o", "page.html", "--title", "W" * 300)
        self.look(self.folder / "page.html")


if __name__ == "__main__":
    unittest.main(verbosity=2)
