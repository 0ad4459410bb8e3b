"""A rank that is killed, stopped or hangs, in every phase: the others name it in time, the job ends with a failure, and no process is left. And what is slow but well is let be.

Cases run several at a time, since most of a case is waiting. --matrix FILE runs ranks, phases, faults and strategies by the hundred and writes a table of them.
PSANN_FAULTY_CALLS names the library of tests/ckpt/faulty_calls.c: a disk that is slow.
"""
import collections
import concurrent.futures
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import time
import unittest

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
# A held rank shows progress unless it hangs, so the first two are found by its death and its silence.
SAID = {"SIGKILL": "died", "SIGSTOP": "is stopped, without a sign of life for", "hang": "hangs, without progress for"}
STRATEGIES = {"auto": {}, "ddp": {}, "shard_optimizer": {}, "shard_grad": {}, "full_shard": {}, "hybrid": {"shard_ranks": 2}}

Case = collections.namedtuple("Case", "ranks rank phase fault strategy", defaults=("auto",))
Outcome = collections.namedtuple("Outcome", "case code named ended sentence left out")


def signature(case):
    p = PHASES[case.phase]
    return rf"error: (rank \d of {case.ranks} on \S+: )?rank {case.rank} on \S+ \(process \d+\) {SAID[case.fault]}[^:]*: step {p.step}, {p.said}"


def allowed(case):
    """Seconds until the rank must be named."""
    return TIMEOUT * (LONG if case.fault == "hang" and PHASES[case.phase].long else 1)


class Watchdog(TrainCase):
    documents = (10, 2)

    def run_case(self, case):
        phase = PHASES[case.phase]
        run = self.folder / "_".join(map(str, case)).replace(" ", "_")
        config = self.config(run, name=f"{run.name}.ini", eval={"interval": 4, "batches": 2}, checkpoint={"interval": 4}, watch={"timeout_s": TIMEOUT},
                             parallel={"strategy": case.strategy, **STRATEGIES[case.strategy]})
        hold = f"{case.rank}:{phase.word}:{phase.step}" + (":hang" if case.fault == "hang" else "")
        command = self.command(config, f"run.dir={run}", f"train.max_steps={STEPS if case.phase == 'end' else 1000000}", ranks=case.ranks)
        env = of_one_job(PSANN_DEBUG_HOLD=hold, **({"LD_PRELOAD": LIBRARY, "PSANN_FAULT": phase.disk} if phase.disk else {}))
        out = self.folder / f"{run.name}.out"
        with open(out, "w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, env=env)
        try:
            return self.follow(case, run, process, out)
        finally:
            self.kill_all(process, run)

    def follow(self, case, run, process, out):
        limit = time.monotonic() + PATIENCE + 10
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

    def fault_of(self, o):
        """What is wrong with an outcome; "" when it is as it must be."""
        if o.named is None:
            return "nobody named the rank"
        if not re.search(signature(o.case), o.sentence):
            return f"the sentence is another one: {o.sentence}"
        if o.named > allowed(o.case) + 2:  # the output goes through mpirun, which takes up to a second to pass it on while it ends
            return f"named after {o.named:.1f} s of {allowed(o.case)}"
        if o.code in (None, 0):
            return f"exit code {o.code}"
        return f"processes are left: {o.left}" if o.left else ""

    def run_cases(self, cases):
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.run_case, cases))

    def check(self, cases):
        for o in self.run_cases(cases):
            with self.subTest(o.case):
                self.assertEqual(self.fault_of(o), "", f"{o.case}\n{o.out[-3000:]}")

    def test_every_phase(self):
        self.check([Case(2, i % 2, phase, "SIGSTOP" if (i // 2) % 2 else "SIGKILL") for i, phase in enumerate(PHASES)])

    def test_every_strategy(self):
        self.check([Case(4 if s == "hybrid" else 2, 1, "collective", "SIGSTOP", s) for s in STRATEGIES] + [Case(2, 0, "update", "SIGKILL", s) for s in ("ddp", "full_shard")])

    def test_four_ranks(self):
        self.check([Case(4, 0, "pass", "SIGSTOP"), Case(4, 2, "collective", "SIGSTOP", "shard_grad"), Case(4, 3, "load", "SIGKILL"), Case(4, 1, "save", "SIGSTOP")])

    def test_a_rank_that_hangs(self):
        self.check([Case(2, 0, "pass", "hang"), Case(2, 1, "load", "hang"), Case(2, 1, "evaluation", "hang", "full_shard")])

    def test_a_disk_that_hangs(self):
        """Nothing moves in a write that everybody waits for: rank 0 is named, and the phase."""
        run = self.folder / "run"
        result = self.run_train(self.config(run, watch={"timeout_s": 2}), f"run.dir={run}", ranks=2, code=1, timeout=100, env={"LD_PRELOAD": LIBRARY, "PSANN_FAULT": "fsync:2:0:slow=300000"})
        self.assertRegex(result.out, r"rank 0 on \S+ \(process \d+\) hangs, without progress for [\d.]+ s: step \d+, writing a checkpoint; rank 1 waits in the end of a checkpoint")

    def run_well(self, name, *overrides, keys=None, **options):
        """A run on 2 ranks in which something lasts longer than the watchdog waits for a sign of life."""
        run = self.folder / name
        config = self.config(run, name=f"{name}.ini", **{"eval": {"interval": 0}, "watch": {"timeout_s": 4}, "log": {"interval": 1}, **(keys or {})})
        result = self.run_train(config, f"run.dir={run}", *overrides, ranks=2, timeout=200, **options)
        self.assertNotIn("error", result.out)
        return run, result

    def a_slow_disk(self, background):
        keys = {"train": {"max_steps": 4, "warmup_steps": 1}, "checkpoint": {"interval": 3, "background": background}}
        disk = {"LD_PRELOAD": LIBRARY, "PSANN_FAULT": "fsync:2:1:slow=5000,data:1:0:slow=100"}
        run, _ = self.run_well(f"disk_{background}", keys=keys, env=disk)
        self.assertGreater(max(e["seconds"] for e in self.events(run, "save")), 4)
        self.run_well(f"disk_{background}", "train.max_steps=5", keys=keys, env=disk)  # and the way back, from the slow disk

    def long_steps(self):
        run, _ = self.run_well("steps", keys={"train": {"max_steps": 3, "warmup_steps": 1, "batch_tokens": 24 * 16 * 2000}, "checkpoint": {"interval": 0}})
        self.assertGreater(max(float(r["step_ms"]) for r in self.rows(run, times=True)[1:]), 3000)

    def a_long_evaluation(self):
        val = self.make_store(self.folder / "long.h5", 4000)
        run, _ = self.run_well("evaluation", keys={"train": {"max_steps": 2, "warmup_steps": 1}, "eval": {"interval": 2, "batches": 0}, "data": {"val": val}, "checkpoint": {"interval": 0}})
        self.assertGreater(self.events(run, "evaluation")[0]["seconds"], 3)

    def test_what_lasts_is_let_be(self):
        """With a time-out of 4 s a rank is found after 3 s without a sign of life."""
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(self.a_slow_disk, False), pool.submit(self.a_slow_disk, True), pool.submit(self.long_steps), pool.submit(self.a_long_evaluation)]:
                done.result()

    def test_a_pause_of_the_whole_job_is_forgiven(self):
        """As with Ctrl-Z and fg, or a host that stands still: longer than the time-out, for all ranks."""
        run = self.folder / "run"
        process = self.start(self.config(run, watch={"timeout_s": 4}, eval={"interval": 0}), f"run.dir={run}", "train.max_steps=1000000", ranks=2)
        self.wait_for_step(process, run, 20)
        ranks = processes_of(run)
        self.assertEqual(len(ranks), 2)
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(6)
        steps = len(self.rows(run))
        for pid in ranks:
            os.kill(pid, signal.SIGCONT)
        self.wait_for_step(process, run, steps + 20)
        for pid in ranks:
            os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.finish(process).code, 0)

    def test_seconds_of_the_ranks(self):
        run = self.folder / "run"
        self.run_train(self.config(run), ranks=2)
        events = self.events(run, "ranks")
        self.assertEqual([e["step"] for e in events], list(range(4, 25, 4)))
        for e in events:
            self.assertEqual((len(e["busy_ms"]), len(e["waiting_ms"])), (2, 2))
            self.assertGreater(min(e["busy_ms"]), 0)
            self.assertLessEqual(e["busy_ms_min"], e["busy_ms_median"])
            self.assertLessEqual(e["busy_ms_median"], e["busy_ms_max"])
            self.assertEqual(e["slowest"], e["busy_ms"].index(max(e["busy_ms"])))

    def test_off(self):
        run = self.folder / "run"
        self.run_train(self.config(run, watch={"timeout_s": 0}), ranks=2)


SIGNALS = ("SIGKILL", "SIGSTOP")
SHARED = ("pass", "update", "collective", "save")  # phases in which a strategy has ways of its own


def matrix_cases():
    cases = [Case(ranks, rank, phase, fault, s) for ranks in (2, 4) for s in STRATEGIES if s != "auto" and (s != "hybrid" or ranks == 4)
             for phase in SHARED for rank in range(ranks) for fault in SIGNALS]
    cases += [Case(ranks, rank, phase, fault) for ranks in (2, 4) for phase in PHASES if phase not in SHARED for rank in range(ranks) for fault in SIGNALS]
    cases += [Case(2, rank, phase, "hang", s) for s in STRATEGIES if s not in ("auto", "hybrid") for phase in ("pass", "update") for rank in (0, 1)]
    return cases + [Case(2, rank, phase, "hang") for phase in ("start", "load", "between", "evaluation", "save", "while saving", "end") for rank in (0, 1)]


def matrix_row(case, key, those):
    named = sorted(o.named if o.named is not None else float("inf") for o in those)
    right = sum(not case.fault_of(o) for o in those)
    return f"| {' | '.join(map(str, key))} | {len(those)} | {right} | {named[len(named) // 2]:.2f} | {named[-1]:.2f} | {max(o.ended or 0 for o in those):.2f} |"


def matrix(path):
    Watchdog.setUpClass()
    case = Watchdog("test_off")
    case.setUp()
    outcomes = case.run_cases(matrix_cases())
    wrong = [(o, case.fault_of(o)) for o in outcomes if case.fault_of(o)]
    lines = ["# Ranks that are killed, stopped or hang", "",
             f"`python3 tests/train/test_watchdog.py --matrix FILE` on {os.cpu_count()} cores ({platform.machine()}), CPU engine, {AT_ONCE} jobs at a time, watch.timeout_s = {TIMEOUT}: a rank of 2 or 4, in a "
             "phase, is killed (SIGKILL), stopped (SIGSTOP), or made to hang (its main thread stays where it is). A case is right when the others name rank, host, process, step, phase and, where it is in "
             f"one, collective within the time-out ({LONG} times that for a hang in a phase that may last: start, save, end), mpirun ends with a failure, and no process is left. Seconds are those from the "
             "fault until the sentence has come out of mpirun, which passes on the last words of a dying job up to a second late; *ended*: until mpirun itself has ended. "
             "*while saving*: a checkpoint is being written in the background to a disk that is slow.", "",
             f"{len(outcomes)} cases, {len(outcomes) - len(wrong)} right.", ""]
    groups = collections.defaultdict(list)
    for o in outcomes:
        groups[(o.case.ranks, o.case.strategy, o.case.phase, o.case.fault)].append(o)
    lines += ["| ranks | strategy | phase | fault | cases | right | named, median | named, longest | ended, longest |", "|---|---|---|---|---|---|---|---|---|"]
    lines += [matrix_row(case, key, those) for key, those in groups.items()]
    for o, fault in wrong:
        lines += ["", f"Not right: {o.case}: {fault}"]
        print(o.case, fault, o.out[-3000:], file=sys.stderr)
    lines += ["", "What is said, for example:", ""]
    lines += [f"    {re.sub(r'^.*?error: ', '', o.sentence)}" for o in outcomes if o.sentence and o.case.rank == 1 and o.case.ranks == 4 and o.case.phase == "collective"][1:4:2]
    pathlib.Path(path).write_text("\n".join(lines) + "\n")
    case.doCleanups()
    Watchdog.tearDownClass()
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--matrix":
        sys.exit(matrix(sys.argv[2]))
    unittest.main(verbosity=2)
