"""A Slurm of one node on this machine: munged, slurmctld and slurmd in a temporary folder, on free ports, without systemd.

It needs root, and Debian's packages slurmctld, slurmd, slurm-client and munge. Nothing of an installed Slurm is read or changed.
"""
import ctypes
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo", "mpirun"]
MARK = "PSANN_TEST_CLUSTER"  # in the environment of every process that the cluster starts
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"

# cred_expire: a job that is put back waits that long, two minutes unless told otherwise. The node has more processors than the machine, so
# that jobs run side by side; two devices that every Linux has stand for GPUs, which serves to count them.
# Under srun, Open MPI's shared memory and PMIx's folder bear the job's number, so two clusters at once must not have the same numbers.
CONFIG = """
ClusterName=psann
FirstJobId={first_job}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
TmpFS={folder}/tmp
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=3,sched_interval=3,batch_sched_delay=1
ReturnToService=2
MessageTimeout=60
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes={host} MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
"""


def obstacle():
    """Why no Slurm can be started here; None when it can be tried."""
    if os.geteuid() != 0:
        return "the daemons of Slurm need root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packages slurmctld, slurmd, slurm-client, munge)"
    return None


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def die_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Cluster:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="psann_slurm_"))
        self.folder.chmod(0o755)  # munged insists on a folder that others can't write
        self.daemons = {}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        self.environment.update(PATH=PATH, SLURM_CONF=str(self.folder / "slurm.conf"), OMPI_MCA_mpi_yield_when_idle="1",
                                OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", **{MARK: str(self.folder)})

    def start(self):
        """Returns when jobs can run; otherwise raises RuntimeError with what the daemons wrote."""
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool", "tmp"):
            (self.folder / name).mkdir()
        (self.folder / "tmp").chmod(0o1777)
        first_job = random.SystemRandom().randrange(1000, 60000000)
        (self.folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=self.folder, ports=free_ports(2), first_job=first_job))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # of which nothing is used
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        self.spawn("munged", "--foreground", "--num-threads=2", f"--socket={self.folder}/munge.socket", f"--key-file={key}",
                   f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munged.seed", f"--log-file={self.folder}/munged.log")
        self.wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.spawn("slurmctld", "-D", "-f", self.folder / "slurm.conf")
        self.spawn("slurmd", "-D", "-f", self.folder / "slurm.conf")
        self.wait(lambda: self.call("sinfo", "-h", "-p", "main", "-o", "%T", check=False).strip() == "idle", "the node")
        return self

    def spawn(self, program, *arguments):
        with open(self.folder / f"{program}.out", "w") as out:
            self.daemons[program] = subprocess.Popen([program, *map(str, arguments)], env=self.environment, stdin=subprocess.DEVNULL, stdout=out,
                                                     stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent)

    def wait(self, condition, what, timeout=60):
        limit = time.monotonic() + timeout
        while not condition():
            dead = [name for name, p in self.daemons.items() if p.poll() is not None]
            if dead or time.monotonic() > limit:
                raise RuntimeError(f"{what} did not come ({' and '.join(dead) or 'no daemon'} ended)\n{self.logs()}")
            time.sleep(0.2)

    def logs(self):
        parts = []
        for path in sorted(self.folder.glob("*.out")):
            parts.append(f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-30:]))
        return "\n".join(parts)

    def call(self, *command, check=True, cwd=None, **environment):
        done = subprocess.run([str(c) for c in command], env={**self.environment, **environment}, cwd=cwd, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)
        if check and done.returncode != 0:
            raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}\n{self.logs()}")
        return done.stdout

    def submit(self, *arguments, cwd, **environment):
        """sbatch; returns the job's number."""
        return self.call("sbatch", "--parsable", *arguments, cwd=cwd, **environment).strip()

    def job(self, number):
        """What scontrol says about a job, as a dict."""
        text = self.call("scontrol", "show", "job", "-o", number)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def processes(self):
        """All that the cluster started, daemons included, and that lives."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                marked = f"{MARK}={self.folder}".encode() in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marked:
                found.append(int(entry.name))
        return found

    def stop(self):
        """Ends everything and removes the folder."""
        for name in ("slurmctld", "slurmd", "munged"):
            if name in self.daemons and self.daemons[name].poll() is None:
                self.daemons[name].terminate()
        limit = time.monotonic() + 5
        while time.monotonic() < limit and any(p.poll() is None for p in self.daemons.values()):
            time.sleep(0.05)
        for _ in range(100):  # what is left: jobs, their steps, daemons that hang; a dying parent may yet start a child
            left = self.processes()
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for p in self.daemons.values():
                p.poll()
            if not left:
                break
            time.sleep(0.1)
        shutil.rmtree(self.folder, ignore_errors=True)
