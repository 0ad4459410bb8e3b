"""Which GPUs the scripts count: all of nvidia-smi's, or those that CUDA_VISIBLE_DEVICES lets through; and how scaling.sh shares them out."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "launch"))
import gpus  # noqa: E402
import scaling  # noqa: E402


class Gpus(unittest.TestCase):
    def counted(self, there, variable):
        """By the shell's function, and by Python's, with an nvidia-smi that shows so many."""
        with tempfile.TemporaryDirectory() as folder:
            tool = pathlib.Path(folder) / "nvidia-smi"
            tool.write_text("#!/bin/sh\n" + "".join(f"echo 'GPU {i}: NVIDIA H200 (UUID: GPU-{i})'\n" for i in range(there)) + f"exit {0 if there else 9}\n")
            tool.chmod(0o755)
            env = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
            env.update(PATH=f"{folder}:{os.environ['PATH']}", **({} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}))
            shell = subprocess.run(["sh", "-euc", ". launch/lib.sh; gpu_count"], cwd=SOURCE, env=env, capture_output=True, text=True, check=True).stdout
            with mock.patch.dict(os.environ, env, clear=True):
                return int(shell), gpus.visible()

    def test_the_variable_leaves_some_out(self):
        for there, variable, wanted in ((4, None, ["0", "1", "2", "3"]), (4, "2,3", ["2", "3"]), (4, "GPU-1", ["GPU-1"]), (4, "", []), (2, " 1 ", ["1"]), (0, None, []), (0, "0,1", []),
                                         (4, "-1", []), (2, "0,7,1", ["0"]), (4, "0,-1,1", ["0"]), (2, "0,1,2,3", ["0", "1"]), (1, "none", [])):
            count, visible = self.counted(there, variable)
            self.assertEqual((count, visible), (len(wanted), wanted), f"{there} GPUs, CUDA_VISIBLE_DEVICES {variable!r}")

    def test_numbers_that_find_room_side_by_side(self):
        self.assertEqual(scaling.groups([1, 2, 4, 8], 8), [[1, 2, 4], [8]])
        self.assertEqual(scaling.groups([1, 2, 4], 4), [[1, 2], [4]])
        self.assertEqual(scaling.groups([1, 2], 2), [[1], [2]])


if __name__ == "__main__":
    unittest.main()
