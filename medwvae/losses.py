"""Image losses by name."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

Loss = Literal["l1", "mse", "charbonnier"]


def _l1(x: Tensor, truth: Tensor) -> Tensor:
    return (x - truth).abs().mean()


def _mse(x: Tensor, truth: Tensor) -> Tensor:
    return (x - truth).square().mean()


def _charbonnier(x: Tensor, truth: Tensor) -> Tensor:
    # Smooth L1 with ε = 1e-3 of the unit (Lai et al. 2017).
    return ((x - truth).square() + 1e-6).sqrt().mean()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {"l1": _l1, "mse": _mse, "charbonnier": _charbonnier}
"""Each maps (x, truth), same shape, to a scalar mean over all values."""
