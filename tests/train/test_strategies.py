"""Sharded training is the same run: every strategy, numbers of ranks, accumulation, recompute, dropout, frozen tensors, odd sizes, and
checkpoints that go from one strategy to another."""
import pathlib
import re
import unittest

from common import BASE, TrainCase

SHARDED = ("shard_optimizer", "shard_grad", "full_shard")


class Strategies(TrainCase):
    """Each against one rank. 16 micro-batches of one sequence, so that 8 ranks still accumulate; three layers, so that buffers are used again."""

    steps = 6
    keys = {
        "model": {"n_layers": 3, "sine_learnable": "amplitude", "wave_interleave": True, "base": "waveresnet", "d_mlp": 37},
        "train": {"max_steps": 6, "warmup_steps": 2, "micro_batch": 1, "recompute": "cheap"},
        "eval": {"interval": 3, "batches": 5},
        "checkpoint": {"interval": 3},
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.reference = cls.root / "one"
        cls.run_for_all(cls.reference, "reference.ini", **cls.keys)

    def check(self, strategy, ranks, *overrides, **more):
        run = self.folder / f"{strategy}{ranks}"
        result = self.run_train(self.config(run, **{**self.keys, **more}), f"parallel.strategy={strategy}", *overrides, ranks=ranks, timeout=120)
        self.assertRegex(result.out, rf"ranks +{ranks} .*strategy {strategy}")
        self.assert_same_run(self.reference, run, self.steps)
        return result

    def test_2_ranks(self):
        for strategy in ("ddp", *SHARDED):
            self.check(strategy, 2)

    def test_4_ranks(self):
        for strategy in SHARDED:
            self.check(strategy, 4)

    def test_8_ranks(self):
        for strategy in SHARDED:
            self.check(strategy, 8)

    def test_hybrid(self):
        self.check("hybrid", 4, "parallel.shard_ranks=2")
        self.check("hybrid", 8, "parallel.shard_ranks=2")
        self.check("hybrid", 8, "parallel.shard_ranks=4")
        self.check("hybrid", 2)  # all ranks of this host: one shard

    def test_one_rank_shards_nothing(self):
        self.check("full_shard", 1)

    def test_recompute_of_whole_blocks(self):
        for strategy in ("shard_grad", "full_shard"):
            self.check(strategy, 2, "train.recompute=block")

    def test_numbers_that_are_no_powers_of_two(self):
        """16 micro-batches on 3 and 6 ranks: the last round has fewer than ranks. Bits belong to the layout, not to the run."""
        rows = {}
        for strategy, ranks in (("ddp", 3), ("shard_grad", 3), ("full_shard", 3), ("full_shard", 6)):
            run = self.folder / f"{strategy}{ranks}"
            result = self.run_train(self.config(run, **self.keys), f"parallel.strategy={strategy}", ranks=ranks)
            self.assertRegex(result.out, f"identity .*{ranks} ranks")
            rows[strategy, ranks] = self.rows(run)
            self.assertEqual(len(rows[strategy, ranks]), self.steps)
            for a, b in zip(self.rows(self.reference), rows[strategy, ranks]):
                self.assertAlmostEqual(float(a["loss"]), float(b["loss"]), delta=1e-3)
        self.assertEqual(rows["shard_grad", 3], rows["full_shard", 3])

    def test_cuts_that_there_are_not(self):
        for shard in (3, 1):
            result = self.run_train(self.config(self.folder / "run", **self.keys), "parallel.strategy=hybrid", f"parallel.shard_ranks={shard}", ranks=4, code=2)
            self.assertRegex(result.out, rf"shards of {shard} ranks \(parallel.shard_ranks\): 4 ranks can't be cut so")
            self.assertFalse((self.folder / "run" / "metrics.csv").exists())
        result = self.run_train(self.config(self.folder / "run", **self.keys), "parallel.shard_ranks=2", "parallel.strategy=ddp", ranks=2, code=2)
        self.assertRegex(result.out, "parallel.shard_ranks .*parallel.strategy is not hybrid")

    def test_auto_says_what_it_took_and_why(self):
        run = self.folder / "run"
        result = self.run_train(self.config(run, **self.keys), ranks=2)
        self.assertRegex(result.out, "strategy: shard_optimizer, the fastest")
        self.assertIn("strategy = shard_optimizer\n", (run / "config.ini").read_text())
        self.assert_same_run(self.reference, run, self.steps)

    def test_memory_falls_as_the_arithmetic_says(self):
        """Sums of the plan: what is sharded falls with the ranks, what isn't stays."""
        big = {**self.keys, "model": {**self.keys["model"], "d_model": 256, "d_mlp": 1024, "n_layers": 4, "n_heads": 4}}
        sums = {}
        for strategy, ranks in (("ddp", 4), *((s, r) for s in SHARDED for r in (2, 4))):
            out = self.run_train(self.config(self.folder / "run", **big), f"parallel.strategy={strategy}", "--plan", ranks=ranks).out
            rows = {}
            for line in out.splitlines():
                words = line.split()
                if len(words) >= 3 and words[-1] in ("KiB", "MiB", "GiB", "B") and line.startswith("  "):
                    rows[" ".join(words[:-2])] = float(words[-2]) * {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[words[-1]]
            sums[strategy, ranks] = rows
        for ranks in (2, 4):
            for strategy in SHARDED:
                self.assertAlmostEqual(sums[strategy, ranks]["moments"] * ranks / sums["ddp", 4]["moments"], 1, delta=0.03)
            self.assertAlmostEqual(sums["full_shard", ranks]["weights"] * ranks / sums["ddp", 4]["weights"], 1, delta=0.03)
            self.assertAlmostEqual(sums["shard_grad", ranks]["weights"] / sums["ddp", 4]["weights"], 1, delta=0.03)


class Chains(TrainCase):
    """Stopped and gone on under another strategy and number of ranks."""

    steps = 12
    keys = {"train": {"max_steps": 12, "warmup_steps": 2, "micro_batch": 1, "recompute": "block"}, "checkpoint": {"interval": 4}, "eval": {"interval": 4, "batches": 3}}

    def chain(self, *links):
        reference = self.folder / "reference"
        self.run_train(self.config(reference, **self.keys))
        run = self.folder / "run"
        for i, (strategy, ranks) in enumerate(links):
            self.run_train(self.config(run, **self.keys), f"parallel.strategy={strategy}", ranks=ranks, timeout=120)
            if i + 1 < len(links):
                self.rewind(run, 4 * (i + 1))
        self.assert_same_run(reference, run, self.steps)

    def test_full_shard_ddp_shard_grad(self):
        self.chain(("full_shard", 4), ("ddp", 1), ("shard_grad", 2))

    def test_hybrid_full_shard_shard_optimizer(self):
        self.chain(("hybrid", 2), ("full_shard", 8), ("shard_optimizer", 4))


class Presets(TrainCase):
    """Each config that is offered says what it takes, or that this machine is too small for it."""

    def test_plans(self):
        configs = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.ini"))
        self.assertGreaterEqual(len(configs), 6)
        for config in configs:
            with self.subTest(config.name):
                text = config.read_text()  # one leaves the length to the script that starts it
                length = () if re.search(r"^(max_steps|tokens_target)", text, re.M) else ("train.max_steps=10",)
                process = self.start(config, *length, f"data.train={self.train}", f"data.val={self.val}", f"run.dir={self.folder / config.stem}", "run.device=cpu",
                                     "train.precision=fp32", "--plan")
                result = self.finish(process)
                self.assertRegex(result.out, r"sum +[\d.]+ GiB of|sum +[\d.]+ MiB of")
                self.assertTrue(result.code == 0 or (result.code == 2 and "each rank needs" in result.out), result.out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
