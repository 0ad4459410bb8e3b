"""Event files of training runs, read by TensorBoard's own reader, which comes from PyPI into a virtual environment.

usage: test_tensorboard.py ENVIRONMENT    where the virtual environment is, or is made
"""
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import unittest

from common import TrainCase

VENV = pathlib.Path(sys.argv.pop(1))
READER = pathlib.Path(__file__).with_name("read_events.py")
COLUMNS = {"loss", "ppl", "lr", "grad_norm", "tok_s", "step_ms", "skipped", "val_loss", "val_ppl", "val_bits_per_byte"}


def install():
    """Makes the virtual environment unless a whole one is there; returns why that can't be done."""
    whole = VENV / "whole"
    if whole.exists():
        return None
    shutil.rmtree(VENV, ignore_errors=True)
    for command in ([sys.executable, "-m", "venv", VENV],
                    [VENV / "bin/pip", "install", "-q", "--disable-pip-version-check", "--timeout", "15", "--retries", "1", "tensorboard>=2.14,<3", "setuptools<81"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            return f"TensorBoard cannot be installed from PyPI: {last[0]}"
    whole.touch()
    return None


def single(value):
    """The value as the event file's 32 bits hold it."""
    return struct.unpack("f", struct.pack("f", value))[0]


class TensorBoard(TrainCase):
    def read(self, run):
        done = subprocess.run([VENV / "bin/python", READER, run], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def files(self, run):
        return sorted(pathlib.Path(run).glob("events.out.tfevents.*"))

    def assert_events_are_the_metrics(self, run):
        rows = self.rows(run, times=True)
        scalars = self.read(run)
        self.assertEqual(set(scalars), COLUMNS | {"val_accuracy", "peak_bytes"})
        for tag in COLUMNS:
            expected = [[int(r["step"]), single(float(r[tag]))] for r in rows if r[tag] != ""]
            self.assertEqual(scalars[tag], expected, tag)
        evaluations = self.events(run, "evaluation")
        self.assertEqual(scalars["val_accuracy"], [[e["step"], single(e["val_accuracy"])] for e in evaluations])
        for _, peak in scalars["peak_bytes"]:
            self.assertGreater(peak, 1 << 22)
            self.assertTrue(math.isfinite(peak))

    def test_run(self):
        run = self.folder / "run"
        self.run_train(self.config(run), ranks=2)
        self.assertEqual(len(self.files(run)), 1)
        self.assert_events_are_the_metrics(run)

    def start_and_kill(self, config, run):
        """A launch that never saves, killed when many of its steps are in its event file."""
        process = self.start(config, f"run.dir={run}", "train.max_steps=100000", "eval.interval=0", "checkpoint.interval=0")
        known = len(self.files(run))
        self.wait_for(process, lambda: len(self.files(run)) > known and self.files(run)[-1].stat().st_size > 10000, "events of many steps")
        self.kill_all(process, run)
        return {path: path.read_bytes() for path in self.files(run)}

    def test_killed_and_resumed(self):
        """Steps that a killed launch wrote after the last checkpoint are not seen, though its file is left as it was. The launch after it has
        another learning rate, so they differ."""
        run = self.folder / "run"
        config = self.config(run)
        self.run_train(config, "train.max_steps=8")
        before = self.start_and_kill(config, run)
        self.run_train(config, "train.max_steps=32", "train.lr=0.002", "train.min_lr=0.0002")
        files = self.files(run)
        self.assertEqual(len(files), 3)
        self.assertEqual({path: path.read_bytes() for path in files[:2]}, before)
        self.assert_events_are_the_metrics(run)

    def test_fresh_start_over_what_never_saved(self):
        run = self.folder / "run"
        config = self.config(run)
        self.start_and_kill(config, run)
        self.run_train(config)
        self.assertEqual(len(self.files(run)), 2)
        self.assert_events_are_the_metrics(run)


class Off(TrainCase):
    def test_key_that_turns_it_off(self):
        run = self.folder / "run"
        self.run_train(self.config(run, log={"tensorboard": False}))
        self.assertEqual(list(run.glob("events*")), [])


if __name__ == "__main__":
    reason = install()
    if reason is not None:
        TensorBoard = unittest.skip(reason)(TensorBoard)
        print(f"SKIPPED: {reason}")
    unittest.main(verbosity=2)
