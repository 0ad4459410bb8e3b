"""launch/train.sbatch in a real Slurm: time limits, preemption, a rank's death, scancel. The Slurm is that of cluster.py.

Skipped (exit code 77) where Slurm can't be started; with PSANN_NEED_SLURM=1 that is a failure.
"""
import os
import pathlib
import re
import signal
import sys
import time
import unittest

import cluster

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "train"))

from common import PROGRAMS, TrainCase, processes_of  # noqa: E402

SCRIPT = SOURCE / "launch" / "train.sbatch"
ENDLESS = 10**6
slurm = cluster.Cluster()


class Slurm(TrainCase):
    """Evaluations at every step make a run slow without changing what it computes; a constant learning rate lets its length be changed."""

    documents = (40, 40)

    def setUp(self):
        super().setUp()
        self.jobs = []
        self.addCleanup(self.cancel)

    def cancel(self):
        for number, _ in self.jobs:
            slurm.call("scancel", "--signal=KILL", "--full", number, check=False)
            slurm.call("scancel", number, check=False)

    def length(self, name, steps, slow=True):
        """Writes the config of the run of that name; written anew it changes the run's length."""
        return self.config(self.folder / name, name=f"{name}.ini", train={"max_steps": steps, "min_lr": 0.004, "warmup_steps": 1},
                           checkpoint={"interval": 0}, eval={"interval": int(slow), "batches": 40})

    def submit(self, name, *options, start="mpirun", ranks=2, slow=True, **settings):
        """Submits a job for an endless run of that name; returns (its number, its run folder)."""
        run = self.folder / name
        config = self.length(name, ENDLESS, slow)
        environment = {"PSANN_HOME": str(SOURCE), "PSANN_PROGRAMS": str(PROGRAMS), "PSANN_START": start, "PSANN_BACKOFF_S": "0", **settings}
        if start == "mpirun":
            environment["PSANN_START_ARGS"] = "--bind-to none"
        number = slurm.submit(f"--ntasks={ranks}", *options, SCRIPT, config, f"run.dir={run}", cwd=self.folder, **environment)
        self.jobs.append((number, run))
        return number, run

    def output(self, number):
        path = self.folder / f"psann-{number}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def told(self, number):
        """The output without the lines of steps."""
        return "\n".join(line for line in self.output(number).splitlines() if not line.startswith(("epoch=", "[eval]", "[save]")))

    def wait_for(self, condition, what, timeout=120):
        limit = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > limit:
                told = "\n".join(f"== job {n}: {slurm.job(n)}\n{self.told(n)}" for n, _ in self.jobs)
                self.fail(f"{what} did not come within {timeout} s\n{told}\n{slurm.logs()}")
            time.sleep(0.2)

    def wait_for_state(self, number, *states, timeout=120):
        self.wait_for(lambda: slurm.job(number)["JobState"] in states, f"state {' or '.join(states)} of job {number}", timeout)

    def step(self, run):
        """Of the last line of metrics.csv; 0 without one."""
        path = pathlib.Path(run) / "metrics.csv"
        found = re.findall(r"^(\d+),.*\n", path.read_text(), re.M) if path.exists() else []
        return int(found[-1]) if found else 0

    def wait_for_steps(self, run, more):
        goal = self.step(run) + more
        self.wait_for(lambda: self.step(run) >= goal and len(processes_of(run)) == 2, f"step {goal} of {run.name}")

    def marked(self, run):
        """When status.ini was written: by a launch that begins, here."""
        return (run / "status.ini").stat().st_mtime_ns

    def starts(self, number):
        return re.findall(r"start (\d+), on \S+: (\d+) ranks", self.output(number))

    def newest(self, run):
        return max(self.steps_saved(run), default=0)

    def check_ended(self, number, state, code):
        job = slurm.job(number)
        self.assertEqual((job["JobState"], job["ExitCode"]), (state, f"{code}:0"), self.told(number))
        for n, run in self.jobs:
            if n == number:
                self.assertEqual(processes_of(run), [])

    def test_time_limits(self):
        """Two jobs of a minute are stopped at their limits and put back, twice; then the length of their runs is set to what is nearly
        reached. Both end with what an unbroken run has. One starts with mpirun, a rank per GPU, the other with srun, a rank per task."""
        began = time.monotonic()
        limits = ("--time=1", "--signal=B:USR1@20")
        jobs = [self.submit("mpirun", "--gpus-per-node=2", *limits, ranks=1), self.submit("srun", *limits, start="srun")]
        for number, _ in jobs:
            self.wait_for(lambda: self.output(number).count("put back into the queue") >= 2, f"two stops of job {number}", 300)
        last = 10 + max(self.newest(run) for _, run in jobs)
        for _, run in jobs:
            self.length(run.name, last)
        for number, run in jobs:
            self.wait_for_state(number, "COMPLETED", timeout=360)
            self.check_ended(number, "COMPLETED", 0)
            out = self.output(number)
            self.assertEqual(re.findall(r"supervise.sh: \S+ finished at step (\d+)", out), [str(last)], self.told(number))
            self.assertGreaterEqual(int(slurm.job(number)["Restarts"]), 2)
            self.assertEqual(self.starts(number), [(str(i + 1), "2") for i in range(int(slurm.job(number)["Restarts"]) + 1)])
            self.assertGreaterEqual(len(re.findall("supervise.sh: .*: signal SIGUSR1", out)), 2, self.told(number))
        whole = self.folder / "whole"
        self.run_train(self.length("whole", last), "eval.interval=0", timeout=120)
        for number, run in jobs:
            self.assertEqual([int(r["step"]) for r in self.rows(run)], list(range(1, last + 1)))
            self.assert_same_checkpoint(self.checkpoint(whole, last), self.checkpoint(run, last))
        print(f"{last} steps, {time.monotonic() - began:.0f} s in all", file=sys.stderr)

    def test_preemption(self):
        """With a time of grace the ranks that srun started get Slurm's SIGTERM; the job puts itself back, and a job of higher rank runs
        at once."""
        number, run = self.submit("low", "--cpus-per-task=3", start="srun")
        self.wait_for_steps(run, 3)
        urgent = slurm.submit("--partition=urgent", "--ntasks=8", "--wrap=sleep 3", cwd=self.folder)
        self.jobs.append((urgent, self.folder / "none"))
        self.wait_for(lambda: "put back into the queue" in self.output(number), "the end of the preempted job")
        self.assertIn("signal SIGTERM", self.output(number))
        stopped = self.newest(run)
        self.wait_for_state(urgent, "COMPLETED")
        self.length("low", stopped + 5)
        self.wait_for_state(number, "COMPLETED")
        self.assertIn(f"finished at step {stopped + 5}", self.output(number))

    def test_a_rank_dies(self):
        """All ranks end; they are started again inside the job, and when that has happened too often the job fails."""
        for start in ("mpirun", "srun"):
            number, run = self.submit(start, start=start, slow=False, PSANN_MAX_FAILURES="2")
            self.wait_for_steps(run, 3)
            for rank in (1, 0):
                started = self.marked(run)
                os.kill(processes_of(run)[rank], signal.SIGKILL)
                if rank == 1:
                    self.wait_for(lambda: self.marked(run) > started and len(processes_of(run)) == 2, "the second launch")
            self.wait_for_state(number, "FAILED")
            self.check_ended(number, "FAILED", 1)
            self.assertIn("given up: 2 launches in a row failed", self.output(number))

    def test_scancel(self):
        """Saves, and does not come back."""
        for start in ("mpirun", "srun"):
            number, run = self.submit(start, start=start)
            self.wait_for_steps(run, 3)
            slurm.call("scancel", number)
            self.wait_for_state(number, "CANCELLED")
            self.assertIn("not put back into the queue", self.output(number))
            self.assertEqual(self.mark(run)["state"], "stopped")
            self.assertEqual(self.newest(run), int(self.mark(run)["step"]))
            self.assertEqual(processes_of(run), [])

    def test_mistake(self):
        number, _ = self.submit("mistake", "--ntasks=1", PSANN_START="ssh")
        self.wait_for_state(number, "FAILED")
        self.check_ended(number, "FAILED", 2)
        self.assertIn("PSANN_START = 'ssh' is neither mpirun nor srun", self.output(number))


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(1 if os.environ.get("PSANN_NEED_SLURM") else 77)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a time-out of the test: the daemons must end with it
    if cluster.obstacle() is not None:
        skip(cluster.obstacle())
    try:
        try:
            slurm.start()
        except RuntimeError as e:
            skip(e)
        unittest.main(verbosity=2)
    finally:
        slurm.stop()
