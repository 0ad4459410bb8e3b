"""psann_bench validate and aggregate as a person starts them: keys, verdicts, what makes a step fail, what is refused."""
import csv
import json
import math
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

PROGRAMS = pathlib.Path(os.environ["PSANN_PROGRAMS"])
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OPENBLAS_NUM_THREADS="1",
                   OMP_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                   OMPI_MCA_hwloc_base_binding_policy="none", OMPI_MCA_mpi_yield_when_idle="1")

# The reference's keys, step by step.
KEYS = {
    "GPU-01": {"status", "elapsed_s", "vocab_size", "model"},
    "GPU-02": {"status", "fp32_loss", "amp_loss", "amp_dtype", "rel_diff"},
    "GPU-03": {"status", "respsann", "waveresnet"},
    "GPU-04": {"status", "grad_checkpoint", "elapsed_s", "max_memory_allocated_mb", "max_memory_reserved_mb",
               "vocab_size", "model"},
    "GPU-05": {"status", "single_loss", "ddp_avg_loss", "rel_diff", "world_size"},
    "GPU-06": {"status", "single_loss", "fsdp_avg_loss", "rel_diff", "world_size", "engine"},
    "GPU-07": {"status", "sample", "length"},
    "GPU-08": {"status", "params_equal", "gen_equal", "ckpt_path"},
}
SYSTEM = {"python", "platform", "torch", "torch_cuda_version", "cuda_available", "device_count", "bf16_supported", "gpus"}
THROUGHPUT = {"B", "T", "batch_tokens", "steps", "tokens", "elapsed_s", "tokens_per_s"}
MEMORY = {"timestamp", "base", "grad_checkpoint", "amp", "max_memory_allocated_mb", "max_memory_reserved_mb", "elapsed_s"}


def write_text(folder):
    """Sentences with some grammar: held-out text is not what was read, but like it."""
    rng = random.Random(5)
    folder.mkdir()
    for i in range(40):
        words = [f"the {rng.choice(['cat', 'dog', 'king', 'river', 'stone'])} {rng.choice(['sees', 'takes', 'leaves'])} "
                 f"the {rng.choice(['tree', 'road', 'house'])}. " for _ in range(60)]
        (folder / f"{i:02}.txt").write_text("".join(words))


class Validate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="psann_validate_"))
        cls.text = cls.folder / "text"
        write_text(cls.text)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def setUp(self):
        self.out = pathlib.Path(tempfile.mkdtemp(dir=self.folder))

    def bench(self, *arguments, code=0, program=None):
        done = subprocess.run([program or PROGRAMS / "psann_bench", *map(str, arguments)], cwd=self.folder, env=ENVIRONMENT,
                              capture_output=True, text=True, timeout=280)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def validate(self, *arguments, code=0, program=None):
        done = self.bench("validate", "--device", "cpu", "--text", self.text, "--out", self.out, *arguments, code=code,
                          program=program)
        report, = self.out.glob("gpu/*")
        return json.loads((report / "summary.json").read_text()), report, done

    def check_results(self, results):
        for name, result in results.items():
            if result["status"] == "skipped":
                self.assertTrue(result["reason"], name)
                continue
            self.assertEqual((result["status"], result["verdict"]), ("ok", "pass"), f"{name}: {result}")
            self.assertLessEqual(KEYS[name], set(result))
            self.assertTrue(result["threshold"] and result["figure"], name)
        self.assertEqual(set(results), set(KEYS))
        self.assertEqual(results["GPU-02"]["status"], "skipped")
        self.assertIn("bf16", results["GPU-02"]["reason"])

    def check_figures(self, r):
        self.assertLess(r["GPU-01"]["loss_after"], r["GPU-01"]["loss_before"])
        self.assertAlmostEqual(r["GPU-01"]["loss_before"], math.log(257), delta=1)
        for base in "respsann", "waveresnet":
            row = r["GPU-03"][base]
            self.assertLessEqual(THROUGHPUT, set(row))
            self.assertEqual((row["B"], row["T"], row["batch_tokens"], row["mode"], row["precision"]),
                             (4, 256, 1024, "forward", "fp32"))
            self.assertAlmostEqual(row["tokens"] / row["elapsed_s"] / row["tokens_per_s"], 1)
        self.assertEqual((r["GPU-04"]["vocab_size"], r["GPU-04"]["model"]["d_model"]), (31, 128))
        shape = r["GPU-04"]["shapes"][0]
        self.assertLess(shape["block"]["planned_bytes"], shape["none"]["planned_bytes"])
        self.assertEqual(shape["block"]["loss"], shape["none"]["loss"])
        self.assertEqual(r["GPU-05"]["single_loss"], r["GPU-05"]["ddp_avg_loss"])
        self.assertEqual((r["GPU-05"]["rel_diff"], r["GPU-05"]["world_size"], r["GPU-05"]["steps"]), (0, 2, 20))
        self.assertLess(r["GPU-07"]["val_bits_per_byte"], r["GPU-07"]["byte_frequencies_bits_per_byte"])
        self.assertTrue(r["GPU-07"]["sample"])
        self.assertEqual([r["GPU-08"][k] for k in ("params_equal", "moments_equal", "position_equal", "continued_equal",
                                                   "gen_equal")], [True] * 5)

    def check_files(self, summary, report, text):
        benchmarks = self.out / "benchmarks" / report.name
        self.assertRegex(report.name, r"^\d{8}_\d{6}$")
        self.assertEqual(summary["timestamp_utc"], report.name)
        self.assertLessEqual(SYSTEM, set(summary["system"]))
        self.assertEqual(json.loads((report / "system.json").read_text()), summary["system"])
        self.assertIn("GPU-08  pass", (report / "stdout.log").read_text())
        self.assertIn("GPU-08  pass", text)
        self.assertFalse((report / "work").exists())
        with open(benchmarks / "throughput.csv", newline="") as f:
            lines = list(csv.reader(f))
        self.assertEqual(lines[0][:4], ["timestamp", "base", "batch_tokens", "tokens_per_s"])
        self.assertEqual([line[:3] for line in lines[1:]], [[report.name, b, "1024"] for b in ("respsann", "waveresnet")])
        memory = json.loads((benchmarks / "memory.json").read_text())
        self.assertLessEqual(MEMORY, set(memory))

    def test_all_steps(self):
        summary, report, done = self.validate("--seconds", 8)
        self.check_results(summary["results"])
        self.check_figures(summary["results"])
        self.check_files(summary, report, done.stdout)
        self.assertEqual(summary["failed"], 0)
        gathered = self.out / "gathered"
        self.bench("aggregate", "--reports", self.out, "--out", gathered)
        for name in "throughput.csv", "throughput_all.csv", "memory.json":
            self.assertEqual((gathered / name).read_text(), (self.out / "benchmarks" / report.name / name).read_text())

    def test_some_steps(self):
        summary, report, _ = self.validate("--only", "gpu-01", "GPU-04", "--keep")
        self.assertEqual(list(summary["results"]), ["GPU-01", "GPU-04"])
        self.assertTrue((report / "work/train.h5").exists())

    def with_trainer(self, script):
        """A psann_bench whose psann_train is a script; $real is the program."""
        programs = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copy(PROGRAMS / "psann_bench", programs)
        for name in "psann_data", "psann_eval", "psann_probe":
            (programs / name).symlink_to(PROGRAMS / name)
        trainer = programs / "psann_train"
        trainer.write_text(f"#!/bin/sh\nreal={PROGRAMS}/psann_train\n{script}\n")
        trainer.chmod(0o755)
        return programs / "psann_bench"

    def test_ranks_that_compute_otherwise_fail(self):
        program = self.with_trainer('[ -z "$OMPI_COMM_WORLD_SIZE" ] || exec $real "$@" train.beta2=0.96\nexec $real "$@"')
        summary, _, done = self.validate("--only", "GPU-05", code=1, program=program)
        result = summary["results"]["GPU-05"]
        self.assertEqual((result["status"], result["verdict"]), ("failed", "fail"))
        self.assertFalse(result["checkpoints_equal"])
        self.assertGreater(result["rel_diff"], 0)
        self.assertIn("1 of 1 validation steps failed", done.stderr)

    def test_a_continued_run_that_differs_fails(self):
        program = self.with_trainer('case "$*" in *run.resume=*) exec $real "$@" train.beta2=0.96;; esac\nexec $real "$@"')
        summary, _, _ = self.validate("--only", "GPU-08", code=1, program=program)
        result = summary["results"]["GPU-08"]
        self.assertEqual(result["verdict"], "fail")
        self.assertTrue(result["params_equal"])
        self.assertFalse(result["continued_equal"])

    def test_a_model_that_learns_nothing_fails(self):
        program = self.with_trainer('exec $real "$@" train.lr=1e-9 train.min_lr=1e-9')
        summary, _, _ = self.validate("--only", "GPU-07", "--seconds", 1, code=1, program=program)
        result = summary["results"]["GPU-07"]
        self.assertEqual(result["verdict"], "fail")
        self.assertGreater(result["val_bits_per_byte"], result["byte_frequencies_bits_per_byte"])

    def test_a_program_that_ends_badly_is_an_error_and_the_rest_goes_on(self):
        program = self.with_trainer("echo 'psann_train: error: no luck today' >&2; exit 3")
        summary, _, _ = self.validate("--only", "GPU-05", "GPU-01", "GPU-08", code=1, program=program)
        self.assertEqual([r["status"] for r in summary["results"].values()], ["ok", "error", "error"])
        self.assertIn("psann_train ended with 3: no luck today", summary["results"]["GPU-05"]["reason"])

    def test_refusals(self):
        for arguments, sentence in [
            (["validate", "--only", "GPU-09"], "there is no step 'GPU-09'"),
            (["validate", "GPU-01"], "'GPU-01' is not an option"),
            (["validate", "--seconds", "soon"], "--seconds is 'soon'"),
            (["validate", "--device", "tpu"], "tpu"),
            (["validate", "--wrong"], "unknown option --wrong"),
            (["aggregate", "here"], "'here' is not an option"),
            (["aggregate", "--reports", "nowhere"], "no report in 'nowhere/gpu'"),
        ]:
            done = self.bench(*arguments, code=2)
            self.assertIn(sentence, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertFalse((self.folder / "reports/gpu").exists())

    def test_missing_text_is_said(self):
        done = self.bench("validate", "--device", "cpu", "--only", "GPU-01", "--text", "nowhere", "--out", self.out, code=1)
        self.assertIn("there is no text at 'nowhere'", done.stdout)

    def test_not_under_mpirun(self):
        done = subprocess.run(["mpirun", "-np", "1", PROGRAMS / "psann_bench", "validate"], cwd=self.folder, env=ENVIRONMENT,
                              capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("start it without mpirun", done.stderr)

    def test_help(self):
        self.assertIn("validate", self.bench("--help").stdout)
        self.assertIn("GPU-05", self.bench("validate", "--help").stdout)
        self.assertIn("--reports", self.bench("aggregate", "--help").stdout)


if __name__ == "__main__":
    unittest.main()
