"""Batches of a training: on a card a thread draws and measures the next one while the device computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

from medwvae.inference.lanes import Lanes

T = TypeVar("T")


class Supply(Generic[T]):
    """Batches one after another, in pinned memory where there is a card.

    On a CPU nothing is drawn ahead: a thread would take the training's own cores. The batches are the same either way,
    and so is `state`: where draws stand without the batch that was drawn ahead, which a resumed training draws again.

    Parameters
    ----------
    draw : callable
        Makes a batch (tensors in tuples and dataclasses), whose chance comes from the generator alone.
    generator : torch.Generator
        Is left alone by others until the end, but for its state before the first batch.
    device : torch.device
        Of the training.
    ahead : bool, optional
        Whether to draw ahead; by default on everything but a CPU.
    """

    def __init__(
        self,
        draw: Callable[[torch.Generator], T],
        generator: torch.Generator,
        device: torch.device,
        ahead: bool | None = None,
    ) -> None:
        self.draw, self.generator = draw, generator
        self.lanes = Lanes(device)
        self._thread = ThreadPoolExecutor(1) if (device.type != "cpu" if ahead is None else ahead) else None
        self._next: Future[T] | None = None
        self._before: Tensor | None = None

    def batch(self) -> T:
        """Return the next batch; an error of drawing it is raised here."""
        if self._thread is None:
            return self._made()
        ready = (self._next or self._thread.submit(self._made)).result()
        self._before = self.generator.get_state()
        self._next = self._thread.submit(self._made)
        return ready

    def state(self) -> Tensor:
        """Return the generator's state before the next batch."""
        return self.generator.get_state() if self._before is None else self._before

    def _made(self) -> T:
        return self.lanes.pinned(self.draw(self.generator))
