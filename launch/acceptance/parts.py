"""Parts of a stage: commands that are run under a limit, and what is kept of them."""
import os
import pathlib
import shlex
import signal
import subprocess
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77

# Open MPI refuses to run as root unless told twice.
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}


class Part:
    """A command of a stage. `prepare` comes before it; `read` takes the finished part's log and gives what belongs into its result; `codes` end
    the command well; `makes` is a file that later parts of the stage read. Either function may raise ValueError: the part has failed.
    `together`: it minds nothing beside it on its GPU, being neither timed nor measured."""

    def __init__(self, name, command, limit, folder=None, environment=None, prepare=None, read=None, codes=(0,), makes=None, together=False):
        self.name, self.command, self.limit = name, [str(c) for c in command], limit
        self.folder, self.environment = folder or SOURCE, environment or {}
        self.prepare, self.read, self.codes, self.makes, self.together = prepare, read, codes, makes, together


def mpirun(ranks):
    return ["mpirun", "--bind-to", "none", "--oversubscribe", "-np", ranks]


RUNNING = set()  # processes of parts, each with a session of its own, which no signal to this script reaches


def end(process):
    """The process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            pass


def end_all(number, _):
    """A handler: nothing that was started goes on without this script, holding a GPU."""
    for process in list(RUNNING):
        end(process)
    os._exit(128 + number)


def run_part(part, log, seconds, environment=None):
    """Code, or None at the limit; a part and all that it started end together."""
    with open(log, "wb") as out:
        out.write((shlex.join(part.command) + "\n").encode())
        out.flush()
        try:
            process = subprocess.Popen(part.command, cwd=part.folder, env={**os.environ, **ROOT, **part.environment, **(environment or {})},
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            out.write(f"{error}\n".encode())
            return 127
        RUNNING.add(process)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            end(process)
            return None
        finally:
            RUNNING.discard(process)


def to_run(stage, done):
    """Parts that are still to be run: those that did not go well before, and those whose file one of these misses."""
    again = [part for part in stage if done.get(part.name, {}).get("state") != "ok"]
    if again:
        last = stage.index(again[-1])
        again += [part for part in stage[:last] if part not in again and part.makes and not part.makes.exists()]
    return again


def state_of(code, codes=(0,)):
    return "ok" if code in codes else "skipped" if code == SKIPPED else "time" if code is None else "FAILED"


def do_part(o, stage, part, left, environment=None):
    log = o.out / "logs" / f"{stage}_{part.name.replace(' ', '_')}.log"
    began, code, text = time.monotonic(), None, ""
    result = {"state": "FAILED", "command": shlex.join(part.command), "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    try:
        if part.prepare:
            part.prepare()
        code = run_part(part, log, min(part.limit, left), environment)
        result["state"] = state_of(code, part.codes)
        text = log.read_text(errors="replace")
        if result["state"] == "ok" and part.read:
            result["found"] = part.read(text)
    except (OSError, ValueError, KeyError, IndexError) as error:
        result.update(state="FAILED", why=str(error))
    result.update(code=code, seconds=round(time.monotonic() - began, 1))
    if result["state"] not in ("ok", "skipped"):
        result["tail"] = text.splitlines()[-12:]
    return result
