"""GPUs of this machine, as scripts and tests count them."""
import subprocess


def gpus():
    try:
        found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60)
    except OSError:
        return 0
    return found.stdout.count("GPU ") if found.returncode == 0 else 0
