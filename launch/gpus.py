"""GPUs of this machine that a program started here may use, as scripts and tests count them."""
import os
import subprocess


def ask(*options):
    """What nvidia-smi prints; nothing where it is missing or fails."""
    try:
        found = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return found.stdout if found.returncode == 0 else ""


def visible():
    """Their names in CUDA_VISIBLE_DEVICES: those that the variable lets through, all where it is not set. As CUDA reads it, the first number that is no
    GPU's ends the list: -1 hides all."""
    there = ask("--list-gpus").count("GPU ")
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if there == 0 or named is None:
        return [str(i) for i in range(there)]
    found = []
    for name in (n.strip() for n in named.split(",")):
        if not (name.startswith(("GPU-", "MIG-")) or name.isdigit() and int(name) < there):
            break
        found.append(name)
    return found


def gpus():
    return len(visible())


def in_turn(jobs):
    """A GPU for each of so many jobs: all of them in turn, and a name where there is none, for stand-ins on the CPU."""
    there = visible() or ["0"]
    return [there[i % len(there)] for i in range(jobs)]


def memory_used():
    """MiB of each GPU that anybody holds, of the whole machine."""
    return [int(line) for line in ask("--query-gpu=memory.used", "--format=csv,noheader,nounits").split()]
