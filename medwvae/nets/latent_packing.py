"""The parts of a latent as one tensor on the grid of the coarsest, and back, exactly."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medwvae.errors import InputError
from medwvae.nets.blocks import crop_to, depth_to_space, space_to_depth
from medwvae.nets.latent import Latent, Shapes


@dataclass(frozen=True)
class Packing:
    """Finer parts become channels of the coarsest part's grid (space to depth); odd remainders are padded with zeros.

    Attributes
    ----------
    shapes : tuple of tuple of int
        (C, *spatial) of each part, the coarsest first.

    Raises
    ------
    InputError
        If a part is a flat vector: it has no grid.
    """

    shapes: Shapes

    def __post_init__(self) -> None:
        if any(len(shape) < 2 for shape in self.shapes):
            raise InputError(f"a latent that is a flat vector has no grid to pack, shapes {self.shapes}")

    @property
    def grid(self) -> tuple[int, ...]:
        """Spatial shape of the packed tensor."""
        return self.shapes[0][1:]

    @property
    def channels(self) -> int:
        """Channels of the packed tensor."""
        return sum(shape[0] * math.prod(self._factors(shape)) for shape in self.shapes)

    def pack(self, z: Latent) -> Tensor:
        """Return (B, channels, *grid)."""
        packed = []
        for part, shape in zip(z, self.shapes, strict=True):
            factors = self._factors(shape)
            missing = [g * f - size for g, f, size in zip(self.grid, factors, shape[1:], strict=True)]
            padding = [amount for m in reversed(missing) for amount in (0, m)]
            packed.append(space_to_depth(F.pad(part, padding), factors))
        return torch.cat(packed, dim=1)

    def unpack(self, packed: Tensor) -> Latent:
        """Undo `pack`."""
        counts = [shape[0] * math.prod(self._factors(shape)) for shape in self.shapes]
        parts = zip(torch.split(packed, counts, dim=1), self.shapes, strict=True)
        return tuple(crop_to(depth_to_space(part, self._factors(shape)), shape[1:]) for part, shape in parts)

    def _factors(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-size // g) for size, g in zip(shape[1:], self.grid, strict=True))
