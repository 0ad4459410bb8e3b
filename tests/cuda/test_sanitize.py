"""launch/gpu_sanitize.sh with a GPU, a compute-sanitizer and programs that are stand-ins: what is run under which tool, and that errors and missing summaries are seen."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ["PSANN_PROGRAMS"])

SANITIZER = """#!/bin/sh
[ "$1" = --help ] && { echo "--kernel-name-exclude"; exit 0; }
tool=$2
shift 2
while [ $# -gt 0 ]; do
  case $1 in
    --log-file) log=$2 ;;
    --*) ;;
    *) break ;;
  esac
  shift 2
done
echo "$tool: $(basename "$1") $*" >>"$FAKE_CALLS"
errors=0
case "$*" in *"$FAKE_BAD"*) errors=3 ;; esac
case "$*" in *"$FAKE_SILENT"*) exit 0 ;; esac
case $tool in
  racecheck) echo "========= RACECHECK SUMMARY: $errors hazards displayed ($errors errors, 0 warnings)" >"$log" ;;
  *) echo "========= ERROR SUMMARY: $errors errors" >"$log" ;;
esac
"""


class Sanitize(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.program("bin/nvidia-smi", "#!/bin/sh\necho 'GPU 0: a stand-in'\n")
        self.program("bin/compute-sanitizer", SANITIZER)
        for name in ("src/programs/psann_train", "tests/cuda/test_gpu_operations"):
            self.program("build/" + name, "#!/bin/sh\nexit ${FAKE_CODE:-0}\n")
        for name in ("psann_data", "psann_probe"):
            shutil.copy(PROGRAMS / name, self.folder / "build/src/programs")

    def program(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run_script(self, *words, code=0, **more):
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "FAKE_CALLS": str(calls), "FAKE_BAD": "nothing", "FAKE_SILENT": "nothing", **more}
        done = subprocess.run([SOURCE / "launch/gpu_sanitize.sh", "-b", self.folder / "build", *words], env=environment, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, calls.read_text().splitlines() if calls.exists() else []

    def test_everything(self):
        out, calls = self.run_script()
        memcheck = [c for c in calls if c.startswith("memcheck")]
        self.assertEqual(len(memcheck), 9)
        self.assertFalse([c for c in memcheck if "--only" in c])  # whole
        alone = [c for c in calls if c.startswith("racecheck") and "--only" in c]
        self.assertEqual(len([c for c in alone if c.endswith("--precision bf16")]), 13)
        self.assertEqual(len([c for c in alone if c.endswith("--precision fp8")]), 2)
        self.assertTrue([c for c in calls if c.startswith("racecheck: test_gpu_operations") and c.endswith("--precision fp32") and "--only" not in c])
        self.assertEqual([line.split()[:2] for line in out.splitlines() if line.endswith("not run")], [["racecheck", "bf16"], ["racecheck", "fp8"], ["racecheck", "wave"]])
        self.assertIn("== no errors", out)

    def test_only_what_can_not_be_run(self):
        out, calls = self.run_script("-t", "racecheck", "-r", "bf16 wave", code=77)
        self.assertEqual(calls, [])
        self.assertIn("racecheck ends by itself", out)

    def test_errors_are_seen(self):
        out, _ = self.run_script("-t", "racecheck", "-r", "ops-bf16", code=1, FAKE_BAD="--only norm_backward")
        self.assertRegex(out, r"racecheck +ops-bf16 +3 ")
        out, _ = self.run_script("-t", "memcheck", "-r", "fp32", code=1, FAKE_BAD="psann_train")
        self.assertRegex(out, r"memcheck +fp32 +3 ")

    def test_a_tool_that_says_nothing(self):
        out, _ = self.run_script("-t", "racecheck", "-r", "ops-fp16", code=1, FAKE_SILENT="--only adamw")
        self.assertRegex(out, r"racecheck +ops-fp16 +none told ")
        self.assertIn("no summary of adamw", out)

    def test_a_run_that_fails_without_a_tool(self):
        out, _ = self.run_script("-t", "memcheck", "-r", "fp32", code=1, FAKE_CODE="4")
        self.assertIn("fp32 fails without a tool", out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
