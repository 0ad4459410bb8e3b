"""psann_train on a GPU: the same bits again and on any number of ranks, close to the CPU engine, and usable afterwards."""
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "tests" / "train"), str(PROJECT / "launch")]
from common import ENVIRONMENT, PROGRAMS, TrainCase  # noqa: E402
from gpus import gpus  # noqa: E402

SKIPPED = 77  # meson's code for a test that can't run here


# Precision and dropout: with dropout attention is our own, without it cuDNN's in 16 bits.
SETTINGS = (("fp32", 0.1), ("bf16", 0.1), ("bf16", 0.0), ("fp16", 0.0), ("fp8", 0.1), ("fp8", 0.0))
FP8 = {"model": {"n_layers": 4, "d_mlp": 144}, "data": {"seq_len": 32}, "train": {"batch_tokens": 32 * 16}}  # what fp8 asks for
STEPS = 24


class Gpu(TrainCase):
    model = {"d_model": 64, "n_heads": 2, "d_mlp": 136}

    def train_gpu(self, run, *overrides, precision="bf16", ranks=1, code=0, **sections):
        """A run of the small model on GPUs; sections as for config(). All runs share a table of plans."""
        sections["model"] = dict(self.model, **sections.get("model", {}))
        if precision == "fp8":
            sections = {name: dict(sections.get(name, {}), **FP8.get(name, {})) for name in (*sections, *FP8)}
        config = self.config(run, name=run.name + ".ini", **sections)
        return self.run_train(config, "run.device=cuda", "run.seed=7", f"gemm.plans={self.root / 'plans.txt'}", f"train.precision={precision}", *overrides, ranks=ranks,
                              code=code, timeout=120)

    def first_run(self, precision, dropout):
        """The run on one rank that others are compared with, made once for all tests."""
        run = self.root / f"first_{precision}_{dropout}"
        if not run.exists():
            self.train_gpu(run, precision=precision, model={"dropout": dropout})
        return run

    def assert_repeats(self, precision, dropout, name, *overrides, ranks=1):
        """A run with these overrides has the bits of the first one."""
        with self.subTest(precision=precision, dropout=dropout, run=name):
            first = self.first_run(precision, dropout)
            again = self.folder / f"{name}_{precision}_{dropout}"
            self.train_gpu(again, *overrides, precision=precision, ranks=ranks, model={"dropout": dropout})
            self.assert_same_run(first, again, STEPS)

    def losses(self, run):
        return [float(r["loss"]) for r in self.rows(run)]

    def test_two_identical_runs_are_bitwise_equal(self):
        for precision, dropout in SETTINGS:
            self.assert_repeats(precision, dropout, "again")
            losses = self.losses(self.first_run(precision, dropout))
            self.assertLess(sum(losses[-4:]) / 4, losses[0] - 1.0)

    def test_ranks_on_one_gpu_give_the_same_bits(self):
        for precision, dropout in SETTINGS:
            for ranks in (2, 4, 8):
                self.assert_repeats(precision, dropout, f"ranks_{ranks}", "parallel.transport=mpi", ranks=ranks)

    def test_a_rank_a_gpu_over_nccl_gives_the_same_bits(self):
        if gpus() < 2:
            self.skipTest(f"needs two GPUs, here is {gpus()}; ranks that share it over MPI are tested")
        for precision, dropout in SETTINGS:
            for ranks in (n for n in (2, 4, 8) if n <= gpus()):
                self.assert_repeats(precision, dropout, f"nccl_{ranks}", "parallel.transport=nccl", ranks=ranks)

    def test_strategies_on_one_gpu_give_the_same_bits(self):
        for precision, dropout in (("fp32", 0.1), ("bf16", 0.0), ("fp8", 0.0)):
            for strategy, ranks in (("shard_optimizer", 2), ("shard_grad", 4), ("full_shard", 2), ("full_shard", 8), ("hybrid", 4)):
                shards = ("parallel.shard_ranks=2",) if strategy == "hybrid" else ()
                self.assert_repeats(precision, dropout, f"{strategy}_{ranks}", "parallel.transport=mpi", f"parallel.strategy={strategy}", *shards, ranks=ranks)

    def test_strategies_over_nccl_give_the_same_bits(self):
        if gpus() < 2:
            self.skipTest(f"needs two GPUs, here is {gpus()}; ranks that share it over MPI are tested")
        for precision, dropout in SETTINGS:
            for strategy in ("ddp", "shard_optimizer", "shard_grad", "full_shard"):
                for recompute in ("none", "block") if strategy == "full_shard" else ("none",):
                    self.assert_repeats(precision, dropout, f"nccl_{strategy}_{recompute}", "parallel.transport=nccl", f"parallel.strategy={strategy}",
                                        f"train.recompute={recompute}", ranks=2)

    def test_sharded_weights_give_the_same_text_and_score(self):
        if gpus() < 2:
            self.skipTest(f"needs two GPUs, here is {gpus()}")
        run = self.first_run("bf16", 0.1)
        said = {}
        for strategy, ranks in (("ddp", 1), ("full_shard", 2)):
            launch = ["mpirun", "-np", str(ranks)] if ranks > 1 else []
            for words in (["psann_generate", run, "the ", "--max-tokens", "20", "--json"], ["psann_eval", run, self.val, "--json"]):
                done = subprocess.run([*launch, PROGRAMS / words[0], *words[1:], "--device", "cuda", "--strategy", strategy], env=ENVIRONMENT, capture_output=True,
                                      text=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stderr)
                said.setdefault(words[0], []).append({k: v for k, v in json.loads(done.stdout).items() if k != "seconds"})
        for program, results in said.items():
            self.assertEqual(results[0], results[1], program)

    def test_recompute_modes_give_the_same_bits(self):
        for precision, dropout in SETTINGS:
            for recompute in ("cheap", "block"):
                self.assert_repeats(precision, dropout, recompute, f"train.recompute={recompute}")

    def test_graphs_give_the_same_bits(self):
        """The first runs use them; on two ranks of one GPU the micro-batches between the first and the last do."""
        for precision, dropout in SETTINGS:
            self.assert_repeats(precision, dropout, "no_graphs", "train.graphs=false")
            self.assert_repeats(precision, dropout, "graphs_2_ranks", "parallel.transport=mpi", "parallel.strategy=shard_optimizer", ranks=2)

    def test_a_resumed_run_gives_the_same_bits(self):
        for precision, dropout in SETTINGS:
            with self.subTest(precision=precision, dropout=dropout):
                first, run = self.first_run(precision, dropout), self.folder / f"resumed_{precision}_{dropout}"
                self.train_gpu(run, f"run.resume={self.checkpoint(first, 8)}", precision=precision, model={"dropout": dropout})
                self.assertEqual(self.rows(run), self.rows(first)[8:])
                self.assert_same_checkpoint(self.checkpoint(first, STEPS), self.checkpoint(run, STEPS))

    def test_offload_gives_the_same_bits(self):
        for precision, dropout in SETTINGS:
            self.assert_repeats(precision, dropout, "offload", "parallel.offload=optimizer")
        for strategy, ranks in (("ddp", 2), ("shard_optimizer", 2), ("shard_grad", 4), ("full_shard", 2)):
            self.assert_repeats("bf16", 0.0, f"offload_{strategy}_{ranks}", "parallel.offload=optimizer", "parallel.transport=mpi", f"parallel.strategy={strategy}", ranks=ranks)
        if gpus() >= 2:
            for strategy in ("ddp", "shard_optimizer", "shard_grad", "full_shard"):
                self.assert_repeats("bf16", 0.0, f"offload_nccl_{strategy}", "parallel.offload=optimizer", "parallel.transport=nccl", f"parallel.strategy={strategy}", ranks=2)

    def test_a_run_goes_on_with_offload_and_without(self):
        for precision, dropout in (("fp32", 0.1), ("bf16", 0.0)):
            with self.subTest(precision=precision):
                first, run, back = self.first_run(precision, dropout), self.folder / f"with_{precision}", self.folder / f"without_{precision}"
                more = {"precision": precision, "model": {"dropout": dropout}}
                self.train_gpu(run, f"run.resume={self.checkpoint(first, 8)}", "parallel.offload=optimizer", **more)
                self.assert_same_checkpoint(self.checkpoint(first, STEPS), self.checkpoint(run, STEPS))
                self.train_gpu(back, f"run.resume={self.checkpoint(run, 16)}", **more)
                self.assert_same_checkpoint(self.checkpoint(first, STEPS), self.checkpoint(back, STEPS))

    def test_first_steps_agree_with_the_cpu(self):
        cpu = self.folder / "cpu"
        self.run_train(self.config(cpu, name="cpu.ini", model=dict(self.model, dropout=0.1)), "run.device=cpu", "run.seed=7")
        for precision, tolerance in (("fp32", 1e-4), ("tf32", 2e-2), ("bf16", 2e-2)):
            gpu = self.first_run(precision, 0.1)
            for a, b in list(zip(self.losses(cpu), self.losses(gpu)))[:10]:
                self.assertTrue(math.isfinite(b))
                self.assertLess(abs(a - b) / a, tolerance, precision)

    def test_fp8_agrees_with_its_twin_on_the_cpu(self):
        cpu = self.folder / "cpu"
        keys = dict(FP8, model=dict(self.model, **FP8["model"], dropout=0.1))
        self.run_train(self.config(cpu, name="cpu.ini", **keys), "run.device=cpu", "run.seed=7", "train.precision=fp8")
        gpu = self.first_run("fp8", 0.1)
        for a, b in list(zip(self.losses(cpu), self.losses(gpu)))[:10]:
            self.assertTrue(math.isfinite(b))
            self.assertLess(abs(a - b) / a, 2e-2)

    def test_fp16_finds_its_loss_scale(self):
        """From 2^40, where every gradient overflows, down to what fits, then up again: the same on any number of ranks and across a stop."""
        steps, top = 80, 2**40
        keys = {"train": {"max_steps": steps}, "checkpoint": {"interval": 8}}
        scaling = (f"train.loss_scale_init={top}", f"train.loss_scale_max={top}", "train.loss_scale_growth_interval=10")
        one = self.folder / "one"
        self.train_gpu(one, *scaling, precision="fp16", **keys)
        rows = self.rows(one)
        scale, good = float(top), 0
        for row in rows:  # the rule, from what the files say
            self.assertEqual(float(row["loss_scale"]), scale, row["step"])
            self.assertTrue(math.isfinite(float(row["loss"])))
            if row["skipped"] == "1":
                scale, good = scale / 2, 0
            else:
                self.assertTrue(math.isfinite(float(row["grad_norm"])))
                good = (good + 1) % 10
                scale = min(top, scale * 2) if good == 0 else scale
        skipped = [int(row["step"]) for row in rows if row["skipped"] == "1"]
        falling = next(step for step in range(1, steps) if step not in skipped) - 1
        self.assertTrue(8 < falling < 40, skipped)
        self.assertEqual(len(self.events(one, "skip")), len(skipped))
        changes = [e["loss_scale"] for e in self.events(one, "loss_scale")]
        self.assertEqual(changes[:falling], [top / 2 ** (i + 1) for i in range(falling)])
        self.assertIn(2 * changes[falling - 1], changes)  # it grew
        self.assertLess(sum(self.losses(one)[-4:]) / 4, self.losses(one)[0] - 1.0)
        two = self.folder / "two"
        self.train_gpu(two, *scaling, "parallel.transport=" + ("nccl" if gpus() >= 2 else "mpi"), precision="fp16", ranks=2, **keys)
        self.assert_same_run(one, two, steps)
        for step in (8, 40):  # while it falls, and while it grows
            run = self.folder / f"from_{step}"
            shutil.copytree(one, run)
            self.rewind(run, step)
            self.assertIn(f"from step {step}: ", self.train_gpu(run, *scaling, precision="fp16", **keys).out)
            self.assert_same_run(one, run, steps)

    def test_fp16_with_another_loss_scale_is_close(self):
        """A power of two changes what rounds and vanishes in fp16, not what is computed."""
        a, b = self.folder / "a", self.folder / "b"
        self.train_gpu(a, "train.loss_scale=128", precision="fp16")
        self.train_gpu(b, "train.loss_scale=4096", precision="fp16")
        for x, y in zip(self.rows(a), self.rows(b)):
            self.assertEqual((x["skipped"], y["skipped"]), ("0", "0"))
            self.assertEqual((x["loss_scale"], y["loss_scale"]), ("128", "4096"))
        for key in ("loss", "grad_norm"):  # both without the scale in them
            for x, y in list(zip(self.rows(a), self.rows(b)))[:10]:
                self.assertLess(abs(float(x[key]) - float(y[key])) / float(x[key]), 2e-2, key)

    def test_programs_read_the_checkpoint_on_either_device(self):
        run = self.first_run("bf16", 0.1)
        for device in ("cuda", "cpu"):
            text = subprocess.run([PROGRAMS / "psann_generate", run, "the ", "--max-tokens", "20", "--device", device], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
            self.assertEqual(text.returncode, 0, text.stderr)
            score = subprocess.run([PROGRAMS / "psann_eval", run, self.val, "--device", device], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
            self.assertEqual(score.returncode, 0, score.stderr)

    def test_the_memory_plan_agrees_with_the_device(self):
        """Within 3 %, on a model that takes some gigabytes: kernels that are loaded late weigh little then."""
        for precision in ("bf16", "fp8"):
            with self.subTest(precision=precision):
                run = self.folder / precision
                result = self.train_gpu(run, f"train.precision={precision}", model={"d_model": 2048, "n_heads": 16, "d_mlp": 8192, "n_layers": 4, "dropout": 0},
                                        data={"seq_len": 512}, train={"micro_batch": 32, "batch_tokens": 8 * 32 * 512, "max_steps": 2, "warmup_steps": 1},
                                        checkpoint={"interval": 0}, eval={"interval": 0})
                facts = json.loads((run / "system.json").read_text())
                planned, reported = facts["gpu_memory_planned_bytes"], facts["gpu_memory_reported_bytes"]
                self.assertGreater(reported, 6 << 30)
                self.assertLess(abs(planned - reported) / reported, 0.03, result.out)
                self.assertEqual([e["reported_bytes"] for e in self.events(run, "memory")], [reported])
                self.assertRegex(result.out, r"memory +\S+ GiB planned, \S+ GiB taken as the GPU reports")

    def test_offload_takes_what_the_plan_says(self):
        """12 bytes a parameter less on the device, but for the buffers that state passes through: by the plan, and by the device's report."""
        taken = {}
        for offload in ("none", "optimizer"):
            run = self.folder / offload
            result = self.train_gpu(run, f"parallel.offload={offload}", model={"d_model": 2048, "n_heads": 16, "d_mlp": 8192, "n_layers": 4, "dropout": 0},
                                    data={"seq_len": 512}, train={"micro_batch": 32, "batch_tokens": 8 * 32 * 512, "max_steps": 2, "warmup_steps": 1},
                                    checkpoint={"interval": 0}, eval={"interval": 0})
            facts, start = json.loads((run / "system.json").read_text()), self.events(run, "start")[0]
            planned, reported = facts["gpu_memory_planned_bytes"], facts["gpu_memory_reported_bytes"]
            self.assertLess(abs(planned - reported) / reported, 0.03, result.out)
            taken[offload] = (planned, reported, sum(v for k, v in start.items() if k.startswith("host ")), start.get("plan state on its way", 0), start["parameters"])
            self.assertEqual("of the host's memory:" in result.out, offload == "optimizer")
        _, _, host, on_the_way, parameters = taken["optimizer"]
        self.assertEqual(taken["none"][2], 0)
        self.assertLess(abs(host - 12 * parameters) / host, 0.01)
        self.assertEqual(on_the_way, 3 * 3 * 4 * (4 << 20))
        for by in (0, 1):
            self.assertLess(abs(taken["none"][by] - taken["optimizer"][by] - (host - on_the_way)) / host, 0.03 if by == 0 else 0.05)

    def test_micro_batch_auto(self):
        """The largest that leaves 8 micro-batches a step: these all fit. Recorded, the same on more ranks, and kept by a resume."""
        keys = {"train": {"batch_tokens": 24 * 256, "max_steps": 2, "warmup_steps": 1}, "checkpoint": {"interval": 0}, "eval": {"interval": 0}}
        one, two = self.folder / "one", self.folder / "two"
        self.assertIn("micro-batch 32 sequences", self.train_gpu(one, **keys).out)
        self.assertIn("micro_batch = 32\n", (one / "config.ini").read_text())
        self.train_gpu(two, "parallel.transport=mpi", ranks=2, **keys)
        self.assert_same_run(one, two, 2)
        self.assertNotIn("micro-batch 32 sequences", self.train_gpu(one, "train.max_steps=4", **keys).out)
        self.assertIn("micro_batch = 32\n", (one / "config.ini").read_text())

    def test_a_resume_under_another_table_says_so(self):
        run, keys = self.folder / "run", {"train": {"micro_batch": 8, "batch_tokens": 24 * 64, "max_steps": 8}}
        table, other = self.folder / "table.txt", self.folder / "other.txt"
        self.train_gpu(run, f"gemm.plans={table}", precision="fp32", **keys)
        again = self.train_gpu(run, f"gemm.plans={table}", "train.max_steps=10", precision="fp32", **keys).out
        self.assertNotIn("are others than those of the checkpoint", again)
        lines, changed = [], 0
        for line in table.read_text().splitlines():
            f = line.split()
            if f[2] == "0" and f[5] == "3" and int(f[6]) >= 128:  # a forward product in fp32: give it another split product
                f[10], changed = "split:wgmma" if f[10] == "split:mma" else "split:mma", changed + 1
            lines.append(" ".join(f))
        self.assertGreater(changed, 0)
        other.write_text("\n".join(lines) + "\n")
        result = self.train_gpu(run, f"gemm.plans={other}", "train.max_steps=12", precision="fp32", **keys).out
        self.assertIn("are others than those of the checkpoint", result)

    def test_an_environment_that_changes_products_is_refused(self):
        ENVIRONMENT["NVIDIA_TF32_OVERRIDE"] = "1"
        try:
            self.assertIn("NVIDIA_TF32_OVERRIDE is '1'", self.train_gpu(self.folder / "run", code=2).out)
        finally:
            del ENVIRONMENT["NVIDIA_TF32_OVERRIDE"]

    def test_more_ranks_than_gpus_are_refused(self):
        result = self.train_gpu(self.folder / "run", ranks=gpus() + 1, code=2)
        self.assertIn("start at most one rank a GPU", result.out)


if __name__ == "__main__":
    if gpus() == 0:
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
