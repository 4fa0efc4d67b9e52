"""A first guess of lost pixels from the known ones around them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}
_LEAST = 1e-3
"""Cells with a smaller share of known ones have none: of one in 27 it is 0.037."""


def push_pull(x: Tensor, known: Tensor, axes: Sequence[tuple[int, ...]]) -> Tensor:
    """Fill lost voxels with smooth means of known ones, from as fine a level as has any.

    The pyramid of Gortler et al. (The Lumigraph, SIGGRAPH 1996, section 3.4): Haar approximations that only known
    voxels enter, each level's gaps filled by linear interpolation of the next coarser one. On the coarsest, cells
    without any take the mean of their neighbours, and what is further than two cells from all that is known becomes 0.

    Parameters
    ----------
    x : Tensor
        (B, C, *spatial), finite where lost too.
    known : Tensor
        (B, 1, *spatial): 1 where known, 0 where lost.
    axes : sequence of tuple of int
        Spatial axes that each level halves, fine to coarse; sizes along them are multiples of 2^levels.

    Returns
    -------
    Tensor
        As `x`; known voxels as they are.
    """
    dims = x.ndim - 2
    if axes:
        kernel = [2 if axis in axes[0] else 1 for axis in range(dims)]
        share = _POOL[dims](known, kernel)
        mean = _POOL[dims](x * known, kernel) / share.clamp(min=_LEAST)
        coarse = push_pull(mean, (share > _LEAST).to(x), axes[1:])
        guess = F.interpolate(coarse, size=x.shape[2:], mode=_LINEAR[dims], align_corners=False)
    else:
        guess, seen = x * known, known
        for _ in range(2):
            share = _POOL[dims](F.pad(seen, [1, 1] * dims), 3, 1)
            mean = _POOL[dims](F.pad(guess, [1, 1] * dims), 3, 1) / share.clamp(min=_LEAST)
            guess = guess + (1 - seen) * mean
            seen = torch.maximum(seen, (share > _LEAST).to(x))
    return x * known + guess * (1 - known)
