"""The coefficients of a multi-level transform: one form for one, two and three spatial axes.

A subband is named by one letter per spatial axis, first axis first, `a` for approximation (low-pass) and `d` for detail
(high-pass), as PyWavelets and ptwt write them: `ad` of an image is low-pass along axis −2 and high-pass along axis −1.
Level 1 is the finest. At a level that leaves an axis alone, that axis' letter is `a`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import EllipsisType

import torch
from torch import Tensor

from medwvae.wavelets.filters import Mode


def subband_names(spatial_dims: int) -> tuple[str, ...]:
    """Return the names of the 2^n subbands of one level in storage order, approximation first."""
    return tuple("".join(letters) for letters in itertools.product("ad", repeat=spatial_dims))


@dataclass(frozen=True, eq=False)
class Coefficients:
    """The coarsest approximation, the details from coarse to fine, and what the inverse needs to know.

    Attributes
    ----------
    approximation : Tensor
        a_J, shape (B, C, *coarsest).
    details : tuple of Tensor
        d_J, ..., d_1; each (B, 2^m − 1, C, *spatial of that level) for the m axes split there; subbands in the order
        of `names(level)`.
    shapes : tuple of tuple of int
        Spatial shape that the inverse of each level returns, coarse to fine; the last is the image's.
    axes : tuple of tuple of int
        Spatial axes that each level splits, coarse to fine.
    wavelet, mode : str
        Filter bank and border mode, by PyWavelets' names.
    """

    approximation: Tensor
    details: tuple[Tensor, ...]
    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[tuple[int, ...], ...]
    wavelet: str = "haar"
    mode: Mode = "periodization"

    @property
    def levels(self) -> int:
        """Number of levels J."""
        return len(self.details)

    @property
    def spatial_dims(self) -> int:
        """Number of spatial axes."""
        return len(self.shapes[0])

    def names(self, level: int = 1) -> tuple[str, ...]:
        """Return the names of a level's detail subbands, e.g. ('ad', 'da', 'dd'); ValueError if there is none."""
        split = self.axes[self._place(level)]
        names = subband_names(self.spatial_dims)[1:]
        return tuple(name for name in names if all(name[k] == "a" for k in range(len(name)) if k not in split))

    def level(self, level: int) -> Mapping[str, Tensor]:
        """Return the detail subbands of one level by name, each (B, C, *spatial); ValueError as for `names`."""
        details = self.details[self._place(level)]
        return {name: details[:, k] for k, name in enumerate(self.names(level))}

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
        """Iterate over (level, its detail subbands by name), coarse to fine."""
        return ((level, self.level(level)) for level in range(self.levels, 0, -1))

    def subbands(self) -> Mapping[str, Tensor]:
        """Return every subband by name and level: 'aa3', 'ad3', ..., 'dd1', each (B, C, *spatial)."""
        bands = {f"{'a' * self.spatial_dims}{self.levels}": self.approximation}
        return bands | {f"{name}{level}": band for level, details in self for name, band in details.items()}

    def map(self, function: Callable[[str, int, Tensor], Tensor]) -> "Coefficients":
        """Apply `function(name, level, band)` to every subband; the approximation's name is 'a', 'aa' or 'aaa'."""
        details = tuple(
            torch.stack([function(name, level, band) for name, band in bands.items()], dim=1) for level, bands in self
        )
        return self.replace(function("a" * self.spatial_dims, self.levels, self.approximation), details)

    def map_stacked(self, function: Callable[[str, int, Tensor], Tensor]) -> "Coefficients":
        """Apply `function(kind, level, stack)` to the approximation ('a') and to each level's stacked details ('d')."""
        details = tuple(function("d", self.levels - i, band) for i, band in enumerate(self.details))
        return self.replace(function("a", self.levels, self.approximation), details)

    def replace(self, approximation: Tensor, details: tuple[Tensor, ...]) -> "Coefficients":
        """Return other coefficients of the same layout."""
        return replace(self, approximation=approximation, details=details)

    def norms(self, order: float = 2) -> Mapping[str, Tensor]:
        """Return the vector norm of every subband, (B, C) each; an orthonormal transform keeps Σ norms² (Parseval)."""
        axes = tuple(range(2, 2 + self.spatial_dims))
        return {name: torch.linalg.vector_norm(band, order, dim=axes) for name, band in self.subbands().items()}

    def pack(self) -> Tensor:
        """Return one tensor (B, C, *packed) in Mallat's layout: approximation in the corner, finer levels around it.

        In `periodization` of sizes that 2^J divides, it has the image's shape; otherwise gaps are zero.
        """
        corners = self._corners()
        packed = self.approximation.new_zeros((*self.approximation.shape[:2], *corners[-1]))
        packed[_span("a" * self.spatial_dims, corners[0], corners[0])] = self.approximation
        for corner, (level, bands) in zip(corners[:-1], self, strict=True):
            for name, band in bands.items():
                packed[_span(name, corner, self._size(level))] = band
        return packed

    def unpack(self, packed: Tensor) -> "Coefficients":
        """Return the coefficients that `pack` would give this tensor for, in the layout of this instance.

        Raises
        ------
        ValueError
            If the tensor has another shape than `pack` returns.
        """
        corners = self._corners()
        if tuple(packed.shape[2:]) != corners[-1]:
            raise ValueError(f"coefficients of this layout pack into {corners[-1]}, got {tuple(packed.shape[2:])}")
        details = tuple(
            torch.stack([packed[_span(name, corner, self._size(level))] for name in self.names(level)], dim=1)
            for corner, level in zip(corners[:-1], range(self.levels, 0, -1), strict=True)
        )
        return self.replace(packed[_span("a" * self.spatial_dims, corners[0], corners[0])], details)

    def _place(self, level: int) -> int:
        if not 1 <= level <= self.levels:
            raise ValueError(f"there are levels 1 (finest) to {self.levels}, not {level}")
        return self.levels - level

    def _size(self, level: int) -> tuple[int, ...]:
        return tuple(self.details[self._place(level)].shape[3:])

    def _corners(self) -> list[tuple[int, ...]]:
        """Shapes of the packed tensor as it grows, from the approximation's on."""
        corners = [tuple(self.approximation.shape[2:])]
        for level, split in zip(range(self.levels, 0, -1), self.axes, strict=True):
            pairs = enumerate(zip(corners[-1], self._size(level), strict=True))
            corners.append(tuple(c + s if axis in split else max(c, s) for axis, (c, s) in pairs))
        return corners


def _span(name: str, corner: tuple[int, ...], size: tuple[int, ...]) -> tuple[EllipsisType | slice, ...]:
    """Index of a subband: its details begin where the corner of the coarser levels ends."""
    spans = zip(name, corner, size, strict=True)
    return (..., *(slice(c, c + s) if letter == "d" else slice(s) for letter, c, s in spans))
