"""Fewer pixels or thicker slices: a linear map along each axis, with its exact pseudo-inverse.

Two protocols of super-resolution: `ixi-bd`, bicubic in plane with the antialiased kernel of MATLAB's imresize, which
the published IXI codes call; and `through-plane`, thick slices with a slice profile.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.operators.base import Operator

Profile = Literal["rect", "gaussian"]
Matrix = NDArray[np.float64]


class Resampling(Operator):
    """One matrix along each of some axes: y = (⊗ R_a) x, (B, C, *smaller).

    A† is the product of the axes' pseudo-inverses (in double precision, once), so that `project` is exact where the
    matrices have full row rank.

    Parameters
    ----------
    matrices : mapping of int to array (n, N)
        By axis, negative (-1 is the last).
    spacing : mapping of int to float, optional
        Distance of the samples along these axes, in pixels of the image; the first lies half of it from the border.
    """

    exact = True

    def __init__(
        self, matrices: Mapping[int, Matrix], dims: int = 2, spacing: Mapping[int, float] | None = None
    ) -> None:
        self.dims, self.matrices, self.spacing = dims, dict(matrices), dict(spacing or {})
        self.inverses = {axis: np.asarray(np.linalg.pinv(matrix), np.float64) for axis, matrix in matrices.items()}

    def _forward(self, x: Tensor) -> Tensor:
        return _along(x, self.matrices)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _along(y, {axis: matrix.T for axis, matrix in self.matrices.items()})

    def _pseudo_inverse(self, y: Tensor) -> Tensor:
        return _along(y, self.inverses)

    def _project(self, x: Tensor, y: Tensor, steps: int) -> Tensor:
        return x + self._pseudo_inverse(y - self._forward(x))


@lru_cache(maxsize=32)
def bicubic(shape: tuple[int, int], factor: int) -> Resampling:
    """In-plane reduction by an integer factor, protocol `ixi-bd`: (..., H, W) to (..., ⌈H/f⌉, ⌈W/f⌉)."""
    matrices = {axis - 2: bicubic_matrix(size, factor) for axis, size in enumerate(shape)}
    return Resampling(matrices, 2, dict.fromkeys(matrices, float(factor)))


@lru_cache(maxsize=32)
def through_plane(
    size: int, factor: int, profile: Profile = "rect", thickness: float | None = None, axis: int = -1, dims: int = 2
) -> Resampling:
    """Thin slices along one axis to thick ones, `factor` thin ones apart, protocol `through-plane`."""
    return Resampling({axis: slice_matrix(size, factor, profile, thickness)}, dims, {axis: float(factor)})


def bicubic_matrix(size: int, factor: int) -> Matrix:
    """(⌈size/factor⌉, size) matrix of MATLAB's `imresize(x, 1/factor, 'bicubic')` along one axis.

    Keys' cubic (IEEE TASSP 29, 1981; a = −½) stretched by the factor, so that it does not alias; weights of a row add
    up to 1; the image is mirrored at its border, the outermost sample repeated.
    """
    out = -(-size // factor)
    matrix = np.zeros((out, size))
    centres = (np.arange(out) + 0.5) * factor - 0.5
    reach = 2 * factor
    for row, centre in enumerate(centres):
        places = np.arange(np.floor(centre - reach), np.ceil(centre + reach) + 1).astype(int)
        weights = _keys((places - centre) / factor)
        mirrored = np.mod(places, 2 * size)
        mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
        np.add.at(matrix[row], mirrored, weights / weights.sum())
    return matrix


def slice_matrix(size: int, factor: int, profile: Profile, thickness: float | None = None) -> Matrix:
    """(⌈size/factor⌉, size) matrix that averages thin slices over the profile of thick ones.

    Parameters
    ----------
    size : int
        Thin slices.
    factor : int
        Distance of the thick slices' centres, in thin slices.
    profile : {'rect', 'gaussian'}
        Sensitivity across a slice, integrated over each thin one. Where it leaves the volume, the rest counts more.
    thickness : float, optional
        Width of the rectangle, or full width at half maximum of the Gaussian, in thin slices; `factor` if not given.
        Less is a gap between slices, more an overlap.

    Raises
    ------
    ValueError
        If the thickness is not positive.
    """
    from scipy.special import ndtr

    width = float(factor if thickness is None else thickness)
    if not width > 0:
        raise ValueError(f"a slice has a positive thickness, got {width:g}")
    edges = np.arange(size + 1) - 0.5
    # The last thick slice may reach beyond the volume, but its centre stays inside.
    out = max(1, -(-size // factor))
    centres = np.minimum((np.arange(out) + 0.5) * factor - 0.5, size - 1)
    distance = edges[None, :] - centres[:, None]
    if profile == "rect":
        cumulated = np.clip(distance / width + 0.5, 0, 1)
    else:
        cumulated = ndtr(distance / (width / np.sqrt(8 * np.log(2))))
    weights = np.diff(cumulated, axis=1)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _along(x: Tensor, matrices: Mapping[int, Matrix]) -> Tensor:
    for axis, matrix in matrices.items():
        weights = torch.from_numpy(np.ascontiguousarray(matrix)).to(device=x.device, dtype=x.dtype)
        x = (x.movedim(axis, -1) @ weights.mT).movedim(-1, axis)
    return x.contiguous()
