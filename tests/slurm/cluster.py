"""A SLURM of one or several nodes on this machine: installed from Debian's packages, started, and stopped again.

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
PORT = 6818
"""Of the first node's daemon; the others' follow."""


def node_names(count: int) -> list[str]:
    """Return the names of the nodes: the first is this machine's, the others are made up."""
    host = socket.gethostname().split(".")[0]
    return [host, *(f"{host}-{number}" for number in range(2, count + 1))]


def slurm_conf(names: list[str]) -> str:
    """Configuration of nodes in two partitions, without accounting; finished jobs stay known for an hour.

    What a node has is made up, so that it is the same everywhere; nothing enforces it.
    """
    nodes = "".join(
        f"NodeName={name} NodeAddr=127.0.0.1 Port={PORT + number} CPUs=2 RealMemory=64000 Gres=gpu:2\n"
        for number, name in enumerate(names)
    )
    return f"""\
ClusterName=medwvae
SlurmctldHost={names[0]}(127.0.0.1)
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
SlurmdSpoolDir={STATE}/d-%n
SlurmctldPidFile={STATE}/slurmctld.pid
SlurmdPidFile={STATE}/slurmd-%n.pid
SlurmctldLogFile={STATE}/slurmctld.log
SlurmdLogFile={STATE}/slurmd-%n.log
{nodes}\
PartitionName=cpu Nodes={",".join(names)} Default=YES MaxTime=1440 State=UP
PartitionName=gpu Nodes={",".join(names)} MaxTime=1440 State=UP
"""


def why_not() -> str | None:
    """Return why no SLURM can be started here, or None. What an earlier run left behind is stopped first."""
    if sys.platform != "linux" or shutil.which("apt-get") is None:
        return "SLURM is installed from Debian's packages, and there is no apt-get"
    if os.geteuid() != 0:
        return "SLURM's daemons are started as root"
    if (STATE / "ours").exists():
        stop()
    if (CONFIGURATION / "slurm.conf").exists():
        return "this machine has a SLURM of its own, which stays untouched"
    running = [name for name in ("slurmctld", "slurmd") if running_as(name)]
    return f"already running here: {', '.join(running)}" if running else None


def running_as(name: str) -> list[int]:
    """Process ids of the programs of that name."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == name and _alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def install() -> str | None:
    """Install the packages where they are not; return why that failed, or None."""
    if all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch", "srun"))):
        return None
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # RUNLEVEL: start no daemon
    for arguments in (("update", "-q"), ("install", "-y", "-q", "--no-install-recommends", *PACKAGES)):
        answer = subprocess.run(
            ["apt-get", *arguments], capture_output=True, text=True, env=environment, timeout=1800, check=False
        )
        if answer.returncode:
            return f"apt-get {arguments[0]} failed: {answer.stderr.strip().splitlines()[-1:]}"
    return None


def start(nodes: int = 1) -> None:
    """Configure and start munged, slurmctld and a slurmd for each node, and wait until all nodes are idle."""
    names = node_names(nodes)
    for folder in (STATE / "ctld", *(STATE / f"d-{name}" for name in names), CONFIGURATION):
        folder.mkdir(parents=True, exist_ok=True)
    (STATE / "ours").touch()
    (CONFIGURATION / "slurm.conf").write_text(slurm_conf(names))
    # Cards of make-believe: counted by SLURM like real ones.
    (CONFIGURATION / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    (CONFIGURATION / "cgroup.conf").write_text(
        f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={STATE}/cgroup\nConstrainCores=no\nConstrainRAMSpace=no\n"
    )
    (STATE / "cgroup").mkdir(exist_ok=True)
    if not running_as("munged"):
        runtime = MUNGE_PID.parent
        runtime.mkdir(exist_ok=True)
        shutil.chown(runtime, "munge", "munge")
        _run("runuser", "-u", "munge", "--", "munged", "--force")
        (STATE / "our munged").touch()
    _run("slurmctld", "-c")
    for name in names:
        _run("slurmd", "-N", name)
    limit = time.monotonic() + 120
    while (told := _run("sinfo", "-h", "-N", "-p", "cpu", "-o", "%T", check=False).split()) != ["idle"] * nodes:
        if time.monotonic() > limit:
            raise RuntimeError(f"the nodes do not come up: {told}; see {STATE}/slurmd-*.log")
        time.sleep(0.5)


def client(process: int) -> None:
    """Remember a process that sends jobs, so that `stop` can end it if its parent could not."""
    (STATE / "client.pid").write_text(str(process))


def stop() -> None:
    """Stop the daemons that `start` started, here or in a run that was killed, and their jobs."""
    if not (STATE / "ours").exists():
        return
    _end(_read(STATE / "client.pid", "python"))
    steps = running_as("slurmstepd")  # there is no other SLURM
    jobs = [own for step in steps for own in _descendants(step)]  # SLURM itself loses those whose parent ends first
    limit = time.monotonic() + 30
    while time.monotonic() < limit and running_as("slurmctld") and _run("squeue", "-h", check=False).strip():
        _run("scancel", "--user", "root", check=False)
        time.sleep(1)
    _end(jobs)
    daemons = [own for file in STATE.glob("slurmd-*.pid") for own in _read(file, "slurmd")]
    _end(daemons + _read(STATE / "slurmctld.pid", "slurmctld") + steps)
    if (STATE / "our munged").exists():
        _end(_read(MUNGE_PID, "munged"))
    for file in ("slurm.conf", "gres.conf", "cgroup.conf"):
        (CONFIGURATION / file).unlink(missing_ok=True)
    shutil.rmtree(STATE, ignore_errors=True)


def _read(pid_file: Path, name: str) -> list[int]:
    """Return the process of a file as a list, empty where it has ended or its number is another program's by now."""
    with suppress(OSError, ValueError):
        process = int(pid_file.read_text())
        if (Path("/proc") / str(process) / "comm").read_text().startswith(name):
            return [process]
    return []


def _descendants(process: int) -> list[int]:
    """Return the processes below one, the youngest first."""
    with suppress(OSError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [below for child in map(int, children) for below in (*_descendants(child), child)]
    return []


def _end(processes: list[int]) -> None:
    """Ask processes to end, and kill those that have not within half a minute."""
    for how in (signal.SIGTERM, signal.SIGCONT, signal.SIGKILL):  # stopped ones first have to go on
        for process in processes:
            with suppress(OSError):
                os.kill(process, how)
        limit = time.monotonic() + (0 if how == signal.SIGTERM else 30)
        while any(map(_alive, processes)) and time.monotonic() < limit:
            time.sleep(0.1)


def _alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@contextmanager
def running(nodes: int = 1) -> Iterator[None]:
    """Have a SLURM for the time of the block."""
    try:
        start(nodes)
        yield
    finally:
        stop()


def jobs() -> list[dict[str, str]]:
    """Return all jobs that the controller knows, as `scontrol` names their fields, in order of their numbers."""
    lines = _run("scontrol", "-o", "show", "jobs", check=False).splitlines()
    found = [{"Comment": ""} | dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return sorted((job for job in found if "JobId" in job), key=lambda job: int(job["JobId"]))


def _run(*command: str, check: bool = True) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if check and answer.returncode:
        raise RuntimeError(f"{command[0]}: {answer.stderr.strip()}")
    return answer.stdout + answer.stderr


if __name__ == "__main__":
    {"install": install, "start": start, "stop": stop}[sys.argv[1]]()
