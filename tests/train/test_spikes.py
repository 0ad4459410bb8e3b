"""Spikes under each policy of watch.on_spike, on 1 and 2 ranks: a program that trains as psann_train does, with noise in place of the data of chosen steps."""
import os
import random
import signal
import unittest

from common import TrainCase

STEPS, SEQUENCES = 48, 16  # of the run; of a step
BAD = 35                   # the step whose data are noise
SAVED = 32                 # the last checkpoint before it


class Spikes(TrainCase):
    noise = (0, 0)

    def command(self, *arguments, ranks=1):
        words = super().command(*arguments, ranks=ranks)
        i = next(i for i, w in enumerate(words) if w.endswith("psann_train"))
        return words[:i] + [os.environ["PSANN_NOISY_RUN"], *map(str, self.noise)] + words[i + 1:]

    def set_noise(self, first_step, last_step):
        self.noise = ((first_step - 1) * SEQUENCES, last_step * SEQUENCES)

    def policy(self, run, on_spike, **sections):
        watch = {"on_spike": on_spike, **({"spike_window": 16, "spike_zscore": 8} if on_spike != "off" else {})}
        keys = {"train": {"max_steps": STEPS}, "eval": {"interval": 16}, "checkpoint": {"interval": 16, "keep_last": 100}, **sections}
        return self.config(run, name=f"{run.name}.ini", watch=watch, **keys)

    def train_on(self, on_spike, ranks=1, code=0, **sections):
        run = self.folder / f"{on_spike}{ranks}"
        return run, self.run_train(self.policy(run, on_spike, **sections), ranks=ranks, code=code)

    def both(self, on_spike, **sections):
        """The run on 1 and on 2 ranks, which must be the same; the first one."""
        runs = [self.train_on(on_spike, ranks, **sections) for ranks in (1, 2)]
        self.assertEqual(self.rows(runs[0][0]), self.rows(runs[1][0]))
        self.assert_same_checkpoint(self.checkpoint(runs[0][0], STEPS), self.checkpoint(runs[1][0], STEPS))
        for kind in ("spike", "rollback", "skip"):
            self.assertEqual(*(self.events(run, kind) for run, _ in runs))
        return runs[0]

    def test_off_and_warn_train_alike(self):
        self.set_noise(BAD, BAD)
        plain, _ = self.train_on("off")
        self.assertEqual(self.events(plain, "spike"), [])
        warned, result = self.both("warn")
        self.assertEqual(self.rows(plain), self.rows(warned))
        event = self.events(warned, "spike")[0]
        self.assertEqual(event["step"], BAD)
        self.assertGreater(event["loss_zscore"], 8)
        self.assertEqual(event["loss"], float(self.rows(warned)[BAD - 1]["loss"]))
        self.assertRegex(result.out, rf"warning: step {BAD} is a spike: loss \S+ \(\S+ deviations above what was expected\), gradient norm \S+ \(\S+\); its update is applied")

    def test_skip_leaves_the_update_out(self):
        self.set_noise(BAD, BAD)
        run, result = self.both("skip")
        self.assertEqual([r["step"] for r in self.rows(run) if r["skipped"] == "1"], [str(BAD)])
        self.assertEqual([e["step"] for e in self.events(run, "spike")], [BAD])
        self.assertRegex(result.out, rf"warning: step {BAD} is a spike: .*its update is skipped")
        # The step after sees the weights that the step before it saw.
        rows = [float(r["loss"]) for r in self.rows(run)]
        self.assertLess(abs(rows[BAD] - rows[BAD - 2]), 0.5)
        self.assertGreater(rows[BAD - 1], rows[BAD] + 2)

    def test_rollback_goes_back_and_passes_the_data_over(self):
        self.set_noise(BAD, BAD + 1)
        run, result = self.both("rollback")
        first, second = self.events(run, "rollback")
        self.assertEqual((first["step"], first["from_step"], first["sequences"], first["sequences_passed"]),
                         (SAVED, BAD, BAD * SEQUENCES, (BAD - SAVED) * SEQUENCES))
        # The noise goes on for another step, which is now the first after the checkpoint.
        self.assertEqual((second["step"], second["from_step"], second["sequences"]), (SAVED, SAVED + 1, (BAD + 1) * SEQUENCES))
        self.assertIn(f"back to the checkpoint of step {SAVED}", result.out)
        rows = self.rows(run)
        self.assertEqual([int(r["step"]) for r in rows], list(range(1, STEPS + 1)))
        self.assertTrue(all(float(r["loss"]) < 5 for r in rows[20:]), rows)
        passed = BAD + 1 - SAVED
        self.assertEqual(rows[-1]["tokens"], str((STEPS + passed) * SEQUENCES * 24))
        self.assertEqual(self.events(run, "spike"), [])
        # The data position is in the checkpoint, and the digests know of it.
        plain, _ = self.train_on("off")
        different, how = self.differs(plain, run)
        self.assertTrue(different)
        for line in ("sequences", "rollbacks"):
            self.assertIn(line, how)

    def test_rollback_under_every_strategy(self):
        """Written in the background or not: the same run."""
        self.set_noise(BAD, BAD + 1)
        whole, _ = self.train_on("rollback")
        for strategy, ranks, background in (("ddp", 2, True), ("shard_grad", 2, True), ("full_shard", 2, True), ("full_shard", 2, False), ("hybrid", 4, True)):
            with self.subTest(strategy=strategy, background=background):
                run = self.folder / f"{strategy}{background}"
                config = self.policy(run, "rollback", parallel={"strategy": strategy, **({"shard_ranks": 2} if strategy == "hybrid" else {})})
                self.run_train(config, f"checkpoint.background={str(background).lower()}", ranks=ranks)
                self.assert_same_run(whole, run, STEPS)
                self.assertEqual(self.events(whole, "rollback"), self.events(run, "rollback"))

    def test_rollback_survives_kills(self):
        self.set_noise(BAD, BAD + 1)
        whole, _ = self.train_on("rollback")
        rng = random.Random(5)
        for ranks in (1, 2):
            run = self.folder / f"killed{ranks}"
            config = self.policy(run, "rollback")
            for step in (SAVED + 1, rng.randrange(SAVED + 2, STEPS)):
                process = self.start(config, f"run.dir={run}", ranks=ranks)
                self.wait_for_step(process, run, step)
                self.kill_all(process, run)
            self.run_train(config, f"run.dir={run}", ranks=ranks)
            self.assert_same_run(whole, run, STEPS)

    def test_without_a_checkpoint_the_update_is_skipped(self):
        self.set_noise(BAD, BAD)
        run, result = self.train_on("rollback", checkpoint={"interval": 0}, eval={"interval": 0})
        self.assertEqual([r["step"] for r in self.rows(run) if r["skipped"] == "1"], [str(BAD)])
        self.assertEqual(len(self.events(run, "spike")), 1)
        self.assertEqual(self.events(run, "rollback"), [])

    def test_a_spike_of_the_last_step_goes_back(self):
        self.set_noise(STEPS, STEPS)
        run, _ = self.train_on("rollback")
        self.assertEqual([(e["step"], e["from_step"]) for e in self.events(run, "rollback")], [(STEPS - 16, STEPS)])
        self.assertEqual(self.steps_saved(run)[-1], STEPS)
        self.assertLess(float(self.rows(run)[-1]["loss"]), 5)

    def test_a_run_that_spikes_on_all_data_ends(self):
        self.set_noise(BAD, 10000)
        run, result = self.train_on("rollback", ranks=2, code=1)
        self.assertEqual(len(self.events(run, "rollback")), 6)
        self.assertRegex(result.out, rf"error: .*the run has spiked 6 times in a row after step {SAVED}, each time on other data; lower train.lr")

    def test_skips_end_when_a_level_stays(self):
        self.set_noise(BAD, 10000)
        run, _ = self.train_on("skip")
        skipped = [int(r["step"]) for r in self.rows(run) if r["skipped"] == "1"]
        self.assertEqual(skipped[0], BAD)
        self.assertLess(len(skipped), 16)


if __name__ == "__main__":
    unittest.main(verbosity=2)
