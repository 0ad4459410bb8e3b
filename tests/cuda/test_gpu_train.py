"""psann_train on a GPU: the same bits again and on any number of ranks, close to the CPU engine, and usable afterwards."""
import math
import os
import pathlib
import shutil
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


class Gpu(TrainCase):
    model = {"d_model": 64, "n_heads": 2, "d_mlp": 136}

    def train_gpu(self, run, *overrides, precision="bf16", ranks=1, code=0, **sections):
        """A run of the small model on GPUs; sections as for config()."""
        sections["model"] = dict(self.model, **sections.get("model", {}))
        config = self.config(run, name=run.name + ".ini", **sections)
        return self.run_train(config, "run.device=cuda", "run.seed=7", f"train.precision={precision}", *overrides, ranks=ranks, code=code, timeout=120)

    def losses(self, run):
        return [float(r["loss"]) for r in self.rows(run)]

    def test_two_identical_runs_are_bitwise_equal(self):
        for precision in ("fp32", "bf16", "fp16"):
            a, b = self.folder / f"a_{precision}", self.folder / f"b_{precision}"
            self.train_gpu(a, precision=precision)
            self.train_gpu(b, precision=precision)
            self.assert_same_run(a, b, 24)
            self.assertLess(sum(self.losses(a)[-4:]) / 4, self.losses(a)[0] - 1.0)

    def test_ranks_give_the_same_bits(self):
        for dropout in (0.1, 0.0):  # with dropout our own attention, without it cuDNN's
            one = self.folder / f"one_{dropout}"
            self.train_gpu(one, model={"dropout": dropout})
            for ranks in (2, 4, 8):
                many = self.folder / f"ranks_{ranks}_{dropout}"
                transport = "nccl" if ranks <= gpus() else "mpi"
                self.train_gpu(many, f"parallel.transport={transport}", ranks=ranks, model={"dropout": dropout})
                self.assert_same_run(one, many, 24)

    def test_recompute_modes_give_the_same_bits(self):
        none = self.folder / "none"
        self.train_gpu(none)
        for recompute in ("cheap", "block"):
            run = self.folder / recompute
            self.train_gpu(run, f"train.recompute={recompute}")
            self.assert_same_run(none, run, 24)

    def test_first_steps_agree_with_the_cpu(self):
        cpu = self.folder / "cpu"
        self.run_train(self.config(cpu, name="cpu.ini", model=self.model), "run.device=cpu", "run.seed=7")
        for precision, tolerance in (("fp32", 1e-4), ("tf32", 2e-2), ("bf16", 2e-2), ("fp16", 2e-2)):
            gpu = self.folder / precision
            self.train_gpu(gpu, precision=precision)
            for a, b in list(zip(self.losses(cpu), self.losses(gpu)))[:10]:
                self.assertTrue(math.isfinite(b))
                self.assertLess(abs(a - b) / a, tolerance, precision)

    def test_fp16_finds_its_loss_scale(self):
        """From 2^40, where every gradient overflows, down to what fits, then up again: the same on any number of ranks and across a stop."""
        steps, top = 80, 2**40
        keys = {"train": {"max_steps": steps}, "checkpoint": {"interval": 8}}
        scaling = (f"train.loss_scale_init={top}", f"train.loss_scale_max={top}", "train.loss_scale_growth_interval=10")
        one = self.folder / "one"
        self.train_gpu(one, *scaling, precision="fp16", **keys)
        rows = self.rows(one)
        scale, good = float(top), 0
        for row in rows:  # the rule, from what the files say
            self.assertEqual(float(row["loss_scale"]), scale, row["step"])
            self.assertTrue(math.isfinite(float(row["loss"])))
            if row["skipped"] == "1":
                scale, good = scale / 2, 0
            else:
                self.assertTrue(math.isfinite(float(row["grad_norm"])))
                good = (good + 1) % 10
                scale = min(top, scale * 2) if good == 0 else scale
        skipped = [int(row["step"]) for row in rows if row["skipped"] == "1"]
        falling = next(step for step in range(1, steps) if step not in skipped) - 1
        self.assertTrue(8 < falling < 40, skipped)
        self.assertEqual(len(self.events(one, "skip")), len(skipped))
        changes = [e["loss_scale"] for e in self.events(one, "loss_scale")]
        self.assertEqual(changes[:falling], [top / 2 ** (i + 1) for i in range(falling)])
        self.assertIn(2 * changes[falling - 1], changes)  # it grew
        self.assertLess(sum(self.losses(one)[-4:]) / 4, self.losses(one)[0] - 1.0)
        two = self.folder / "two"
        self.train_gpu(two, *scaling, "parallel.transport=" + ("nccl" if gpus() >= 2 else "mpi"), precision="fp16", ranks=2, **keys)
        self.assert_same_run(one, two, steps)
        for step in (8, 40):  # while it falls, and while it grows
            run = self.folder / f"from_{step}"
            shutil.copytree(one, run)
            for saved in self.steps_saved(run):
                if saved > step:
                    self.checkpoint(run, saved).unlink()
            (run / "checkpoints" / "latest").write_text(f"step_{step:08}.h5\n")
            self.assertIn(f"from step {step}: ", self.train_gpu(run, *scaling, precision="fp16", **keys).out)
            self.assert_same_run(one, run, steps)

    def test_fp16_with_another_loss_scale_is_close(self):
        """A power of two changes what rounds and vanishes in fp16, not what is computed."""
        a, b = self.folder / "a", self.folder / "b"
        self.train_gpu(a, "train.loss_scale=128", precision="fp16")
        self.train_gpu(b, "train.loss_scale=4096", precision="fp16")
        for x, y in zip(self.rows(a), self.rows(b)):
            self.assertEqual((x["skipped"], y["skipped"]), ("0", "0"))
            self.assertEqual((x["loss_scale"], y["loss_scale"]), ("128", "4096"))
        for key in ("loss", "grad_norm"):  # both without the scale in them
            for x, y in list(zip(self.rows(a), self.rows(b)))[:10]:
                self.assertLess(abs(float(x[key]) - float(y[key])) / float(x[key]), 2e-2, key)

    def test_resume_on_the_cpu_side_tools(self):
        run = self.folder / "run"
        self.train_gpu(run)
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
