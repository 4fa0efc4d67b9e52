"""How far a network sees, and the grid after which it repeats itself: what tiles must know of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LENGTHS = (256, 1024)
"""Voxels along an axis on which the reach is looked for, first a short one; beyond half of the last it has no bound."""


@dataclass(frozen=True)
class Footprint:
    """Of a network on a volume, per spatial axis.

    Attributes
    ----------
    step : tuple of int
        The network moves with its input by multiples of this: 2^levels.
    reach : tuple of (int or None)
        Voxels before and behind an aligned block of `step` voxels that its answer depends on; None: all of them.
    """

    step: tuple[int, ...]
    reach: tuple[int | None, ...]


@torch.no_grad()
def measure(function: Callable[[Tensor], Tensor], step: Sequence[int], channels: int = 1) -> Footprint:
    """Find the reach of a network: a block that is not a number leaves its trace wherever the answer depends on it.

    Convolutions, pooling, normalisation and transforms all carry NaN on, whatever their weights. Each axis is looked at
    by itself, on a volume that is one step wide along the others, which keeps this cheap.

    Parameters
    ----------
    function : callable
        Image (1, channels, *spatial) to image (1, any, *spatial), in float32.
    step : sequence of int
        2^levels per axis.
    """
    return Footprint(tuple(step), tuple(_reach(function, tuple(step), axis, channels) for axis in range(len(step))))


def _reach(function: Callable[[Tensor], Tensor], step: tuple[int, ...], axis: int, channels: int) -> int | None:
    for length in LENGTHS:
        blocks = max(math.ceil(length / step[axis]), 3) | 1  # odd: one of them is in the middle
        middle = blocks // 2
        found = _touched(function, step, axis, channels, blocks, middle)
        if found[0] or found[-1]:
            continue
        first, last = (found.nonzero()[place].item() for place in (0, -1))
        # A transform that is periodic at the border also reads from the other end.
        if any(_touched(function, step, axis, channels, blocks, end)[-1 - end] for end in (0, -1)):
            return None
        return int(max(middle * step[axis] - first, last + 1 - (middle + 1) * step[axis]))
    return None


def _touched(
    function: Callable[[Tensor], Tensor], step: tuple[int, ...], axis: int, channels: int, blocks: int, place: int
) -> Tensor:
    """Return where along an axis the answer is not a number, after one block of the input was not."""
    shape = [*step]
    shape[axis] *= blocks
    image = torch.zeros(1, channels, *shape)
    image.narrow(2 + axis, place % blocks * step[axis], step[axis]).fill_(math.nan)
    others = [0, 1, *(2 + other for other in range(len(step)) if other != axis)]
    return function(image).isnan().cpu().amax(dim=others)
