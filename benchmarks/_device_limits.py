"""What a device can do at most, measured (a copy, a matrix product), and what a network asks of it."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

COPY = {"cpu": 2**28, "cuda": 2**31}
"""Bytes that are copied: many times the caches."""
MATRIX = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices."""


clock: Callable[[], float] = time.perf_counter


def by_processor_time() -> None:
    """Count the processor's time of this process from now on: what other jobs take does not count. For one thread."""
    global clock
    clock = time.process_time


def now() -> float:
    """Return the seconds of the clock that counts."""
    return clock()


def timed(call: Callable[[], Any], device: str) -> float:
    """Return the seconds of a call, to the end of what it started on a card."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def limits(device: str, kind: torch.dtype) -> dict[str, Callable[[], float]]:
    """Return two measurements by name: bytes/s of a copy (read and written), operations/s of a product of matrices."""
    source = torch.ones(COPY[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    size = MATRIX[device]
    one, two = (torch.rand(size, size, device=device).to(kind) for _ in range(2))
    return {
        "copy": lambda: 2 * source.numel() / timed(lambda: target.copy_(source), device),
        "matrix": lambda: 2 * size**3 / timed(lambda: one @ two, device),
    }


def asked(call: Callable[[], Any]) -> tuple[int, int]:
    """Return the operations of the matrix products and convolutions of a call, and the bytes that operators move.

    Bytes: what each operator of PyTorch reads and writes, views left out; operators that are fused would move fewer.
    """
    moved = _Moved()
    with FlopCounterMode(display=False) as operations, moved:
        call()
    return operations.get_total_flops(), moved.bytes


def busy(call: Callable[[], Any]) -> float:
    """Return the share of a call's time in which the card ran a kernel or a copy; those side by side count once."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        seconds = timed(call, "cuda")
    own = [e for e in found.events() or () if e.device_type == DeviceType.CUDA]
    spans = [(e.time_range.start, e.time_range.end) for e in own if not getattr(e, "is_user_annotation", False)]
    return 1e-6 * covered(spans) / seconds


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of spans."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return total


class _Moved(TorchDispatchMode):
    """Adds up the bytes of tensors that operators take and return."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count its tensors."""
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        return out
