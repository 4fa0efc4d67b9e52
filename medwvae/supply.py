"""Batches of a training: for a card some threads draw and measure the next ones while it computes."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

from medwvae.inference.lanes import Lanes

T = TypeVar("T")

WORKERS = 4
"""Batches that are drawn at once for a card. One at a time takes longer than a step: noise alone is serial."""


class Supply(Generic[T]):
    """Batches one after another, in pinned memory where there is a card.

    On a CPU nothing is drawn ahead: threads would take the training's own cores. Every batch has a generator of its
    own, seeded in turn, so the batches are the same either way, and so is `state`: where draws stand without the
    batches that were drawn ahead, which a resumed training draws again.

    Parameters
    ----------
    draw : callable
        Makes a batch (tensors in tuples and dataclasses), whose chance comes from the given generator alone.
    generator : torch.Generator
        Of the seeds. Is left alone by others until the end, but for its state before the first batch.
    device : torch.device
        Of the training.
    workers : int, optional
        Threads that draw ahead; by default `WORKERS` on everything but a CPU, there 0.
    """

    def __init__(
        self,
        draw: Callable[[torch.Generator], T],
        generator: torch.Generator,
        device: torch.device,
        workers: int | None = None,
    ) -> None:
        self.draw, self.generator = draw, generator
        self.lanes = Lanes(device)
        self.workers = (0 if device.type == "cpu" else WORKERS) if workers is None else workers
        self._threads = ThreadPoolExecutor(self.workers) if self.workers else None
        self._ahead: deque[tuple[Tensor, Future[T]]] = deque()  # with the state before each

    def batch(self) -> T:
        """Return the next batch; an error of drawing it is raised here."""
        if self._threads is None:
            return self._made(self._seed())
        while len(self._ahead) <= self.workers:  # the one that is wanted now, and one for each thread
            before = self.generator.get_state()
            self._ahead.append((before, self._threads.submit(self._made, self._seed())))
        return self._ahead.popleft()[1].result()

    def state(self) -> Tensor:
        """Return the generator's state before the next batch."""
        return self._ahead[0][0] if self._ahead else self.generator.get_state()

    def _seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator))

    def _made(self, seed: int) -> T:
        return self.lanes.pinned(self.draw(torch.Generator().manual_seed(seed)))
