"""launch/scaling_model.py: the table of docs/scaling.md is what it prints, what it reckons has the limits that it must have, and wrong words are refused."""
import pathlib
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = SOURCE / "launch" / "scaling_model.py"
sys.path.insert(0, str(SCRIPT.parent))
from scaling_model import MEASURED, STRATEGIES, Machine, efficiency, of_step, step, table  # noqa: E402

HOST = Machine(gpus_a_host=8, link=374e9, network=45e9, latency=13e-6, network_latency=3e-6, copy=4.24e12)


def run(*words):
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=120)


class ScalingModel(unittest.TestCase):
    def test_the_document_has_its_table(self):
        printed = run()
        self.assertEqual(printed.returncode, 0, printed.stderr)
        self.assertEqual(printed.stdout, table(HOST, MEASURED))
        self.assertIn(printed.stdout, (SOURCE / "docs" / "scaling.md").read_text())

    def test_one_gpu_takes_the_time_that_was_given(self):
        for name, ms in MEASURED.items():
            for strategy in STRATEGIES:
                seconds, waited, exchanging = step(of_step(name, ms, HOST), HOST, strategy, 1)
                if strategy == "ddp":
                    self.assertAlmostEqual(1000 * seconds, ms, places=6)
                    self.assertEqual((waited, exchanging), (0, 0))

    def test_limits(self):
        for name, ms in MEASURED.items():
            model = of_step(name, ms, HOST)
            for strategy in STRATEGIES:
                by_ranks = [efficiency(model, HOST, strategy, r) for r in (8, 64, 512, 4096)]
                self.assertEqual(by_ranks, sorted(by_ranks, reverse=True), (name, strategy))  # no better on more hosts
                self.assertGreater(efficiency(model, HOST, strategy, 64, 8), 0)
            free = Machine(8, 1e18, 1e18, 0, 0, 1e18)  # exchanges that cost nothing
            for ranks in (2, 64):
                self.assertAlmostEqual(efficiency(of_step(name, ms, free), free, "ddp", ranks), 1, places=6)
            slow = Machine(8, 374e9, 1e9, 13e-6, 3e-6, 4.24e12)
            self.assertLess(efficiency(model, slow, "ddp", 64), efficiency(model, HOST, "ddp", 64) / 2)

    def test_other_machines(self):
        h100 = run("--copy", "3020", "124m=62.9").stdout.splitlines()
        self.assertEqual(len(h100), 2 + 10)
        self.assertEqual(h100[4], "| 124m | 1 | 64 | 0.89 | 0.94 | 0.94 | 0.99 |")

    def test_wrong_words(self):
        for words, says in ((["nope=3"], "no bench model 'nope'"), (["1b3"], "is not MODEL=MS"), (["1b3=x"], "is not MODEL=MS"), (["1b3=3"], "its update alone takes")):
            done = run(*words)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(says, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
