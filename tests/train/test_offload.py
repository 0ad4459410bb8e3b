"""parallel.offload = optimizer is the same run: any strategy and number of ranks, stopped and gone on with it and without, rolled back; and the plan says where things lie."""
import unittest

from common import TrainCase

OFFLOAD = "parallel.offload=optimizer"


class Offload(TrainCase):
    """Three layers, odd sizes and frozen tensors. Chunks are a quarter of the largest unit, so all but the smallest units take several."""

    steps = 8
    keys = {
        "model": {"n_layers": 3, "sine_learnable": "amplitude", "wave_interleave": True, "base": "waveresnet", "d_mlp": 37},
        "train": {"max_steps": 8, "warmup_steps": 2, "micro_batch": 1},
        "eval": {"interval": 4, "batches": 3},
        "checkpoint": {"interval": 4},
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.reference = cls.root / "reference"
        cls.run_for_all(cls.reference, "reference.ini", **cls.keys)

    def train_on(self, run, strategy, ranks, *overrides):
        return self.run_train(self.config(run, **self.keys), f"parallel.strategy={strategy}", *overrides, ranks=ranks, timeout=120)

    def test_ranks_and_strategies(self):
        for strategy, ranks in (("ddp", 1), ("ddp", 2), ("shard_optimizer", 2), ("shard_grad", 4), ("full_shard", 2), ("full_shard", 4), ("hybrid", 4)):
            with self.subTest(strategy=strategy, ranks=ranks):
                run = self.folder / f"{strategy}{ranks}"
                result = self.train_on(run, strategy, ranks, OFFLOAD, *(["parallel.shard_ranks=2"] if strategy == "hybrid" else []))
                self.assertIn("offload   optimizer: on the CPU all memory is the host's", result.out)
                self.assertIn("offload = optimizer\n", (run / "config.ini").read_text())
                self.assert_same_run(self.reference, run, self.steps)

    def test_checkpoints_go_with_it_and_without(self):
        for links in (((OFFLOAD,), "full_shard", 4), ((), "ddp", 1)), (((), "shard_optimizer", 2), ((OFFLOAD, "checkpoint.background=false"), "ddp", 1)), \
                (((OFFLOAD,), "ddp", 1), ((OFFLOAD,), "shard_grad", 2)):
            with self.subTest(links=links):
                run = self.folder / "_".join(strategy + str(ranks) for _, strategy, ranks in links)
                for i, (overrides, strategy, ranks) in enumerate(links):
                    self.train_on(run, strategy, ranks, *overrides)
                    if i == 0:
                        self.rewind(run, 4)
                self.assert_same_run(self.reference, run, self.steps)

    def test_the_plan_has_its_buffers(self):
        sums = {}
        for overrides in ((), (OFFLOAD,)):
            out = self.train_on(self.folder / "run", "ddp", 1, "--plan", *overrides).out
            self.assertNotIn("of the host's memory:", out)  # on the CPU there is one kind
            self.assertEqual("state on its way" in out, bool(overrides))
            sums[overrides] = out
        self.assertIn("  moments", sums[(OFFLOAD,)])

    def test_what_there_is_to_choose_from(self):
        result = self.run_train(self.config(self.folder / "run", **self.keys), "parallel.offload=all", code=2)
        self.assertRegex(result.out, "parallel.offload.*none.*optimizer")


if __name__ == "__main__":
    unittest.main(verbosity=2)
