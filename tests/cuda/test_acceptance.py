"""launch/gpu_acceptance.py with its stand-ins on the CPU: stages, what is passed by, limits, the table, and a build that was moved."""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = SOURCE / "launch" / "gpu_acceptance.py"
BUILD = pathlib.Path(os.environ["PSANN_BUILD"])


def script():
    spec = importlib.util.spec_from_file_location("gpu_acceptance", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Acceptance(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="psann_acceptance_"))
        self.addCleanup(shutil.rmtree, self.folder)

    def run_script(self, *arguments, code=0, build=BUILD):
        done = subprocess.run([sys.executable, SCRIPT, "-b", build, "-o", self.folder / "out", *map(str, arguments)], capture_output=True, text=True, timeout=250)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def results(self):
        return json.loads((self.folder / "out" / "results.json").read_text())["stages"]

    def test_stages_run_once_and_are_reported(self):
        out = self.run_script("--cpu", "tests", "agreement", "--collect", self.folder / "collected")
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
        self.assertIn("not started", self.run_script("--cpu", "--budget", 10, "tests", code=1))

    def test_tests_of_a_build_that_was_moved(self):
        moved = self.folder / "build"
        for file in ("meson-info/intro-tests.json", "meson-info/meson-info.json", "tests/base/test_base_phase", "tests/train/test_micro_batch"):
            (moved / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(BUILD / file, moved / file)
        self.run_script("--cpu", "tests", build=moved)
        for part in self.results()["tests"].values():
            self.assertIn(str(moved), part["command"])

    def test_a_command_that_hangs_ends_with_all_it_started(self):
        module, mark = script(), self.folder / "mark"
        part = module.Part("hangs", ["sh", "-c", f"sleep 300 & echo $! > {mark}; wait"], 2)
        self.assertIsNone(module.run_part(part, self.folder / "log", 2))
        stat, limit = pathlib.Path("/proc") / mark.read_text().strip() / "stat", time.monotonic() + 20
        while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < limit:
            time.sleep(0.05)
        self.assertLess(time.monotonic(), limit)
        self.assertEqual(module.state_of(None), "time")

    def test_targets(self):
        module = script()
        row = {"targets": {"ratio": 1.25, "mfu_least": 0.41, "scaling": 0.97, "tok_s_least": 100}}
        ours = {"tok_s": 124, "mfu": 0.41}
        said = list(module.judged(row, ours, 100, 0.969))
        self.assertEqual([s.split(": ")[1] for s in said], ["NO", "yes", "NO", "yes"])
        self.assertEqual([s.split(": ")[1] for s in module.judged(row, dict(ours, tok_s=125), 100, 0.97)], ["yes"] * 4)

    def test_unknown_stages(self):
        done = subprocess.run([sys.executable, SCRIPT, "-b", BUILD, "spede"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("there is no stage spede: choose of tests", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
