"""Separable filters as banded matrices, in float64 on any device: SciPy's kernels and borders, GEMM's speed.

On a CPU with Numba the SSIM takes their `window` into kernels of its own (`metrics.kernels`).

The matrix of a filter along an axis is what SciPy's filter makes of the identity, so that weights and borders (mirrored
with the edge voxel repeated, SciPy's `reflect`) are SciPy's own. It is multiplied block by block along its band.
"""

from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kernel = Literal["gaussian", "uniform", "smooth", "curvature"]
"""The windows of the SSIMs; the Gaussian, and its second derivative, of the Laplacian of Gaussian."""

RADIUS: Final = {"gaussian": 5, "uniform": 3, "smooth": 7, "curvature": 7}
SIGMA: Final = 1.5
_BLOCK: Final = 24


class Band(NamedTuple):
    """Outputs `start` to `stop` of an axis are `weights` times its inputs `low` to `high`."""

    start: int
    stop: int
    low: int
    high: int
    weights: Tensor


@lru_cache(maxsize=64)
def bands(size: int, kernel: Kernel, device: torch.device) -> tuple[Band, ...]:
    """Return the matrix of a filter along an axis of `size` voxels, in blocks of rows."""
    matrix, radius, found = _matrix(size, kernel), RADIUS[kernel], []
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        low, high = max(0, start - radius), min(size, stop + radius)
        weights = torch.from_numpy(matrix[start:stop, low:high]).contiguous().to(device)
        found.append(Band(start, stop, low, high, weights))
    return tuple(found)


@lru_cache(maxsize=8)
def window(kernel: Kernel) -> NDArray[np.float64]:
    """Return the weights of a filter within an axis, (2 `RADIUS` + 1,)."""
    radius = RADIUS[kernel]
    return _matrix(4 * radius + 1, kernel)[2 * radius, radius : 3 * radius + 1].copy()


def _matrix(size: int, kernel: Kernel) -> NDArray[np.float64]:
    from scipy import ndimage

    identity, radius = np.eye(size), RADIUS[kernel]
    if kernel == "uniform":
        return np.asarray(ndimage.uniform_filter1d(identity, 2 * radius + 1, axis=0))
    order = 2 if kernel == "curvature" else 0
    return np.asarray(ndimage.gaussian_filter1d(identity, SIGMA, axis=0, order=order, radius=radius))


def along(x: Tensor, axis: Literal[-1, -2, -3], kernel: Kernel, out: Tensor | None = None) -> Tensor:
    """Filter float64 `x` along one of its last three axes; `out`, if given, has its shape."""
    out = torch.empty_like(x) if out is None else out
    for start, stop, low, high, weights in bands(x.shape[axis], kernel, x.device):
        if axis == -1:
            out[..., start:stop] = x[..., low:high] @ weights.T
        elif axis == -2:
            out[..., start:stop, :] = torch.matmul(weights, x[..., low:high, :])
        else:
            part = torch.matmul(weights, x[..., low:high, :, :].flatten(-2))
            out[..., start:stop, :, :] = part.reshape(*part.shape[:-1], *x.shape[-2:])
    return out
