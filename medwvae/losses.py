"""Image losses by name."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from medwvae.names import GenerativeLossName


def _l1(x: Tensor, truth: Tensor) -> Tensor:
    return (x - truth).abs().mean()


def _mse(x: Tensor, truth: Tensor) -> Tensor:
    return (x - truth).square().mean()


def _charbonnier(x: Tensor, truth: Tensor) -> Tensor:
    # Smooth L1 with ε = 1e-3 of the unit (Lai et al. 2017).
    return ((x - truth).square() + 1e-6).sqrt().mean()


def _bce(x: Tensor, truth: Tensor) -> Tensor:
    # Cross-entropy knows probabilities only: x is clipped, and a truth beyond [0, 1] does not count.
    inside = ((truth >= 0) & (truth <= 1)).float()
    each = F.binary_cross_entropy(x.clamp(1e-6, 1 - 1e-6), truth.clamp(0, 1), reduction="none")
    return (each * inside).sum() / inside.sum().clamp(min=1)


LOSSES: dict[GenerativeLossName, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": _l1,
    "mse": _mse,
    "charbonnier": _charbonnier,
    "bce": _bce,
}
"""Each maps (x, truth), same shape, to a scalar mean over all values (`bce`: those whose truth lies in [0, 1])."""
