"""A rank that is killed, stopped or hangs, in every phase: the others name it in time, the job ends with a failure, and no process is left. And what is slow but well is let be.

Cases run several at a time, since most of a case is waiting; watchdog_matrix.py runs them by the hundred.
"""
import concurrent.futures
import os
import signal
import time
import unittest

from common import processes_of
from watchdog_cases import AT_ONCE, LIBRARY, PHASES, STRATEGIES, Case, WatchdogCase


class Watchdog(WatchdogCase):
    def test_every_phase(self):
        self.check([Case(2, i % 2, phase, "SIGSTOP" if (i // 2) % 2 else "SIGKILL") for i, phase in enumerate(PHASES)])

    def test_every_strategy(self):
        self.check([Case(4 if s == "hybrid" else 2, 1, "collective", "SIGSTOP", s) for s in STRATEGIES] + [Case(2, 0, "update", "SIGKILL", s) for s in ("ddp", "full_shard")])

    def test_four_ranks(self):
        self.check([Case(4, 0, "pass", "SIGSTOP"), Case(4, 2, "collective", "SIGSTOP", "shard_grad"), Case(4, 3, "load", "SIGKILL"), Case(4, 1, "save", "SIGSTOP")])

    def test_a_rank_that_hangs(self):
        self.check([Case(2, 0, "pass", "hang"), Case(2, 1, "load", "hang"), Case(2, 1, "evaluation", "hang", "full_shard")])

    def test_a_disk_that_hangs(self):
        """Nothing moves in a write that everybody waits for: rank 0 is named, and the phase."""
        run = self.folder / "run"
        result = self.run_train(self.config(run, watch={"timeout_s": 2}), f"run.dir={run}", ranks=2, code=1, timeout=100, env={"LD_PRELOAD": LIBRARY, "PSANN_FAULT": "fsync:2:0:slow=300000"})
        self.assertRegex(result.out, r"rank 0 on \S+ \(process \d+\) hangs, without progress for [\d.]+ s: step \d+, writing a checkpoint; rank 1 waits in the end of a checkpoint")

    def run_well(self, name, *overrides, keys=None, **options):
        """A run on 2 ranks in which something lasts longer than the watchdog waits for a sign of life."""
        run = self.folder / name
        config = self.config(run, name=f"{name}.ini", **{"eval": {"interval": 0}, "watch": {"timeout_s": 4}, "log": {"interval": 1}, **(keys or {})})
        result = self.run_train(config, f"run.dir={run}", *overrides, ranks=2, timeout=200, **options)
        self.assertNotIn("error", result.out)
        return run, result

    def a_slow_disk(self, background):
        keys = {"train": {"max_steps": 4, "warmup_steps": 1}, "checkpoint": {"interval": 3, "background": background}}
        disk = {"LD_PRELOAD": LIBRARY, "PSANN_FAULT": "fsync:2:1:slow=5000,data:1:0:slow=100"}
        run, _ = self.run_well(f"disk_{background}", keys=keys, env=disk)
        self.assertGreater(max(e["seconds"] for e in self.events(run, "save")), 4)
        self.run_well(f"disk_{background}", "train.max_steps=5", keys=keys, env=disk)  # and the way back, from the slow disk

    def long_steps(self):
        run, _ = self.run_well("steps", keys={"train": {"max_steps": 3, "warmup_steps": 1, "batch_tokens": 24 * 16 * 2000}, "checkpoint": {"interval": 0}})
        self.assertGreater(max(float(r["step_ms"]) for r in self.rows(run, times=True)[1:]), 3000)

    def a_long_evaluation(self):
        val = self.make_store(self.folder / "long.h5", 4000)
        run, _ = self.run_well("evaluation", keys={"train": {"max_steps": 2, "warmup_steps": 1}, "eval": {"interval": 2, "batches": 0}, "data": {"val": val}, "checkpoint": {"interval": 0}})
        self.assertGreater(self.events(run, "evaluation")[0]["seconds"], 3)

    def test_what_lasts_is_let_be(self):
        """With a time-out of 4 s a rank is found after 3 s without a sign of life."""
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(self.a_slow_disk, False), pool.submit(self.a_slow_disk, True), pool.submit(self.long_steps), pool.submit(self.a_long_evaluation)]:
                done.result()

    def test_a_pause_of_the_whole_job_is_forgiven(self):
        """As with Ctrl-Z and fg, or a host that stands still: longer than the time-out, for all ranks."""
        run = self.folder / "run"
        process = self.start(self.config(run, watch={"timeout_s": 4}, eval={"interval": 0}), f"run.dir={run}", "train.max_steps=1000000", ranks=2)
        self.wait_for_step(process, run, 20)
        ranks = processes_of(run)
        self.assertEqual(len(ranks), 2)
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(6)
        steps = len(self.rows(run))
        for pid in ranks:
            os.kill(pid, signal.SIGCONT)
        self.wait_for_step(process, run, steps + 20)
        for pid in ranks:
            os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.finish(process).code, 0)

    def test_seconds_of_the_ranks(self):
        run = self.folder / "run"
        self.run_train(self.config(run), ranks=2)
        events = self.events(run, "ranks")
        self.assertEqual([e["step"] for e in events], list(range(4, 25, 4)))
        for e in events:
            self.assertEqual((len(e["busy_ms"]), len(e["waiting_ms"])), (2, 2))
            self.assertGreater(min(e["busy_ms"]), 0)
            self.assertLessEqual(e["busy_ms_min"], e["busy_ms_median"])
            self.assertLessEqual(e["busy_ms_median"], e["busy_ms_max"])
            self.assertEqual(e["slowest"], e["busy_ms"].index(max(e["busy_ms"])))

    def test_off(self):
        run = self.folder / "run"
        self.run_train(self.config(run, watch={"timeout_s": 0}), ranks=2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
