"""launch/supervise.sh: starts again after a crash, gives up, knows a mistake from a failure, passes on signals, keeps one log."""
import os
import pathlib
import signal
import subprocess
import time
import unittest

from common import ENVIRONMENT, PROGRAMS, TrainCase, processes_of

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "launch" / "supervise.sh"


def parent_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


class Supervise(TrainCase):
    ranks = 2

    def setUp(self):
        super().setUp()
        self.run_folder = self.folder / "run"
        self.addCleanup(self.end_ranks)

    def end_ranks(self):
        for pid in processes_of(self.run_folder):
            os.kill(pid, signal.SIGKILL)

    def steps(self, count):
        return self.config(self.run_folder, train={"max_steps": count}, checkpoint={"interval": 20, "keep_last": 3}, eval={"interval": 0})

    def supervise(self, config, *arguments, **settings):
        """Starts the script; run.dir stands on the command line, so that processes_of finds the ranks."""
        environment = {**ENVIRONMENT, "PSANN_PROGRAMS": str(PROGRAMS), "PSANN_RANKS": str(self.ranks), "PSANN_BACKOFF_S": "0", **settings}
        out = self.folder / "supervise.out"
        with open(out, "w") as f:
            process = subprocess.Popen([SCRIPT, config, f"run.dir={self.run_folder}", *arguments], env=environment, stdin=subprocess.DEVNULL,
                                       stdout=f, stderr=subprocess.STDOUT, start_new_session=True)
        process.out_path = out
        process.started = time.monotonic()
        self.addCleanup(self.end, process)
        return process

    def ended(self, process, code, timeout=120):
        """The script's output, once it has ended with that code and no rank lives; the log has the same."""
        result = self.finish(process, timeout)
        self.assertEqual(result.code, code, result.out)
        limit = time.monotonic() + 20
        while processes_of(self.run_folder) and time.monotonic() < limit:
            time.sleep(0.05)
        self.assertEqual(processes_of(self.run_folder), [])
        self.assertEqual((self.run_folder / "supervise.log").read_text(), result.out)
        return result.out

    def newest(self):
        """The step of the checkpoint that `latest` names, by which the script goes; a file gets its name a moment earlier."""
        latest = self.run_folder / "checkpoints" / "latest"
        return int(latest.read_text().strip().removeprefix("step_").removesuffix(".h5")) if latest.exists() else 0

    def ranks_after(self, process, step):
        """Process ids of the ranks, once a checkpoint of that step or a later one is there."""
        self.wait_for(process, lambda: self.newest() >= step and len(processes_of(self.run_folder)) == self.ranks, f"a checkpoint of step {step}")
        return processes_of(self.run_folder)

    def failing_program(self, code=7):
        """A folder with a psann_train whose ranks end before they have saved anything."""
        folder = self.folder / "failing"
        folder.mkdir()
        program = folder / "psann_train"
        program.write_text(f'#!/bin/sh\n[ "$1" != --value ] || exec "{PROGRAMS}/psann_train" "$@"\nexit {code}\n')
        program.chmod(0o755)
        return str(folder)

    def test_crashes_then_the_end(self):
        """Either rank is killed, then mpirun. Each launch left a newer checkpoint, so none counts, and the result is the unbroken run's."""
        config = self.steps(900)
        process = self.supervise(config, "run.resume=never", PSANN_MAX_FAILURES="1")
        for victim in (lambda pids: pids[1], lambda pids: pids[0], lambda pids: parent_of(pids[0])):
            os.kill(victim(self.ranks_after(process, self.newest() + 20)), signal.SIGKILL)
            launched = process.out_path.read_text().count("Z launch ") + 1
            self.wait_for(process, lambda: process.out_path.read_text().count("Z launch ") == launched, "a new launch", 120)
        out = self.ended(process, 0, 240)
        self.assertEqual(out.count("Z launch "), 4, out)
        self.assertEqual(out.count("failures without a newer one: 0 of 1; starting again"), 3, out)
        self.assertIn("finished at step 900", out)
        whole = self.folder / "whole"
        self.run_train(config, f"run.dir={whole}", "checkpoint.interval=0", timeout=120)
        self.assert_same_run(whole, self.run_folder, 900)

    def test_gives_up(self):
        process = self.supervise(self.steps(60), PSANN_MAX_FAILURES="3", PSANN_PROGRAMS=self.failing_program())
        out = self.ended(process, 1)
        self.assertEqual(out.count("Z launch "), 3, out)
        self.assertRegex(out, "the launch ended with code 7; .* failures without a newer one: 1 of 3; starting again in 0 s")
        self.assertRegex(out, "given up: 3 launches in a row failed without a checkpoint newer than step 0; the last one ended with code 7")

    def test_launcher_that_stays_behind(self):
        """An mpirun that does not end although its ranks have."""
        launcher = self.folder / "mpirun"
        launcher.write_text('#!/bin/sh\nsleep 2\n"$@"\nexec sleep 600\n')
        launcher.chmod(0o755)
        process = self.supervise(self.steps(60), PSANN_MAX_FAILURES="1", PSANN_LAUNCHER=str(launcher), PSANN_PROGRAMS=self.failing_program())
        out = self.ended(process, 1)
        self.assertRegex(out, r"process \d+ has had none of its own for 20 s and does not end: it is killed")
        self.assertIn("given up: 1 launches in a row failed", out)

    def test_end_with_0_that_is_none(self):
        """srun ends with 0 when it could not start the ranks; what status.ini says is then of an earlier launch."""
        config = self.steps(40)
        self.ended(self.supervise(config), 0)
        self.assertEqual(self.mark(self.run_folder)["state"], "finished")
        (self.run_folder / "supervise.log").unlink()
        out = self.ended(self.supervise(config, PSANN_MAX_FAILURES="2", PSANN_PROGRAMS=self.failing_program(0)), 1)
        self.assertIn("given up: 2 launches in a row failed without a checkpoint newer than step 40; the last one ended with code 0", out)

    def test_waits_longer_and_longer(self):
        process = self.supervise(self.steps(60), PSANN_MAX_FAILURES="3", PSANN_BACKOFF_S="1", PSANN_PROGRAMS=self.failing_program())
        out = self.ended(process, 1)
        self.assertRegex(out, "(?s)starting again in 1 s.*starting again in 2 s")
        self.assertGreater(time.monotonic() - process.started, 3)

    def test_mistakes(self):
        """In the config and in the settings: nothing is started. One that the ranks find: nothing is started again."""
        config = self.steps(60)
        for arguments, settings, message in ((["train.max_step=3"], {}, "did you mean 'train.max_steps'"),
                                             ([], {"PSANN_MAX_FAILURES": "none"}, "PSANN_MAX_FAILURES = 'none' is not a whole number from 1 on"),
                                             ([], {"PSANN_RANKS": "0"}, "PSANN_RANKS = '0' is not"),
                                             ([], {"PSANN_PROGRAMS": "/nowhere"}, "there is no psann_train in '/nowhere'"),
                                             ([], {"PSANN_LAUNCHER": "no_such_mpirun -np 2"}, "there is no program 'no_such_mpirun'")):
            result = self.finish(self.supervise(config, *arguments, **settings))
            self.assertEqual(result.code, 2, result.out)
            self.assertIn(message, result.out)
            self.assertFalse(self.run_folder.exists())
        out = self.ended(self.supervise(config, "data.train=/nowhere.h5"), 2)
        self.assertEqual(out.count("Z launch "), 1, out)
        self.assertIn("not started again", out)

    def test_signals_to_the_script(self):
        """The ranks save and end; the next start goes on there."""
        config = self.steps(1000000)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            before = self.newest()
            process = self.supervise(config)
            self.ranks_after(process, before + 1)
            process.send_signal(number)
            out = self.ended(process, 0)
            mark = self.mark(self.run_folder)
            self.assertEqual((mark["state"], mark["reason"]), ("stopped", "signal SIGUSR1"))
            self.assertRegex(out, f"stopped at step {mark['step']} of 1000000: signal SIGUSR1")
            self.assertEqual(int(mark["step"]), self.newest())
            (self.run_folder / "supervise.log").unlink()

    def test_terminate_to_all_processes(self):
        """As a batch system does it, mpirun included, which would otherwise give the ranks one second."""
        process = self.supervise(self.steps(1000000))
        pids = self.ranks_after(process, 20)
        for pid in [process.pid, parent_of(pids[0]), *pids]:
            os.kill(pid, signal.SIGTERM)
        self.ended(process, 0)
        self.assertEqual(int(self.mark(self.run_folder)["step"]), self.newest())

    def test_signal_before_the_ranks_are_ready(self):
        process = self.supervise(self.steps(1000000))
        self.wait_for(process, lambda: "Z launch " in process.out_path.read_text(), "the launch")
        process.send_signal(signal.SIGTERM)
        self.ended(process, 0)
        self.assertEqual(self.mark(self.run_folder)["state"], "stopped")

    def test_signal_between_two_launches(self):
        process = self.supervise(self.steps(60), PSANN_BACKOFF_S="300", PSANN_PROGRAMS=self.failing_program())
        self.wait_for(process, lambda: "starting again in 300 s" in process.out_path.read_text(), "a failure")
        process.send_signal(signal.SIGTERM)
        out = self.ended(process, 0)
        self.assertIn("stopped by SIGTERM between two launches", out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
