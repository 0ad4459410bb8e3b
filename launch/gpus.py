"""GPUs of this machine, as scripts and tests count them."""
import subprocess


def ask(*options):
    """What nvidia-smi prints; nothing where it is missing or fails."""
    try:
        found = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return found.stdout if found.returncode == 0 else ""


def gpus():
    return ask("--list-gpus").count("GPU ")


def memory_used():
    """MiB of each GPU that anybody holds."""
    return [int(line) for line in ask("--query-gpu=memory.used", "--format=csv,noheader,nounits").split()]
