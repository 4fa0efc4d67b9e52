"""Optimisers of the training loop by name."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration, chosen for a steep slope at zero (Jordan 2024)."""
SMALLEST = 8
"""Matrices with no more rows or columns than this are left to AdamW: first thoughts and last words of a network."""


class Muon(torch.optim.AdamW):
    """AdamW whose groups with `orthogonal: True` step along the orthogonalised momentum instead (Muon).

    K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024. A convolution kernel is taken as a
    matrix (outputs, inputs · taps). PyTorch's own `torch.optim.Muon` (since 2.9) takes matrices only, and mixed
    precision with a loss scale wants one optimiser for all parameters.

    Of such groups `lr` is the size of the step in spectral norm, for a matrix with no more rows than columns.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, lr=lr)
        self.momentum = momentum
        for group in self.param_groups:
            group.setdefault("orthogonal", False)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; `closure` is called first, as everywhere in PyTorch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices = [
            (p, p.grad, group)
            for group in self.param_groups
            if group["orthogonal"]
            for p in group["params"]
            if p.grad is not None
        ]
        for p, _, _ in matrices:
            p.grad = None  # AdamW passes over these
        super().step()
        for p, gradient, group in matrices:
            p.grad = gradient
            if not (state := self.state[p]):
                state |= {"momentum": torch.zeros_like(p), "step": torch.zeros(())}  # AdamW looks for a step on loading
            average = state["momentum"]
            average.lerp_(gradient, 1 - self.momentum)
            ahead = gradient.lerp(average, self.momentum)  # Nesterov
            # Columns in the order of memory (channels last, say): any order has the same answer, and this no copies.
            order = (0, *sorted(range(1, ahead.ndim), key=ahead.stride, reverse=True))
            laid = ahead.permute(order)
            step = orthogonalised(laid.flatten(1)).reshape(laid.shape).permute(*map(order.index, range(ahead.ndim)))
            rows, columns = len(ahead), ahead[0].numel()
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(step, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))
        return loss


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return a matrix with about the same singular vectors whose singular values are about 1 (0.7 to 1.2).

    Newton-Schulz iteration x ← (a + bG + cG²) x with G = x xᵀ; a zero matrix stays one. The polynomials are multiplied
    as square matrices, and meet the matrix once: kernels have nine times as many columns as rows, or 27.
    """
    a, b, c = QUINTIC
    wide = matrix.float() if len(matrix) <= matrix.shape[1] else matrix.float().T
    x: Tensor = wide / (wide.norm() + 1e-12)
    gram = x @ x.T
    product: Tensor | None = None
    for step in range(steps):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        product = polynomial if product is None else polynomial @ product
        if step + 1 < steps:
            gram = polynomial @ gram @ polynomial
    if product is not None:
        x = product @ x
    return x if len(matrix) <= matrix.shape[1] else x.T


def is_matrix(p: Tensor) -> bool:
    """Whether a parameter is a convolution kernel that is wide enough for `Muon`."""
    return p.ndim > 2 and min(len(p), p[0].numel()) > SMALLEST
