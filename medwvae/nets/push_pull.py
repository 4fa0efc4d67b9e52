"""A first guess of lost pixels from the known ones around them."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}
PASSES = 8
"""Cells of the coarsest level, in plane, by which the known ones grow: 256 voxels of a hole where levels are four."""


def push_pull(x: Tensor, known: Tensor, axes: Sequence[tuple[int, ...]]) -> Tensor:
    """Fill lost voxels with smooth means of known ones, from as fine a level as has any.

    The pyramid of Gortler et al. (The Lumigraph, SIGGRAPH 1996, section 3.4): a level halves the image by the means of
    what is known of each cell, and the gaps of a level are filled by linear interpolation of the next coarser one. On
    the coarsest, cells without any take the mean of their neighbours in plane, `PASSES` times; what is still further
    away fades to 0. Across the slices of a volume nothing is reached but by the levels, so that tiles stay small.

    Parameters
    ----------
    x : Tensor
        (B, C, *spatial), finite where lost too. All channels have lost the same.
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
        mean, seen = _means(x, known, kernel)
        coarse = push_pull(mean, seen, axes[1:])
        guess = F.interpolate(coarse, size=x.shape[2:], mode=_LINEAR[dims], align_corners=False)
    else:
        guess, seen = x, known
        around, border = [1] * (dims - 2) + [3, 3], [1, 1, 1, 1]
        for _ in range(PASSES):
            mean, more = _means(F.pad(guess, border), F.pad(seen, border), around, stride=1)
            guess, seen = guess * seen + mean * (1 - seen), more
    # Sums, not a choice: whatever a guess is read from must show where `inference.footprint` looks for it, as NaN.
    return x * known + guess * (1 - known)


def _means(x: Tensor, known: Tensor, kernel: list[int], stride: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the means of what is known in windows, 0 where nothing is, and which windows have any."""
    pool = _POOL[x.ndim - 2]
    share = pool(known, kernel, stride)
    any_ = (share > 0).to(x)
    return pool(x * known, kernel, stride) / (share + 1 - any_), any_
