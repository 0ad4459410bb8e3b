"""Checkpoints in the background, as a run meets them: a slow disk does not hold training up, failures that come late are counted, and the last one is waited for.

PSANN_FAULTY_CALLS names the library of tests/ckpt/faulty_calls.c, which is loaded before the program.
"""
import json
import os
import re
import signal
import subprocess
import unittest

from common import ENVIRONMENT, PROGRAMS, TrainCase

LIBRARY = os.environ["PSANN_FAULTY_CALLS"]


class Background(TrainCase):
    keys = {"train": {"max_steps": 300}, "eval": {"interval": 0}, "checkpoint": {"interval": 100}, "log": {"interval": 1000}}

    def faulty(self, *arguments, fault, **options):
        return self.run_train(*arguments, env={"LD_PRELOAD": LIBRARY, "PSANN_FAULT": fault}, **options)

    def lines(self, run):
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def test_slow_disk(self):
        """Steps go on while a file is written, and what it holds is the step that it is named after."""
        whole = self.folder / "whole"
        self.run_train(self.config(whole, **self.keys), "checkpoint.background=false")
        for e in self.events(whole, "save"):
            self.assertEqual(e["waited"], e["seconds"])
        for ranks in (1, 2):
            run = self.folder / f"run{ranks}"
            self.faulty(self.config(run, **self.keys), ranks=ranks, fault="pwrite:1:0:slow=4")
            lines = self.lines(run)
            at = next(i for i, l in enumerate(lines) if l.get("event") == "save" and l["step"] == 100)
            self.assertGreater(max(l["step"] for l in lines[:at]), 110)
            save = lines[at]
            self.assertGreater(save["seconds"], 0.2)
            if lines[at - 1]["step"] < 200:  # else the next one waited for it
                self.assertLess(save["waited"], save["seconds"])
            for step in (100, 200, 300):
                self.assert_same_checkpoint(self.checkpoint(whole, step), self.checkpoint(run, step))
            self.assertEqual(self.rows(whole), self.rows(run))

    def test_a_save_waits_for_the_one_before(self):
        run = self.folder / "run"
        result = self.faulty(self.config(run, **self.keys), "train.max_steps=12", "train.warmup_steps=4", "checkpoint.interval=4", fault="fsync:1:0:slow=100")
        self.assertIn("[save] step=8 waits for the checkpoint of step 4, which is still being written", result.out)
        self.assertEqual(self.steps_saved(run), [4, 8, 12])

    def test_failures_that_come_late(self):
        keys = {**self.keys, "train": {"max_steps": 40}, "checkpoint": {"interval": 4, "max_failures": 2}}
        whole = self.folder / "whole"
        self.run_train(self.config(whole, **keys))
        for ranks, fault, why in ((1, "fsync:6:0:EIO", "Input/output error"), (2, "open:3:0:EROFS", "Read-only file system"), (1, "rename:5:0:ENOSPC", "No space left"),
                                  (2, "pwrite:400:0:EDQUOT", "quota")):
            run = self.folder / f"run_{fault.replace(':', '_')}"
            result = self.faulty(self.config(run, **keys), ranks=ranks, fault=fault, code=1)
            warned = re.findall(r"warning: the checkpoint of step (\d+) could not be written \(failure (\d) in a row, 2 are outlived\): .*" + why, result.out)
            self.assertEqual([n for _, n in warned], ["1", "2"], result.out)
            stopped = re.search(r"error: .*training stopped: the checkpoint \(step (\d+)\) could not be written, failure 3 in a row; .*" + why, result.out)
            self.assertIsNotNone(stopped, result.out)
            steps = [int(s) for s, _ in warned] + [int(stopped.group(1))]
            self.assertEqual(steps, list(range(steps[0], steps[0] + 12, 4)))
            self.assertEqual(result.out.count("error:"), 1)
            self.assertEqual(self.steps_saved(run), list(range(4, steps[0], 4)))
            self.assertEqual([e["step"] for e in self.events(run, "warning")], steps[:2])
            self.run_train(self.config(run, **keys), ranks=ranks)
            self.assert_same_run(whole, run, 40)

    def test_a_stop_waits_for_its_checkpoint(self):
        run = self.folder / "run"
        config = self.config(run, **{**self.keys, "train": {"max_steps": 100000}})
        process = self.start(config, f"run.dir={run}", env={"LD_PRELOAD": LIBRARY, "PSANN_FAULT": "fsync:1:0:slow=200"})
        self.wait_for_step(process, run, 103)
        process.send_signal(signal.SIGTERM)
        result = self.finish(process)
        self.assertEqual(result.code, 0, result.out)
        last = int(self.rows(run)[-1]["step"])
        self.assertEqual((run / "checkpoints" / "latest").read_text().strip(), f"step_{last:08}.h5")
        subprocess.run([PROGRAMS / "psann_check", "checkpoint", *(self.checkpoint(run, s) for s in self.steps_saved(run))], check=True, env=ENVIRONMENT,
                       stdout=subprocess.DEVNULL)

    def test_short_writes_and_reads(self):
        whole, run = self.folder / "whole", self.folder / "run"
        self.run_train(self.config(whole, **self.keys), "train.max_steps=20", "train.warmup_steps=4")
        self.faulty(self.config(run, **self.keys), "train.max_steps=20", "train.warmup_steps=4", fault="pwrite:1:0:short,pread:1:0:short", ranks=2)
        self.assert_same_run(whole, run, 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
