"""Compiled kernels on the CPU: Numba without the global lock, the items of a job shared out to threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numba
import torch

Function = TypeVar("Function", bound=Callable[..., Any])
SERIAL_BELOW = 1 << 20
"""Elements below which another thread costs more than it brings: PyTorch's own threads spin on for a while after their
last job, and ours would have to take turns with them."""


def compiled(function: Function) -> Function:
    """Compile on first use; the machine code is kept beside the source, or in the user's cache, for later processes."""
    return _numba(function, {})


def inlined(function: Function) -> Function:
    """Compile into the caller: small loops, whose calls would count references to every array they are given."""
    return _numba(function, {"forceinline": True})


def _numba(function: Function, options: dict[str, Any]) -> Function:
    # Sums may be reassociated and fused (last-bit effects); NaN and infinity keep their meaning.
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}} | options
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder that can be written to
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


def share(kernel: Callable[..., None], items: int, elements: int, *arguments: Any) -> None:
    """Run `kernel(start, stop, *arguments)` over all items, on as many threads as PyTorch may use."""
    threads = min(torch.get_num_threads(), items) if elements >= SERIAL_BELOW else 1
    if threads <= 1:
        kernel(0, items, *arguments)
        return
    edges = [items * k // threads for k in range(threads + 1)]
    waiting = [_pool(threads - 1).submit(kernel, start, stop, *arguments) for start, stop in pairwise(edges[1:])]
    kernel(edges[0], edges[1], *arguments)
    for future in waiting:
        future.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="medwvae-wavelets")


# Threads do not survive a fork: a child (a loader's worker) makes its own pool.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
