"""A SLURM of one node on this machine: installed from Debian's packages, started, and stopped again.

By hand, as root: `python -m tests.slurm.cluster install` once, then `... start` and `... stop`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
CONFIGURATION = Path("/etc/slurm")
STATE = Path("/var/lib/medwvae-slurm")
"""Of the daemons: state, logs, process ids."""
MUNGE_PID = Path("/run/munge/munged.pid")


def slurm_conf(name: str) -> str:
    """Configuration of one node with two partitions, without accounting; finished jobs stay known for an hour.

    What the node has is made up, so that it is the same everywhere; nothing enforces it.
    """
    return f"""\
ClusterName=medwvae
SlurmctldHost={name}(127.0.0.1)
AuthType=auth/munge
CryptoType=crypto/munge
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MpiDefault=none
SlurmdParameters=config_overrides
GresTypes=gpu
MinJobAge=3600
KillWait=2
ReturnToService=2
StateSaveLocation={STATE}/ctld
SlurmdSpoolDir={STATE}/d
SlurmctldPidFile={STATE}/slurmctld.pid
SlurmdPidFile={STATE}/slurmd.pid
SlurmctldLogFile={STATE}/slurmctld.log
SlurmdLogFile={STATE}/slurmd.log
NodeName={name} NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 Gres=gpu:2
PartitionName=cpu Nodes={name} Default=YES MaxTime=1440 State=UP
PartitionName=gpu Nodes={name} MaxTime=1440 State=UP
"""


def why_not() -> str | None:
    """Return why no SLURM can be started here, or None."""
    if sys.platform != "linux" or shutil.which("apt-get") is None:
        return "SLURM is installed from Debian's packages, and there is no apt-get"
    if os.geteuid() != 0:
        return "SLURM's daemons are started as root"
    if (CONFIGURATION / "slurm.conf").exists() and not (STATE / "ours").exists():
        return "this machine has a SLURM of its own, which stays untouched"
    running = [name for name in ("slurmctld", "slurmd", "munged") if running_as(name)]
    return f"already running here: {', '.join(running)}" if running else None


def running_as(name: str) -> list[int]:
    """Process ids of the programs of that name."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == name:
                found.append(int(entry.name))
    return found


def install() -> str | None:
    """Install the packages where they are not; return why that failed, or None."""
    if all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch", "srun"))):
        return None
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # RUNLEVEL: start no daemon
    for arguments in (("update", "-q"), ("install", "-y", "-q", "--no-install-recommends", *PACKAGES)):
        answer = subprocess.run(
            ["apt-get", *arguments], capture_output=True, text=True, env=environment, timeout=600, check=False
        )
        if answer.returncode:
            return f"apt-get {arguments[0]} failed: {answer.stderr.strip().splitlines()[-1:]}"
    return None


def start() -> None:
    """Configure and start munged, slurmctld and slurmd, and wait until the node is idle."""
    name = socket.gethostname().split(".")[0]
    for folder in (STATE / "ctld", STATE / "d", CONFIGURATION):
        folder.mkdir(parents=True, exist_ok=True)
    (STATE / "ours").touch()
    (CONFIGURATION / "slurm.conf").write_text(slurm_conf(name))
    # Cards of make-believe: counted by SLURM like real ones.
    (CONFIGURATION / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    (CONFIGURATION / "cgroup.conf").write_text(
        f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={STATE}/cgroup\nConstrainCores=no\nConstrainRAMSpace=no\n"
    )
    (STATE / "cgroup").mkdir(exist_ok=True)
    runtime = MUNGE_PID.parent
    runtime.mkdir(exist_ok=True)
    shutil.chown(runtime, "munge", "munge")
    _run("runuser", "-u", "munge", "--", "munged", "--force")
    _run("slurmctld", "-c")
    _run("slurmd")
    limit = time.monotonic() + 60
    while "idle" not in (told := _run("sinfo", "-h", "-o", "%T", check=False)):
        if time.monotonic() > limit:
            raise RuntimeError(f"the node does not come up: {told}; see {STATE}/slurmd.log")
        time.sleep(0.5)


def stop() -> None:
    """Stop the three daemons that `start` started, and take its configuration away."""
    limit = time.monotonic() + 30
    while (STATE / "ours").exists() and time.monotonic() < limit and _run("squeue", "-h", check=False).strip():
        _run("scancel", "--user", "root", check=False)
        time.sleep(1)
    for pid_file in (STATE / "slurmd.pid", STATE / "slurmctld.pid", MUNGE_PID):
        with suppress(OSError, ValueError):
            process = int(pid_file.read_text())
            os.kill(process, signal.SIGTERM)
            for _ in range(100):
                os.kill(process, 0)
                time.sleep(0.1)
    if (STATE / "ours").exists():
        for file in ("slurm.conf", "gres.conf", "cgroup.conf"):
            (CONFIGURATION / file).unlink(missing_ok=True)
        shutil.rmtree(STATE, ignore_errors=True)


@contextmanager
def one_node() -> Iterator[None]:
    """Have a SLURM for the time of the block."""
    try:
        start()
        yield
    finally:
        stop()


def jobs() -> list[dict[str, str]]:
    """Return all jobs that the controller knows, as `scontrol` names their fields, in order of their numbers."""
    lines = _run("scontrol", "-o", "show", "jobs", check=False).splitlines()
    found = [{"Comment": ""} | dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return sorted((job for job in found if "JobId" in job), key=lambda job: int(job["JobId"]))


def _run(*command: str, check: bool = True) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if check and answer.returncode:
        raise RuntimeError(f"{command[0]}: {answer.stderr.strip()}")
    return answer.stdout + answer.stderr


if __name__ == "__main__":
    {"install": install, "start": start, "stop": stop}[sys.argv[1]]()
