"""A rank that is killed, stopped or held in a phase, and how its job ends: what test_watchdog.py and watchdog_matrix.py share.

PSANN_FAULTY_CALLS names the library of tests/ckpt/faulty_calls.c: a disk that is slow.
"""
import collections
import concurrent.futures
import os
import re
import signal
import subprocess
import time

from common import TrainCase, of_one_job, processes_of

LIBRARY = os.environ["PSANN_FAULTY_CALLS"]
TIMEOUT = 6     # watch.timeout_s of the cases
LONG = 12       # times as much for phases that may last: WATCH_LONG of watch/judge.h
PATIENCE = 30   # for a held rank, and for mpirun's own end, which is not what is tested
AT_ONCE = 4
STEPS = 8       # of a case that comes to its end

# Where a rank is held: PSANN_DEBUG_HOLD's word and step, and what is said of it then.
Phase = collections.namedtuple("Phase", "word step said long disk", defaults=(False, None))
EXCHANGE = "(exchange and update|forward and backward), in (all_to_all|all_gather)"  # which one comes first, the strategy decides
PHASES = {
    "start": Phase("start", 0, "start", long=True),
    "load": Phase("load", 3, "loading data"),
    "pass": Phase("pass", 3, "forward and backward"),
    "update": Phase("update", 3, "exchange and update"),
    "collective": Phase("collective", 3, EXCHANGE),
    "between": Phase("between", 3, "between steps"),
    "evaluation": Phase("evaluation", 4, "evaluation"),
    "save": Phase("save", 4, "writing a checkpoint", long=True),
    "while saving": Phase("pass", 5, "forward and backward", disk="fsync:1:0:slow=60000"),  # the file of step 4 is under way
    "end": Phase("end", STEPS, "the run's end", long=True),
}
# On GPUs exchanges go on by themselves: a rank waits when it asks for the result of the step before.
ON_GPUS = {"collective": Phase("collective", 3, "forward and backward, in the step on the device")}
# A held rank shows progress unless it hangs, so the first two are found by its death and its silence.
SAID = {"SIGKILL": "died", "SIGSTOP": "is stopped, without a sign of life for", "hang": "hangs, without progress for"}
FURTHEST = "is furthest behind, and no rank has made progress for"  # when it hangs where all wait
STRATEGIES = {"auto": {}, "ddp": {}, "shard_optimizer": {}, "shard_grad": {}, "full_shard": {}, "hybrid": {"shard_ranks": 2}}

Case = collections.namedtuple("Case", "ranks rank phase fault strategy", defaults=("auto",))
Outcome = collections.namedtuple("Outcome", "case code named ended sentence left out")


def allowed(case):
    """Seconds until the rank must be named."""
    return TIMEOUT * (LONG if case.fault == "hang" and PHASES[case.phase].long else 1)


class WatchdogCase(TrainCase):
    documents = (10, 2)
    device = "cpu"  # or cuda: a GPU for each rank, and NCCL between them

    def phase_of(self, case):
        return ON_GPUS.get(case.phase, PHASES[case.phase]) if self.device == "cuda" else PHASES[case.phase]

    def device_sections(self):
        if self.device == "cpu":
            return {}
        return {"model": {"d_model": 64, "n_heads": 2, "d_mlp": 136}, "gemm": {"plans": self.root / "plans.txt"},
                "train": {"precision": "bf16", "micro_batch": 8}}

    def config_of(self, run, strategy="auto"):
        parallel = {"strategy": strategy, **STRATEGIES[strategy], **({"transport": "nccl"} if self.device == "cuda" else {})}
        return self.config(run, name=f"{run.name}.ini", eval={"interval": 4, "batches": 2}, checkpoint={"interval": 4}, watch={"timeout_s": TIMEOUT}, parallel=parallel,
                           **self.device_sections())

    def start_of(self, run, config, steps, ranks):
        """The command; run.dir stands on it, so that the ranks are found by it."""
        return self.command(config, f"run.dir={run}", f"run.device={self.device}", f"train.max_steps={steps}", ranks=ranks)

    def warm_up(self):
        """A run without a fault: the table of products that GPUs time at their first start is there afterwards."""
        run = self.folder / "warm"
        done = subprocess.run(self.start_of(run, self.config_of(run), STEPS, 2), env=of_one_job(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def run_case(self, case):
        phase = self.phase_of(case)
        run = self.folder / "_".join(map(str, case)).replace(" ", "_")
        hold = f"{case.rank}:{phase.word}:{phase.step}" + (":hang" if case.fault == "hang" else "")
        command = self.start_of(run, self.config_of(run, case.strategy), STEPS if case.phase == "end" else 1000000, case.ranks)
        env = of_one_job(PSANN_DEBUG_HOLD=hold, **({"LD_PRELOAD": LIBRARY, "PSANN_FAULT": phase.disk} if phase.disk else {}))
        out = self.folder / f"{run.name}.out"
        with open(out, "w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, env=env)
        try:
            return self.follow(case, run, process, out)
        finally:
            self.kill_all(process, run)

    def follow(self, case, run, process, out):
        limit = time.monotonic() + (PATIENCE + 10 if self.device == "cpu" else 2 * PATIENCE)
        while (held := re.search(r"held: rank (\d+), process (\d+)", out.read_text(errors="replace"))) is None:
            if process.poll() is not None or time.monotonic() > limit:
                return Outcome(case, process.poll(), None, None, "", [], out.read_text(errors="replace"))
            time.sleep(0.02)
        time.sleep(2 * TIMEOUT / 20)  # a beat that tells of the phase
        struck = time.monotonic()
        if case.fault != "hang":
            os.kill(int(held.group(2)), getattr(signal, case.fault))
        named, sentence = None, ""
        while time.monotonic() - struck < allowed(case) + PATIENCE:
            said = re.search(r"[^\n]*error: [^\n]*", out.read_text(errors="replace"))
            if named is None and said is not None:
                named, sentence = time.monotonic() - struck, said.group()
            if process.poll() is not None:
                break
            time.sleep(0.02)
        ended = time.monotonic() - struck
        time.sleep(0.2)
        return Outcome(case, process.poll(), named, ended, sentence, processes_of(run), out.read_text(errors="replace"))

    def signature(self, case):
        p = self.phase_of(case)
        said = FURTHEST if (case.fault, case.phase) == ("hang", "collective") else SAID[case.fault]
        return rf"error: (rank \d of {case.ranks} on \S+: )?rank {case.rank} on \S+ \(process \d+\) {said}[^:]*: step {p.step}, {p.said}"

    def fault_of(self, o):
        """What is wrong with an outcome; "" when it is as it must be."""
        if o.named is None:
            return "nobody named the rank"
        if not re.search(self.signature(o.case), o.sentence):
            return f"the sentence is another one: {o.sentence}"
        if o.named > allowed(o.case) + 2:  # the output goes through mpirun, which takes up to a second to pass it on while it ends
            return f"named after {o.named:.1f} s of {allowed(o.case)}"
        if o.code in (None, 0):
            return f"exit code {o.code}"
        return f"processes are left: {o.left}" if o.left else ""

    def run_cases(self, cases, at_once=AT_ONCE):
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self.run_case, cases))

    def check(self, cases):
        for o in self.run_cases(cases):
            with self.subTest(o.case):
                self.assertEqual(self.fault_of(o), "", f"{o.case}\n{o.out[-3000:]}")
