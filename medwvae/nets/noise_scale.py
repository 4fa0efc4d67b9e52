"""The noise scales of wavelet coefficients: one, or one per level or subband."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from medwvae.errors import ConfigError
from medwvae.wavelets import subband_names

NoiseKind = Literal["fixed", "global", "level", "subband"]


class NoiseScale(nn.Module):
    """s in c̃ = ĉ + s·ε, stored as log s: one for all, one per level, or one per subband; `fixed` does not learn.

    Parameters
    ----------
    kind : {"fixed", "global", "level", "subband"}
        How many scales there are, and whether they learn.
    levels, dims : int
        Levels J of the transform and number of spatial axes.
    initial : float
        s at the start, in units of the (orthonormal) coefficients.
    slice_levels : int, optional
        Levels along the first axis; see `axes_of_levels`.
    """

    def __init__(
        self, kind: NoiseKind, levels: int, dims: int, initial: float, slice_levels: int | None = None
    ) -> None:
        super().__init__()
        self.levels, self.dims = levels, dims
        self.axes = axes_of_levels(levels, dims, slice_levels)
        bands = 2**dims
        shape = {"fixed": (1, 1), "global": (1, 1), "level": (levels, 1), "subband": (levels, bands)}[kind]
        self.log_s = nn.Parameter(torch.full(shape, math.log(initial)), requires_grad=kind != "fixed")

    def forward(self, kind: str, level: int) -> Tensor:
        """Return s of the approximation (`kind` 'a', a scalar) or of a level's details ('d', broadcastable to them)."""
        table = self.log_s.exp().expand(self.levels, 2**self.dims)
        if kind == "a":
            return table[level - 1, 0]
        return table[level - 1, 1 : 1 + len(self._bands(level))].reshape(1, -1, *([1] * (self.dims + 1)))

    def by_subband(self) -> dict[str, float]:
        """Return s by subband name and level ('aa3', 'ad3', ... 'dd1')."""
        table = self.log_s.detach().exp().expand(self.levels, 2**self.dims)
        names = subband_names(self.dims)
        scales = {f"{names[0]}{self.levels}": float(table[-1, 0])}
        for level in range(self.levels, 0, -1):
            scales |= {f"{names[k]}{level}": float(table[level - 1, k]) for k in self._bands(level)}
        return scales

    def _bands(self, level: int) -> range:
        """Return the places of a level's details among all subbands: the first, since a level splits the last axes."""
        return range(1, 2 ** len(self.axes[level - 1]))


def axes_of_levels(levels: int, dims: int, slice_levels: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Return the axes that each level splits, fine to coarse: all, but with `slice_levels` only so many the first.

    The finest levels leave it alone, as `dwt` does with one number of levels per axis: where slices are thick, voxels
    become as wide as they are deep before all axes are split.

    Raises
    ------
    ConfigError
        If there are fewer levels, or none of the first axis' own.
    """
    own = levels if slice_levels is None else slice_levels
    if not 1 <= own <= levels or (own < levels and dims != 3):
        raise ConfigError(f"slice_levels is 1 to the number of levels ({levels}), of networks on volumes; got {own}")
    return tuple(tuple(range(dims)) if level > levels - own else (1, 2) for level in range(1, levels + 1))
