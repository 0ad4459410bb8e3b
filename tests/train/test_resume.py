"""A run that was stopped, killed or damaged and started again is the run that never stopped."""
import os
import pathlib
import shutil
import signal
import time
import unittest

from common import BASE, TrainCase, processes_of


class Resume(TrainCase):
    steps = 30
    keys = {"train": {"max_steps": 30}, "checkpoint": {"interval": 10}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.reference = cls.root / "unbroken"
        cls.run_for_all(cls.reference, "unbroken.ini", **cls.keys)

    def rewound(self, step):
        """A copy of the unbroken run as it was killed some steps after its checkpoint of `step`."""
        run = self.folder / "run"
        shutil.copytree(self.reference, run)
        self.rewind(run, step)
        return run

    def check_equal(self, run):
        self.assert_same_run(self.reference, run, self.steps)

    def test_resume_on_other_numbers_of_ranks(self):
        for step, ranks in ((10, 4), (20, 2), (10, 8)):
            with self.subTest(step=step, ranks=ranks):
                run = self.rewound(step)
                result = self.run_train(self.config(run, **self.keys), ranks=ranks)
                self.assertIn(f"from step {step}: ", result.out)
                self.check_equal(run)
                shutil.rmtree(run)

    def test_from_many_ranks_to_one(self):
        run = self.folder / "run"
        config = self.config(run, **self.keys)
        process = self.start(config, f"run.dir={run}", "checkpoint.interval=1", ranks=4)
        self.wait_for_step(process, run, 7)
        self.kill_all(process, run)
        self.run_train(config)
        self.check_equal(run)

    def test_finished_run_has_nothing_to_do(self):
        run = self.rewound(self.steps)
        before = (run / "metrics.csv").read_bytes()
        result = self.run_train(self.config(run, **self.keys))
        self.assertIn("nothing to do", result.out)
        self.assertEqual((run / "metrics.csv").read_bytes(), before)

    def test_longer_run_goes_on(self):
        run = self.rewound(self.steps)
        result = self.run_train(self.config(run, **self.keys), "train.max_steps=34", "train.warmup_steps=4")
        self.assertIn("from step 30", result.out)
        self.assertEqual(self.steps_saved(run)[-1], 34)

    def test_torn_and_foreign_lines_of_metrics_go(self):
        run = self.rewound(20)
        for name, torn in (("metrics.csv", "31,2.5"), ("metrics.jsonl", '{"step":31,"lo')):
            with open(run / name, "a") as f:
                f.write(torn)
        self.run_train(self.config(run, **self.keys))
        self.check_equal(run)
        self.assertEqual([e["step"] for e in self.events(run, "save")], sorted({8, 10, 16, 20, 24, 30}))

    def test_never_refuses_a_used_folder(self):
        run = self.rewound(20)
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "log.txt"}
        result = self.run_train(self.config(run, **self.keys), "run.resume=never", code=2)
        self.assertRegex(result.out, "run.resume = never, but the run folder .* holds checkpoints .*choose another run.dir")
        self.assertEqual({p: p.read_bytes() for p in before}, before)

    def test_never_starts_in_a_new_folder(self):
        run = self.folder / "new"
        self.run_train(self.config(run, **self.keys), "run.resume=never")
        self.check_equal(run)

    def test_path_into_a_new_folder(self):
        for path in (self.checkpoint(self.reference, 20), self.rewound(20)):
            run = self.folder / f"from_{path.name}"
            self.run_train(self.config(run, **self.keys), f"run.resume={path}")
            self.assertEqual([r["step"] for r in self.rows(run)], [str(s) for s in range(21, 31)])
            self.assertEqual(self.rows(run), self.rows(self.reference)[20:])
            self.assert_same_checkpoint(self.checkpoint(run, 30), self.checkpoint(self.reference, 30))

    def test_path_refuses_a_folder_with_checkpoints(self):
        run = self.rewound(20)
        result = self.run_train(self.config(run, **self.keys), f"run.resume={self.checkpoint(self.reference, 10)}", code=2)
        self.assertRegex(result.out, "holds checkpoints of its own .*step_00000020")

    def damage(self, path):
        data = bytearray(path.read_bytes())
        at = self.rng.randrange(len(data) // 4, 3 * len(data) // 4)
        data[at : at + 64] = bytes(b ^ 0x5A for b in data[at : at + 64])
        path.write_bytes(bytes(data))

    def test_damaged_checkpoint_falls_back(self):
        for how in ("flipped", "truncated", "empty"):
            with self.subTest(how=how):
                run = self.rewound(20)
                path = self.checkpoint(run, 20)
                if how == "flipped":
                    self.damage(path)
                else:
                    os.truncate(path, path.stat().st_size // 2 if how == "truncated" else 0)
                result = self.run_train(self.config(run, **self.keys), ranks=2)
                self.assertRegex(result.out, r"warning: .*step_00000020\.h5")
                self.assertRegex(result.out, r"the newest whole checkpoint is .*step_00000016\.h5")
                self.assertIn("from step 16: ", result.out)
                self.check_equal(run)
                shutil.rmtree(run)

    def test_only_damaged_checkpoints_do_not_start_anew(self):
        run = self.rewound(20)
        for step in self.steps_saved(run):
            self.damage(self.checkpoint(run, step))
        result = self.run_train(self.config(run, **self.keys), code=2)
        self.assertRegex(result.out, "none of the 4 checkpoints in .* is whole")
        self.assertEqual(self.steps_saved(run), [8, 10, 16, 20])

    def test_missing_latest_is_found_again(self):
        run = self.rewound(20)
        (run / "checkpoints" / "latest").unlink()
        self.assertIn("from step 20: ", self.run_train(self.config(run, **self.keys)).out)
        self.check_equal(run)

    def test_what_may_not_change(self):
        run = self.rewound(20)
        for key, here in (("model.d_mlp", 44), ("run.seed", 5000), ("train.micro_batch", 1), ("train.batch_tokens", 24 * 32), ("data.seq_len", 12)):
            result = self.run_train(self.config(run, **self.keys), f"{key}={here}", code=2)
            self.assertRegex(result.out, f"can't be continued .*{key} \\(\\d+ there, {here} here\\)")

    def test_another_learning_rate_is_warned_of(self):
        run = self.rewound(20)
        result = self.run_train(self.config(run, **self.keys), "train.lr=0.002", "train.min_lr=0.0002")
        self.assertRegex(result.out, r"warning: .*train.lr \(0.004 there, 0.002 here\)")


class Stop(TrainCase):
    """Signals, time limits, and kills."""

    keys = {"train": {"max_steps": 400}, "checkpoint": {"interval": 0}, "eval": {"interval": 0}}
    short = {"train": {"max_steps": 40}, "checkpoint": {"interval": 0}, "eval": {"interval": 0}}

    def check_like_unbroken(self, run, config, overrides=()):
        """Resumes on 2 ranks and compares with a run that never stopped."""
        self.run_train(config, *overrides, ranks=2)
        whole = self.folder / "whole"
        steps = int(self.rows(run)[-1]["step"])
        self.run_train(config, *overrides, f"run.dir={whole}")
        self.assert_same_run(whole, run, steps)

    def check_mark(self, run, **expected):
        mark = self.mark(run)
        self.assertEqual({k: mark[k] for k in expected}, expected)

    def stop_by(self, number, ranks, step=5):
        run = self.folder / "run"
        config = self.config(run, **self.keys)
        process = self.start(config, ranks=ranks)
        self.wait_for_step(process, run, step)
        os.kill(process.pid, number)
        result = self.finish(process, 20)
        self.assertEqual(result.code, 0, result.out)
        self.assertIn("stopped by a signal at step", result.out)
        self.assertRegex(result.out, r"go on +.*psann_train .*run\.ini")
        last = int(self.rows(run)[-1]["step"])
        self.assertLess(last, 400)
        self.assertEqual(self.steps_saved(run), [last])
        self.check_mark(run, state="stopped", step=str(last), max_steps="400", reason=f"signal {number.name}")
        return run, config

    def test_interrupt_saves_and_ends_with_0(self):
        run, config = self.stop_by(signal.SIGINT, 1)
        self.check_like_unbroken(run, config)
        self.check_mark(run, state="finished", step="400", reason="")

    def test_terminate_saves_and_ends_with_0(self):
        self.stop_by(signal.SIGTERM, 1)

    def test_signal_that_mpirun_forwards(self):
        self.stop_by(signal.SIGUSR1, 2)

    def test_one_rank_of_four_gets_the_signal(self):
        run = self.folder / "run"
        config = self.config(run, **self.keys)
        process = self.start(config, f"run.dir={run}", ranks=4)
        self.wait_for_step(process, run, 3)
        pids = processes_of(run)
        self.assertEqual(len(pids), 4)
        os.kill(pids[2], signal.SIGINT)
        result = self.finish(process, 20)
        self.assertEqual(result.code, 0, result.out)
        self.check_mark(run, state="stopped", reason="signal SIGINT")
        self.assertEqual(self.steps_saved(run), [int(self.rows(run)[-1]["step"])])

    def long_step(self, run):
        """One step takes half a minute."""
        return self.config(run, train={"max_steps": 40, "batch_tokens": 24 * 16 * 4000, "micro_batch": 4})

    def test_second_interrupt_ends_at_once(self):
        """With one code on all ranks, whichever of them is asked: the others must not take it for dead."""
        for ranks, asked_rank in ((1, 0), (2, 0), (2, 1), (4, 2)):
            run = self.folder / f"run{ranks}_{asked_rank}"
            process = self.start(self.long_step(run), f"run.dir={run}", ranks=ranks)
            self.wait_for(process, lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size > 0, "the first line")
            time.sleep(0.3)
            pid = processes_of(run)[asked_rank]
            os.kill(pid, signal.SIGINT)
            time.sleep(0.3)
            self.assertIsNone(process.poll())
            asked = time.monotonic()
            os.kill(pid, signal.SIGINT)
            result = self.finish(process, 20)
            self.assertLess(time.monotonic() - asked, 5)
            self.assertEqual(result.code, 130, result.out)
            self.assertNotIn(" died", result.out)
            self.assertEqual(self.steps_saved(run), [])

    def test_killed_rank_ends_the_job(self):
        run = self.folder / "run"
        process = self.start(self.config(run, **self.keys), f"run.dir={run}", ranks=3)
        self.wait_for_step(process, run, 3)
        os.kill(processes_of(run)[1], signal.SIGKILL)
        result = self.finish(process, 20)
        self.assertNotEqual(result.code, 0)
        self.check_mark(run, state="running", step="0")
        limit = time.monotonic() + 10
        while processes_of(run) and time.monotonic() < limit:
            time.sleep(0.05)
        self.assertEqual(processes_of(run), [])

    def test_kill_mid_write(self):
        """All ranks are killed while a checkpoint is half written, again and again; what is left resumes to the unbroken run."""
        run = self.folder / "run"
        config = self.config(run, **self.short)
        arguments = (f"run.dir={run}", "checkpoint.interval=1", "checkpoint.keep_last=2")
        caught = 0
        for attempt in range(4):
            ranks = 1 + attempt % 2
            process = self.start(config, *arguments, ranks=ranks)
            wanted = 4 * attempt + self.rng.randrange(1, 4)
            saved = lambda: max(self.steps_saved(run), default=0)
            temporary = lambda: list((run / "checkpoints").glob(".step_*.tmp"))
            limit = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < limit:
                if (run / "checkpoints").is_dir() and saved() >= wanted and temporary():
                    break
            self.kill_all(process, run)
            caught += bool(temporary())
        self.assertGreater(caught, 0, "no kill fell into a write")
        self.run_train(config, *arguments, ranks=2)
        self.assertEqual(list((run / "checkpoints").glob(".*")), [])
        whole = self.folder / "whole"
        self.run_train(config, f"run.dir={whole}")
        self.assert_same_run(whole, run, 40)
        self.assertEqual(self.steps_saved(run), [39, 40])

    def test_time_limit(self):
        run = self.folder / "run"
        config = self.config(run, **{**self.keys, "train": {"max_steps": 100000}})
        for ranks, seconds in ((2, 2.5), (1, 2)):
            result = self.run_train(config, f"run.max_minutes={seconds / 60}", ranks=ranks, timeout=30)
            self.assertIn("stopped at run.max_minutes", result.out)
            self.assertEqual(self.mark(run)["state"], "stopped")
            self.assertRegex(self.mark(run)["reason"], r"^run\.max_minutes = 0\.0[34]")
            self.assertEqual(self.steps_saved(run)[-1], int(self.rows(run)[-1]["step"]))
        self.assertIn("from step", result.out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
