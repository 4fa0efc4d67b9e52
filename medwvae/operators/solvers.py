"""Conjugate gradients for A x = y, differentiable, each image of a batch by itself."""

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def least_change(forward: Function, adjoint: Function, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """Approach the least-squares solution of A z = y that is nearest to `x`, by CGLS started at `x`.

    All steps lie in the range of Aᴴ, so nothing is changed that the data do not see (Hestenes and Stiefel, J Res Natl
    Bur Stand 49, 1952; Björck, Numerical Methods for Least Squares Problems, 1996).
    """
    residual = y - forward(x)
    gradient = direction = adjoint(residual)
    energy = _energy(gradient)
    for _ in range(steps):
        image = forward(direction)
        size = _ratio(energy, _energy(image))
        x = x + _like(size, direction) * direction
        residual = residual - _like(size, image) * image
        gradient = adjoint(residual)
        last, energy = energy, _energy(gradient)
        direction = gradient + _like(_ratio(energy, last), direction) * direction
    return x


def regularised(
    forward: Function, adjoint: Function, x: Tensor, y: Tensor, weight: float | Tensor, steps: int
) -> Tensor:
    """Solve (AᴴA + weight) z = Aᴴy + weight x by conjugate gradients started at `x`."""
    residual = direction = adjoint(y - forward(x))
    energy = _energy(residual)
    for _ in range(steps):
        image = adjoint(forward(direction)) + weight * direction
        size = _ratio(energy, _dot(direction, image))
        x = x + _like(size, direction) * direction
        residual = residual - _like(size, image) * image
        last, energy = energy, _energy(residual)
        direction = residual + _like(_ratio(energy, last), direction) * direction
    return x


def largest_singular_value(forward: Function, adjoint: Function, x: Tensor, steps: int = 30) -> Tensor:
    """Return ‖A‖ for each image, (B,), by power iteration from a random image: below the true value, close after 30."""
    with torch.no_grad():
        for _ in range(steps):
            x = x / _like(_energy(x).sqrt(), x)
            x = adjoint(forward(x))
        return _energy(x).sqrt().sqrt()


def _energy(x: Tensor) -> Tensor:
    # Not |x|², whose gradient is not defined where a complex number is 0.
    return _dot(x, x)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    product = x * y
    if x.is_complex():
        product = x.real * y.real + x.imag * y.imag
    return product.flatten(1).sum(1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Quotient that is 0 where nothing is left to divide by: the solution is reached."""
    tiny = torch.finfo(below.dtype).tiny
    safe = torch.where(below > tiny, below, torch.ones_like(below))
    return torch.where(below > tiny, above / safe, torch.zeros_like(above))


def _like(scalar: Tensor, x: Tensor) -> Tensor:
    return scalar.reshape(-1, *[1] * (x.ndim - 1))
