"""launch/gpu_acceptance.py with its stand-ins on the CPU: stages, what is passed by, limits, the tables, and a build that was moved."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as tree

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = SOURCE / "launch" / "gpu_acceptance.py"
BUILD = pathlib.Path(os.environ["PSANN_BUILD"])


sys.path.insert(0, str(SOURCE / "launch"))
from acceptance import parts, report, sharding, stages, survive  # noqa: E402


class Acceptance(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="psann_acceptance_"))
        self.addCleanup(shutil.rmtree, self.folder)

    def run_script(self, *arguments, code=0, build=BUILD):
        done = subprocess.run([sys.executable, SCRIPT, "-b", build, "-o", self.folder / "out", *map(str, arguments)], capture_output=True, text=True, timeout=400)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def results(self):
        return json.loads((self.folder / "out" / "results.json").read_text())["stages"]

    def test_stages_run_once_and_are_reported(self):
        out = self.run_script("--cpu", "--side-by-side", "tests", "agreement", "--collect", self.folder / "collected")
        self.assertEqual({p["state"] for s in self.results().values() for p in s.values()}, {"ok"})
        self.assertEqual(self.results()["agreement"]["ten steps on the GPU"]["found"]["worst"], 0)  # both on the CPU
        self.assertIn("not measured", out)
        report = (self.folder / "collected" / "report.md").read_text()
        self.assertIn("| tests | base phase | ok |", report)
        self.assertIn("- speed: not run", report)
        before = self.results()
        self.assertEqual(self.run_script("--cpu", "tests").count("ok before"), 2)
        self.assertEqual(self.results(), before)
        self.run_script("--cpu", "--again", "tests")
        self.assertNotEqual(self.results()["tests"], before["tests"])

    def test_a_part_that_fails_or_has_no_time(self):
        moved = self.folder / "build"
        shutil.copytree(BUILD / "meson-info", moved / "meson-info")
        out = self.run_script("--cpu", "tests", code=1, build=moved)  # its programs are not there
        self.assertIn("FAILED", out)
        self.assertIn("No such file", out)
        self.assertIn("(FAILED)", (self.folder / "out" / "report.md").read_text())
        suite = tree.parse(self.folder / "out" / "junit.xml").getroot().find("testsuite")
        self.assertEqual((suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("skipped")), ("tests", "2", "2", "0"))
        self.assertEqual({case.get("name") for case in suite.iter("testcase")}, {"base phase", "train micro_batch"})
        self.assertEqual(len(list(suite.iter("failure"))), 2)
        self.assertIn("not started", self.run_script("--cpu", "--budget", 10, "tests", code=1))

    def test_tests_of_a_build_that_was_moved(self):
        moved = self.folder / "build"
        for file in ("meson-info/intro-tests.json", "meson-info/meson-info.json", "tests/base/test_base_phase", "tests/train/test_micro_batch"):
            (moved / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(BUILD / file, moved / file)
        self.run_script("--cpu", "tests", build=moved)
        for part in self.results()["tests"].values():
            self.assertIn(str(moved), part["command"])

    def test_a_library_that_is_not_there_is_said_before_any_work(self):
        moved = self.folder / "build"
        for file in ("meson-info/intro-tests.json", "meson-info/meson-info.json"):
            (moved / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(BUILD / file, moved / file)
        program, library = moved / "tests/base/test_base_phase", self.folder / "libabsent_of_a_test.so"
        program.parent.mkdir(parents=True)
        compiler = ["cc", "-x", "c", "-", "-o"]
        subprocess.run([*compiler, library, "-shared", "-fPIC"], input="int absent(void) { return 0; }", text=True, check=True)
        subprocess.run([*compiler, program, f"-L{self.folder}", "-labsent_of_a_test"], input="int absent(void); int main(void) { return absent(); }", text=True, check=True)
        library.unlink()
        done = subprocess.run([sys.executable, SCRIPT, "-b", moved, "-o", self.folder / "out", "--cpu", "tests"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("this machine lacks libabsent_of_a_test.so (for test_base_phase): install it, or name its folder in LD_LIBRARY_PATH; nothing was run", done.stderr)
        self.assertFalse((self.folder / "out").exists())

    def test_a_command_that_hangs_ends_with_all_it_started(self):
        mark = self.folder / "mark"
        part = parts.Part("hangs", ["sh", "-c", f"sleep 300 & echo $! > {mark}; wait"], 2)
        self.assertIsNone(parts.run_part(part, self.folder / "log", 2))
        self.wait_for_end(mark)
        self.assertEqual(parts.state_of(None), "time")

    def test_nothing_goes_on_when_the_script_is_ended(self):
        """Parts have sessions of their own; a SIGTERM to the script alone must end them, too."""
        mark, code = self.folder / "mark", (
            "import pathlib, signal, sys; sys.path.insert(0, sys.argv[1])\n"
            "from acceptance import parts\n"
            "signal.signal(signal.SIGTERM, parts.end_all)\n"
            "parts.run_part(parts.Part('hangs', ['sh', '-c', 'sleep 300 & echo $! > ' + sys.argv[2] + '; wait'], 100), sys.argv[2] + '.log', 100)\n")
        process = subprocess.Popen([sys.executable, "-c", code, str(SCRIPT.parent), str(mark)])
        limit = time.monotonic() + 20
        while not (mark.exists() and mark.read_text().strip()) and time.monotonic() < limit:
            time.sleep(0.05)
        process.terminate()
        self.assertEqual(process.wait(20), 128 + 15)
        self.wait_for_end(mark)

    def wait_for_end(self, mark):
        """Of the process that the file names."""
        stat, limit = pathlib.Path("/proc") / mark.read_text().strip() / "stat", time.monotonic() + 20
        while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < limit:
            time.sleep(0.05)
        self.assertLess(time.monotonic(), limit)

    def test_sharded_training(self):
        out = self.run_script("--cpu", "strategies", "save7b", "large", "offload", "memory", "fp8", "fp8_2", "speed2")
        found = self.results()
        self.assertEqual({p["state"] for s in found.values() for p in s.values()}, {"ok"})
        same = {p["found"]["sha256"] for name, p in found["strategies"].items() if "steps" in name}
        self.assertEqual(len(same), 1)
        self.assertEqual(found["strategies"]["speed full_shard cheap"]["found"]["rows"][0]["recompute"], "cheap")
        self.assertEqual(found["save7b"]["from step 2"]["found"]["steps"], [3, 4])
        self.assertEqual(len(found["save7b"]["four steps"]["found"]["resident_bytes"]), 2)
        self.assertEqual(list((self.folder / "out" / "save7b").rglob("*.h5")), [self.folder / "out" / "save7b" / "train.h5"])  # no checkpoint stays
        self.assertEqual([row["gpu"] for row in found["speed2"]["each GPU alone 124m"]["found"]["rows"]], [0, 1])
        self.assertIn("| 124m | shard_optimizer | 32 |", out)
        text = (self.folder / "out" / "report.md").read_text()
        self.assertIn("bit for bit", text)
        self.assertIn("8 steps full_shard", text)
        text, sizes = text.split("One GPU, by the size of the micro-batch:")
        offloaded = [line for line in text.splitlines() if line.startswith("| cpu | none | ")]
        self.assertEqual([line.split(" | ")[3] for line in offloaded], ["none", "optimizer"], text)
        self.assertTrue(offloaded[0].endswith(" | 1.000 |"), text)

        self.assertEqual([line.split(" | ")[1:5] for line in sizes.split("\n\n")[1].splitlines()[2:]], [["none", "none", "4", "128"], ["block", "optimizer", "4", "64"]])

    def test_runs_that_survive(self):
        self.run_script("--cpu", "survive")
        found = self.results()["survive"]
        self.assertEqual({p["state"] for p in found.values()}, {"ok"})
        for name in ("a rank killed", "a rank stopped"):
            self.assertLess(found[name]["found"]["named_s"], found[name]["found"]["ended_s"] + 1)
        self.assertEqual(found["SIGUSR1, then on"]["found"]["mark"]["state"], "stopped")
        self.assertEqual(found["every phase"]["found"]["right"], found["every phase"]["found"]["cases"])
        text = (self.folder / "out" / "report.md").read_text()
        for line in ("| survive | a rank killed | ok |", "| a rank stopped | ", "At one a minute that is ", "### Ranks that are killed, stopped or hang"):
            self.assertIn(line, text)
        # A run that ends otherwise is seen.
        part = next(p for p in survive.survive(self.options()) if p.name == "SIGUSR1, then on")
        facts, rows = self.folder / "out" / "survive" / "usr1.json", self.folder / "out" / "survive" / "usr1" / "metrics.csv"
        rows.write_text(rows.read_text().replace("\n40,", "\n40,1"))
        with self.assertRaisesRegex(ValueError, "step 40: usr1 has loss"):
            part.read("")
        for change, said in (({"launch_code": 3}, "the first launch ended with code 3"), ({"again_s": None}, "nothing tells of again_s"),
                             ({"launches": [{"first_step": 1}]}, "did not go on from a checkpoint")):
            changed = {k: v for k, v in {**json.loads(facts.read_text()), **change}.items() if v is not None}
            facts.with_name("kept.json").write_text(facts.read_text())
            facts.write_text(json.dumps(changed))
            with self.assertRaisesRegex(ValueError, said):
                part.read("")
            facts.with_name("kept.json").replace(facts)

    def options(self):
        class Options:
            cpu, build, out, bench_steps = True, BUILD, self.folder / "out", 20
        return Options

    def test_cost_of_checkpoints(self):
        """Saves: one beside three slow steps; one that waited for it; one whose end was seen before another step. What comes in the first steps is not counted."""
        (self.folder / "metrics.jsonl").write_text("\n".join(json.dumps(e) for e in (
            [{"step": i, "step_ms": 500 if i < 11 else 100} for i in range(1, 21)] + [{"event": "start", "step": 0}] + [{"step": i, "step_ms": 200} for i in (21, 22, 23)]
            + [{"event": "save", "step": 20, "seconds": 0.6, "waited": 0.4, "copied": 0.3}] + [{"step": 24, "step_ms": 100}, {"event": "save", "step": 23, "seconds": 9, "waited": 9, "copied": 1}]
            + [{"step": i, "step_ms": 100} for i in range(25, 31)]
            + [{"event": "save", "step": 30, "seconds": 9, "waited": 9, "copied": 1}])))
        found = survive.cost_of_saves(self.folder)
        self.assertEqual((found["usual_ms"], [s["step"] for s in found["saves"]], found["saves"][0]["steps"]), (100, [20], 3))
        self.assertAlmostEqual(found["share"], (0.3 + 0.3) / 60)
        (self.folder / "metrics.jsonl").write_text('{"step": 1, "step_ms": 1}\n')
        with self.assertRaisesRegex(ValueError, "tells of no save"):
            survive.cost_of_saves(self.folder)

    def test_runs_that_differ(self):
        for run, loss in (("a", "5.25"), ("b", "5.250000000000001")):
            (self.folder / run).mkdir()
            (self.folder / run / "metrics.csv").write_text(f"step,loss,ppl,lr,grad_norm\n1,5.5,1,1,2\n2,{loss},1,1,3\n")
        a, b = self.folder / "a", self.folder / "b"
        self.assertEqual(sharding.compare(b, a, range(1, 2))["last"], ("5.5", "2"))
        with self.assertRaisesRegex(ValueError, "step 2: b has loss, gradient's norm .'5.250000000000001', '3'."):
            sharding.compare(b, a, range(1, 3))
        with self.assertRaisesRegex(ValueError, "step 3"):
            sharding.compare(b, a, range(3, 4))  # neither has it

    def watched(self, *command):
        arguments = ["--run", self.folder / "run", "--step", "3", "--saved", "2", "--facts", self.folder / "facts.json", "--", *command]
        return subprocess.Popen([sys.executable, SOURCE / "launch" / "acceptance" / "watched.py", *map(str, arguments)])

    def test_ranks_that_are_watched(self):
        for code, wanted in ((0, 1), (3, 3)):  # ended before it was enough
            self.assertEqual(self.watched("sh", "-c", f"exit {code}").wait(60), wanted)
        mark = self.folder / "mark"
        hangs = ("sh", "-c", f"sh -c 'sleep 300 & echo $! >{mark}; wait' & wait")
        asked = self.watched(*hangs)
        while not mark.exists() or not mark.read_text():
            time.sleep(0.05)
        asked.send_signal(signal.SIGTERM)
        self.assertNotEqual(asked.wait(60), 0)
        self.wait_for_end(mark)
        (self.folder / "run").mkdir()
        (self.folder / "run" / "metrics.csv").write_text("step,loss\n2,1\n3,1\n")
        process = self.watched(*hangs)
        time.sleep(0.5)
        self.assertIsNone(process.poll())  # step 2 is not saved yet
        (self.folder / "run" / "metrics.jsonl").write_text('{"event":"save","step":2}\n{"event":"sa')
        self.assertEqual(process.wait(60), 0)
        self.wait_for_end(mark)
        self.assertEqual(json.loads((self.folder / "facts.json").read_text())["events"], [{"event": "save", "step": 2}])

    def test_a_model_that_does_not_fit(self):
        class Options:
            cpu, build, out, bench_steps = False, self.folder, self.folder / "out", 20
        part = stages.bench(Options, "big", "7b", attempt=True)
        part.command = ["sh", "-c", 'mkdir -p "$1"; echo "$2" >"$1/throughput.json"; exit 1', "sh", str(Options.out / "bench/big"),
                        json.dumps({"results": [{"model": "7b", "error": "no room"}], "commit": "", "gemm_peak_tflops": 1, "copy_gb_s": 1, "machine": {}})]
        (Options.out / "logs").mkdir(parents=True)
        self.assertEqual(parts.do_part(Options, "large", part, 60)["state"], "ok")
        part.command = ["sh", "-c", "exit 1"]  # nothing is left of what was written before
        self.assertEqual(parts.do_part(Options, "large", part, 60)["state"], "FAILED")

    def test_targets(self):
        targets = {"ratio": 1.25, "mfu_least": 0.41, "of_ddp": 0.97, "memory_most": 1.0, "tok_s_least": 100}
        said = list(report.judged(targets, {"ratio": 1.249, "mfu_least": 0.41, "of_ddp": 0.969, "memory_most": 1.01, "tok_s_least": None}))
        self.assertEqual([s.split(": ")[1] for s in said], ["NO", "yes", "NO", "NO", "NO"])
        said = report.judged(targets, {"ratio": 1.25, "mfu_least": 0.5, "of_ddp": 0.97, "memory_most": 0.9, "tok_s_least": 100})
        self.assertEqual([s.split(": ")[1] for s in said], ["yes"] * 5)

    def test_figures_of_two_gpus(self):
        row = {"model": "1b3", "mode": "train", "precision": "bf16", "recompute": "none", "micro_batch": 8, "ms": 1, "ms_min": 1, "ms_max": 1}
        alone = [{**row, "ranks": 1, "strategy": "ddp", "gpu": i, "tok_s": speed} for i, speed in ((0, 60000), (1, 70000))]
        both = [{**row, "ranks": 2, "strategy": s, "tok_s": t, "peak_bytes": 36 * 2**30} for s, t in (("ddp", 126100), ("full_shard", 128000))]
        results = {"stages": {"speed2": {"p": {"found": {"rows": alone + both[:1]}}}, "strategies": {"p": {"found": {"rows": both}}}}}
        self.assertIn("| 1b3 | ddp | 8 | 60,000 | 70,000 | 126,100 | 0.970 | 1.051 | 0.97: yes |", report.scaling_table(results))
        full = next(line for line in report.sharding_table(results) if line.startswith("| 1b3 | full_shard | none"))
        self.assertIn("98,445, 37.4 | fsdp2, recorded | 1.30 | 1.015 | 1.30 × PyTorch: yes; 0.97 of ddp: yes; 1.00 of PyTorch's memory at most: yes", full)
        rival = {"model": "1b3", "ranks": 2, "micro_batch": 8, "parallel": "fsdp2", "tok_s": 100000, "peak_bytes": 35 * 2**30}
        results["stages"]["rival2"] = {"p": {"found": {"rows": [rival]}}}
        full = next(line for line in report.sharding_table(results) if line.startswith("| 1b3 | full_shard | none"))
        self.assertIn("100,000, 35.0 | fsdp2, this machine | 1.28 | 1.015 | 1.30 × PyTorch: NO; 0.97 of ddp: yes; 1.00 of PyTorch's memory at most: NO", full)

    def test_figures_of_fp8(self):
        row = {"model": "1b3", "recompute": "none", "micro_batch": 8, "strategy": "ddp", "ms": 1, "ms_min": 1, "ms_max": 1}
        one = [{**row, "ranks": 1, "precision": p, "tok_s": t} for p, t in (("bf16", 64000), ("fp8", 80000))]
        two = [{**row, "ranks": 2, "precision": p, "tok_s": t} for p, t in (("bf16", 120000), ("fp8", 150600))]
        lines = report.fp8_lines({"stages": {"fp8": {"p": {"found": {"rows": one}}}, "fp8_2": {"p": {"found": {"rows": two}}}}})
        self.assertEqual([line.split(" | ")[-1] for line in lines if line.startswith("| 1b3")], ["1.000 |", "1.250 |", "1.000 |", "1.255 |"])
        self.assertEqual(report.fp8_lines({"stages": {}}), [])

    def test_a_part_whose_file_is_gone(self):
        made = self.folder / "made"
        stage = [parts.Part("store", ["true"], 1, makes=made), parts.Part("use", ["true"], 1)]
        name = lambda done: {p.name for p in parts.to_run(stage, {n: {"state": s} for n, s in done.items()})}
        self.assertEqual(name({}), {"store", "use"})
        self.assertEqual(name({"store": "ok", "use": "ok"}), set())  # nobody needs it
        self.assertEqual(name({"store": "ok", "use": "FAILED"}), {"store", "use"})
        made.touch()
        self.assertEqual(name({"store": "ok", "use": "FAILED"}), {"use"})

    def test_stages_side_by_side(self):
        done = subprocess.run([sys.executable, SCRIPT, "-b", BUILD, "--side-by-side", "speed", "large"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("stage large takes more than one GPU", done.stderr)

    def test_tests_at_once(self):
        self.run_script("--cpu", "--jobs", 4, "--part", "phase", "--part", "digest", "tests", "training")
        self.assertEqual({s: list(parts_) for s, parts_ in self.results().items()}, {"tests": ["base phase"], "training": ["base digest"]})
        self.assertEqual(self.run_script("--cpu", "--jobs", 4, "tests", "training").count(" ok "), 2)  # one that was left, one before
        shutil.rmtree(self.folder / "out")
        moved = self.folder / "build"
        shutil.copytree(BUILD / "meson-info", moved / "meson-info")
        self.assertIn("FAILED", self.run_script("--cpu", "--jobs", 2, "tests", code=1, build=moved))

    def test_unknown_stages(self):
        done = subprocess.run([sys.executable, SCRIPT, "-b", BUILD, "spede"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("there is no stage spede: choose of tests", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
