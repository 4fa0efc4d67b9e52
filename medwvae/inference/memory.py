"""How much memory there is, how much is in use, and how much a network takes for each voxel."""

import os
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medwvae.errors import ConfigError

UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
SHARE: Final = 0.8
"""Of the free memory, where nobody said how much to take."""
OF_CEILING: Final = 0.96
"""Of a ceiling; the rest is for what allocators keep between tiles."""


def parse_size(text: str) -> int:
    """Read '2 GiB', '1500M', '2.5g' or a number of bytes; a thousand is 1024 in every spelling.

    Raises
    ------
    ConfigError
        If the text is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    size = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if size < 1:
        raise ConfigError(f"a size of memory reads like `2 GiB` or `800M`, got {text!r}")
    return size


def shown(amount: float) -> str:
    """Return bytes in words: '1.5 GiB'."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while amount >= 1000 and power < len(units) - 1:
        amount, power = amount / 1024, power + 1
    return f"{amount:.0f} {units[power]}" if amount >= 100 else f"{amount:.3g} {units[power]}"


def room(device: torch.device, ceiling: int | None = None) -> int:
    """Return how many bytes are left for tiles: of `ceiling` for this process, or a share of what is free if less.

    Without a ceiling it is that share: on a card of its memory; of the machine's, of this job's part of it (`beside`).
    """
    if device.type == "cuda":
        own = torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - own
        return int(SHARE * free) if ceiling is None else min(int(OF_CEILING * ceiling) - own, free)
    if ceiling is None:
        return int(SHARE * available(beside()))
    return min(int(OF_CEILING * ceiling) - resident(), int(SHARE * available()))


def beside() -> int:
    """Return how many jobs share this machine's memory: the workflow says so in `MEDWVAE_JOBS`, a job alone is one.

    A machine that gives away more memory than it has kills a process; nothing in it learns that memory ran out.
    """
    said = os.environ.get("MEDWVAE_JOBS", "")
    return max(int(said), 1) if said.isdigit() else 1


@contextmanager
def enforced(device: torch.device, ceiling: int | None) -> Iterator[None]:
    """Let PyTorch take at most `ceiling` bytes of a card, its reserve included, for the time of the block.

    What goes beyond is refused as if the card were full. On a CPU, and without a ceiling, nothing changes.
    """
    if ceiling is None or device.type != "cuda":
        yield
        return
    card = torch.cuda.current_device() if device.index is None else device.index
    before = getattr(torch.cuda, "get_per_process_memory_fraction", lambda card: 1.0)(card)  # PyTorch 2.6 has none
    share = ceiling / torch.cuda.get_device_properties(card).total_memory
    torch.cuda.empty_cache()  # what earlier work left in the reserve
    torch.cuda.set_per_process_memory_fraction(min(share, before), card)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, card)


def available(jobs: int = 1) -> int:
    """Return the free main memory in bytes: of the machine, of every control group around this process, of its job.

    The machine's is shared by so many `jobs`; a group or a job of a cluster has its own.

    Where SLURM limits jobs without control groups, it kills those that take more than they asked for.
    """
    free = [_free_of_machine() // jobs]
    if asked := _asked_of_slurm():
        free.append(asked - resident())
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers in ("", "memory"):
            free += _free_of_groups(Path("/sys/fs/cgroup", controllers), place)
    return max(min(free), 0)


def _asked_of_slurm() -> int:
    """Return the bytes that this job asked SLURM for on each node; 0 outside SLURM, for all of a node, and if unknown.

    SLURM tells a job's script. Snakemake's executor keeps all but the number of the job from what it starts, so that
    `squeue` has to be asked.
    """
    asked = os.environ.get("SLURM_MEM_PER_NODE", "")  # MB
    if asked.isdigit():
        return int(asked) * 2**20
    return _asked_by(os.environ.get("SLURM_JOB_ID", ""))


@lru_cache  # a job's request stays, and volumes are many
def _asked_by(job: str) -> int:
    if not job or not (squeue := shutil.which("squeue")):
        return 0
    try:
        answer = subprocess.run(  # noqa: S603  (what PATH has by that name)
            [squeue, "--noheader", "--jobs", job, "--format", "%m"], capture_output=True, text=True, timeout=10
        ).stdout
        return parse_size(answer.split()[0])
    except (OSError, subprocess.TimeoutExpired, IndexError, ConfigError):
        return 0


def resident() -> int:
    """Return the memory that this process holds now, in bytes."""
    try:
        return _kilobytes(Path("/proc/self/status"), "VmRSS") * 1024
    except (OSError, KeyError):
        return peak()


def peak() -> int:
    """Return the most memory that this process has held, in bytes (its high-water mark)."""
    try:
        # Not getrusage: its figure begins, in a new process, with what the process had that started it.
        return _kilobytes(Path("/proc/self/status"), "VmHWM") * 1024
    except (OSError, KeyError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def bytes_of(function: Callable[[], Any]) -> int:
    """Return the most bytes that tensors made by a call hold at once.

    Every operator's results are counted while they live, on any device, but for views of what was there before. What
    an operator needs inside (a workspace of a convolution) is not seen.
    """
    count = _Count()
    with torch.no_grad(), count:
        function()
    return count.most


class _Count(TorchDispatchMode):
    """Counts the bytes of the storages that operators return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.alive: set[int] = set()
        self.before: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what is new."""
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                name = storage._cdata
                if name not in self.alive and name not in self.before:
                    self.before.add(name)
                    weakref.finalize(storage, self.before.discard, name)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                name, size = storage._cdata, storage.nbytes()
                if name not in self.alive and name not in self.before:
                    self.alive.add(name)
                    self.now += size
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, name, size)
        return out

    def _gone(self, name: int, size: int) -> None:
        self.alive.discard(name)
        self.now -= size


def _free_of_machine() -> int:
    try:
        return _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # not Linux: half of what is built in


def _kilobytes(path: Path, field: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def _free_of_groups(mount: Path, place: str) -> list[int]:
    """Return limit − use of a control group and of those around it; version 1 and 2 spell the files differently."""
    free = []
    here = mount / place.strip("/")
    for folder in (here, *here.parents):
        for limit, use, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                most, used = ((folder / name).read_text(encoding="ascii").strip() for name in (limit, use))
                stat = (folder / "memory.stat").read_text(encoding="ascii").split()
            except OSError:
                continue
            if most.isdigit():
                # Files read once are kept as long as nobody needs the memory: they count as free.
                kept = int(stat[stat.index(cache) + 1]) if cache in stat else 0
                free.append(int(most) - int(used) + kept)
        if folder == mount:
            break
    return free
