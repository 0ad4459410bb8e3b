"""What the tests of psann_train share: stores of generated text, configs, runs under a time limit, and comparisons.

The programs are looked for in PSANN_PROGRAMS; PSANN_TEST_SEED repeats the data of a failed run.
"""
import csv
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAMS = pathlib.Path(os.environ["PSANN_PROGRAMS"])
SEED = int(os.environ.get("PSANN_TEST_SEED") or random.SystemRandom().randrange(1 << 31))
# Open MPI's jobs share a folder by host and user, and one that ends removes it under another that starts.
MPI_FOLDER = tempfile.TemporaryDirectory(prefix="mpi")
ENVIRONMENT = dict(os.environ, OMPI_MCA_orte_tmpdir_base=MPI_FOLDER.name, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1",
                   OMPI_MCA_hwloc_base_binding_policy="none", OMPI_MCA_mpi_yield_when_idle="1", PYTHONUNBUFFERED="1")


def of_one_job(**more):
    """ENVIRONMENT for a job beside which others of the same test may run."""
    return dict(ENVIRONMENT, OMPI_MCA_orte_tmpdir_base=tempfile.mkdtemp(dir=MPI_FOLDER.name), **more)


# A model that takes a few milliseconds a step; 8 micro-batches, dropout on.
BASE = {
    "model": {"base": "respsann", "d_model": 32, "n_layers": 2, "n_heads": 2, "d_mlp": 40, "dropout": 0.1},
    "data": {"seq_len": 24},
    "train": {"batch_tokens": 24 * 16, "max_steps": 24, "lr": 0.004, "warmup_steps": 4},
    "eval": {"interval": 8, "batches": 5},
    "checkpoint": {"interval": 8, "keep_last": 100},
    "log": {"interval": 4},
}

# Columns that the clock decides.
TIMES = {"tok_s", "step_ms"}


def text_of(rng, documents):
    """Documents of words with some grammar, so that a model has something to learn."""
    nouns = ["cat", "dog", "river", "stone", "king", "tree"]
    verbs = ["sees", "takes", "loves", "leaves"]
    sentence = lambda: f"the {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)}. "
    return ["".join(sentence() for _ in range(rng.randrange(20, 40))) for _ in range(documents)]


class Result:
    def __init__(self, code, out, seconds):
        self.code, self.out, self.seconds = code, out, seconds


class TrainCase(unittest.TestCase):
    """Gives each class a folder with two stores; self.folder is fresh for each test."""

    documents = (40, 8)

    @classmethod
    def setUpClass(cls):
        print(f"{cls.__name__}: PSANN_TEST_SEED={SEED}", file=sys.stderr)
        cls.rng = random.Random(f"{SEED} {cls.__name__}")
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="psann_train_"))
        cls.train = cls.make_store(cls.root / "train.h5", cls.documents[0])
        cls.val = cls.make_store(cls.root / "val.h5", cls.documents[1])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root, ignore_errors=True)

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.root))

    @classmethod
    def run_for_all(cls, run, name, *overrides, ranks=1, **sections):
        """A run, named as its config, that all tests of the class look at; for setUpClass."""
        case = cls("run_train")
        case.folder = cls.root
        result = case.run_train(case.config(run, name=name, **sections), *overrides, ranks=ranks)
        case.doCleanups()
        return result

    @classmethod
    def make_store(cls, path, documents, tokenizer="bytes"):
        source = pathlib.Path(tempfile.mkdtemp(dir=cls.root))
        for i, text in enumerate(text_of(cls.rng, documents)):
            (source / f"{i:04}.txt").write_text(text)
        subprocess.run([PROGRAMS / "psann_data", "build", "--tokenizer", tokenizer, "--train-out", path, source], check=True, env=ENVIRONMENT,
                       stdout=subprocess.DEVNULL, timeout=60)
        return path

    def config(self, run, name="run.ini", **sections):
        """Writes an INI file: BASE with the given keys over it (None leaves a key out); returns its path."""
        merged = {"run": {"dir": run, "seed": SEED % 1000}, **{s: dict(k) for s, k in BASE.items()}}
        merged["data"].update(train=self.train, val=self.val)
        for section, keys in sections.items():
            merged.setdefault(section, {}).update(keys)
        lines = []
        for section, keys in merged.items():
            lines.append(f"[{section}]")
            lines += [f"{k} = {str(v).lower() if isinstance(v, bool) else v}" for k, v in keys.items() if v is not None]
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def command(self, *arguments, ranks=1):
        launch = ["mpirun", "--oversubscribe", "-np", str(ranks)] if ranks > 1 else []
        return launch + [str(PROGRAMS / "psann_train")] + [str(a) for a in arguments]

    def start(self, *arguments, ranks=1, **options):
        """Starts psann_train; its output goes to a file, so nothing blocks. `env`: variables beside ENVIRONMENT."""
        environment = of_one_job(**options.pop("env", {}))
        out = tempfile.NamedTemporaryFile("w+", dir=self.folder, suffix=".out", delete=False)
        process = subprocess.Popen(self.command(*arguments, ranks=ranks), stdout=out, stderr=subprocess.STDOUT, env=environment,
                                   stdin=subprocess.DEVNULL, start_new_session=True, **options)
        process.out_path = pathlib.Path(out.name)
        process.started = time.monotonic()
        out.close()
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def finish(self, process, timeout=60):
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end(process)
            self.fail(f"still running after {timeout} s: {process.args}\n{process.out_path.read_text()}")
        return Result(process.returncode, process.out_path.read_text(errors="replace"), time.monotonic() - process.started)

    def run_train(self, *arguments, ranks=1, code=0, timeout=60, **options):
        result = self.finish(self.start(*arguments, ranks=ranks, **options), timeout)
        self.assertEqual(result.code, code, f"exit code of {arguments} on {ranks} ranks:\n{result.out}")
        return result

    def wait_for(self, process, condition, what, timeout=60):
        limit = time.monotonic() + timeout
        while not condition():
            if process.poll() is not None or time.monotonic() > limit:
                self.fail(f"{what} did not come: exit {process.poll()}\n{process.out_path.read_text()}")
            time.sleep(0.005)

    def wait_for_step(self, process, run, step):
        """Until metrics.csv has the line of that step."""
        path = pathlib.Path(run) / "metrics.csv"
        self.wait_for(process, lambda: path.exists() and f"\n{step}," in path.read_text(), f"step {step}")

    def kill_all(self, process, run):
        """SIGKILL to mpirun and every rank; run.dir must have been given on the command line."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        for pid in processes_of(run):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait()
        limit = time.monotonic() + 10
        while processes_of(run) and time.monotonic() < limit:
            time.sleep(0.01)

    def rows(self, run, times=False):
        """metrics.csv, without what the clock decides."""
        with open(pathlib.Path(run) / "metrics.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        return rows if times else [{k: v for k, v in r.items() if k not in TIMES} for r in rows]

    def events(self, run, kind):
        lines = (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()
        return [e for e in map(json.loads, lines) if e.get("event") == kind]

    def mark(self, run):
        """status.ini as a dict."""
        return dict(line.split(" = ", 1) for line in (pathlib.Path(run) / "status.ini").read_text().splitlines())

    def checkpoint(self, run, step):
        return pathlib.Path(run) / "checkpoints" / f"step_{step:08}.h5"

    def steps_saved(self, run):
        return sorted(int(re.search(r"\d+", p.name).group()) for p in (pathlib.Path(run) / "checkpoints").glob("step_*.h5"))

    def rewind(self, run, step):
        """Takes a run back to its checkpoint of `step`, as if it had been killed some steps later."""
        for saved in self.steps_saved(run):
            if saved > step:
                self.checkpoint(run, saved).unlink()
        (run / "checkpoints" / "latest").write_text(f"step_{step:08}.h5\n")

    def assert_same_run(self, a, b, step):
        """Metrics of all steps and the checkpoint of the last one, bit for bit."""
        self.assertEqual(self.rows(a), self.rows(b))
        self.assertEqual([int(r["step"]) for r in self.rows(a)], list(range(1, step + 1)))
        self.assert_same_checkpoint(self.checkpoint(a, step), self.checkpoint(b, step))

    def differs(self, a, b):
        done = subprocess.run([PROGRAMS / "psann_check", "diff", a, b], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (0, 1), done.stdout + done.stderr)
        return done.returncode == 1, done.stdout

    def assert_same_checkpoint(self, a, b):
        different, how = self.differs(a, b)
        self.assertFalse(different, how)


def processes_of(run):
    """Process ids of the ranks of psann_train (or of a test's program that trains) that were started with run.dir= this folder on the command line."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith((b"psann_train", b"noisy_run")) and any(w == b"run.dir=" + str(run).encode() for w in words):
            found.append(int(entry.name))
    return sorted(found)
