"""launch/gpu_profile.py: the table of a file of records, of which each step's time is known."""
import importlib.util
import pathlib
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("gpu_profile", SOURCE / "launch" / "gpu_profile.py")
profile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(profile)

MS = 1_000_000  # records count nanoseconds
STEP = 20 * MS


def step(at):
    """Twenty milliseconds: set_step comes twice, finish_norm once. Of the exchange one millisecond has nothing beside it."""
    return [(at, at + 1, "7", "(anonymous namespace)::set_step(step_state*, step_state, loss_scaling const*)"),
            (at + 1 * MS, at + 9 * MS, "7", "nvjet_hsh_128x256"),
            (at + 9 * MS, at + 12 * MS, "7", "cudnn_sdpa_flash_bprop"),
            (at + 11 * MS, at + 13 * MS, "9", "copy to a peer"),
            (at + 14 * MS, at + 14 * MS + 1, "7", "(anonymous namespace)::finish_norm(step_state const*)"),
            (at + 15 * MS, at + 15 * MS + 1, "7", "(anonymous namespace)::set_step(step_state*, step_state, loss_scaling const*)"),
            (at + 16 * MS, at + 18 * MS, "7", "void (anonymous namespace)::adamw<__nv_bfloat16>(long, long)")]


class Profile(unittest.TestCase):
    def table(self, steps, wanted):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            for record in (r for s in range(steps) for r in step(5 * MS + s * STEP)):
                file.write("\t".join(map(str, record)) + "\n")
            file.flush()
            return profile.table(file.name, wanted)

    def test_every_figure_is_one_steps(self):
        for steps, wanted, counted in ((6, 3, 3), (4, 10, 3)):
            found = self.table(steps, wanted)
            self.assertEqual(found["steps"], counted)
            self.assertAlmostEqual(found["step_ms"], 20)
            self.assertAlmostEqual(found["main_idle_ms"], 7, places=3)
            rows = {r["kind"]: r for r in found["rows"]}
            for kind, calls, ms in (("products", 1, 8), ("attention", 1, 3), ("exchange (other stream)", 1, 2), ("adamw", 1, 2), ("set_step", 2, 0)):
                self.assertAlmostEqual(rows[kind]["calls"], calls, msg=kind)
                self.assertAlmostEqual(rows[kind]["ms"], ms, places=3, msg=kind)
            self.assertAlmostEqual(rows["exchange (other stream)"]["beside_ms"], 1)

    def test_one_step_is_no_profile(self):
        with self.assertRaises(SystemExit):
            self.table(1, 10)


if __name__ == "__main__":
    unittest.main()
