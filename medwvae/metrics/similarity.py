"""Structural similarity, in PyTorch on any device: SSIM and its map."""

from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.metrics.filters import RADIUS, along, window
from medwvae.metrics.voxels import (
    Array,
    Image,
    Mask,
    as_float,
    check_range,
    checked,
    compiled_kernels,
    masked_mean,
    tensor_of,
)

SsimKind = Literal["gaussian", "uniform"]
GAUSSIAN_TAPS: Final = 11
"""Window of the Gaussian SSIM, voxels: the least that every axis of a volume must have."""
UNIFORM_TAPS: Final = 7
"""Window of the uniform SSIM."""

_SLAB: Final = {"cpu": 300_000}
"""Voxels worked on at once: on a CPU as many as its caches hold; elsewhere all."""


def ssim(
    x: Image, ref: Image, *, data_range: float, kind: SsimKind, dims: Literal[2, 3], mask: Mask | None = None
) -> float:
    """Mean of `ssim_map` over the mask, or over every voxel (scikit-image's scalar leaves out half a window of rim)."""
    a, b = tensor_of(x), tensor_of(ref)
    if mask is None:
        return float(ssim_tensor(a, b, data_range=data_range, kind=kind, dims=dims).mean())
    # Only the box around the mask, and half a window, can matter.
    checked(mask, tuple(a.shape))
    box = box_of(mask, RADIUS[kind], 2 * RADIUS[kind] + 1, dims)
    found = ssim_tensor(a[box], b[box], data_range=data_range, kind=kind, dims=dims)
    return masked_mean(found.cpu().numpy(), mask[box])


def ssim_map(x: Array, ref: Array, *, data_range: float, kind: SsimKind, dims: Literal[2, 3]) -> NDArray[np.float64]:
    """`ssim_tensor` of arrays."""
    found = ssim_tensor(tensor_of(x), tensor_of(ref), data_range=data_range, kind=kind, dims=dims)
    return np.asarray(found.numpy())


def ssim_tensor(x: Tensor, ref: Tensor, *, data_range: float, kind: SsimKind, dims: Literal[2, 3]) -> Tensor:
    """Structural similarity at each voxel; the window spans the last `dims` axes, all others are a batch.

    Parameters
    ----------
    x, ref : Tensor of any real type, (..., H, W) or (..., D, H, W)
        With `dims` = 2 a volume (slices, H, W) is treated slice by slice. Computed in float64.
    data_range : float
        Range R of the constants (0.01 R)² and (0.03 R)².
    kind : {'gaussian', 'uniform'}
        'gaussian': 11 taps, σ = 1.5, population covariance (Wang et al. 2004; scikit-image `gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False`). 'uniform': 7 taps, sample covariance (scikit-image's default).

    Raises
    ------
    ValueError
        If the shapes differ, an axis is shorter than the window, or the data range is not positive.
    """
    # The computation of skimage.metrics.structural_similarity(full=True) on four filtered images instead of five: only
    # the sum of the two variances is needed.
    check_range(data_range)
    taps = 2 * RADIUS[kind] + 1
    if x.shape != ref.shape or x.ndim < dims or min(x.shape[-dims:]) < taps:
        raise ValueError(f"SSIM ({taps} taps, {dims}D) cannot compare shapes {tuple(x.shape)} and {tuple(ref.shape)}")
    if compiled_kernels(x, ref):
        return _at_once(x, ref, data_range, kind, dims)
    # A few slices at a time, so that what is reused is still in the cache.
    if dims == 2:
        planes = [f.reshape(-1, *x.shape[-2:]) for f in (x, ref)]
        return _of_slices(planes[0], planes[1], data_range, kind).reshape(x.shape)
    volumes = zip(x.reshape(-1, *x.shape[-3:]), ref.reshape(-1, *x.shape[-3:]), strict=True)
    return torch.stack([_of_volume(a, b, data_range, kind) for a, b in volumes]).reshape(x.shape)


def box_of(mask: Mask, margin: int, least: int, dims: int) -> tuple[slice, ...]:
    """Return the smallest box around a mask with a margin, at least `least` voxels along the last `dims` axes."""
    box = []
    for axis, size in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        spatial = axis >= mask.ndim - dims
        around = margin if spatial else 0
        low, high = max(0, int(inside[0]) - around), min(size, int(inside[-1]) + 1 + around)
        if spatial and high - low < least:
            low = max(0, min(low - (least - (high - low)) // 2, size - least))
            high = min(size, low + least)
        box.append(slice(low, high))
    return tuple(box)


def _at_once(x: Tensor, ref: Tensor, data_range: float, kind: SsimKind, dims: Literal[2, 3]) -> Tensor:
    from medwvae.metrics.kernels import structural_similarity

    shape = (-1, 1, *x.shape[-2:]) if dims == 2 else (-1, *x.shape[-3:])
    a, b = (as_float(f).reshape(shape).contiguous().numpy() for f in (x, ref))
    weights, out = window(kind), np.empty(a.shape)
    across = np.ones(1) if dims == 2 else weights
    structural_similarity(a, b, weights, across, _constants(data_range), _unbiased(kind, dims), out)
    return torch.from_numpy(out).reshape(x.shape)


def _constants(data_range: float) -> tuple[float, float]:
    return (0.01 * data_range) ** 2, (0.03 * data_range) ** 2


def _unbiased(kind: SsimKind, dims: int) -> float:
    voxels = (2 * RADIUS[kind] + 1) ** dims
    return 1.0 if kind == "gaussian" else voxels / (voxels - 1)


def _of_slices(x: Tensor, ref: Tensor, data_range: float, kind: SsimKind) -> Tensor:
    out = torch.empty(x.shape, dtype=torch.float64, device=x.device)
    for start, stop in _slabs(x):
        images = _images(x[start:stop], ref[start:stop])
        _ratio(along(along(images, -1, kind), -2, kind), data_range, kind, 2, out[start:stop])
    return out


def _of_volume(x: Tensor, ref: Tensor, data_range: float, kind: SsimKind) -> Tensor:
    plane = torch.empty(4, *x.shape, dtype=torch.float64, device=x.device)
    for start, stop in _slabs(x):
        along(along(_images(x[start:stop], ref[start:stop]), -1, kind), -2, kind, plane[:, start:stop])
    out = torch.empty(x.shape, dtype=torch.float64, device=x.device)
    # Now whole columns across the slices, in the order in which they lie in memory.
    columns, flat = plane.flatten(-2), out.flatten(-2)
    width = max(1, _SLAB.get(x.device.type, columns.numel()) // len(x))
    for start in range(0, columns.shape[-1], width):
        _ratio(
            along(columns[..., start : start + width], -2, kind), data_range, kind, 3, flat[:, start : start + width]
        )
    return out


def _slabs(x: Tensor) -> list[tuple[int, int]]:
    step = max(1, _SLAB.get(x.device.type, x.numel()) // x[0].numel())
    return [(start, min(start + step, len(x))) for start in range(0, len(x), step)]


def _images(x: Tensor, ref: Tensor) -> Tensor:
    """Return the four images whose local means make an SSIM: x, ref, x·ref, x² + ref²."""
    out = torch.empty(4, *x.shape, dtype=torch.float64, device=x.device)
    out[0], out[1] = x, ref
    torch.mul(out[0], out[1], out=out[2])
    torch.mul(out[0], out[0], out=out[3]).addcmul_(out[1], out[1])
    return out


def _ratio(means: Tensor, data_range: float, kind: SsimKind, dims: int, out: Tensor) -> None:
    """Write the SSIM that four local means give; they are overwritten."""
    unbiased, (c1, c2) = _unbiased(kind, dims), _constants(data_range)
    mean_x, mean_ref, product, squares = means
    means_product = mean_x * mean_ref
    means_squares = (mean_x * mean_x).addcmul_(mean_ref, mean_ref)
    covariance = product.sub_(means_product).mul_(2 * unbiased).add_(c2)
    variances = squares.sub_(means_squares).mul_(unbiased).add_(c2)
    numerator = means_product.mul_(2).add_(c1).mul_(covariance)
    torch.div(numerator, means_squares.add_(c1).mul_(variances), out=out)
