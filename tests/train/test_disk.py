"""Full and read-only disks. A small file system in memory stands for the disk, which only root can mount: others skip."""
import os
import pathlib
import subprocess
import tempfile
import unittest

from common import ENVIRONMENT, PROGRAMS, TrainCase

# A checkpoint of the test's model takes up to 800 KiB while it is written and half of it afterwards; a disk of this size holds one, and its
# replacement doesn't fit beside it.
TIGHT = 1024 * 1024


class Disk(TrainCase):
    keys = {"train": {"max_steps": 20}, "eval": {"interval": 0}, "checkpoint": {"interval": 4, "keep_last": 1, "max_failures": 2}}

    def mounted(self, options):
        disk = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True).returncode != 0:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk])
        return disk

    def remount(self, disk, options):
        subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)

    def assert_whole(self, run):
        for step in self.steps_saved(run):
            subprocess.run([PROGRAMS / "psann_check", "checkpoint", self.checkpoint(run, step)], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)

    def unbroken(self):
        whole = self.folder / "whole"
        self.run_train(self.config(whole, **self.keys))
        return whole

    def test_full_disk_stops_the_run_and_loses_nothing(self):
        for ranks in (1, 2):
            disk = self.mounted(f"size={TIGHT}")
            run = disk / "run"
            result = self.run_train(self.config(run, **self.keys), ranks=ranks, code=1)
            for failure in (1, 2):
                self.assertRegex(result.out, rf"warning: the checkpoint of step {4 + 4 * failure} could not be written \(failure {failure} in a row, 2 are outlived\): .*"
                                             "does not fit in .*free some space")
            self.assertRegex(result.out, r"error: .*training stopped: the checkpoint \(step 16\) could not be written, failure 3 in a row; the newest one is of step 4: .*"
                                         "does not fit in")
            self.assertEqual(result.out.count("error:"), 1)
            self.assertEqual(self.steps_saved(run), [4])
            self.assertEqual(list((run / "checkpoints").glob(".*")), [])
            self.assert_whole(run)
            self.remount(disk, "size=64m")
            self.assertIn("from step 4: ", self.run_train(self.config(run, **self.keys), ranks=ranks).out)
            if ranks == 1:
                whole = self.unbroken()
            self.assert_same_run(whole, run, 20)

    def test_failed_last_checkpoint_is_a_failure(self):
        disk = self.mounted(f"size={TIGHT}")
        run = disk / "run"
        result = self.run_train(self.config(run, **self.keys), "checkpoint.max_failures=1000", code=1)
        self.assertRegex(result.out, r"the run's last checkpoint \(step 20\) could not be written, .*the newest one is of step 4: .*does not fit in")
        self.assertEqual(self.steps_saved(run), [4])

    def test_space_that_comes_back(self):
        disk = self.mounted("size=64m")
        run = disk / "run"
        process = self.start(self.config(run, **self.keys), "train.max_steps=400", "checkpoint.max_failures=1000", "train.warmup_steps=4")
        self.wait_for_step(process, run, 8)
        with open(disk / "filler", "wb", buffering=0) as filler:
            for size in (1 << 16, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    pass
        self.wait_for(process, lambda: "could not be written" in process.out_path.read_text(), "a failed save")
        (disk / "filler").unlink()
        result = self.finish(process)
        self.assertEqual(result.code, 0, result.out)
        self.assertEqual([int(r["step"]) for r in self.rows(run)], list(range(1, 401)))
        self.assertEqual(self.steps_saved(run), [400])
        self.assert_whole(run)
        self.assertGreater(len(self.events(run, "warning")), 0)

    def test_read_only_disk(self):
        disk = self.mounted("size=64m")
        self.remount(disk, "ro")
        result = self.run_train(self.config(disk / "run"), code=2)
        self.assertRegex(result.out, "error: .*Read-only file system")

    def test_folder_that_may_not_be_written(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        closed = self.folder / "closed"
        closed.mkdir(mode=0o555)
        result = self.run_train(self.config(closed / "run"), code=2)
        self.assertRegex(result.out, "error: .*Permission denied")

    def test_disk_without_room_for_the_start(self):
        disk = self.mounted("size=4k")
        result = self.finish(self.start(self.config(disk / "run")), 20)
        self.assertIn(result.code, (1, 2), result.out)
        self.assertRegex(result.out, "error: .*No space left")


if __name__ == "__main__":
    unittest.main(verbosity=2)
