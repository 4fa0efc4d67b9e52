"""The N-d Haar wavelet transform: orthonormal, any number of levels, any shape, exact inverse.

Convention (PyWavelets, ptwt): a subband is named by one letter per spatial axis, first axis first, `a` for
approximation (low-pass) and `d` for detail (high-pass); `ad` of a 2D image is low-pass along rows' index (axis -2)
and high-pass along axis -1. An odd axis is extended by its last sample (PyWavelets' `symmetric` mode), which makes
the last detail coefficient zero; the inverse crops it away.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


def subband_names(spatial_dims: int) -> tuple[str, ...]:
    """Return the names of the 2^n subbands of one level in storage order, approximation first."""
    return tuple("".join(letters) for letters in itertools.product("ad", repeat=spatial_dims))


def analyse(x: Tensor, spatial_dims: int = 2) -> Tensor:
    """One Haar level: (B, C, *spatial) to (B, 2^n, C, *half), subbands ordered as `subband_names`.

    Half sizes are rounded up. Orthonormal for even sizes: the sum of squares is kept (Parseval).
    """
    spatial = x.shape[-spatial_dims:]
    if any(size % 2 for size in spatial):
        # pad() counts from the last axis backwards: (before, after) each.
        padding = [amount for size in reversed(spatial) for amount in (0, size % 2)]
        x = _replicate_last(x, padding)
    bands = [x]
    for axis in range(x.ndim - spatial_dims, x.ndim):
        split = []
        for band in bands:
            even, odd = _every_second(band, axis, 0), _every_second(band, axis, 1)
            split += [even + odd, even - odd]
        bands = split
    return torch.stack(bands, dim=1) * math.pow(2, -spatial_dims / 2)


def synthesise(bands: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Inverse of `analyse`: (B, 2^n, C, *half) to (B, C, *shape); `shape` defaults to twice the half sizes."""
    spatial_dims = int(math.log2(bands.shape[1]))
    if bands.ndim != spatial_dims + 3 or 2**spatial_dims != bands.shape[1]:
        raise ValueError(f"expected (B, 2^n, C, *spatial) with n spatial axes, got shape {tuple(bands.shape)}")
    parts = list((bands * math.pow(2, -spatial_dims / 2)).unbind(1))
    for axis in range(parts[0].ndim - 1, parts[0].ndim - spatial_dims - 1, -1):
        merged = []
        for low, high in zip(parts[::2], parts[1::2], strict=True):
            pair = torch.stack((low + high, low - high), dim=axis + 1)
            merged.append(pair.flatten(axis, axis + 1))
        parts = merged
    x = parts[0]
    if shape is None:
        return x
    for axis, size in enumerate(shape, start=x.ndim - len(shape)):
        x = x.narrow(axis, 0, size)
    return x


@dataclass(frozen=True)
class Coefficients:
    """A multi-level transform: the coarsest approximation and the details from coarse to fine.

    Attributes
    ----------
    approximation : Tensor
        a_J, shape (B, C, *coarsest).
    details : tuple of Tensor
        d_J, ..., d_1; each (B, 2^n − 1, C, *spatial of that level), subbands in the order of `names`.
    shapes : tuple of tuple of int
        Spatial shape that the inverse of each level returns, coarse to fine; the last is the image's.
    """

    approximation: Tensor
    details: tuple[Tensor, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def levels(self) -> int:
        """Number of levels J."""
        return len(self.details)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the detail subbands of a level, e.g. ('ad', 'da', 'dd')."""
        return subband_names(len(self.shapes[0]))[1:]

    def map(self, function: Callable[[str, int, Tensor], Tensor]) -> "Coefficients":
        """Apply `function(name, level, tensor)` to the approximation and to every level's stacked details.

        `name` is 'a' or 'd'; the finest level is 1 and the coarsest J.
        """
        details = tuple(function("d", self.levels - i, band) for i, band in enumerate(self.details))
        return Coefficients(function("a", self.levels, self.approximation), details, self.shapes)

    def subbands(self) -> Mapping[str, Tensor]:
        """Return every subband by name and level: 'aa3', 'ad3', ..., 'dd1', each (B, C, *spatial)."""
        n = len(self.shapes[0])
        bands = {f"{'a' * n}{self.levels}": self.approximation}
        for i, stacked in enumerate(self.details):
            for name, band in zip(self.names, stacked.unbind(1), strict=True):
                bands[f"{name}{self.levels - i}"] = band
        return bands


def dwt(x: Tensor, levels: int, spatial_dims: int = 2) -> Coefficients:
    """Multi-level Haar analysis of (B, C, *spatial).

    Raises
    ------
    ValueError
        If `levels` < 1 or `x` has not `spatial_dims` + 2 axes.
    """
    if levels < 1 or x.ndim != spatial_dims + 2:
        raise ValueError(f"need levels >= 1 and {spatial_dims + 2} axes, got levels={levels}, shape {tuple(x.shape)}")
    details: list[Tensor] = []
    shapes: list[tuple[int, ...]] = []
    for _ in range(levels):
        shapes.append(tuple(x.shape[2:]))
        bands = analyse(x, spatial_dims)
        x = bands[:, 0]
        details.append(bands[:, 1:])
    return Coefficients(x, tuple(reversed(details)), tuple(reversed(shapes)))


def idwt(coefficients: Coefficients) -> Tensor:
    """Exact inverse of `dwt`: the image, (B, C, *spatial)."""
    x = coefficients.approximation
    for details, shape in zip(coefficients.details, coefficients.shapes, strict=True):
        x = synthesise(torch.cat((x.unsqueeze(1), details), dim=1), shape)
    return x


def _every_second(x: Tensor, axis: int, start: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(start, None, 2),)]


def _replicate_last(x: Tensor, padding: list[int]) -> Tensor:
    # Replicate padding wants a plain (B, C, ...) tensor; a constant pad would break Haar's zero detail.
    return pad(x, padding, mode="replicate")
