"""Files of a run folder, what the console says, --help, --plan, --version, launches by mistake, and Ctrl-C under mpirun."""
import csv
import json
import math
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
import time
import unittest

from common import BASE, ENVIRONMENT, PROGRAMS, TrainCase, processes_of


class Files(TrainCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_folder = cls.root / "run"
        cls.out = cls.run_for_all(cls.run_folder, "files.ini", ranks=2).out

    def test_metrics_jsonl(self):
        lines = [json.loads(line) for line in (self.run_folder / "metrics.jsonl").read_text().splitlines()]
        steps = [l for l in lines if "event" not in l]
        self.assertEqual([l["step"] for l in steps], list(range(1, 25)))
        for l in steps:
            self.assertEqual(l["tokens"], l["step"] * BASE["train"]["batch_tokens"])
            self.assertAlmostEqual(l["ppl"], math.exp(l["loss"]), delta=1e-9 * l["ppl"])
            self.assertGreater(l["tok_s"], 0)
            self.assertAlmostEqual(l["tok_s"] * l["step_ms"], 1000 * BASE["train"]["batch_tokens"], delta=1e-3)
            self.assertIs(l["skipped"], False)
            self.assertEqual("val_loss" in l, l["step"] % 8 == 0)
        self.assertAlmostEqual(steps[3]["lr"], BASE["train"]["lr"])  # the end of the warm-up
        self.assertAlmostEqual(steps[-1]["lr"], BASE["train"]["lr"] / 10)
        # A save's line comes when it is written, which may be some steps later.
        events = [(e["step"], e["event"]) for e in lines if "event" in e]
        self.assertEqual([e for e in events if e[1] not in ("save", "ranks")], [(0, "start"), (8, "evaluation"), (16, "evaluation"), (24, "evaluation"), (24, "stop")])
        self.assertEqual([e for e in events if e[1] == "save"], [(8, "save"), (16, "save"), (24, "save")])
        for e in lines:
            if e.get("event") == "save":
                self.assertGreaterEqual(e["seconds"], e["waited"])
                self.assertGreaterEqual(e["waited"], 0)

    def test_metrics_csv_has_the_same_numbers(self):
        steps = [json.loads(l) for l in (self.run_folder / "metrics.jsonl").read_text().splitlines() if '"event"' not in l]
        rows = self.rows(self.run_folder, times=True)
        self.assertEqual(len(rows), len(steps))
        for row, step in zip(rows, steps):
            self.assertEqual(set(step) - set(row), set())
            for key, value in row.items():
                if value == "":
                    self.assertNotIn(key, step)
                else:
                    self.assertEqual(float(value), float(step[key]), key)

    def test_system_json(self):
        system = json.loads((self.run_folder / "system.json").read_text())
        self.assertEqual(system["ranks"], 2)
        self.assertGreater(system["memory_bytes"], 1 << 28)
        self.assertIn("files.ini", " ".join(system["command"]))
        for library in ("MPI", "HDF5", "OpenBLAS", "cJSON", "xxHash", "inih", "SentencePiece", "protobuf-c"):
            self.assertRegex(system["libraries"][library], r"\d")

    def test_config_ini_starts_the_same_run(self):
        again = self.folder / "again"
        self.run_train(self.run_folder / "config.ini", f"run.dir={again}")
        self.assert_same_run(self.run_folder, again, 24)

    def test_console(self):
        self.assertEqual((self.run_folder / "log.txt").read_text().strip(), self.out.strip())
        for what in (r"^psann \d+\.\d+\.\d+ \(commit ", r"^machine +\S+: ", r"^ranks +2 on 1 host", r"^engine +CPU fp32", r"^model +respsann: [\d,]+ parameters",
                     r"^memory of a rank:", r"^data +\S+train\.h5: [\d,]+ tokens", r"^schedule +24 steps of 384 tokens: 8 micro-batches of 2 × 24",
                     r"^work +\S+ \wFLOP a token", r"^next:", r"psann_generate \S+/run ", r"psann_eval \S+/run \S+val\.h5"):
            self.assertRegex(re.sub("^", "", self.out), re.compile(what, re.M))
        # The fields of the reference's log line, in its order.
        line = re.compile(r"^epoch=(\d+) step=(\d+) loss=(\d+\.\d{4}) ppl=(\d+\.\d{3}) lr=(\S+) grad_norm=(\d+\.\d{3}) toks/step~384 tok/s=\d+ done=\S+% eta=\S+$", re.M)
        rows = {r["step"]: r for r in self.rows(self.run_folder)}
        found = line.findall(self.out)
        self.assertEqual([f[1] for f in found], ["1", "4", "8", "12", "16", "20", "24"])
        for epoch, step, loss, ppl, lr, norm in found:
            self.assertEqual(loss, f"{float(rows[step]['loss']):.4f}")
            self.assertEqual(norm, f"{float(rows[step]['grad_norm']):.3f}")
            self.assertEqual(int(epoch), 1 + math.floor(float(rows[step]["epoch"])))
        self.assertEqual(len(re.findall(r"^\[eval\] step=\d+ tokens=\d+ loss=\S+ ppl=\S+ dt=\S+s ", self.out, re.M)), 3)
        self.assertNotIn("\r", self.out)  # no bar: this is no terminal

    def test_best_is_the_lowest_evaluation(self):
        values = {int(r["step"]): float(r["val_loss"]) for r in self.rows(self.run_folder) if r["val_loss"]}
        best = min(values, key=values.get)
        self.assertEqual((self.run_folder / "checkpoints" / "best").read_text().strip(), f"step_{best:08}.h5")
        self.assertEqual((self.run_folder / "checkpoints" / "latest").read_text().strip(), "step_00000024.h5")

    def test_best_is_written_where_no_checkpoint_is_due(self):
        run = self.folder / "run"
        self.run_train(self.config(run, eval={"interval": 3}, checkpoint={"interval": 1000}))
        self.assertEqual(len(self.events(run, "evaluation")), 8)
        best = (run / "checkpoints" / "best").read_text().strip()
        self.assertTrue((run / "checkpoints" / best).exists())
        self.assertIn(3, self.steps_saved(run))

    def test_each_step_is_evaluated_once(self):
        steps = [e["step"] for e in self.events(self.run_folder, "evaluation")]
        self.assertEqual(steps, [8, 16, 24])

    def test_keep_last_and_every(self):
        run = self.folder / "run"
        self.run_train(self.config(run, eval={"interval": 0}, checkpoint={"interval": 2, "keep_last": 2, "keep_every": 10}))
        self.assertEqual(self.steps_saved(run), [10, 20, 22, 24])

    def test_run_without_evaluation(self):
        run = self.folder / "run"
        config = self.config(run, data={"val": None}, eval={"interval": None, "batches": None})
        result = self.run_train(config, "train.max_steps=3", "train.warmup_steps=1")
        self.assertIn("no evaluation", result.out)
        self.assertTrue(all(r["val_loss"] == "" for r in self.rows(run)))
        self.assertFalse((run / "checkpoints" / "best").exists())

    def test_tokens_target_is_over_the_whole_job(self):
        for ranks in (1, 2):
            run = self.folder / f"run{ranks}"
            self.run_train(self.config(run, train={"max_steps": None, "tokens_target": 384 * 5 - 10, "warmup_steps": 1}), ranks=ranks)
            self.assertEqual(self.rows(run)[-1]["tokens"], str(384 * 5))

    def test_updates_that_are_not_finite_are_skipped(self):
        """Decay by lr · weight_decay = 100 a step multiplies weights by −99 until they overflow."""
        rows = []
        for ranks in (1, 2):
            run = self.folder / f"run{ranks}"
            result = self.run_train(self.config(run, train={"lr": 10, "min_lr": 10, "weight_decay": 10, "max_steps": 60, "warmup_steps": 0}, eval={"interval": 0}),
                                    ranks=ranks)
            self.assertRegex(result.out, r"warning: step \d+: loss \S+, gradient norm \S+: not finite, so its update is skipped")
            skipped = [r["step"] for r in self.rows(run) if r["skipped"] == "1"]
            self.assertGreater(len(skipped), 1)
            self.assertEqual([str(e["step"]) for e in self.events(run, "skip")], skipped)
            rows.append([{k: v for k, v in r.items()} for r in self.rows(run)])
        self.assertEqual(rows[0], rows[1])

    def test_a_run_that_never_recovers_ends(self):
        run = self.folder / "run"
        result = self.run_train(self.config(run, train={"lr": 10, "min_lr": 10, "weight_decay": 10, "max_steps": 1000, "warmup_steps": 0}, eval={"interval": 0}), code=1,
                                ranks=2)
        self.assertRegex(result.out, "not been finite for 100 steps in a row.*lower train.lr")
        self.assertEqual(result.out.count("error:"), 1)


class Information(TrainCase):
    def test_help(self):
        out = self.run_train("--help").out
        for word in ("usage: psann_train CONFIG", "--plan", "--help-config", "--version", "Ctrl-C"):
            self.assertIn(word, out)

    def test_help_config_has_every_key(self):
        out = self.run_train("--help-config").out
        for word in ("[model]", "  d_model = ", "  sine_freq_range = ", "  keep_every = "):
            self.assertIn(word, out)

    def test_version(self):
        out = self.run_train("--version").out
        for pattern in (r"^psann \d+\.\d+\.\d+ \(commit \S+\)$", r"^build: ", r"^libraries: .*Open MPI.*HDF5 \d.*OpenBLAS.*SentencePiece \d"):
            self.assertRegex(out, re.compile(pattern, re.M))

    def test_plan_writes_nothing_and_depends_on_ranks(self):
        run = self.folder / "run"
        config = self.config(run)
        one = self.run_train(config, "--plan").out
        two = self.run_train("--plan", config, ranks=2).out
        self.assertFalse(run.exists())
        for out in (one, two):
            for row in ("weights", "moments", "gradients", "activations", "evaluation", "scratch", "sum"):
                self.assertRegex(out, re.compile(rf"^  {row} +\d", re.M))
            self.assertRegex(out, r"work +\S+ \wFLOP a token, \S+ \wFLOP a step")
            self.assertNotIn("step=1", out)
        self.assertNotIn("gradient exchange", one)
        self.assertIn("gradient exchange", two)

    def test_plan_that_does_not_fit(self):
        config = self.config(self.folder / "run", model={"d_model": 65536, "d_mlp": 262144, "n_layers": 100})
        for arguments in ((config, "--plan"), (config,)):
            result = self.run_train(*arguments, code=2, timeout=20)
            self.assertRegex(result.out, r"each rank needs \S+ \w+ but has \S+ \w+ .*lower train.micro_batch")
            self.assertIn("memory of a rank:", result.out)

    def test_flops_and_parameters(self):
        """The figures of the start-up lines against their definitions."""
        D, L, M, V, T = 32, 2, 40, 257, 24
        out = self.run_train(self.config(self.folder / "run"), "--plan").out
        block = 4 * D * D + 2 * D * M + M + D + 3 * M + 2 * D + 1
        parameters = 2 * V * D + L * block + D
        self.assertIn(f"{parameters:,} parameters", out)
        flop = 6 * (L * (4 * D * D + 2 * D * M) + V * D) + 6 * L * T * D
        self.assertIn(f"{flop / 1000:.3g} kFLOP a token", out)


class Launch(TrainCase):
    def test_several_singletons_on_one_folder(self):
        run = self.folder / "run"
        config = self.config(run, train={"max_steps": 100000})
        first = self.start(config, f"run.dir={run}")
        self.wait_for_step(first, run, 1)
        second = self.run_train(config, code=2, timeout=20)
        self.assertRegex(second.out, r"error: .*run/\.lock' is locked by process \d+ on ")
        self.assertEqual(second.out.count("error:"), 1)
        first.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(first, 20).code, 0)

    def pair(self, first, second, code=2, cwd=None):
        """One rank with each of two argument lists."""
        program = str(PROGRAMS / "psann_train")
        command = ["mpirun", "--oversubscribe", "-np", "1", *first[0], program, *map(str, first[1]), ":", "-np", "1", *second[0], program, *map(str, second[1])]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_ranks_with_different_configs(self):
        run = self.folder / "run"
        a = self.config(run, name="a.ini")
        b = self.config(run, name="b.ini", train={"lr": 0.005, "min_lr": 0.0004})
        out = self.pair(([], [a]), ([], [b]))
        self.assertRegex(out, r"train\.lr .*rank 1")
        self.assertEqual(out.count("error:"), 1)
        self.assertFalse(run.exists())

    def test_ranks_with_different_data(self):
        other = self.make_store(self.folder / "other.h5", 41)
        for name, train, val in (("a", self.train, self.val), ("b", other, self.val), ("c", self.train, other)):
            (self.folder / name).mkdir()
            (self.folder / name / "train.h5").symlink_to(train)
            (self.folder / name / "val.h5").symlink_to(val)
        config = self.config(self.folder / "run", data={"train": "train.h5", "val": "val.h5"})
        for name, key in (("b", "data.train"), ("c", "data.val")):
            out = self.pair((["-wdir", str(self.folder / "a")], [config]), (["-wdir", str(self.folder / name)], [config]))
            self.assertIn(key, out)
            self.assertEqual(out.count("error:"), 1)

    def test_one_rank_with_a_broken_command_line(self):
        config = self.config(self.folder / "run")
        out = self.pair(([], [config]), ([], [config, "train.lr=fast"]))
        self.assertIn("train.lr", out)
        self.assertEqual(out.count("error:"), 1)


class Terminal(TrainCase):
    """An interactive shell in a terminal, where the test is the person."""

    def setUp(self):
        super().setUp()
        self.shell, self.terminal = pty.fork()
        if self.shell == 0:
            os.environ.update(ENVIRONMENT, TERM="xterm", PS1="prompt> ")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.addCleanup(self.close_terminal)
        self.shown = ""
        self.type("echo shell is r''eady\n")
        self.see("shell is ready")

    def close_terminal(self):
        os.close(self.terminal)
        os.kill(self.shell, signal.SIGKILL)
        os.waitpid(self.shell, 0)

    def type(self, text):
        os.write(self.terminal, text.encode())

    def see(self, text, timeout=30):
        """Waits until the terminal has shown a text; forgets what came before its end."""
        limit = time.monotonic() + timeout
        while text not in self.shown:
            left = limit - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                self.fail(f"{text!r} was not shown: {self.shown}")
            self.shown += os.read(self.terminal, 4096).decode(errors="replace")
        before, self.shown = self.shown.split(text, 1)
        return before

    def train_here(self, ranks):
        run = self.folder / "run"
        config = self.config(run, train={"max_steps": 100000}, log={"interval": 1000000}, checkpoint={"interval": 0}, eval={"interval": 0})
        launch = f"mpirun --oversubscribe -np {ranks} " if ranks > 1 else ""
        self.type(f"{launch}{PROGRAMS}/psann_train {config} run.dir={run}; echo ended with $?.\n")
        self.assertIn("\r[", self.see("tok/s  "))  # the bar
        return run

    def check_terminal(self):
        self.type("echo shell is a''live\n")
        self.see("shell is alive")
        self.type("cat\n")  # a program that reads lines: the terminal is as it was
        time.sleep(0.5)
        self.assertEqual(termios.tcgetattr(self.terminal), self.modes_of_a_program)
        self.type("\x04")

    @property
    def modes_of_a_program(self):
        """The shell's own line editor changes modes; programs get those that the terminal had when the shell started, which a second terminal tells."""
        other, end = pty.openpty()
        modes = termios.tcgetattr(end)
        os.close(other)
        os.close(end)
        return modes

    def test_control_c(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                run = self.train_here(ranks)
                self.type("typed by mistake\n\n\x04")  # would suspend an mpirun in the background
                time.sleep(0.5)
                self.see("tok/s  ")
                self.type("\x03")
                self.see("stopping after this step")
                self.see("stopped by a signal at step")
                if ranks > 1:
                    self.see("ended with 0.")
                self.check_terminal()
                self.assertEqual(self.steps_saved(run), [int(self.rows(run)[-1]["step"])])
                shutil.rmtree(run)

    def test_killed_rank_gives_the_terminal_back(self):
        run = self.train_here(2)
        os.kill(processes_of(run)[0], signal.SIGKILL)
        self.assertNotIn("ended with 0.", self.see("ended with "))
        self.check_terminal()


if __name__ == "__main__":
    unittest.main(verbosity=2)
