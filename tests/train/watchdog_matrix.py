"""The cases of test_watchdog.py by the hundred, and a table of them.

    watchdog_matrix.py FILE                                     ranks, phases, faults and strategies on the CPU
    watchdog_matrix.py FILE --device cuda --cases gpus          what two GPUs have ways of their own for, over NCCL

PSANN_PROGRAMS names the folder of the programs, PSANN_FAULTY_CALLS the library of tests/ckpt/faulty_calls.c. Ends with 1 where a case was not right, or where the GPUs hold more memory afterwards than before.
"""
import argparse
import collections
import os
import pathlib
import platform
import re
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "launch"))
from gpus import memory_used  # noqa: E402
from watchdog_cases import AT_ONCE, LONG, PHASES, STRATEGIES, TIMEOUT, Case, WatchdogCase  # noqa: E402

SIGNALS = ("SIGKILL", "SIGSTOP")
SHARED = ("pass", "update", "collective", "save")  # phases in which a strategy has ways of its own
SPARE_MIB = 64  # of a GPU's memory: the driver's own comes and goes


def hundreds():
    cases = [Case(ranks, rank, phase, fault, s) for ranks in (2, 4) for s in STRATEGIES if s != "auto" and (s != "hybrid" or ranks == 4)
             for phase in SHARED for rank in range(ranks) for fault in SIGNALS]
    cases += [Case(ranks, rank, phase, fault) for ranks in (2, 4) for phase in PHASES if phase not in SHARED for rank in range(ranks) for fault in SIGNALS]
    cases += [Case(2, rank, phase, "hang", s) for s in STRATEGIES if s not in ("auto", "hybrid") for phase in ("pass", "update") for rank in (0, 1)]
    return cases + [Case(2, rank, phase, "hang") for phase in ("start", "load", "between", "evaluation", "save", "while saving", "end") for rank in (0, 1)]


def of_two_gpus():
    """Those that last longest first: the last ones to end don't wait for each other."""
    cases = [Case(2, rank, phase, fault) for fault in ("SIGSTOP", "hang", "SIGKILL") for phase, p in PHASES.items() if fault != "hang" or not p.long for rank in (0, 1)]
    return cases + [Case(2, 1, "collective", fault, s) for s in ("ddp", "full_shard") for fault in SIGNALS]


CASES = {"hundreds": hundreds, "gpus": of_two_gpus}


def row(case, key, those):
    named = sorted(o.named if o.named is not None else float("inf") for o in those)
    right = sum(not case.fault_of(o) for o in those)
    return f"| {' | '.join(map(str, key))} | {len(those)} | {right} | {named[len(named) // 2]:.2f} | {named[-1]:.2f} | {max(o.ended or 0 for o in those):.2f} |"


def memory_left(before):
    """What the GPUs hold more than before, once that is nothing or five seconds have passed."""
    for _ in range(10):
        more = [after - b for after, b in zip(memory_used(), before)]
        if max(more, default=0) <= SPARE_MIB:
            break
        time.sleep(0.5)
    return more


def page(o, case, outcomes, seconds):
    wrong = [(outcome, case.fault_of(outcome)) for outcome in outcomes if case.fault_of(outcome)]
    command = "python3 tests/train/watchdog_matrix.py FILE" + (" --device cuda" if o.device == "cuda" else "") + (f" --cases {o.cases}" if o.cases != "hundreds" else "") + \
        (f" --every {o.every}" if o.every > 1 else "")
    where = "GPU engine, NCCL" if o.device == "cuda" else "CPU engine"
    lines = ["# Ranks that are killed, stopped or hang", "",
             f"`{command}` on {os.cpu_count()} cores ({platform.machine()}), {where}, {o.at_once} jobs at a time, watch.timeout_s = {TIMEOUT}: a rank of "
             f"{' or '.join(map(str, sorted({outcome.case.ranks for outcome in outcomes})))}, in a "
             "phase, is killed (SIGKILL), stopped (SIGSTOP), or made to hang (its main thread stays where it is). A case is right when the others name rank, host, process, step, phase and, where it is in "
             f"one, collective within the time-out ({LONG} times that for a hang in a phase that may last: start, save, end), mpirun ends with a failure, and no process is left. Seconds are those from the "
             "fault until the sentence has come out of mpirun, which passes on the last words of a dying job up to a second late; *ended*: until mpirun itself has ended. "
             "*while saving*: a checkpoint is being written in the background to a disk that is slow.", "",
             f"{len(outcomes)} cases, {len(outcomes) - len(wrong)} right, in {seconds:.0f} s.", ""]
    groups = collections.defaultdict(list)
    for outcome in outcomes:
        groups[(outcome.case.ranks, outcome.case.strategy, outcome.case.phase, outcome.case.fault)].append(outcome)
    lines += ["| ranks | strategy | phase | fault | cases | right | named, median | named, longest | ended, longest |", "|---|---|---|---|---|---|---|---|---|"]
    lines += [row(case, key, those) for key, those in groups.items()]
    for outcome, fault in wrong:
        lines += ["", f"Not right: {outcome.case}: {fault}"]
        print(outcome.case, fault, outcome.out[-3000:], file=sys.stderr)
    said = [outcome for outcome in outcomes if outcome.sentence and outcome.case.rank == 1 and outcome.case.phase == "collective"]
    lines += ["", "What is said, for example:", ""]
    lines += [f"    {re.sub(r'^.*?error: ', '', outcome.sentence)}" for outcome in said[-4::2]]
    return lines, len(wrong)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", type=pathlib.Path, metavar="FILE")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--cases", choices=CASES, default="hundreds")
    p.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th case (1)")
    p.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help=f"jobs at a time ({AT_ONCE})")
    o = p.parse_args()
    WatchdogCase.device = o.device
    WatchdogCase.setUpClass()
    case = WatchdogCase("run_train")
    case.setUp()
    try:
        before, began = memory_used(), time.monotonic()
        if o.device == "cuda":
            case.warm_up()
        outcomes = case.run_cases(CASES[o.cases]()[::o.every], o.at_once)
        lines, bad = page(o, case, outcomes, time.monotonic() - began)
        if o.device == "cuda":
            more = memory_left(before)
            lines += ["", f"GPU memory in use afterwards, beyond what was before: {', '.join(f'{m} MiB' for m in more) or 'unknown'}."]
            bad += max(more, default=SPARE_MIB + 1) > SPARE_MIB
        o.file.write_text("\n".join(lines) + "\n")
        print("\n".join(lines))
    finally:
        case.doCleanups()
        WatchdogCase.tearDownClass()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
