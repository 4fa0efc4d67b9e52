"""Tiles to the device and back while it computes: each direction has its own stream on CUDA, and none on a CPU."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def mapped(item: T, function: Callable[[Tensor], Tensor]) -> T:
    """Apply a function to a tensor, or to every tensor among the fields of a dataclass."""
    if isinstance(item, Tensor):
        return cast(T, function(item))
    if is_dataclass(item) and not isinstance(item, type):
        found = {field.name: getattr(item, field.name) for field in fields(item)}
        return cast(T, replace(item, **{k: function(v) for k, v in found.items() if isinstance(v, Tensor)}))
    raise TypeError(f"tiles are tensors or dataclasses of tensors, not {type(item).__name__}")


class Lanes:
    """Copies between host and device. On a CPU they are no copies."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inward = self.outward = None
        if device.type == "cuda":
            self.inward, self.outward = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]

    def pinned(self, item: T) -> T:
        """Move to memory that the card can read by itself."""
        return mapped(item, Tensor.pin_memory) if self.inward else item

    def upload(self, item: T) -> T:
        """Start the copy to the device; work that is queued there later waits for it."""
        if self.inward is None:
            return item if self.device.type == "cpu" else mapped(item, lambda x: x.to(self.device))
        work = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.inward):
            moved = mapped(item, lambda x: x.to(self.device, non_blocking=True))
        work.wait_stream(self.inward)

        def used(x: Tensor) -> Tensor:
            x.record_stream(work)  # its memory must not go to another tile's copy before the work on it is done
            return x

        return mapped(moved, used)

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
            del item
            if written is not None:
                written()
            written = _writing(write, tile, arriving)
            if device.type == "cpu":  # nothing runs beside: hold no more than one answer
                written()
                written = None
            tile = following
        if written is not None:
            written()


def _writing(write: Callable[[Any, Tensor], None], tile: Any, arriving: Callable[[], Tensor]) -> Callable[[], None]:
    return lambda: write(tile, arriving())
