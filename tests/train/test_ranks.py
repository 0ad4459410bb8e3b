"""The same numbers on any number of ranks, with accumulation and dropout; recompute modes; label smoothing; the loss falls."""
import math
import unittest

from common import BASE, TrainCase


class Ranks(TrainCase):
    steps = BASE["train"]["max_steps"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.reference = cls.root / "one"
        cls.run_for_all(cls.reference, "reference.ini")

    def test_loss_falls(self):
        losses = [float(r["loss"]) for r in self.rows(self.reference)]
        self.assertTrue(all(math.isfinite(x) for x in losses), losses)
        self.assertAlmostEqual(losses[0], math.log(257), delta=0.5)  # a fresh model knows nothing
        self.assertLess(sum(losses[-4:]) / 4, losses[0] - 1.5)
        evaluations = [float(r["val_loss"]) for r in self.rows(self.reference) if r["val_loss"]]
        self.assertEqual(len(evaluations), 3)
        self.assertEqual(evaluations, sorted(evaluations, reverse=True))

    def check_ranks(self, ranks):
        run = self.folder / "run"
        self.run_train(self.config(run), ranks=ranks)
        self.assert_same_run(self.reference, run, self.steps)

    def test_2_ranks(self):
        self.check_ranks(2)

    def test_4_ranks(self):
        self.check_ranks(4)

    def test_8_ranks(self):
        self.check_ranks(8)

    def test_3_and_6_ranks_train_and_say_what_their_bits_depend_on(self):
        expected = self.rows(self.reference)
        for ranks in (3, 6):
            run = self.folder / f"run{ranks}"
            result = self.run_train(self.config(run), ranks=ranks)
            self.assertRegex(result.out, f"identity .*{ranks} ranks")
            rows = self.rows(run)
            self.assertEqual(len(rows), self.steps)
            for a, b in zip(expected, rows):
                self.assertAlmostEqual(float(a["loss"]), float(b["loss"]), delta=1e-3)
                self.assertEqual(a["lr"], b["lr"])

    def test_reference_run_says_nothing_of_a_layout(self):
        self.assertNotIn("identity", (self.reference / "log.txt").read_text())

    def test_recompute_modes_are_equal(self):
        for mode in ("cheap", "block"):
            run = self.folder / mode
            self.run_train(self.config(run, train={"recompute": mode}))
            self.assert_same_run(self.reference, run, self.steps)

    def test_every_base_on_2_ranks_with_recompute(self):
        for name, model in (
            ("waves", {"base": "waveresnet", "wave_interleave": True, "wave_dilation_growth": 2, "wave_dropout": 0.2}),
            ("replaced", {"base": "waveresnet", "wave_interleave": True, "wave_replace": True, "wave_kernel_size": 4, "positional_encoding": "sinusoidal", "d_mlp": None}),
            ("transformer", {"base": "transformer", "mlp_activation": "relu", "positional_encoding": "alibi", "n_heads": 4}),
            ("sines", {"sine_freq_init": 2, "sine_amp_init_std": 0.1, "sine_learnable": "frequency", "sine_decay_mode": "relu"}),
        ):
            with self.subTest(name):
                short = {"train": {"max_steps": 5, "warmup_steps": 1}, "model": model}
                one, two = self.folder / f"{name}1", self.folder / f"{name}2"
                self.run_train(self.config(one, **short))
                self.run_train(self.config(two, **short), "train.recompute=block", ranks=2)
                self.assert_same_run(one, two, 5)
                self.assertLess(float(self.rows(one)[-1]["loss"]), float(self.rows(one)[0]["loss"]))

    def test_other_micro_batches_are_other_runs(self):
        run = self.folder / "run"
        self.run_train(self.config(run, train={"micro_batch": 1, "max_steps": 2, "warmup_steps": 1}))
        a, b = self.rows(self.reference)[0], self.rows(run)[0]
        self.assertNotEqual(a["grad_norm"], b["grad_norm"])
        self.assertAlmostEqual(float(a["loss"]), float(b["loss"]), delta=1e-4)

    def test_micro_batch_auto_is_recorded(self):
        self.assertIn("micro_batch = 2\n", (self.reference / "config.ini").read_text())

    def test_label_smoothing(self):
        """At fixed weights, those of the trained reference, the loss is linear in the smoothing."""
        first = {}
        trained = self.checkpoint(self.reference, self.steps)
        for eps in (0, 0.1, 0.3):
            run = self.folder / f"run{eps}"
            self.run_train(self.config(run, train={"label_smoothing": eps, "max_steps": self.steps + 1}), f"run.resume={trained}")
            first[eps] = self.rows(run)[0]
        loss = {eps: float(r["loss"]) for eps, r in first.items()}
        self.assertGreater(loss[0.3] - loss[0], 0.05)  # a trained model loses by spreading its bets
        self.assertAlmostEqual((loss[0.3] - loss[0]) / (loss[0.1] - loss[0]), 3, delta=0.02)
        self.assertNotEqual(first[0]["grad_norm"], first[0.1]["grad_norm"])

    def test_evaluation_of_the_whole_store(self):
        """eval.batches = 0 on 1 and 3 ranks, where the last round has dummies; bits per byte follow from the nats."""
        rows = []
        for ranks in (1, 3):
            run = self.folder / f"run{ranks}"
            self.run_train(self.config(run, train={"max_steps": 1, "warmup_steps": 0, "lr": 1e-10}, eval={"batches": 0}), ranks=ranks)
            event = self.events(run, "evaluation")[0]
            tokens = event["val_tokens"]
            rows.append(event)
        self.assertEqual(rows[0]["val_tokens"], rows[1]["val_tokens"])
        self.assertAlmostEqual(rows[0]["val_loss"], rows[1]["val_loss"], delta=1e-6)
        self.assertAlmostEqual(rows[0]["val_ppl"], math.exp(rows[0]["val_loss"]), delta=1e-6 * rows[0]["val_ppl"])
        # One separator a document: the store has text bytes + documents tokens, of which all but the first are predicted.
        text_bytes = tokens + 1 - self.documents[1]
        self.assertAlmostEqual(rows[0]["val_bits_per_byte"], rows[0]["val_loss"] * tokens / math.log(2) / text_bytes, delta=1e-9)


if __name__ == "__main__":
    unittest.main(verbosity=2)
