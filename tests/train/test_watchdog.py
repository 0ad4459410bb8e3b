"""A rank that is killed, stopped or hangs, in every phase: the others name it in time, the job ends with a failure, and no process is left.

Cases run several at a time, since most of a case is waiting. --matrix FILE runs every rank, phase and fault of 2 and 4 ranks and writes a table of them.
"""
import collections
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

from common import ENVIRONMENT, TrainCase, processes_of

TIMEOUT = 6     # watch.timeout_s of the cases
PATIENCE = 20   # for a held rank, and for mpirun's own end, which is not what is tested
AT_ONCE = 4
PHASES = {"load": "loading data", "pass": "forward and backward", "update": "exchange and update", "collective": "(exchange and update|forward and backward), in (all_to_all|all_gather)", "save": "writing a checkpoint"}
STEP = 3        # of the fault; a checkpoint follows at 4
SIGNALS = {"SIGKILL": "died", "SIGSTOP": "is stopped, without a sign of life for", "hang": "hangs, without progress for"}

Case = collections.namedtuple("Case", "ranks rank phase fault")
Outcome = collections.namedtuple("Outcome", "case code named ended sentence left out")


def signature(case):
    """What must be said of it; the strategy decides which exchange comes first."""
    step = 4 if case.phase == "save" else STEP
    return rf"error: (rank \d of {case.ranks} on \S+: )?rank {case.rank} on \S+ \(process \d+\) {SIGNALS[case.fault]}[^:]*: step {step}, {PHASES[case.phase]}"


class Watchdog(TrainCase):
    documents = (10, 2)

    def run_case(self, case):
        run = self.folder / "_".join(map(str, case))
        config = self.config(run, name=f"{run.name}.ini", eval={"interval": 0}, checkpoint={"interval": 4}, watch={"timeout_s": TIMEOUT})
        hold = f"{case.rank}:{case.phase}:{STEP}" + (":hang" if case.fault == "hang" else "")
        command = self.command(config, f"run.dir={run}", "train.max_steps=1000000", ranks=case.ranks)
        out = self.folder / f"{run.name}.out"
        with open(out, "w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                                       env=dict(ENVIRONMENT, PSANN_DEBUG_HOLD=hold))
        try:
            return self.follow(case, run, process, out)
        finally:
            self.kill_all(process, run)

    def follow(self, case, run, process, out):
        limit = time.monotonic() + PATIENCE + 10
        while (held := re.search(r"held: rank (\d+), process (\d+)", out.read_text(errors="replace"))) is None:
            if process.poll() is not None or time.monotonic() > limit:
                return Outcome(case, process.poll(), None, None, "", [], out.read_text(errors="replace"))
            time.sleep(0.01)
        time.sleep(2 * TIMEOUT / 20)  # a beat that tells of the phase
        struck = time.monotonic()
        if case.fault != "hang":
            os.kill(int(held.group(2)), getattr(signal, case.fault))
        named, sentence = None, ""
        while time.monotonic() - struck < TIMEOUT * (4 if case.phase == "save" else 1) + PATIENCE:
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
        allowed = TIMEOUT * (4 if o.case.phase == "save" and o.case.fault == "hang" else 1)
        if o.named > allowed + 2:  # the output goes through mpirun, which takes up to a second to pass it on while it ends
            return f"named after {o.named:.1f} s of {allowed}"
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

    def test_two_ranks(self):
        self.check([Case(2, rank, phase, fault) for rank in (0, 1) for phase in ("load", "collective", "save") for fault in ("SIGKILL", "SIGSTOP")])

    def test_four_ranks(self):
        self.check([Case(4, 0, "pass", "SIGSTOP"), Case(4, 2, "collective", "SIGSTOP"), Case(4, 3, "load", "SIGKILL"), Case(4, 0, "save", "SIGKILL"),
                    Case(4, 1, "save", "SIGSTOP"), Case(4, 0, "collective", "SIGKILL")])

    def test_a_rank_that_hangs(self):
        self.check([Case(2, 0, "pass", "hang"), Case(2, 1, "load", "hang")])

    def test_a_pause_of_the_whole_job_is_forgiven(self):
        """As with Ctrl-Z and fg, or a host that stands still: longer than the time-out, for all ranks."""
        run = self.folder / "run"
        process = self.start(self.config(run, watch={"timeout_s": 3}, eval={"interval": 0}), f"run.dir={run}", "train.max_steps=1000000", ranks=2)
        self.wait_for_step(process, run, 20)
        ranks = processes_of(run)
        self.assertEqual(len(ranks), 2)
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
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


def matrix(path):
    case = Watchdog("test_off")
    Watchdog.setUpClass()
    case.setUp()
    cases = [Case(ranks, rank, phase, fault) for ranks in (2, 4) for rank in range(ranks) for phase in PHASES for fault in ("SIGKILL", "SIGSTOP")]
    cases += [Case(2, rank, phase, "hang") for rank in (0, 1) for phase in PHASES if phase not in ("collective", "save")]
    outcomes = case.run_cases(cases)
    wrong = [(o, case.fault_of(o)) for o in outcomes if case.fault_of(o)]
    lines = ["# Ranks that are killed, stopped or hang", "",
             f"`python3 tests/train/test_watchdog.py --matrix FILE`, watch.timeout_s = {TIMEOUT}, {AT_ONCE} jobs at a time on {os.cpu_count()} cores: each rank of 2 and of 4, in each phase, "
             "is killed (SIGKILL), stopped (SIGSTOP) or, on 2 ranks, made to hang. A case is right when the others name rank, host, process, step and phase within the time-out, mpirun ends with "
             "a failure, and no rank is left. Times are seconds from the fault until the sentence has come out of mpirun, which passes on the last words of a dying job up to a second late.", "",
             f"{len(outcomes)} cases, {len(outcomes) - len(wrong)} right.", "", "| ranks | phase | fault | cases | right | named, median | named, longest | ended, longest |",
             "|---|---|---|---|---|---|---|---|"]
    groups = collections.defaultdict(list)
    for o in outcomes:
        groups[(o.case.ranks, o.case.phase, o.case.fault)].append(o)
    for (ranks, phase, fault), those in sorted(groups.items()):
        named = sorted(o.named if o.named is not None else float("inf") for o in those)
        right = sum(not case.fault_of(o) for o in those)
        lines.append(f"| {ranks} | {phase} | {fault} | {len(those)} | {right} | {named[len(named) // 2]:.2f} | {named[-1]:.2f} | {max(o.ended or 0 for o in those):.2f} |")
    for o, fault in wrong:
        lines += ["", f"Not right: {o.case}: {fault}"]
        print(o.out[-3000:], file=sys.stderr)
    pathlib.Path(path).write_text("\n".join(lines) + "\n")
    case.doCleanups()
    Watchdog.tearDownClass()
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--matrix":
        sys.exit(matrix(sys.argv[2]))
    unittest.main(verbosity=2)
