"""Mistakes that a person can make with psann_train: each ends soon, with one clear sentence and exit code 2."""
import os
import re
import shutil
import subprocess
import unittest

from common import ENVIRONMENT, PROGRAMS, TrainCase

LIMIT = 20  # seconds


class BadInputs(TrainCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.chars = cls.make_store(cls.root / "chars.h5", 12, tokenizer="chars")
        cls.other_model = cls.root / "other_model"
        case = cls("runTest")
        case.folder = cls.root
        short = {"train": {"max_steps": 2, "warmup_steps": 1}}
        case.run_train(case.config(cls.other_model, name="other_model.ini", **short))
        case.run_train(case.config(cls.root / "on_chars", name="on_chars.ini", data={"train": cls.chars, "val": None}, eval={"interval": None, "batches": None}, **short))
        case.doCleanups()

    def runTest(self):
        pass

    def refused(self, pattern, *arguments, ranks=1, name=""):
        """One sentence that matches, exit code 2, within the limit, and not a file in the run folder but its log."""
        result = self.run_train(*arguments, code=2, ranks=ranks, timeout=LIMIT)
        message = re.sub(r"\s+", " ", result.out)
        self.assertRegex(message, pattern, name)
        self.assertEqual(len(re.findall("error:", result.out)), 1, result.out)
        self.assertEqual(len(re.findall(r"^psann_train: error: ", result.out, re.M)), 1, result.out)
        self.assertEqual([str(p) for p in (self.folder / "run").rglob("*.h5")], [])
        self.assertEqual([str(p) for p in (self.folder / "run").glob("metrics.*")], [])

    def overrides(self, cases):
        """Pairs of (assignments, pattern)."""
        config = self.config(self.folder / "run")
        for assignments, pattern in cases:
            with self.subTest(assignments):
                self.refused(pattern, config, *assignments.split())

    def test_a_gpu_where_there_is_none(self):
        """Whatever the build; and an environment that changes the arithmetic of products is refused where it would count."""
        if subprocess.run("nvidia-smi --list-gpus | grep -q '^GPU '", shell=True, stderr=subprocess.DEVNULL).returncode == 0:
            self.skipTest("there is a GPU")
        config = self.config(self.folder / "run", train={"max_steps": 2, "warmup_steps": 1})
        with_cuda = "cuda" in subprocess.run([PROGRAMS / "psann_train", "--version"], capture_output=True, text=True, check=True).stdout.split("engines:")[1].split("\n")[0]
        self.refused(r"this machine shows no GPU \(.+\); check the driver" if with_cuda else "this build has no CUDA engine", config, "run.device=cuda")
        ENVIRONMENT["NVIDIA_TF32_OVERRIDE"] = "1"
        try:
            if with_cuda:
                self.refused("NVIDIA_TF32_OVERRIDE is '1' in the environment", config, "run.device=cuda")
            self.run_train(config, "run.device=auto")
        finally:
            del ENVIRONMENT["NVIDIA_TF32_OVERRIDE"]
        self.assertIn("device = cpu", (self.folder / "run" / "config.ini").read_text())

    def test_command_line(self):
        config = self.config(self.folder / "run")
        for arguments, pattern in (
            ([], "no config is given: psann_train CONFIG"),
            (["run.seed=1"], "no config is given: psann_train CONFIG"),
            ([config, "--resume"], "unknown option --resume"),
            ([config, "extra"], "'extra' is neither an option nor section.key=value"),
            ([config, config], "is neither an option nor section.key=value"),
            ([config, "seed=1"], r"unknown key 'seed'.*run\.seed"),
            ([config, "run.seed"], "'run.seed' is neither"),
            ([self.folder / "missing.ini"], "missing.ini.*No such file"),
            ([self.folder], "directory"),
        ):
            with self.subTest(str(arguments)):
                self.refused(pattern, *arguments)

    def test_several_ranks_say_it_once(self):
        config = self.config(self.folder / "run", model={"d_modle": 32})
        self.refused(r"d_modle.*d_model", config, ranks=3)

    def test_files_that_are_no_config(self):
        for name, content, pattern in (
            ("empty.ini", b"", "run.dir is not given"),
            ("binary.ini", bytes(range(1, 32)) * 40, "binary.ini:1"),
            ("store.ini", self.train.read_bytes(), "store.ini"),
            ("loose.ini", b"run.dir = x\n", "loose.ini:1"),
            ("nokey.ini", b"[run]\njust words\n", "nokey.ini:2"),
            ("open.ini", b"[run\ndir = x\n", "open.ini:1"),
        ):
            with self.subTest(name):
                path = self.folder / name
                path.write_bytes(content)
                self.refused(pattern, path)

    def test_keys_and_values(self):
        self.overrides((
            ("train.learning_rate=1", r"learning_rate"),
            ("train.lrr=1", r"lrr.*train\.lr\b|lrr.*\blr\b"),
            ("trian.lr=1", r"trian.*train"),
            ("train.lr=fast", r"train\.lr.*fast"),
            ("train.lr=0", r"train\.lr"),
            ("train.lr=nan", r"train\.lr"),
            ("train.lr=1e99", r"train\.lr.*10"),
            ("train.max_steps=-5", r"train\.max_steps"),
            ("train.max_steps=2.5", r"train\.max_steps"),
            ("train.max_steps=99999999999999999999", r"train\.max_steps"),
            ("train.tokens_target=1000", r"both train\.max_steps.*tokens_target"),
            ("train.warmup_steps=24", r"warmup_steps = 24 must be less than"),
            ("train.batch_tokens=1000", r"batch_tokens = 1000 is not a multiple of data\.seq_len = 24.*984 and 1008"),
            ("train.micro_batch=3", r"16 sequences .*not a multiple of train\.micro_batch = 3"),
            ("train.micro_batch=0", r"train\.micro_batch"),
            ("train.beta2=1", r"train\.beta2"),
            ("train.precision=bf16", r"precision.*fp32"),
            ("parallel.transport=nccl", r"nccl.*run\.device is cpu"),
            ("train.recompute=all", r"recompute.*none.*cheap.*block"),
            ("train.min_lr=1", r"min_lr = 1 is above train\.lr"),
            ("train.decay_exclude=nothing_like_this", r"nothing_like_this"),
            ("model.base=gpt", r"base.*respsann.*waveresnet.*transformer"),
            ("model.base=geosparse", r"geosparse.*does not offer"),
            ("model.d_model=33", r"d_model = 33 is not a multiple of model\.n_heads = 2"),
            ("model.n_heads=32", r"even head size"),
            ("model.n_layers=0", r"model\.n_layers"),
            ("model.dropout=1", r"model\.dropout"),
            ("model.wave_interleave=true", r"wave_interleave .*no effect: model\.base is respsann"),
            ("model.base=waveresnet model.wave_replace=true", r"wave_replace.*wave_interleave"),
            ("model.wave_kernel_size=5", r"wave_kernel_size.*no effect"),
            ("model.mlp_activation=relu", r"relu is for model\.base = transformer"),
            ("model.vocab_size=100", r"vocab_size = 100 is too small for .*train\.h5.*257"),
            ("data.seq_len=0", r"data\.seq_len"),
            ("run.device=cuda", r"cuda"),
            ("run.dir=", r"run\.dir"),
            ("run.resume=", r"run\.resume"),
            ("checkpoint.keep_every=7", r"keep_every = 7 is not a multiple of checkpoint\.interval = 8"),
            ("checkpoint.keep_last=0", r"checkpoint\.keep_last"),
            ("eval.batches=-1", r"eval\.batches"),
            ("parallel.strategy=fsdp", r"fsdp.*full_shard"),
            ("log.interval=0", r"log\.interval"),
            ("cpu.threads=0", r"cpu\.threads"),
        ))

    def test_too_many_ranks(self):
        self.refused(r"2 micro-batches of 8 × 24 tokens, too few for 3 ranks; start at most 2", self.config(self.folder / "run", train={"micro_batch": 8}), ranks=3)

    def damaged_store(self, name, change):
        path = self.folder / name
        shutil.copy(self.train, path)
        change(path)
        return path

    def test_stores(self):
        whole = self.train.stat().st_size
        text = self.folder / "text.txt"
        text.write_text("no store")
        foreign = self.checkpoint(self.other_model, 2)
        cases = (
            ("missing", self.folder / "missing.h5", r"missing\.h5.*(No such file|does not exist|not there)"),
            ("folder", self.folder, r"director|folder"),
            ("text", text, r"text\.txt"),
            ("checkpoint", foreign, r"step_00000002\.h5"),
            ("empty", self.damaged_store("empty.h5", lambda p: os.truncate(p, 0)), r"empty\.h5.*empty"),
            ("truncated", self.damaged_store("cut.h5", lambda p: os.truncate(p, whole * 2 // 3)), r"cut\.h5"),
            ("cut to a header", self.damaged_store("head.h5", lambda p: os.truncate(p, 96)), r"head\.h5"),
        )
        for name, path, pattern in cases:
            for key in ("data.train", "data.val"):
                with self.subTest(f"{key} {name}"):
                    self.refused(pattern, self.config(self.folder / "run"), f"{key}={path}")

    def test_stores_that_do_not_fit(self):
        config = self.config(self.folder / "run")
        for key in ("train", "val"):
            self.refused(r"different tokenizers \((bytes|chars), .*(chars|bytes)", config, f"data.{key}={self.chars}")
        tiny = self.folder / "tiny.txt"
        tiny.write_text("short")
        store = self.folder / "tiny.h5"
        subprocess.run([PROGRAMS / "psann_data", "build", "--train-out", store, tiny], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        self.refused(r"tiny\.h5.*(6 tokens|no whole window|too short)", config, f"data.train={store}")

    def test_checkpoints_to_resume_from(self):
        config = self.config(self.folder / "run")
        text = self.folder / "text.h5"
        text.write_text("no checkpoint")
        cut = self.folder / "cut.h5"
        shutil.copy(self.checkpoint(self.other_model, 2), cut)
        os.truncate(cut, cut.stat().st_size // 2)
        flipped = self.folder / "flipped.h5"
        data = bytearray(self.checkpoint(self.other_model, 2).read_bytes())
        middle = len(data) // 2
        data[middle : middle + 32] = bytes(b ^ 0xFF for b in data[middle : middle + 32])
        flipped.write_bytes(bytes(data))
        for path, pattern in (
            (self.folder / "missing.h5", r"missing\.h5"),
            (text, r"text\.h5"),
            (cut, r"cut\.h5"),
            (flipped, r"flipped\.h5.*(damaged|digest)"),
            (self.train, r"train\.h5"),
            (self.folder, r"checkpoint"),
        ):
            with self.subTest(str(path)):
                self.refused(pattern, config, f"run.resume={path}", "train.max_steps=2", "train.warmup_steps=1")
        self.refused(r"can't be continued .*model\.d_mlp \(40 there, 64 here\)", config, f"run.resume={self.other_model}", "model.d_mlp=64")
        self.refused(r"on_chars.*(vocab|tokenizer)", config, f"run.resume={self.root / 'on_chars'}")

    def test_run_folder(self):
        file = self.folder / "file"
        file.write_text("")
        config = self.config(self.folder / "run")
        self.refused(r"file", config, f"run.dir={file}")
        self.refused(r"folder '.*/file'.*a file of that name is there", config, f"run.dir={file}/below")
        self.refused(r"/proc/none", config, "run.dir=/proc/none")

    def test_a_token_beyond_the_vocabulary(self):
        """Damage that only reading the tokens shows, on one rank of two: the job ends, named place and value."""
        data = bytearray(self.train.read_bytes())
        text = "the ".encode("utf-16-le")  # tokens of the bytes tokenizer are 16 bits wide
        at = data.find(text)
        self.assertGreater(at, 0)
        while at >= 0:
            data[at : at + 2] = (60000).to_bytes(2, "little")
            at = data.find(text, at + 2)
        path = self.folder / "odd.h5"
        path.write_bytes(bytes(data))
        result = self.finish(self.start(self.config(self.folder / "run"), f"data.train={path}", ranks=2), LIMIT)
        self.assertIn(result.code, (1, 2), result.out)
        self.assertRegex(result.out, r"odd\.h5.*60000|60000.*odd\.h5")


if __name__ == "__main__":
    unittest.main(verbosity=2)
