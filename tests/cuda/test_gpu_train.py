"""psann_train on a GPU: the same bits again and on any number of ranks, close to the CPU engine, and usable afterwards."""
import math
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "train"))
from common import ENVIRONMENT, PROGRAMS, TrainCase  # noqa: E402

SKIPPED = 77  # meson's code for a test that can't run here


def gpus():
    try:
        found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60)
    except OSError:
        return 0
    return found.stdout.count("GPU ") if found.returncode == 0 else 0


# Precision and dropout: with dropout attention is our own, without it cuDNN's in 16 bits.
SETTINGS = (("fp32", 0.1), ("bf16", 0.1), ("bf16", 0.0))
STEPS = 24


class Gpu(TrainCase):
    model = {"d_model": 64, "n_heads": 2, "d_mlp": 136}

    def train_gpu(self, run, *overrides, precision="bf16", ranks=1, code=0, **sections):
        """A run of the small model on GPUs; sections as for config(). All runs share a table of plans."""
        sections["model"] = dict(self.model, **sections.get("model", {}))
        config = self.config(run, name=run.name + ".ini", **sections)
        return self.run_train(config, "run.device=cuda", "run.seed=7", f"gemm.plans={self.root / 'plans.txt'}", f"train.precision={precision}", *overrides, ranks=ranks,
                              code=code, timeout=120)

    def first_run(self, precision, dropout):
        """The run on one rank that others are compared with, made once for all tests."""
        run = self.root / f"first_{precision}_{dropout}"
        if not run.exists():
            self.train_gpu(run, precision=precision, model={"dropout": dropout})
        return run

    def assert_repeats(self, precision, dropout, name, *overrides, ranks=1):
        """A run with these overrides has the bits of the first one."""
        with self.subTest(precision=precision, dropout=dropout, run=name):
            first = self.first_run(precision, dropout)
            again = self.folder / f"{name}_{precision}_{dropout}"
            self.train_gpu(again, *overrides, precision=precision, ranks=ranks, model={"dropout": dropout})
            self.assert_same_run(first, again, STEPS)

    def losses(self, run):
        return [float(r["loss"]) for r in self.rows(run)]

    def test_two_identical_runs_are_bitwise_equal(self):
        for precision, dropout in SETTINGS:
            self.assert_repeats(precision, dropout, "again")
            losses = self.losses(self.first_run(precision, dropout))
            self.assertLess(sum(losses[-4:]) / 4, losses[0] - 1.0)

    def test_ranks_on_one_gpu_give_the_same_bits(self):
        for precision, dropout in SETTINGS:
            for ranks in (2, 4, 8):
                self.assert_repeats(precision, dropout, f"ranks_{ranks}", "parallel.transport=mpi", ranks=ranks)

    def test_a_rank_a_gpu_over_nccl_gives_the_same_bits(self):
        if gpus() < 2:
            self.skipTest(f"needs two GPUs, here is {gpus()}; ranks that share it over MPI are tested")
        for precision, dropout in SETTINGS:
            for ranks in (n for n in (2, 4, 8) if n <= gpus()):
                self.assert_repeats(precision, dropout, f"nccl_{ranks}", "parallel.transport=nccl", ranks=ranks)

    def test_recompute_modes_give_the_same_bits(self):
        for precision, dropout in SETTINGS:
            for recompute in ("cheap", "block"):
                self.assert_repeats(precision, dropout, recompute, f"train.recompute={recompute}")

    def test_a_resumed_run_gives_the_same_bits(self):
        for precision, dropout in SETTINGS:
            with self.subTest(precision=precision, dropout=dropout):
                first, run = self.first_run(precision, dropout), self.folder / f"resumed_{precision}_{dropout}"
                self.train_gpu(run, f"run.resume={self.checkpoint(first, 8)}", precision=precision, model={"dropout": dropout})
                self.assertEqual(self.rows(run), self.rows(first)[8:])
                self.assert_same_checkpoint(self.checkpoint(first, STEPS), self.checkpoint(run, STEPS))

    def test_first_steps_agree_with_the_cpu(self):
        cpu = self.folder / "cpu"
        self.run_train(self.config(cpu, name="cpu.ini", model=dict(self.model, dropout=0.1)), "run.device=cpu", "run.seed=7")
        for precision, tolerance in (("fp32", 1e-4), ("tf32", 2e-2), ("bf16", 2e-2)):
            gpu = self.first_run(precision, 0.1)
            for a, b in list(zip(self.losses(cpu), self.losses(gpu)))[:10]:
                self.assertTrue(math.isfinite(b))
                self.assertLess(abs(a - b) / a, tolerance, precision)

    def test_programs_read_the_checkpoint_on_either_device(self):
        run = self.first_run("bf16", 0.1)
        for device in ("cuda", "cpu"):
            text = subprocess.run([PROGRAMS / "psann_generate", run, "the ", "--max-tokens", "20", "--device", device], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
            self.assertEqual(text.returncode, 0, text.stderr)
            score = subprocess.run([PROGRAMS / "psann_eval", run, self.val, "--device", device], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
            self.assertEqual(score.returncode, 0, score.stderr)

    def test_more_ranks_than_gpus_are_refused(self):
        result = self.train_gpu(self.folder / "run", ranks=gpus() + 1, code=2)
        self.assertIn("start at most one rank a GPU", result.out)


if __name__ == "__main__":
    if gpus() == 0:
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
