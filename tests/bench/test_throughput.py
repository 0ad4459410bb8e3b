"""psann_bench throughput as a person starts it: what the file says, and what is refused."""
import json
import math
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

PROGRAMS = pathlib.Path(os.environ["PSANN_PROGRAMS"])
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OPENBLAS_NUM_THREADS="1",
                   OMP_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                   OMPI_MCA_hwloc_base_binding_policy="none", OMPI_MCA_mpi_yield_when_idle="1")
V, T, B = 67, 24, 3
MODEL = f"""[run]
device = cpu
[model]
vocab_size = {V}
d_model = 16
n_layers = 2
n_heads = 2
d_mlp = 24
[data]
seq_len = {T}
[train]
micro_batch = {B}
"""
QUICK = ["--steps", "2", "--warmup", "1", "--repeat", "3"]


class Throughput(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="psann_bench_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.small = self.folder / "small.ini"
        self.small.write_text(MODEL)

    def bench(self, *arguments, ranks=1, code=0):
        launch = ["mpirun", "--oversubscribe", "-np", str(ranks)] if ranks > 1 else []
        done = subprocess.run(launch + [PROGRAMS / "psann_bench", *map(str, arguments)], cwd=self.folder,
                              env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def report(self, *arguments, ranks=1):
        out = self.folder / f"out{ranks}"
        done = self.bench("throughput", *QUICK, "--out", out, *arguments, ranks=ranks)
        return json.loads((out / "throughput.json").read_text()), done.stdout

    def check_row(self, row, mode, ranks, micro_batch=B, seq_len=T):
        self.assertEqual(row["mode"], mode)
        self.assertEqual(row["precision"], "fp32")
        self.assertEqual(row["strategy"], "ddp" if row["ranks"] == 1 else "shard_optimizer")
        self.assertEqual(row["recompute"], "none")
        self.assertEqual((row["ranks"], row["micro_batch"], row["seq_len"]), (ranks, micro_batch, seq_len))
        self.assertAlmostEqual(row["tok_s"] * row["ms"] / 1000 / (ranks * micro_batch * seq_len), 1, places=9)
        self.assertTrue(0 < row["ms_min"] <= row["ms"] <= row["ms_max"])
        self.assertGreater(row["peak_bytes"], 1 << 20)
        self.assertGreater(row["plan_bytes"], 0)
        for unknown in "mfu", "mfu_full", "power_w", "sm_mhz":
            self.assertIsNone(row[unknown], unknown)
        self.assertLess(abs(row["loss"] - math.log(V)), 0.5)
        self.assertNotIn("error", row)

    def test_both_modes_on_one_and_two_ranks(self):
        for ranks in 1, 2:
            report, text = self.report("--models", self.small, "--mode", "both", ranks=ranks)
            train, forward = report["results"]
            self.check_row(train, "train", ranks)
            self.check_row(forward, "forward", ranks)
            self.assertEqual((train["model"], train["base"], train["skipped"]), ("small", "respsann", 0))
            self.assertEqual(forward["logits_rows"], B * T)
            self.assertAlmostEqual(train["flop_per_token"] / forward["flop_per_token"], 3)
            self.assertGreater(report["gemm_peak_tflops"], 1e-4)
            self.assertGreater(report["copy_gb_s"], 0.01)
            self.assertEqual((report["steps"], report["warmup"], report["repeat"]), (2, 1, 3))
            self.assertEqual(report["machine"]["ranks"], ranks)
            self.assertIn("CPU", report["machine"]["engine"])
            self.assertTrue(report["commit"])
            self.assertIn("tok/s", text)
            self.assertIn("throughput.json", text)

    def test_changes(self):
        report, _ = self.report("--models", f"{self.small},{self.small}", "--precision", "fp32", "--micro-batch", 2,
                                "--seq-len", 10, "model.base=waveresnet", "model.wave_interleave=true")
        self.assertEqual(len(report["results"]), 2)
        for row in report["results"]:
            self.check_row(row, "train", 1, 2, 10)
            self.assertEqual(row["base"], "waveresnet")

    def test_strategies_and_accumulation(self):
        report, _ = self.report("--models", self.small, "--strategy", "ddp,full_shard", "--accumulate", 2, ranks=2)
        self.assertEqual([row["strategy"] for row in report["results"]], ["ddp", "full_shard"])
        for row in report["results"]:
            self.assertEqual((row["accumulate"], row["ranks"]), (2, 2))
            tokens = 2 * 2 * row["micro_batch"] * row["seq_len"]
            self.assertLess(abs(row["tok_s"] * row["ms"] / 1000 / tokens - 1), 1e-6)
        self.assertEqual(len({row["loss"] for row in report["results"]}), 1)  # the same step
        self.bench("throughput", *QUICK, "--models", self.small, "--strategy", "full", "--out", self.folder / "none", code=2)

    def test_offload(self):
        report, text = self.report("--models", self.small, "--offload", "none,optimizer", "--mode", "both", "--strategy", "ddp", ranks=2)
        rows = report["results"]
        self.assertEqual([(row["mode"], row["offload"]) for row in rows], [("train", "none"), ("forward", "none"), ("train", "optimizer")])
        self.assertEqual(rows[0]["loss"], rows[2]["loss"])  # the same step
        self.assertGreater(rows[2]["plan_bytes"], rows[0]["plan_bytes"])  # on the CPU: the buffers beside the state
        self.assertRegex(text, r"fp32 +ddp offload +2 ")
        self.bench("throughput", *QUICK, "--models", self.small, "--offload", "all", "--out", self.folder / "none", code=2)

    def test_exchange(self):
        out = self.folder / "exchange.json"
        text = self.bench("exchange", "--sizes", "1,2", "--device", "cpu", "--out", out, ranks=3).stdout
        report = json.loads(out.read_text())
        self.assertEqual(report["ranks"], 3)
        rows = report["results"]
        self.assertEqual([(r["exchange"], r["bytes"]) for r in rows], [(x, m << 20) for m in (1, 2) for x in ("all_gather", "all_to_all")])
        for row in rows:
            self.assertAlmostEqual(row["gb_s"] * row["ms"] * 1e6 / row["bytes"], 1)
            self.assertIn(f"{row['ms']:.3f} ms", text)
        self.assertIn("2 to 1024 ranks, not 1", self.bench("exchange", code=2).stderr)
        self.assertIn("--sizes is 0", self.bench("exchange", "--sizes", "0", code=2).stderr)

    def test_a_training_config_is_a_model(self):
        self.small.write_text(MODEL + "max_steps = 2\nwarmup_steps = 1\nbatch_tokens = 7\n[eval]\ninterval = 4\n")
        text = self.small.read_text().replace("[data]\n", "[data]\ntrain = nowhere.h5\nval = nowhere.h5\n")
        self.small.write_text(text.replace("device = cpu", "device = cpu\ndir = never_made"))
        report, _ = self.report("--models", self.small)
        self.check_row(report["results"][0], "train", 1)
        self.assertFalse((self.folder / "never_made").exists())

    def test_a_model_that_does_not_fit_is_a_row(self):
        large = self.folder / "large.ini"
        large.write_text(MODEL.replace("d_model = 16", "d_model = 32768").replace("n_layers = 2", "n_layers = 1024"))
        report, text = self.report("--models", f"{large},{self.small}", "--mode", "both", ranks=2)
        errors = [row.get("error", "") for row in report["results"]]
        self.assertEqual([bool(e) for e in errors], [True, True, False, False])
        self.assertIn("each rank needs", errors[0])
        self.assertNotIn("tok_s", report["results"][0])
        self.check_row(report["results"][2], "train", 2)
        self.assertIn("each rank needs", text)
        alone = self.bench("throughput", *QUICK, "--models", large, "--out", self.folder / "none", code=1)
        self.assertIn("nothing could be measured", alone.stderr)

    def test_bench_models_are_valid(self):
        # Each is read and resolved; the precision that a CPU lacks then ends the program before anything is made.
        for name in "tiny", "small", "124m", "350m", "1b3", "1b5", "3b", "7b", "cpu", "all":
            done = self.bench("throughput", "--models", name, "run.device=cpu", "--precision", "bf16", code=2)
            self.assertIn("bf16", done.stderr, name)

    def test_default_folder(self):
        self.bench("throughput", *QUICK, "--models", self.small)
        found = list(self.folder.glob("reports/benchmarks/*/throughput.json"))
        self.assertEqual(len(found), 1)
        self.assertRegex(found[0].parent.name, r"^\d{8}_\d{6}$")

    def test_refusals(self):
        no_vocabulary = self.folder / "no_vocabulary.ini"
        no_vocabulary.write_text(MODEL.replace(f"vocab_size = {V}\n", ""))
        open_batch = self.folder / "open.ini"
        open_batch.write_text(MODEL.replace(f"micro_batch = {B}\n", ""))
        small = ["throughput", "--models", self.small]
        for arguments, sentence in [
            ([], "no command is given"),
            (["speed"], "no command 'speed'"),
            (["throughput", "--models", "huge"], "no bench model 'huge'"),
            (["throughput", "--models", "missing.ini"], "missing.ini"),
            (["throughput", "--models", ","], "--models is empty"),
            (small + ["--mode", "backward"], "--mode is 'backward'"),
            (small + ["--steps", "0"], "--steps is 0"),
            (small + ["--repeat", "many"], "--repeat is 'many'"),
            (small + ["--wrong"], "unknown option --wrong"),
            (small + ["--steps"], "needs a value"),
            (small + ["tiny"], "'tiny' is neither"),
            (small + ["model.width=3"], "unknown key 'model.width'"),
            (small + ["--precision", "fp7"], "fp7"),
            (small + ["--precision", "bf16"], "bf16"),
            (small + ["data.train=x.h5"], "has no effect on psann_bench"),
            (small + ["train.max_steps=3"], "has no effect on psann_bench"),
            (["throughput", "--models", no_vocabulary], "model.vocab_size"),
            (["throughput", "--models", open_batch], "--micro-batch"),
        ]:
            done = self.bench(*arguments, code=2)
            self.assertIn(sentence, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertFalse((self.folder / "reports").exists())

    def test_help(self):
        self.assertIn("throughput", self.bench("--help").stdout)
        self.assertIn("--warmup", self.bench("throughput", "--help").stdout)


if __name__ == "__main__":
    unittest.main()
