"""Tiles to the device and back while it computes: each direction has its own stream on CUDA, and none on a CPU."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def mapped(item: T, function: Callable[[Tensor], Tensor]) -> T:
    """Apply a function to every tensor in tuples, dataclasses and what has a method `each`; all else stays as it is."""
    if isinstance(item, Tensor):
        return cast(T, function(item))
    if hasattr(item, "each"):
        return cast(T, item.each(function))
    if isinstance(item, tuple):
        return cast(T, tuple(mapped(part, function) for part in item))
    if is_dataclass(item) and not isinstance(item, type):
        return cast(T, replace(item, **{f.name: mapped(getattr(item, f.name), function) for f in fields(item)}))
    return item


class Lanes:
    """Copies between host and device. On a CPU they are no copies."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inward = self.outward = None
        if device.type == "cuda":
            self.inward, self.outward = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]

    def pinned(self, item: T) -> T:
        """Move to memory that the card can read by itself."""
        if self.inward is None:
            return item
        # A view would be pinned with the strides of the whole that it is a part of, and with as much memory.
        return mapped(item, lambda x: x.contiguous().pin_memory() if x.layout == torch.strided else x)

    def upload(self, item: T) -> T:
        """Copy to the device (whatever has a method `to`), for the work that is queued there later."""
        if self.device.type == "cpu":
            return item
        if self.inward is None:
            return cast(T, cast(Any, item).to(self.device))
        # The host waits for this copy; the work that was queued before runs on meanwhile.
        with torch.cuda.stream(self.inward):
            moved = cast(T, cast(Any, item).to(self.device))
        torch.cuda.current_stream(self.device).wait_stream(self.inward)
        return moved

    def download(self, answer: Tensor) -> Callable[[], Tensor]:
        """Start the copy to the host; the function that comes back waits for its end."""
        if self.outward is None:
            host = answer.cpu()
            return lambda: host
        self.outward.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.outward):
            target = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
            target.copy_(answer, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self.outward)
        answer.record_stream(self.outward)

        def wait() -> Tensor:
            done.synchronize()
            return target

        return wait


def stream(
    tiles: Iterable[Any],
    read: Callable[[Any], T],
    compute: Callable[[T], Tensor],
    write: Callable[[Any, Tensor], None],
    device: torch.device,
) -> None:
    """Read, compute and write tile after tile, in order.

    While the device computes one tile, a thread reads the next from memory or disk, and the answer of the one before
    is copied back and written.
    """
    lanes = Lanes(device)
    written: Callable[[], None] | None = None
    with ThreadPoolExecutor(1) as reader:
        queue = iter(tiles)
        tile = next(queue, None)
        ahead = None if tile is None else reader.submit(lambda one: lanes.pinned(read(one)), tile)
        while tile is not None and ahead is not None:
            item = lanes.upload(ahead.result())
            following = next(queue, None)
            ahead = None if following is None else reader.submit(lambda one: lanes.pinned(read(one)), following)
            arriving = lanes.download(compute(item))
            if written is not None:
                written()
            # What was read stays until the answer is there: another tile's copy must not get its memory before.
            written = _writing(write, tile, arriving, item)
            if device.type == "cpu":  # nothing runs beside: hold no more than one answer
                written()
                written = None
            tile = following
        if written is not None:
            written()


def _writing(
    write: Callable[[Any, Tensor], None], tile: Any, arriving: Callable[[], Tensor], held: Any
) -> Callable[[], None]:
    def finish(held: Any = held) -> None:
        write(tile, arriving())

    return finish
