"""What every forward operator is: A, its adjoint, and the ways to stay true to what was measured."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor

from medwvae.operators.solvers import least_change, regularised

Function = Callable[[Tensor], Tensor]
STEPS = 8
"""Of conjugate gradients, where nothing else is said: what training affords."""


class Operator(ABC):
    """A linear map A from images (B, C, *spatial) to data, C = 1 (real) or 2 (real and imaginary part).

    Linear over the real numbers: ⟨Ax, y⟩ = ⟨x, Aᴴy⟩ with ⟨u, v⟩ = Re Σ u v̄. Both directions are differentiable. They
    run in the precision of their input, at least float32, with autocast off. Tensors among the attributes have B or 1
    as their first axis: one for each image, or the same for all.

    Subclasses give `_forward` and `_adjoint`, and where it exists in closed form `_pseudo_inverse`.

    Attributes
    ----------
    dims : int
        Number of spatial axes, the last ones of the image.
    mask : Tensor or None
        What was measured, where that is a subset of positions (of k-space or of the image); bool.
    coisometry : bool
        Whether A Aᴴ = 1. Then `project` and `proximal` are exact and cost one A and one Aᴴ.
    exact : bool
        Whether `project` agrees with the data to rounding for every image; otherwise it takes conjugate-gradient steps.
    thorough : int
        How many of these an answer is worth, where data are free of noise.
    """

    dims: int = 2
    mask: Tensor | None = None
    coisometry: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    thorough: ClassVar[int] = STEPS

    def forward(self, x: Tensor) -> Tensor:
        """Return A x: what would be measured of the image (B, C, *spatial), without noise."""
        return self._precisely(self._forward, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return Aᴴ y: data back to an image (B, C, *spatial)."""
        return self._precisely(self._adjoint, y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Return the start image: A† y, or the field's direct reconstruction where that differs (FBP, gridding)."""
        return self._precisely(self._pseudo_inverse, y)

    def project(self, x: Tensor, y: Tensor, steps: int = STEPS) -> Tensor:
        """Return the image nearest to `x` that agrees with the data `y`.

        Exact where `exact`; otherwise `steps` steps of conjugate gradients from `x`, which approach it (noisy data are
        best met in few steps).
        """
        with torch.autocast(x.device.type, enabled=False):
            return self._project(widened(x), y, steps)

    def proximal(self, x: Tensor, y: Tensor, weight: float | Tensor, steps: int = STEPS) -> Tensor:
        """Return argmin over z of ‖A z − y‖² + weight ‖z − x‖²; `weight` > 0, a number or (B or 1, 1, ..., 1).

        One step where `coisometry`, else conjugate gradients.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = widened(x)
            if self.coisometry:
                return x + self._adjoint(y - self._forward(x)) / (1 + weight)
            return regularised(self._forward, self._adjoint, x, y, weight, steps)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᴴ(A x − y): gradient of ½ ‖A x − y‖²."""
        with torch.autocast(x.device.type, enabled=False):
            return self._adjoint(self._forward(widened(x)) - y)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return self.each(lambda tensor: tensor.to(device))

    def each(self, function: Function) -> Self:
        """Apply a function to every tensor among the attributes."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, function(value))
            elif isinstance(value, Operator):
                setattr(other, name, value.each(function))
        return other

    def mirrored(self, axes: tuple[int, ...], y: Tensor) -> "tuple[Operator, Tensor]":
        """Return the operator and the data that belong to the image reversed along `axes` (negative, spatial)."""
        return Mirrored(self, axes), y

    def reduction(self, x: Tensor, y: Tensor) -> Tensor:
        """Return how many positions an image has for each that was measured, (B or 1,): the acceleration of an MRI.

        Channels and coils do not count. `x` is an image (B, C, *spatial), `y` the data of such images.
        """
        if self.mask is not None:
            return 1 / self.mask.flatten(1).float().mean(1)
        return torch.full((1,), x.shape[2:].numel() / y.shape[2:].numel(), device=x.device)

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor: ...

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        if self.coisometry:
            return self._adjoint(y)
        start = self._adjoint(y)
        return self._project(torch.zeros_like(start), y, 32)

    def _project(self, x: Tensor, y: Tensor, steps: int) -> Tensor:
        if self.coisometry:
            return x + self._adjoint(y - self._forward(x))
        return least_change(self._forward, self._adjoint, x, y, steps)

    def _precisely(self, function: Function, argument: Tensor) -> Tensor:
        with torch.autocast(argument.device.type, enabled=False):
            return function(widened(argument))


class Mirrored(Operator):
    """A of the mirrored image: x → A(P x), P reversal along some axes. The data stay as they are."""

    def __init__(self, inner: Operator, axes: tuple[int, ...]) -> None:
        self.inner, self.axes, self.dims = inner, axes, inner.dims

    def _forward(self, x: Tensor) -> Tensor:
        return self.inner._forward(x.flip(self.axes))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(y).flip(self.axes)

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.inner._pseudo_inverse(y).flip(self.axes)

    def _project(self, x: Tensor, y: Tensor, steps: int) -> Tensor:
        return self.inner._project(x.flip(self.axes), y, steps).flip(self.axes)

    def reduction(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Operator.reduction`."""
        return self.inner.reduction(x, y)


def widened(x: Tensor) -> Tensor:
    """Give half precisions the width of float32; leave float32, float64 and complex numbers alone."""
    return (
        x.float() if x.dtype in (torch.bfloat16, torch.float16) or not (x.is_floating_point() or x.is_complex()) else x
    )
