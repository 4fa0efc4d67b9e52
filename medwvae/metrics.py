"""Image quality against a known truth: PSNR, NMSE, SSIM. Nothing here has a default data range.

Arrays are real, of any shape, in the same units; `mask` (bool, same shape) restricts a metric to its voxels.
"""

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

SsimKind = Literal["gaussian", "uniform"]
GAUSSIAN_TAPS: Final = 11
"""Window of the Gaussian SSIM, voxels: the least that every axis of a volume must have."""
UNIFORM_TAPS: Final = 7
"""Window of the uniform SSIM."""


def psnr(x: Array, ref: Array, *, data_range: float, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(data_range² / MSE); infinite where `x` equals `ref`."""
    _check_range(data_range)
    x, ref = _voxels(x, ref, mask)
    error = float(np.mean((x - ref) ** 2))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def nmse(x: Array, ref: Array, *, mask: Mask | None = None) -> float:
    """Normalised mean squared error, ‖x − ref‖² / ‖ref‖² (fastMRI's; no unit)."""
    x, ref = _voxels(x, ref, mask)
    energy = float(np.sum(ref**2))
    if energy == 0:
        raise ValueError("NMSE is not defined for a reference that is zero everywhere")
    return float(np.sum((x - ref) ** 2)) / energy


def ssim(
    x: Array, ref: Array, *, data_range: float, kind: SsimKind, dims: Literal[2, 3], mask: Mask | None = None
) -> float:
    """Mean of `ssim_map` over the mask, or over every voxel (scikit-image's scalar leaves out half a window of rim)."""
    return masked_mean(ssim_map(x, ref, data_range=data_range, kind=kind, dims=dims), mask)


def ssim_map(x: Array, ref: Array, *, data_range: float, kind: SsimKind, dims: Literal[2, 3]) -> NDArray[np.float64]:
    """Structural similarity at each voxel; the window spans the last `dims` axes, all others are a batch.

    Parameters
    ----------
    x, ref : array of float, (..., H, W) or (..., D, H, W)
        With `dims` = 2 a volume (slices, H, W) is treated slice by slice.
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
    # The computation of skimage.metrics.structural_similarity(full=True), with all slices in one filter call and
    # four filtered images instead of five: only the sum of the two variances is needed.
    from scipy import ndimage

    _check_range(data_range)
    taps = GAUSSIAN_TAPS if kind == "gaussian" else UNIFORM_TAPS
    if x.shape != ref.shape or x.ndim < dims or min(x.shape[-dims:]) < taps:
        raise ValueError(f"SSIM ({taps} taps, {dims}D) cannot compare shapes {x.shape} and {ref.shape}")
    axes = tuple(range(-dims, 0))

    def local_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
        if kind == "gaussian":
            filtered = ndimage.gaussian_filter(image, 1.5, radius=taps // 2, axes=axes)
        else:
            filtered = ndimage.uniform_filter(image, taps, axes=axes)
        return np.asarray(filtered, np.float64)

    unbiased = 1.0 if kind == "gaussian" else taps**dims / (taps**dims - 1)
    a, b = x.astype(np.float64), ref.astype(np.float64)
    mean_x, mean_ref = local_mean(a), local_mean(b)
    mean_product, mean_squares = mean_x * mean_ref, mean_x**2 + mean_ref**2
    covariance = unbiased * (local_mean(a * b) - mean_product)
    variances = unbiased * (local_mean(a * a + b * b) - mean_squares)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return (2 * mean_product + c1) * (2 * covariance + c2) / ((mean_squares + c1) * (variances + c2))


def masked_mean(values: Array, mask: Mask | None = None) -> float:
    """Mean over the voxels of the mask (all voxels without one)."""
    return float(np.mean(values if mask is None else values[_checked(mask, values.shape)]))


def _voxels(x: Array, ref: Array, mask: Mask | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if x.shape != ref.shape:
        raise ValueError(f"image and reference differ in shape: {x.shape} and {ref.shape}")
    if mask is not None:
        mask = _checked(mask, x.shape)
        x, ref = x[mask], ref[mask]
    return x.astype(np.float64), ref.astype(np.float64)


def _checked(mask: Mask, shape: tuple[int, ...]) -> Mask:
    # Neither a broadcast mask nor an integer one (which would index) may pass.
    if mask.dtype != np.bool_ or mask.shape != shape or not mask.any():
        raise ValueError(f"need a bool mask of shape {shape} with a voxel in it, got {mask.dtype} {mask.shape}")
    return mask


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"the data range must be positive and finite, got {data_range}")
