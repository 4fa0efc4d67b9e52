"""A function of tiles over a whole volume: as many voxels at once as the memory holds, fewer where it runs out.

MONAI's `sliding_window_inference` was tried first. It places windows on no grid (a window that starts at an odd voxel
shifts a wavelet transform), divides by a sum of weights (an identity comes back rounded), counts the border of a window
like its middle, and leaves the size of the window to the user; see `tests/inference/test_monai.py`.
"""

import gc
import math
import mmap
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.errors import MedwvaeError
from medwvae.inference import memory
from medwvae.inference.footprint import Footprint
from medwvae.inference.lanes import Lanes, mapped, stream
from medwvae.inference.tiles import Plan, Span, Tile, plan
from medwvae.progress import note, say

T = TypeVar("T")

SAFETY = 2.0
"""Bytes that are set aside for each byte of the network's tensors: workspaces of convolutions and the allocator."""
COSTLY = 4
"""Times the volume that tiles may read in all before the user is told."""
PROBE = 48
"""Voxels per axis of the tile whose tensors are counted."""
MAPPED = 2**25
"""Bytes of a mapped file that are held at once: a tile's short rows touch pages of many times its size."""


class Source(Generic[T]):
    """A volume that tiles are read from.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape.
    read : callable
        Spatial slices, which may end beyond the volume, to what the function takes: see `window`.
    release : callable
        Called after each tile; gives pages of a mapped file back.
    """

    def __init__(
        self, shape: Sequence[int], read: Callable[[tuple[slice, ...]], T], release: Callable[[], None] = lambda: None
    ) -> None:
        self.shape, self.read, self.release = tuple(shape), read, release


def window(x: Tensor, index: Sequence[slice], axes: Sequence[int]) -> Tensor:
    """Cut slices out of some axes of a tensor; beyond its end the last voxel is repeated, as networks pad.

    Axes of one voxel stand for all and stay as they are; so does a tensor without the axis (a label).
    """
    for part, axis in zip(index, axes, strict=True):
        size = x.shape[axis] if axis < x.ndim else 1
        if size == 1:
            continue
        if part.stop <= size:
            x = x.narrow(axis, part.start, part.stop - part.start)
        else:
            x = x.index_select(axis, torch.arange(part.start, part.stop, device=x.device).clamp(max=size - 1))
    return x


def from_array(array: NDArray[np.floating]) -> Source[Tensor]:
    """Return a source of tensors (1, C, *tile), float32, from an array (C, *spatial); it may be mapped from a file."""

    def read(index: tuple[slice, ...]) -> Tensor:
        ends = [min(part.stop, size) for part, size in zip(index, array.shape[1:], strict=True)]
        inside = [slice(part.start, end) for part, end in zip(index, ends, strict=True)]
        piece = np.empty((len(array), *(part.stop - part.start for part in inside)), np.float32)
        for part in _held_at_once(array, 1, inside[0]):
            here = slice(part.start - inside[0].start, part.stop - inside[0].start)
            piece[:, here] = array[(slice(None), part, *inside[1:])]
            release(array)
        missing = [part.stop - part.start - size for part, size in zip(index, piece.shape[1:], strict=True)]
        if any(missing):
            piece = np.pad(piece, [(0, 0), *((0, amount) for amount in missing)], mode="edge")
        return torch.from_numpy(piece)[None]

    return Source(array.shape[1:], read, lambda: release(array))


def release(array: Any) -> None:
    """Give the pages of an array that is mapped from a file back to the system (Linux).

    What was written to a shared mapping stays: the system holds it for the file.
    """
    mapping = _mapping(array)
    if mapping is not None and mapping.mode in ("r", "r+", "w+") and sys.platform == "linux":
        with suppress(OSError, ValueError):
            mapping._mmap.madvise(mmap.MADV_DONTNEED)


def _mapping(array: Any) -> Any:
    """Return the mapping of a file that an array is a view of; None if it is in memory."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array


def _held_at_once(array: NDArray[Any], axis: int, span: slice) -> list[slice]:
    """Cut a span of an axis into parts whose pages, whole rows of the array, take no more than `MAPPED` bytes."""
    fastest = max(map(abs, array.strides[axis:]), default=0) > abs(array.strides[axis])
    if _mapping(array) is None or fastest:  # in Fortran's order every part would touch all pages
        return [span]
    sections = max(MAPPED * array.shape[axis] // max(array.nbytes, 1), 1)
    return [slice(begin, min(begin + sections, span.stop)) for begin in range(span.start, span.stop, sections)]


def infer(
    function: Callable[[T], Tensor],
    source: Source[T],
    out: NDArray[np.float32],
    footprint: Footprint,
    *,
    device: torch.device | str = "cpu",
    max_memory: int | None = None,
    divisible: Sequence[bool] | None = None,
    largest: Sequence[int | None] | None = None,
) -> Plan:
    """Apply a function to a whole volume, tile by tile, and return the tiles it was done with.

    Where the memory allows tiles with the function's whole reach around them, which is said by `Plan.exact`, the answer
    is that of the whole volume at once.

    Parameters
    ----------
    function : callable
        What `source` reads, on the device, to a tensor whose squeezed shape is (*tile) or (C, *tile).
    out : array of float32, (*shape) or (C, *shape)
        Receives the answer; it may be mapped from a file.
    footprint : Footprint
        Of the function; see `footprint.measure`.
    max_memory : int, optional
        The most bytes that this process may hold (on a CPU) or that PyTorch may take (on a card, where more is
        refused). By default a share of what is free, in the control group of the process too.
    divisible, largest
        See `tiles.plan`.

    Raises
    ------
    MedwvaeError
        If the memory is too small for any tile, or ran out with the smallest.
    """
    target = torch.device(device)
    try:
        per_voxel = bytes_per_voxel(function, source, footprint, target, divisible)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MedwvaeError(
            "no memory is left to look at the smallest part of this volume; stop other jobs that use it"
        ) from error
    budget = memory.room(target, max_memory)
    voxels = budget / per_voxel
    while True:
        found = plan(source.shape, footprint, voxels, divisible=divisible, largest=largest)
        if found is None:
            needed = plan(source.shape, footprint, math.inf, divisible=divisible, largest=footprint.step)
            least = "" if needed is None else f", about {memory.shown(needed.largest * per_voxel)} for one tile"
            raised = max_memory is not None and budget < memory.room(target)
            do = "raise --max-memory (restore.max_memory)" if raised else "stop other jobs that use this memory"
            raise MedwvaeError(
                f"{memory.shown(max(budget, 0))} of memory are too little for any part of this volume{least}; {do}"
            )
        _say(found, footprint)
        try:
            with memory.enforced(target, max_memory):
                stream(
                    found.tiles(),
                    lambda tile: source.read(tile.read),
                    function,
                    lambda tile, answer: _write(out, tile, answer, source),
                    target,
                )
            return found
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if target.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        say(f"out of memory with tiles of {found.largest} voxels; once more with half of that")
        voxels = found.largest / 2
        budget = int(voxels * per_voxel)


def bytes_per_voxel(
    function: Callable[[T], Tensor],
    source: Source[T],
    footprint: Footprint,
    device: torch.device,
    divisible: Sequence[bool] | None = None,
) -> float:
    """Count the tensors that a function makes of a small tile: bytes per voxel, with what is set aside beside them."""
    free = divisible or (True,) * len(source.shape)
    ends = [
        min(math.ceil(PROBE / step), math.ceil(size / step)) * step if cut else size
        for size, step, cut in zip(source.shape, footprint.step, free, strict=True)
    ]
    if footprint.step[0] == 1 and footprint.reach[0] is not None:
        ends[0] = min(1 + 2 * footprint.reach[0], source.shape[0])  # slices, and the neighbours that they read
    elif math.prod(ends) > PROBE ** len(ends):  # whole planes: fewer slices
        slices = PROBE ** len(ends) / math.prod(ends[1:])
        ends[0] = min(max(1, int(slices / footprint.step[0])) * footprint.step[0], ends[0])
    small = Tile(tuple(Span((0, end), (0, end), np.ones(end), np.zeros(end)) for end in ends))
    lanes = Lanes(device)
    ahead = source.read(small.read)  # on a CPU the next tile waits beside the one that is computed
    used = memory.bytes_of(lambda: lanes.download(function(lanes.upload(lanes.pinned(source.read(small.read)))))())
    if device.type == "cpu":
        used += memory.bytes_of(lambda: mapped(ahead, torch.clone))
    return SAFETY * used / small.voxels


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the card or in the machine."""
    words = (
        *("out of memory", "can't allocate memory", "not enough memory", "could not allocate"),
        *("alloc_failed", "cufft_internal_error", "unable to find an engine"),  # CUDA's libraries, for their workspaces
    )
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in str(error).lower() for w in words)


def _say(found: Plan, footprint: Footprint) -> None:
    if found.count > 1:
        parts = " x ".join(str(len(spans)) for spans in found.axes)
        more = found.read / math.prod(found.shape)
        words = f"tiles: {parts}, up to {found.largest} voxels each; with their borders {more:.1f} times the volume"
        (say if more > COSTLY else note)(words + ("; more memory would make it faster" if more > COSTLY else ""))
    if not found.exact:
        unbound = any(r is None and len(own) > 1 for r, own in zip(footprint.reach, found.axes, strict=True))
        why = (
            "the network looks at the whole volume" if unbound else "the memory does not hold all that the network sees"
        )
        say(f"tiles: {why}; tiles see less, and their borders are blended")


def _write(out: NDArray[np.float32], tile: Tile, answer: Tensor, source: Source[Any]) -> None:
    """Blend a tile's answer into the volume; where an answer meets its equal, it stays as it is to the bit."""
    volume = source.shape
    values = answer.float().numpy().reshape((*out.shape[: out.ndim - len(volume)], *answer.shape[-len(volume) :]))
    keep = tuple(slice(part.start, min(part.stop, size)) for part, size in zip(tile.keep, volume, strict=True))
    inside = tuple(
        slice(part.start, part.start + kept.stop - kept.start) for part, kept in zip(tile.inside, keep, strict=True)
    )
    share = tile.share()
    for part in _held_at_once(out, out.ndim - len(volume), keep[0]):
        own = slice(part.start - keep[0].start, part.stop - keep[0].start)
        first = slice(inside[0].start + own.start, inside[0].start + own.stop)
        place: tuple[Any, ...] = (..., part, *keep[1:])
        within: tuple[Any, ...] = (..., first, *inside[1:])
        _blend(out[place], values[within], None if share is None else share[own])
        release(out)
    source.release()


def _blend(out: NDArray[np.float32], new: NDArray[np.float32], share: NDArray[np.float32] | None) -> None:
    """Let what was there give way to a new answer, by its share; None: all of it."""
    if share is None:
        out[:] = new
        return
    share = share[tuple(slice(0, size) for size in new.shape[new.ndim - share.ndim :])]
    # The first answer at a voxel takes all of it: what `out` held before does not matter, not even NaN.
    old = np.where(share == 1, new, out)
    with np.errstate(invalid="ignore"):
        out[:] = np.where(old == new, new, old + share * (new - old))
