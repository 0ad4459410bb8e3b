"""train.precision = fp8 on the CPU engine, the plain twin of the GPU's: the same bits on any number of ranks, under any strategy, recomputed or resumed; close to fp32, but not it; and what it asks of a model."""
import json
import subprocess
import unittest

from common import ENVIRONMENT, PROGRAMS, TrainCase


class Fp8(TrainCase):
    """Four blocks, of which two are inside; dropout, so that gradients behind it have largest magnitudes of their own."""

    steps = 16
    keys = {
        "model": {"n_layers": 4, "d_mlp": 48, "dropout": 0.1},
        "data": {"seq_len": 32},
        "train": {"precision": "fp8", "batch_tokens": 32 * 16, "max_steps": 16, "warmup_steps": 2},
        "eval": {"interval": 8, "batches": 3},
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.reference = cls.root / "reference"
        cls.out = cls.run_for_all(cls.reference, "reference.ini", **cls.keys).out

    def losses(self, run):
        return [float(row["loss"]) for row in self.rows(run)]

    def same(self, name, *overrides, ranks=1):
        with self.subTest(run=name):
            run = self.folder / name
            self.run_train(self.config(run, **self.keys), *overrides, ranks=ranks, timeout=120)
            self.assert_same_run(self.reference, run, self.steps)

    def test_it_says_so(self):
        self.assertIn("inner products in fp8", self.out)
        self.assertIn("precision = fp8\n", (self.reference / "config.ini").read_text())

    def test_ranks_and_strategies(self):
        for strategy, ranks in (("ddp", 1), ("ddp", 2), ("ddp", 4), ("shard_optimizer", 2), ("shard_grad", 4), ("full_shard", 2), ("full_shard", 8), ("hybrid", 4)):
            self.same(f"{strategy}_{ranks}", f"parallel.strategy={strategy}", *(["parallel.shard_ranks=2"] if strategy == "hybrid" else []), ranks=ranks)

    def test_recompute(self):
        for mode in ("cheap", "block"):
            self.same(mode, f"train.recompute={mode}")

    def test_resume(self):
        run = self.folder / "run"
        self.run_train(self.config(run, **self.keys), "parallel.strategy=full_shard", ranks=2, timeout=120)
        self.rewind(run, 8)
        self.run_train(self.config(run, **self.keys), timeout=120)
        self.assert_same_run(self.reference, run, self.steps)

    def test_close_to_fp32_but_not_it(self):
        run = self.folder / "fp32"
        self.run_train(self.config(run, **self.keys), "train.precision=fp32")
        narrow, exact = self.losses(self.reference), self.losses(run)
        self.assertNotEqual(narrow, exact)
        self.assertLess(exact[-1], exact[0] - 0.3)  # it learned something
        for a, b in zip(narrow, exact):
            self.assertLess(abs(a - b) / b, 0.02)

    def test_evaluation_is_in_the_compute_type(self):
        """psann_eval gives the loss that training noted, with a device named and without, and makes no room for products in 8 bits."""
        said = []
        for more in ([], ["--device", "cpu"]):
            done = subprocess.run([PROGRAMS / "psann_eval", self.reference, self.val, "--json", *more], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("fp8", done.stdout + done.stderr)
            said.append({k: v for k, v in json.loads(done.stdout).items() if k != "seconds"})
        done = said[0]
        self.assertEqual(said[0], said[1])
        fresh = self.folder / "whole"
        self.run_train(self.config(fresh, **self.keys), "eval.batches=1000", timeout=120)
        noted = [float(r["val_loss"]) for r in self.rows(fresh) if r["val_loss"]][-1]
        self.assertAlmostEqual(done["loss"], noted, places=5)

    def test_other_bases(self):
        for name, model in (("wave", {"base": "waveresnet", "wave_interleave": True}), ("transformer", {"base": "transformer", "mlp_activation": "relu"}),
                            ("replaced", {"base": "waveresnet", "wave_interleave": True, "wave_replace": True, "d_mlp": None})):
            keys = dict(self.keys, model=dict(self.keys["model"], **model))
            runs = [self.folder / f"{name}_{ranks}" for ranks in (1, 2)]
            for ranks, run in zip((1, 2), runs):
                self.run_train(self.config(run, **keys), *(["train.recompute=block"] if ranks == 2 else []), ranks=ranks, timeout=120)
            self.assert_same_run(*runs, self.steps)

    def test_where_there_is_none(self):
        for words, says in ((["psann_check", "golden", "--precision", "fp8", self.train], "parity cases have no values of it"),
                            (["psann_bench", "throughput", "--models", "cpu", "--mode", "forward", "--precision", "fp8"], "--mode forward has no fp8")):
            done = subprocess.run([PROGRAMS / words[0], *words[1:]], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertIn(says, done.stderr)

    def test_what_it_asks_of_a_model(self):
        for section, key, value, says in (("model", "n_layers", 2, "the first and the last block"), ("model", "d_mlp", 40, "model.d_mlp is 40"), ("model", "d_model", 24, "model.d_model is 24"), ("data", "seq_len", 24, "data.seq_len is 24")):
            keys = {s: dict(k) for s, k in self.keys.items()}
            keys[section][key] = value
            if key == "seq_len":
                keys["train"]["batch_tokens"] = value * 16
            result = self.run_train(self.config(self.folder / "run", **keys), code=2)
            self.assertRegex(result.out, says)
            self.assertRegex(result.out, "use bf16 or auto")


if __name__ == "__main__":
    unittest.main(verbosity=2)
